"""Which store a URL means."""

import subprocess
import sys

import pytest

from gqueue import embedded
from gqueue.core.model import NewJob, Rules, WhenFull
from gqueue.errors import BadSetting
from gqueue.store import open_store
from gqueue.store.memory import MemoryStore
from gqueue.store.redis import RedisStore
from tests.servers import Server

RULES = Rules()


def put(store, job_id: str) -> None:
    store.enqueue(job_id, 1, [NewJob(job_id, 0.0, 0, b"{}")], when_full=WhenFull.REJECT, capacity=10)


def test_memory_is_one_queue_for_each_url_and_name(queue_name: str):
    first, second = open_store("memory:", queue_name, RULES), open_store("memory:", queue_name, RULES)
    put(first, "a")
    first.close()

    assert isinstance(second, MemoryStore)
    assert second.stats().depth == 1
    assert open_store("memory:other", queue_name, RULES).stats().depth == 0
    assert open_store("memory:", f"{queue_name}x", RULES).stats().depth == 0


def test_each_memory_store_brings_its_own_rules(queue_name: str):
    open_store("memory:", queue_name, RULES)

    assert open_store("memory:", queue_name, Rules(lease_ms=5)).rules.lease_ms == 5


def test_unix_socket_and_tcp_port_are_the_same_redis(queue_name: str):
    with Server(tcp=True) as server:
        by_socket, by_port = (open_store(url, queue_name, RULES) for url in (server.url, server.tcp_url))
        put(by_socket, "a")

        assert isinstance(by_port, RedisStore)
        assert by_port.stats().depth == 1
        by_socket.close()
        by_port.close()


def test_embedded_is_the_server_that_embedded_serves(server: Server, queue_name: str, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(embedded, "serve", lambda: server.url)
    store = open_store("embedded:", queue_name, RULES)

    assert store.stats().depth == 0
    store.close()


@pytest.mark.parametrize(
    "url", ["", "localhost", "http://:secret@host", "memory", "embedded", "redis:/host", "redis//"]
)
def test_other_urls_are_refused(url: str):
    with pytest.raises(BadSetting) as caught:
        open_store(url, "q", RULES)

    assert "secret" not in str(caught.value)


def test_importing_the_package_loads_neither_redis_nor_a_store():
    program = "import sys, gqueue.store; sys.exit(any(m in sys.modules for m in ('redis', 'hiredis', 'gevent')))"

    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0
