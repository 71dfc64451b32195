"""Each error of a server that a store can meet, from a real server where one can be brought to it.

What passes by itself is waited out, told once in the log, and the call goes through under its old number; what does not
is told at once, with what to do.
"""

import logging
import re
import threading
import time
from collections.abc import Callable, Iterator

import pytest
import redis

from gqueue.core.model import NewJob, WhenFull
from gqueue.errors import CallRefused, StoreUnavailable
from gqueue.store.redis import RedisStore
from tests.conftest import wait_until
from tests.fake_server import FakeServer
from tests.servers import Server, free_port
from tests.store.conftest import RULES


def put(store: RedisStore, job_id: str, lane: str = "lane", call: int = 1):
    return store.enqueue(lane, call, [NewJob(job_id, 0.0, 0, b"{}")], when_full=WhenFull.REJECT, capacity=10_000)


@pytest.fixture
def own() -> Iterator[Server]:
    with Server(tcp=True) as running:
        yield running


@pytest.fixture
def open_at(queue_name: str) -> Iterator[Callable[..., RedisStore]]:
    """Return what opens a store of the test's queue at a URL."""
    opened: list[RedisStore] = []

    def open_one(url: str, retry_for_ms: int = 30_000, name: str = queue_name) -> RedisStore:
        opened.append(RedisStore(url, name, RULES, retry_for_ms=retry_for_ms))
        return opened[-1]

    yield open_one
    for store in opened:
        store.close()


class Waits:
    """A call that an error holds up: it is made on a thread, and goes through once the error has passed."""

    def __init__(self, store: RedisStore, caplog: pytest.LogCaptureFixture) -> None:
        self.depth: list[int] = []
        self._caplog, self._gate = caplog, store._client._links.gate
        caplog.clear()
        self._thread = threading.Thread(target=lambda: self.depth.append(put(store, "held").depth), daemon=True)
        self._thread.start()

    def for_(self, reason: str) -> None:
        """Wait until the server counts as away, for a *reason* (a regular expression)."""
        wait_until(lambda: re.search(reason, " ".join([str(self._gate.error), self._caplog.text])))
        assert not self.depth

    def goes_through(self) -> None:
        """Wait until the call is answered; the log has told of the outage once, and that it is over."""
        self._thread.join(20)
        assert self.depth == [1]
        words = [record.getMessage() for record in self._caplog.records if record.levelno >= logging.WARNING]
        assert [("is away" in word, "is back after" in word) for word in words] == [(True, False), (False, True)]


def test_readonly_is_waited_out(own: Server, open_at, caplog: pytest.LogCaptureFixture):
    store = open_at(own.url)
    store.stats()
    with own.client() as client:
        client.execute_command("REPLICAOF", "127.0.0.1", free_port())
        waits = Waits(store, caplog)
        waits.for_("read only replica")
        client.execute_command("REPLICAOF", "NO", "ONE")
    waits.goes_through()


def test_masterdown_is_waited_out(own: Server, open_at, caplog: pytest.LogCaptureFixture):
    store = open_at(own.url)
    store.stats()
    with own.client() as client:
        client.config_set("replica-serve-stale-data", "no")
        client.execute_command("REPLICAOF", "127.0.0.1", free_port())
        waits = Waits(store, caplog)
        waits.for_("MASTER is down")
        client.execute_command("REPLICAOF", "NO", "ONE")
    waits.goes_through()


def test_noreplicas_is_waited_out(own: Server, open_at, caplog: pytest.LogCaptureFixture):
    store = open_at(own.url)
    store.stats()
    with own.client() as client:
        client.config_set("min-replicas-to-write", 1)
        waits = Waits(store, caplog)
        waits.for_("NOREPLICAS")
        client.config_set("min-replicas-to-write", 0)
    waits.goes_through()


