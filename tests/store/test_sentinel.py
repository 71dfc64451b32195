"""Where the master is, as sentinels say: fake ones for what they may say, three real ones for failovers."""

import signal
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from gqueue import Queue
from gqueue.cli.reach import Unreachable
from gqueue.cli.reach import check as reach
from gqueue.config import Sentinels as Said
from gqueue.config import masked, read_sentinels, redis_url
from gqueue.core.model import NewJob, State, WhenFull
from gqueue.errors import BadSetting, StoreUnavailable
from gqueue.store import open_store
from gqueue.store.check import settings_in_force
from gqueue.store.redis import RedisStore
from gqueue.store.sentinel import SentinelAddress
from tests import effects
from tests.conftest import wait_until
from tests.fake_server import FakeServer, bulk
from tests.processes import Process
from tests.servers import Sentinels, Server, free_port, in_step
from tests.store.conftest import RULES


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("redis+sentinel://h/svc", Said("redis://named:0/", (("h", 26379),), "svc", None, None)),
        (
            "redis+sentinel://h1,h2:7,[::1]:8,[fe80::2]/svc/3",
            Said("redis://named:0/3", (("h1", 26379), ("h2", 7), ("::1", 8), ("fe80::2", 26379)), "svc", None, None),
        ),
        (
            "rediss+sentinel://me:p%40ss@h/a.b-c?ssl_cert_reqs=none&sentinel_username=s&sentinel_password=x%26y&db=1",
            Said("rediss://me:p%40ss@named:0/?ssl_cert_reqs=none&db=1", (("h", 26379),), "a.b-c", "s", "x&y"),
        ),
        (
            "redis+sentinel://:pw@h,i/svc/",
            Said("redis://:pw@named:0/", (("h", 26379), ("i", 26379)), "svc", None, None),
        ),
    ],
)
def test_url_of_sentinels_is_read(url: str, said: Said):
    assert read_sentinels(url) == said
    assert redis_url(url) == url


@pytest.mark.parametrize(
    ("url", "why"),
    [
        ("redis+sentinel://u:secret@h1,h2", "service is missing"),
        ("redis+sentinel://u:secret@h1,h2/", "service is missing"),
        ("redis+sentinel://u:secret@h1,,h2/svc", "host cannot be read"),
        ("redis+sentinel://u:secret@h1:0/svc", "no number from 1 to 65535"),
        ("redis+sentinel://u:secret@h1:66000/svc", "no number from 1 to 65535"),
        ("redis+sentinel://u:secret@h1:x/svc", "host cannot be read"),
        ("redis+sentinel://u:secret@h1/svc/db", "database"),
        ("redis+sentinel://u:secret@h1/svc/1/2", "only a database"),
        ("redis+sentinel://u:secret@h1/svc?db=x", "database"),
        ("redis+sentinel://u:sec/ret@h1/svc", "cannot be read|only a database|must be a number"),
        ("redis+sentinel://u:se@cret@h1/svc", "cannot be read"),
    ],
)
def test_bad_url_of_sentinels_is_refused_and_its_password_not_shown(url: str, why: str):
    with pytest.raises(BadSetting, match=why) as caught:
        Queue("q", url)
    with pytest.raises(BadSetting) as late:
        open_store(url, "q", RULES)

    assert "secret" not in str(caught.value) + str(late.value)
    assert "redis+sentinel://[[user]:password@]host" in str(caught.value)


def test_passwords_of_both_are_masked():
    url = "redis+sentinel://u:secret@h1:1,h2/svc?sentinel_username=s&sentinel_password=sec%40ret"

    assert masked(url) == "redis+sentinel://u:***@h1:1,h2/svc?sentinel_username=***&sentinel_password=***"
    assert SentinelAddress(url).shown == masked(url)
    assert masked("redis+sentinel://h1:1,h2:2/svc") == "redis+sentinel://h1:1,h2:2/svc"


# What sentinels may say: real servers, and sentinels that say what the test wants.


