"""What all tests have in common."""

import functools
import gc
import ssl
from collections.abc import Generator, Iterator

import botocore.session  # type: ignore[import-untyped]  # it has no types
import pytest
from hypothesis import settings

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


FIRST = {"server": 0, "ray": 1, "local": 2, "durable_fastapi": 3}
"""The groups that take longest. Begun last, one worker would be at them when all others have ended."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put the long groups of one worker each first."""
    items.sort(key=_place)


def pytest_collection_finish() -> None:
    """Leave what is imported by now out of all collections of garbage: it stays to the end."""
    gc.collect()
    gc.freeze()


def _place(item: pytest.Item) -> int:
    mark = item.get_closest_marker("xdist_group")
    return FIRST.get(mark.args[0], len(FIRST)) if mark else len(FIRST)
