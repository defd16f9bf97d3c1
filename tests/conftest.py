"""What all tests have in common."""

import ssl
from collections.abc import Generator, Iterator

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