def names(port: Callable[[], int | None], epoch: Callable[[], int | None] = lambda: 0) -> FakeServer:
    """Return a sentinel that names 127.0.0.1 and this port, of None it knows nothing, and this config-epoch.

    Of None for an epoch it says that we may not ask.
    """

    def answer(command: list[bytes]) -> bytes:
        if command[0].upper() != b"SENTINEL":
            return b"-NOAUTH Authentication required.\r\n" if command[0] == b"GET" else b"+OK\r\n"
        if command[1] == b"MASTER":
            return fields()
        place = port()
        return b"*-1\r\n" if place is None else listed("127.0.0.1", str(place))

    def fields() -> bytes:
        if (now := epoch()) is None:
            return b"-NOPERM this user has no permissions to run the 'sentinel|master' command\r\n"
        if (place := port()) is None:
            return b"-ERR No such master with that name\r\n"
        return listed("name", "svc", "port", str(place), "config-epoch", str(now), "quorum", "2")

    return FakeServer(answer)


def listed(*texts: str) -> bytes:
    return f"*{len(texts)}\r\n".encode() + b"".join(map(bulk, texts))


def url_of(*sentinels: FakeServer | int, service: str = "svc", more: str = "") -> str:
    ports = [one if isinstance(one, int) else one.port for one in sentinels]
    return f"redis+sentinel://{','.join(f'127.0.0.1:{port}' for port in ports)}/{service}{more}"


def put(store: RedisStore, *ids: str, lane: str = "lane", call: int = 1):
    jobs = [NewJob(job_id, 0.0, 0, b"{}") for job_id in ids]
    return store.enqueue(lane, call, jobs, when_full=WhenFull.REJECT, capacity=1_000)


def test_the_one_that_answered_is_asked_first_the_next_time(queue_name: str):
    dead = free_port()
    with Server(tcp=True) as server, names(lambda: server.port) as second, names(lambda: server.port) as third:
        address = SentinelAddress(url_of(dead, second, third, more="/2"))
        for _ in range(3):
            link = address.link(5.0)
            link.open()
            assert b"db=2" in link.exchange(b"*2\r\n$6\r\nCLIENT\r\n$4\r\nLIST\r\n")
            link.close()

        about = [[b"SENTINEL", question, b"svc"] for question in (b"GET-MASTER-ADDR-BY-NAME", b"MASTER")]
        assert [request for request in second.requests if request[0] == b"SENTINEL"] == about * 3
        assert third.requests == []
        assert [str(one).split(":")[1] for one in address.sentinels] == [
            str(p) for p in (second.port, dead, third.port)
        ]


def test_server_that_is_no_master_is_not_believed_in(queue_name: str):
    with Server(tcp=True) as master, Server(tcp=True, replica_of=master) as replica:
        wait_until(lambda: in_step(replica))
        with names(lambda: replica.port) as stale, names(lambda: master.port) as right:
            store = RedisStore(url_of(stale, right), queue_name, RULES)
            put(store, "a")
            with master.client() as client:
                assert client.hlen(f"gq:{{{queue_name}}}:jobs") == 1
            store.close()

        with names(lambda: replica.port) as stale:
            lost = RedisStore(url_of(stale, stale), queue_name, RULES, retry_for_ms=200)
            with pytest.raises(
                StoreUnavailable, match=f"names 127.0.0.1:{replica.port}, which says that it is a slave"
            ):
                put(lost, "b")
            lost.close()


def test_what_each_sentinel_said_is_told(queue_name: str):
    gone, nobody = free_port(), free_port()
    with names(lambda: None) as ignorant, names(lambda: nobody) as stale:
        store = RedisStore(url_of(gone, ignorant, stale), queue_name, RULES, retry_for_ms=100)
        with pytest.raises(StoreUnavailable) as caught:
            put(store, "a")
        store.close()
        with pytest.raises(Unreachable) as at_start:
            reach(url_of(gone, ignorant, stale))

    for error in (str(caught.value), str(at_start.value)):
        assert "no master of 'svc' was found" in error
        assert f"127.0.0.1:{gone}: Error 111" in error
        assert f"127.0.0.1:{ignorant.port} knows no 'svc'" in error
        assert f"127.0.0.1:{stale.port} names 127.0.0.1:{nobody}, where there is no master now: Error 111" in error


def test_service_that_no_sentinel_watches_is_told_at_once(queue_name: str):
    with names(lambda: None) as first, names(lambda: None) as second:
        store = RedisStore(url_of(first, second), queue_name, RULES, retry_for_ms=60_000)
        with pytest.raises(StoreUnavailable, match="no sentinel watches a service 'svc': check its name"):
            put(store, "a")
        store.close()


