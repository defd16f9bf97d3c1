"""Real clients over loopback HTTP."""

from collections.abc import Iterator

import pytest

from tests.fake_openai import FakeOpenAI, Host


@pytest.fixture(scope="session")
def host() -> Iterator[Host]:
    with Host().running() as host:
        yield host


@pytest.fixture
def server(host: Host) -> FakeOpenAI:
    """A server that has not been asked anything yet."""
    return host.fresh_mind()