def test_misconf_is_waited_out(own: Server, open_at, caplog: pytest.LogCaptureFixture):
    own.stop()
    gone = own.folder / "gone"
    gone.mkdir()
    own.settings["dir"] = str(gone)
    own.start()
    store = open_at(own.url)
    store.stats()
    with own.client() as client:
        client.config_set("save", "1 1000000")
        gone.rmdir()
        client.bgsave()
        wait_until(lambda: client.info("persistence")["rdb_last_bgsave_status"] != "ok")
        waits = Waits(store, caplog)
        waits.for_("MISCONF")
        client.config_set("stop-writes-on-bgsave-error", "no")
    waits.goes_through()


def test_busy_script_is_waited_out(own: Server, open_at, caplog: pytest.LogCaptureFixture):
    store = open_at(own.url)
    store.stats()
    with own.client() as client:
        client.config_set("lua-time-limit", 20)

    def spin() -> None:
        with own.client() as client, pytest.raises(redis.ResponseError):
            client.eval("while true do end", 0)

    spinning = threading.Thread(target=spin, daemon=True)
    spinning.start()
    wait_until(lambda: is_busy(own))
    waits = Waits(store, caplog)
    waits.for_("BUSY")
    with own.client() as client:
        client.script_kill()
    waits.goes_through()
    spinning.join(10)


def is_busy(server: Server) -> bool:
    try:
        with server.client() as client:
            client.ping()
    except redis.ResponseError as error:
        return "BUSY" in str(error)
    return False


def test_loading_is_waited_out(open_at, queue_name: str, caplog: pytest.LogCaptureFixture):
    # It answers whenever it has read 2 MiB, here every tenth of a second: a connection takes five answers.
    with Server(tcp=True, rdbcompression="no", key_load_delay="100") as own:
        store = open_at(own.url)
        with own.client() as client:
            client.mset({f"k{n}": "x" * 2_000 for n in range(15_000)})
            client.save()
        own.kill()
        own.start_only()
        wait_until(lambda: is_loading(own))
        waits = Waits(store, caplog)
        waits.for_("is loading the dataset")
        wait_until(lambda: own.answers(), 20)
        waits.goes_through()


def is_loading(server: Server) -> bool:
    try:
        with server.client() as client:
            client.ping()
    except redis.BusyLoadingError:
        return True
    except redis.ConnectionError:
        pass
    return False


@pytest.mark.slow
def test_clusterdown_is_waited_out(open_at, caplog: pytest.LogCaptureFixture):
    with Server(tcp=True, cluster_enabled="yes", cluster_require_full_coverage="no") as own:
        store = open_at(own.tcp_url)
        waits = Waits(store, caplog)
        wait_until(lambda: "not served" in str(store._client._links.gate.error))  # it has a gate of its own by now
        with own.client() as client:
            client.execute_command("CLUSTER", "ADDSLOTS", *range(16384))
        waits.goes_through()


def test_error_of_one_slot_does_not_shut_the_gate_of_other_queues(open_at):
    with Server(tcp=True, cluster_enabled="yes", cluster_require_full_coverage="no") as own:
        here, elsewhere = "a", "b"
        with own.client() as client:
            slots = {name: client.execute_command("CLUSTER", "KEYSLOT", f"{{{name}}}") for name in (here, elsewhere)}
            client.execute_command("CLUSTER", "ADDSLOTS", *(n for n in range(16384) if n != slots[elsewhere]))
            wait_until(lambda: b"cluster_state:ok" in client.execute_command("CLUSTER", "INFO"), 20)
        well, ill = open_at(own.tcp_url, name=here), open_at(own.tcp_url, 300, name=elsewhere)
        with pytest.raises(StoreUnavailable, match="Hash slot not served"):
            put(ill, "a")

        assert put(well, "a").depth == 1
        assert well._client._links.gate.error is None
        assert ill._client._links.gate.error is not None