def test_wrong_password_of_the_sentinels_is_told_at_once(queue_name: str):
    with Server(tcp=True, requirepass="right") as locked:
        store = RedisStore(
            url_of(locked.port, more="?sentinel_password=secret"), queue_name, RULES, retry_for_ms=60_000
        )
        with pytest.raises(StoreUnavailable, match="sentinels want other credentials") as caught:
            put(store, "a")
        store.close()

    assert "secret" not in str(caught.value)


def test_wrong_password_of_the_master_is_told_at_once(queue_name: str):
    with Server(tcp=True, requirepass="right") as server, names(lambda: server.port) as sentinel:
        url = url_of(sentinel).replace("//", "//:secret@")
        store = RedisStore(url, queue_name, RULES, retry_for_ms=60_000)
        with pytest.raises(StoreUnavailable, match="refuses us") as caught:
            put(store, "a")
        store.close()
        right = RedisStore(url.replace("secret", "right"), queue_name, RULES)
        assert put(right, "a").accepted == 1
        right.close()

    assert "secret" not in str(caught.value)


def test_master_that_was_demoted_is_left_with_the_next_write(queue_name: str):
    with Server(tcp=True) as first, Server(tcp=True, replica_of=first) as second:
        wait_until(lambda: in_step(second))
        now = [first]
        with names(lambda: now[0].port) as sentinel:
            store = RedisStore(url_of(sentinel), queue_name, RULES, retry_for_ms=20_000)
            put(store, "a")
            assert store.wait_done(0) == ()
            with second.client() as client:
                wait_until(lambda: client.hlen(f"gq:{{{queue_name}}}:jobs") == 1)
                client.execute_command("REPLICAOF", "NO", "ONE")
            with first.client() as client:  # no CLIENT KILL, as Sentinel does: its connections stay
                client.execute_command("REPLICAOF", "127.0.0.1", second.port)
            now[0] = second

            assert put(store, "b", call=2).depth == 2
            with second.client() as client:
                assert store.wait_done(0) == ()
                assert client.pubsub_numsub(f"gq:{{{queue_name}}}:done")[0][1] == 1
            store.close()


def test_master_that_was_replaced_and_answers_as_before_is_left_soon(queue_name: str):
    with Server(tcp=True) as first, Server(tcp=True) as second:
        now = [first]
        with names(lambda: now[0].port) as sentinel, second.client() as two:
            store = RedisStore(url_of(sentinel), queue_name, RULES)
            put(store, "a")
            assert store.wait_done(0) == ()
            now[0] = second

            for n in range(100):
                put(store, str(n), lane=str(n))
            assert len(asked(sentinel)) < 20
            wait_until(lambda: store.stats().ready == 0)
            assert store.wait_done(0) == ()
            assert two.pubsub_numsub(f"gq:{{{queue_name}}}:done")[0][1] == 1
            store.close()


@pytest.mark.parametrize("epochs", [(2, 1), (None, None)], ids=["known", "forbidden"])
@pytest.mark.parametrize("trouble", ["slow", "ignorant", "erring"])
def test_sentinel_that_is_late_moves_nobody_off_a_master_that_works(
    trouble: str, epochs: tuple[int | None, int | None]
):
    with (
        Server(tcp=True) as old,
        Server(tcp=True) as new,
        names(lambda: new.port, lambda: epochs[0]) as right,
        names(lambda: old.port, lambda: epochs[1]) as late,
    ):
        address = SentinelAddress(url_of(right, late))
        link = address.link(5.0)
        link.open()
        recover = spoil(right, trouble)
        wait_until(lambda: link.outdated or asked(late))
        recover()
        before = len(asked(right))

        wait_until(lambda: link.outdated or len(asked(right)) > before)
        assert not link.outdated
        assert address.master == ("127.0.0.1", new.port)
        link.close()


