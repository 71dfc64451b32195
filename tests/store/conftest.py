"""Stores of both kinds for the tests of this folder."""

from collections.abc import Callable, Iterator

import pytest

from gqueue.core.model import Rules
from gqueue.store.base import Store
from gqueue.store.memory import MemoryStore
from gqueue.store.redis import RedisStore
from tests.servers import Server

RULES = Rules(lease_ms=3_000, letters_max=3, letters_ms=60_000, shed_max=2, result_ttl_ms=60_000)
OpenStore = Callable[..., RedisStore]


@pytest.fixture(params=["memory", "redis"])
def store(request: pytest.FixtureRequest, queue_name: str) -> Iterator[Store]:
    """Return an empty store, of each kind in turn."""
    if request.param == "memory":
        made: Store = MemoryStore(queue_name, RULES)
    else:
        made = RedisStore(request.getfixturevalue("server").url, queue_name, RULES, retry_for_ms=5_000)
    yield made
    made.close()


@pytest.fixture
def open_redis(server: Server, queue_name: str) -> Iterator[OpenStore]:
    """Return what opens stores in Redis, and closes them at the end."""
    opened = []

    def open_one(url: str = server.url, rules: Rules = RULES, retry_for_ms: int = 5_000) -> RedisStore:
        opened.append(RedisStore(url, queue_name, rules, retry_for_ms=retry_for_ms))
        return opened[-1]

    yield open_one
    for one in opened:
        one.close()