def test_pause_of_all_clients_is_waited_out(own: Server, open_at, caplog: pytest.LogCaptureFixture):
    store = open_at(own.url)
    store.stats()
    with own.client() as client:
        client.client_pause(400, all=True)
        started = time.monotonic()
        assert put(store, "a").depth == 1

    assert 0.3 < time.monotonic() - started < 5
    assert not [record for record in caplog.records if "away" in record.getMessage()]


def test_pause_that_is_longer_than_a_reply_may_take_is_an_outage(
    own: Server, open_at, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("gqueue.store.redis.REPLY_TIMEOUT_S", 0.2)
    store = open_at(own.url)
    store.stats()
    with own.client() as client:
        client.client_pause(1_000, all=True)
        waits = Waits(store, caplog)
        waits.for_("Timeout")
    waits.goes_through()


# Too many clients.


def crowd(server: Server, spare: int) -> list[redis.Redis]:
    """Take all of the server's connections but *spare*."""
    with server.client() as client:
        now = client.info("clients")["connected_clients"]
        client.config_set("maxclients", now + 3 + spare - 1)
    clients = [server.client() for _ in range(3)]
    for one in clients:
        one.ping()
    return clients


def test_server_that_takes_no_client_at_all_is_away(own: Server, open_at, caplog: pytest.LogCaptureFixture):
    others = crowd(own, 0)
    waits = Waits(open_at(own.url), caplog)
    waits.for_("max number of clients reached|Broken pipe|reset by peer")  # as the race between both sides ends
    for other in others:
        other.close()
    waits.goes_through()


def test_store_does_with_the_connections_it_has_when_it_gets_no_more(
    own: Server, open_at, queue_name: str, caplog: pytest.LogCaptureFixture
):
    store = open_at(own.url)
    store.stats()
    others = crowd(own, 0)
    done: list[int] = []

    def produce(number: int) -> None:
        for call in range(1, 101):
            put(store, f"{number}.{call}", lane=f"l{number}", call=call)
        done.append(number)

    threads = [threading.Thread(target=produce, args=(number,), daemon=True) for number in range(6)]
    for thread in threads:
        thread.start()
    assert store.wait_hint(3) is False
    for thread in threads:
        thread.join(30)

    assert sorted(done) == list(range(6))
    assert store.stats().ready == 600
    told = [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]
    assert len(told) == 1
    assert "takes no more connections" in told[0]
    assert "Look at maxclients" in told[0]
    for other in others:
        other.close()
    assert store.wait_hint(5)


# Who we are.


@pytest.mark.parametrize(
    ("who", "text"),
    [("", "Authentication required"), (":secret@", "invalid"), ("nobody:secret@", "invalid")],
)
def test_who_is_not_let_in_is_told_at_once(queue_name: str, open_at, who: str, text: str):
    with Server(tcp=True, requirepass="right") as locked:
        store = open_at(f"redis://{who}127.0.0.1:{locked.port}")
        started = time.monotonic()
        with pytest.raises(StoreUnavailable, match=f"refuses us: .*{text}") as caught:
            put(store, "a")

        assert time.monotonic() - started < 5
        assert "secret" not in str(caught.value)
        assert not caught.value.may_be_in


# What is no Redis.


@pytest.mark.parametrize("said", [b"HTTP/1.1 400 Bad Request\r\n\r\n", b"\x15\x03\x01\x00\x02\x02", b"*1\r\n!!\r\n"])
def test_what_does_not_speak_the_protocol_counts_as_away_and_is_named(open_at, said: bytes):
    with FakeServer(lambda _: said) as web:
        store = open_at(web.url, 300)
        with pytest.raises(StoreUnavailable, match=r"did not answer for 0\.3 s.*Protocol"):
            put(store, "a")


def test_script_that_an_operator_killed_is_told_of(open_at):
    def answer(arguments: list[bytes]) -> bytes:
        if arguments[0] == b"EVALSHA":
            return b"-ERR Error running script: Script killed by user with SCRIPT KILL...\r\n"
        return b"+OK\r\n"

    with FakeServer(answer) as fake, pytest.raises(CallRefused, match=r"refused enqueue: .*SCRIPT KILL"):
        put(open_at(fake.url), "a")


# One gate a process.


def test_stores_of_a_process_knock_one_at_a_time_however_many_they_are(queue_name: str, open_at):
    port, knocks = free_port(), []
    stores = [open_at(f"redis://127.0.0.1:{port}", 3_000, name=f"{queue_name}-{n}") for n in range(30)]
    assert len({id(store._client._links.gate) for store in stores}) == 1
    clones = [store.clone() for store in stores]
    assert len({id(clone._client._links.gate) for clone in clones} - {id(stores[0]._client._links.gate)}) == 1

    original = type(stores[0]._client)._open

    def knock(client, links, link) -> None:
        knocks.append(time.monotonic())
        original(client, links, link)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(type(stores[0]._client), "_open", knock)

        def call(store: RedisStore) -> None:
            with pytest.raises(StoreUnavailable):
                store.stats()

        threads = [threading.Thread(target=call, args=(store,)) for store in stores]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(20)
    for clone in clones:
        clone.close()

    # All find out at once; after that one knocks, after 0.05, 0.1, 0.2 ... s at most, and 30 as they give up.
    first = min(knocks)
    later = [at for at in knocks if 0.5 < at - first < 2.9]
    assert len(later) < 40


def test_one_store_closing_leaves_the_others_waiting(own: Server, open_at, queue_name: str):
    port = own.port
    first, second = open_at(own.tcp_url), open_at(own.tcp_url, name=f"{queue_name}-too")
    first.stats()
    own.kill()
    said: list[object] = []

    def ask(store: RedisStore) -> None:
        try:
            said.append(store.stats().depth)
        except StoreUnavailable as error:
            said.append(str(error))

    threads = [threading.Thread(target=ask, args=(store,), daemon=True) for store in (first, second)]
    for thread in threads:
        thread.start()
    wait_until(lambda: first._client._links.gate.error is not None)
    first.close()
    wait_until(lambda: said)
    assert "the store is closed" in str(said[0])
    assert own.port == port
    own.start()
    threads[1].join(20)

    assert said[1:] == [0]


# A server that evicts.


def warned(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if "may drop" in record.getMessage()]


def test_policy_that_is_set_live_is_told_by_the_heartbeat_once_a_change(
    own: Server, open_at, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
):
    monkeypatch.setattr("gqueue.store.client.LOOK_AGAIN_S", 0.0)
    store = open_at(own.url)
    store.register("w")
    beating, another = store.clone(), store.clone()
    assert beating.heartbeat("w").warning == ""
    with own.client() as client:
        for policy in ("allkeys-lru", "noeviction", "volatile-lru", "allkeys-random"):
            client.config_set("maxmemory-policy", policy)
            told = [one.heartbeat("w").warning for one in (beating, another, beating)]
            assert [bool(text) for text in told] == [policy != "noeviction", False, False]
            assert policy == "noeviction" or f"maxmemory-policy {policy}" in told[0]
    assert warned(caplog) == []
    for clone in (beating, another):
        clone.close()


def test_policy_is_looked_at_once_a_minute_and_no_call_more(own: Server, open_at):
    store = open_at(own.url)
    store.register("w")
    with own.client() as client:
        before = client.info("commandstats")["cmdstat_info"]["calls"]
        for _ in range(20):
            store.heartbeat("w")
        assert client.info("commandstats")["cmdstat_info"]["calls"] == before + 1


def test_server_that_came_back_is_looked_at_anew(own: Server, open_at, caplog: pytest.LogCaptureFixture):
    store = open_at(own.url)
    store.stats()
    own.kill()
    own.settings["maxmemory-policy"] = "allkeys-lfu"
    own.start()
    store.stats()

    assert len(warned(caplog)) == 1