@pytest.mark.parametrize("trouble", ["slow", "ignorant", "erring"])
def test_failover_is_heard_of_from_another_sentinel_when_the_first_no_longer_helps(trouble: str):
    with Server(tcp=True) as first, Server(tcp=True) as second:
        now, epoch = [first.port], [1]
        with names(lambda: first.port, lambda: 1) as useless, names(lambda: now[0], lambda: epoch[0]) as other:
            address = SentinelAddress(url_of(useless, other))
            link = address.link(5.0)
            link.open()
            spoil(useless, trouble)
            now[0], epoch[0] = second.port, 2

            wait_until(lambda: link.outdated)
            assert address.master == ("127.0.0.1", second.port)
            link.close()


def spoil(sentinel: FakeServer, trouble: str) -> Callable[[], None]:
    """Have *sentinel* answer late, nil, or with an error from now on; return what ends that."""
    right = sentinel.answer

    def answer(command: list[bytes]) -> bytes:
        if command[0] != b"SENTINEL" or trouble == "slow":
            time.sleep(0.4 if command[0] == b"SENTINEL" else 0)
            return right(command)
        return b"*-1\r\n" if trouble == "ignorant" else b"-ERR not now\r\n"

    def recover() -> None:
        sentinel.answer = right

    sentinel.answer = answer
    return recover


def test_sentinel_that_named_the_master_and_then_another_is_believed_whatever_its_epoch():
    with Server(tcp=True) as first, Server(tcp=True) as second:
        now = [first.port]
        with names(lambda: now[0], lambda: None) as forbidding, names(lambda: now[0], lambda: 4) as other:
            address = SentinelAddress(url_of(forbidding, other))
            link = address.link(5.0)
            link.open()
            now[0] = second.port

            wait_until(lambda: link.outdated)
            assert address.master == ("127.0.0.1", second.port)
            link.close()


def test_sentinel_that_is_behind_is_asked_last_when_a_connection_is_opened():
    with Server(tcp=True) as old, Server(tcp=True) as new:
        gone = [False]
        with (
            names(lambda: old.port, lambda: 1) as late,
            names(lambda: None if gone[0] else new.port, lambda: 2) as right,
        ):
            address = SentinelAddress(url_of(right, late))
            opened(address)
            address.sentinels.reverse()

            assert opened(address) == new.port
            gone[0] = True  # or it was the other whose epochs began anew: nobody is locked out
            assert opened(address) == old.port
            assert opened(address) == old.port
            assert address.known
            assert address.known.epoch == 1


def opened(address: SentinelAddress) -> int:
    link = address.link(5.0)
    link.open()
    link.close()
    assert address.master is not None
    return address.master[1]


def asked(sentinel: FakeServer) -> list[list[bytes]]:
    return [request for request in sentinel.requests if request[:2] == [b"SENTINEL", b"GET-MASTER-ADDR-BY-NAME"]]


def test_the_check_of_a_server_finds_it_through_sentinels(queue_name: str):
    with Server(tcp=True) as server, names(lambda: server.port) as sentinel:
        assert settings_in_force(url_of(sentinel), queue_name) == {}


# A new master that is behind: the replica was cut off before the last calls, and is promoted.


@pytest.fixture
def behind() -> Iterator["Behind"]:
    """Return a store, and what makes a server its master that has seen nothing since `cut` was called."""
    with Server(tcp=True) as first, Server(tcp=True, replica_of=first) as second:
        wait_until(lambda: in_step(second))
        now = [first]
        with names(lambda: now[0].port) as sentinel:
            yield Behind(url_of(sentinel), first, second, now)


class Behind:
    """A pair of servers of which the second is to take over, with less than the first had."""

    def __init__(self, url: str, first: Server, second: Server, now: list[Server]):
        self.url, self.first, self.second, self._now = url, first, second, now

    def cut(self) -> None:
        """Cut the replica off once it has what was written so far."""
        with self.first.client() as one:
            one.set("cut", 1)  # WAIT waits for what its own connection wrote, with all that came before
            assert one.execute_command("WAIT", 1, 5_000) == 1
        with self.second.client() as other:
            other.execute_command("REPLICAOF", "NO", "ONE")

    def take_over(self) -> None:
        """Let the sentinel name the second, and the first be gone."""
        self._now[0] = self.second
        self.first.kill()


