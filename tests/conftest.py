"""What all tests have in common."""

import functools
import gc
import ssl
from collections.abc import Generator, Iterator

import botocore.session  # type: ignore[import-untyped]  # it has no types
import pytest
from hypothesis import settings
from xdist.scheduler import LoadScopeScheduling  # type: ignore[import-untyped]  # it has no types

# The same examples in every run: one that fails is a failure of the change that brought it, not of the next one.
settings.register_profile("steady", derandomize=True)
settings.load_profile("steady")


@pytest.hookimpl(wrapper=True)
def pytest_xdist_auto_num_workers() -> Generator[None, int, int]:
    """The workers of `-n auto`: most tests wait more than they compute, so there are more than cores."""
    cores = yield
    return max(cores, min(cores * 3 // 2, 8))


@pytest.fixture(scope="session", autouse=True)
def _no_certificates() -> Iterator[None]:
    """A client reads all certificate authorities when it is made, for 20 ms; no test connects by HTTPS."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ssl.SSLContext, "load_verify_locations", lambda *_args, **_kwargs: None)
        yield


@pytest.fixture(scope="session", autouse=True)
def _descriptions_of_aws_read_once() -> Iterator[None]:
    """Each client of AWS reads the descriptions of its services again, for a third of a second."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(botocore.session, "create_loader", functools.cache(botocore.session.create_loader))
        yield


ONE_WORKER = {
    "tests/integration/test_server.py": "server",
    "tests/integration/test_server_runs.py": "server",
    "tests/integration/test_ray.py": "ray",
    "tests/integration/test_local.py": "local",
    "tests/integration/test_local_answers.py": "local",
    "tests/integration/test_docs.py": "local",
    "tests/integration/test_durable_fastapi.py": "durable_fastapi",
    "tests/unit/test_training.py": "training",
}
"""Files whose tests run in one worker: they share a server, and two llama.cpp servers starve each other."""
FIRST = list(dict.fromkeys(ONE_WORKER.values()))
"""The groups that take longest. Begun last, one worker would be at them when all others have ended."""


def group_of(nodeid: str) -> str:
    """The group of a test; its own id if it has none."""
    return ONE_WORKER.get(nodeid.partition("::")[0], nodeid)


class Groups(LoadScopeScheduling):  # type: ignore[misc]  # the same
    """Tests of one group run in one worker. (The groups of xdist 3.8 have no effect with pytest 9.2.)"""

    def _split_scope(self, nodeid: str) -> str:
        return group_of(nodeid)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: object) -> Groups:
    """Distribute the tests."""
    return Groups(config, log)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put the long groups of one worker each first."""
    items.sort(key=lambda item: FIRST.index(group) if (group := group_of(item.nodeid)) in FIRST else len(FIRST))


def pytest_collection_finish() -> None:
    """Leave what is imported by now out of all collections of garbage: it stays to the end."""
    gc.collect()
    gc.freeze()