def test_producer_whose_lane_the_new_master_is_behind_of_goes_on(behind: Behind, queue_name: str):
    queue = Queue(queue_name, behind.url, retry_for=20)

    @queue.task
    def note(n: int) -> None: ...

    for n in range(3):
        note.options(job_id=f"kept.{n}").enqueue(n)
    behind.cut()
    for n in range(3):
        note.options(job_id=f"lost.{n}").enqueue(n)
    behind.take_over()

    jobs = [note.options(job_id=f"after.{n}").enqueue(n) for n in range(3)]

    assert [job.status() for job in jobs] == ["ready"] * 3
    found = [job_id for job_id, _, _ in queue.store.inspect(State.READY)]
    assert found == [f"{when}.{n}" for when in ("kept", "after") for n in range(3)]
    queue.close()


def test_waiting_producer_goes_on_when_the_new_master_never_saw_it_wait(behind: Behind, queue_name: str):
    queue = Queue(queue_name, behind.url, capacity=1, retry_for=20)

    @queue.task
    def note(n: int) -> None: ...

    note.options(job_id="first").enqueue(0)
    behind.cut()
    done: list[str] = []
    waiting = threading.Thread(target=lambda: done.append(note.options(job_id="second").enqueue(1).id), daemon=True)
    waiting.start()
    wait_until(lambda: queue.stats().waiters == 1)
    behind.take_over()
    wait_until(lambda: _or_nothing(lambda: queue.stats().waiters == 1), 20)
    queue.purge()
    waiting.join(20)

    assert done == ["second"]
    queue.close()


def _or_nothing(ask: Callable[[], object]) -> object:
    try:
        return ask()
    except StoreUnavailable:
        return None


@pytest.mark.blackbox
def test_worker_that_the_new_master_is_behind_of_registers_anew_and_loses_no_job(behind: Behind, tmp_path: Path):
    lines = tmp_path / "effects"
    environ = {"GQUEUE_REDIS_URL": behind.url, "GQUEUE_TEST_EFFECTS": str(lines)}
    queue = Queue("promises", behind.url, lease=1.5, retry_for=20)
    run = queue.task(name="run", result_ttl=0)(effects.run.function)
    worker = Process("--app", "tests.effects:queue", "--workers", "3", **environ)

    def ran(*jobs: int) -> bool:
        return {str(job) for job in jobs} <= {argument for _, argument, *_ in effects.read(lines)}

    try:
        queue.enqueue_many(run.job(n) for n in range(20))
        wait_until(lambda: ran(*range(20)), 20)
        behind.cut()
        for n in range(20, 30):  # one by one: several calls of the worker that the second server never sees
            run.enqueue(n)
            wait_until(lambda n=n: ran(n), 20)
        behind.take_over()
        queue.enqueue_many(run.job(n) for n in range(30, 40))

        wait_until(lambda: ran(*range(40)), 30)
        wait_until(lambda: queue.stats().depth + queue.stats().running == 0, 30)
        assert "registered anew" in worker.wait_for("registered anew")
        worker.signal(signal.SIGTERM)
        assert worker.wait(30) == 0
    finally:
        worker.remove()
        queue.close()


@pytest.mark.slow
def test_calls_go_on_through_a_failover_by_command_and_the_loss_of_the_master(queue_name: str):
    with Sentinels(appendonly=True) as parts:
        store = RedisStore(parts.url, queue_name, RULES, retry_for_ms=30_000)
        done: list[str] = []
        end = threading.Event()

        def produce() -> None:
            number = 0
            while not end.is_set():
                number += 1
                put(store, f"j{number}", lane=f"l{number}")
                done.append(f"j{number}")

        producer = threading.Thread(target=produce, daemon=True)
        producer.start()
        wait_until(lambda: len(done) > 50)
        parts.failover()
        before = len(done)
        wait_until(lambda: len(done) > before + 50, 30)
        parts.stop_sentinel(0)
        old = parts.master()
        assert old is not None
        wait_until(lambda: in_step(parts.replica()), 30)
        old.kill()
        died = time.monotonic()
        new = parts.wait_for_another(old)
        before = len(done)
        wait_until(lambda: len(done) > before + 50, 30)
        end.set()
        producer.join(30)
        assert time.monotonic() - died < 30

        with new.client() as client:
            in_queue = client.hlen(f"gq:{{{queue_name}}}:jobs")
        assert store.stats().ready == in_queue
        assert in_queue > 150
        store.close()
