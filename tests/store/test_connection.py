"""Where a server is, and the connections to it that are held."""

import os
import socket
import threading
import time
import weakref

import pytest

from gqueue.config import masked
from gqueue.errors import BadSetting
from gqueue.store import client
from gqueue.store.connection import Address, Lanes, LanesClosed, Link, pack
from tests.servers import Server


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("redis://localhost:6379/0", "redis://localhost:6379/0"),
        ("redis://:secret@host:1/0", "redis://:***@host:1/0"),
        ("rediss://user:se:cr@et@host", "rediss://user:***@host"),
        ("redis://:sec/ret@host", "redis://***"),
        ("redis://user:12?db=ret@host", "redis://***"),
        ("redis://user:12#ret@host", "redis://***"),
        ("redis://user/secret:x@host", "redis://***"),
        ("redis://secret@host:1/0", "redis://***@host:1/0"),
        ("redis://secret:@host", "redis://***@host"),
        ("redis://us er:secret@host", "redis://***:***@host"),
        ("redis://[::1]:1/2", "redis://[::1]:1/2"),
        ("redis://user:secret", "redis://***"),
        ("redis://:1234", "redis://***"),
        ("redis://host/secret", "redis://***"),
        ("REDIS://u:secret@host", "***"),
        ("secret", "***"),
        ("http://u:secret@host", "http://***"),
        ("memory:a", "memory:a"),
        ("memory:u:secret@host", "memory:***"),
        ("unix://user:secret@/tmp/s?db=1", "unix://user:***@/tmp/s?db=1"),
        ("unix:///tmp/a-b.sock", "unix:///tmp/a-b.sock"),
        ("unix:///user:secret@/tmp/s", "unix://***"),
        ("unix://user:sec/ret@/tmp/s", "unix://***"),
        ("redis://host/0?password=secret&db=1", "redis://host/0?password=***&db=1"),
        ("rediss://host?ssl_password=secret", "rediss://host?ssl_password=***"),
        (
            "rediss://host?ssl_ca_certs=/a/b.pem&ssl_cert_reqs=none",
            "rediss://host?ssl_ca_certs=/a/b.pem&ssl_cert_reqs=none",
        ),
        ("redis://host?pass%77ord=secret", "redis://host?***"),
        ("redis://host?Password=secret&db=1", "redis://host?***&db=1"),
        ("redis://host?username=secret&amp;password=secret", "redis://host?username=***&***"),
        ("redis://host?db=0;password=secret", "redis://host?db=***"),
        ("redis+sentinel://u:secret@h1:1,[::1]:2/svc/3", "redis+sentinel://u:***@h1:1,[::1]:2/svc/3"),
        (
            "redis+sentinel://secret@h1/svc?sentinel_username=secret",
            "redis+sentinel://***@h1/svc?sentinel_username=***",
        ),
        ("redis+sentinel://h1,u:12/se@cret/svc", "redis+sentinel://***"),
    ],
)
def test_passwords_are_masked(url: str, shown: str):
    assert masked(url) == shown


@pytest.mark.parametrize(
    "url",
    [
        "redis://:secret@host:port/0",
        "redis://:sec/ret@host/0",
        "redis://:secret@host/zero",
        "redis://:secret@host/0?socket_timeout=soon",
        "redis://:secret@host/0?nonsense=1",
        "unix://",
        "redis://:secret@[::1/0",
    ],
)
def test_bad_url_is_refused_and_its_password_not_shown(url: str):
    with pytest.raises(BadSetting) as caught:
        Address(url)

    assert "secret" not in str(caught.value)
    assert "sec" not in str(caught.value).replace("seconds", "")


def test_options_that_would_change_the_protocol_are_overruled(server: Server):
    options = "decode_responses=1&protocol=3&retry_on_timeout=1&health_check_interval=1&socket_timeout=0.01&db=3"
    link = Address(f"{server.url}?{options}").link(5.0)
    link.open()

    assert link.exchange(pack((b"ECHO", b"x"))) == b"x"
    with pytest.raises(Exception, match="Timeout"):
        Address(server.url).link(0.1).exchange(pack((b"BLPOP", b"none", 5)))
    assert b"db=3" in link.exchange(pack((b"CLIENT", b"LIST")))
    link.close()


def test_interrupt_ends_a_wait_on_another_thread(server: Server):
    link = Address(server.url).link(30.0)
    link.open()
    timer = threading.Timer(0.1, link.interrupt)
    timer.start()
    started = time.monotonic()
    with pytest.raises(Exception, match="closed"):
        link.exchange(pack((b"BLPOP", b"none", 20)))

    assert time.monotonic() - started < 5
    link.interrupt()
    link.close()


class Counted(Link):
    """A connection that is not opened, and knows whether it was closed."""

    def __init__(self):
        self.closed = 0
        self.fresh = True

    def close(self):
        self.closed += 1

    def interrupt(self):
        self.closed += 1


def soon() -> float:
    return time.monotonic() + 10


def test_connection_given_back_last_is_taken_first():
    lanes = Lanes(Counted)
    first, second = lanes.take(soon()), lanes.take(soon())
    lanes.give(first)
    lanes.give(second)

    assert lanes.take(soon()) is second
    assert lanes.take(soon()) is first


def test_no_more_than_the_bound_are_made_and_the_others_wait():
    made, in_use, most = [], [0], [0]
    lock = threading.Lock()

    def make() -> Counted:
        made.append(Counted())
        return made[-1]

    lanes = Lanes(make, most=3)

    def work():
        for _ in range(200):
            link = lanes.take(soon())
            with lock:
                in_use[0] += 1
                most[0] = max(most[0], in_use[0])
            time.sleep(0)
            with lock:
                in_use[0] -= 1
            lanes.give(link)

    threads = [threading.Thread(target=work) for _ in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)

    assert not any(thread.is_alive() for thread in threads)
    assert len(made) == most[0] == 3


def test_who_finds_all_taken_is_told_when_its_time_is_up():
    lanes = Lanes(Counted, most=1)
    held = lanes.take(soon())
    with pytest.raises(TimeoutError):
        lanes.take(time.monotonic() + 0.05)

    lanes.give(held)
    assert lanes.take(soon()) is held


def test_dropped_connection_makes_room_for_another():
    lanes = Lanes(Counted, most=1)
    first = lanes.take(soon())
    threading.Timer(0.05, lanes.drop, (first,)).start()
    started = time.monotonic()

    assert lanes.take(soon()) is not first
    assert time.monotonic() - started < 5
    assert first.closed


def test_connection_lost_by_its_holder_does_not_count_for_ever():
    lanes = Lanes(Counted, most=1)
    lanes.take(soon())

    assert lanes.take(soon())


@pytest.mark.parametrize(("crowded", "depths"), [(False, [1, 2, 1]), (True, [1, 1])])
def test_callers_own_code_holds_half_of_the_connections_at_most(crowded: bool, depths: list[int]):
    lanes = Lanes(Counted, most=4)
    first, second, third = (lanes.take(soon()) for _ in range(3))
    if crowded:
        lanes.do_with_these(60)
    ran = []
    lanes.run_aside(
        first,
        lambda: (
            ran.append(1),
            lanes.run_aside(second, lambda: (ran.append(2), lanes.run_aside(third, lambda: ran.append(3)))),
        ),
    )
    lanes.run_aside(second, lambda: ran.append(1))

    assert ran == depths


def test_closed_lanes_refuse_and_close_all():
    lanes = Lanes(Counted, most=2)
    held, free = lanes.take(soon()), lanes.take(soon())
    lanes.give(free)
    failed = []

    def wait():
        try:
            lanes.take(soon()), lanes.take(soon())
        except LanesClosed:
            failed.append(True)

    waiting = threading.Thread(target=wait)
    waiting.start()
    time.sleep(0.02)
    lanes.close()
    waiting.join(5)

    assert failed == [True]
    assert held.closed
    assert free.closed
    with pytest.raises(LanesClosed):
        lanes.take(soon())
    lanes.give(held)
    assert held.closed == 2


def test_id_that_is_not_utf8_is_sent_as_it_was_read():
    raw = "job é ".encode() + b"\xff"

    assert pack((b"GET", raw.decode("utf-8", "surrogateescape"), 1, 1.5)) == pack((b"GET", raw, 1, 1.5))


def test_forgetting_closes_the_copy_and_leaves_the_connection_alone(server: Server):
    link = Address(server.url).link(5)
    link.open()
    connection = link._connection
    sock, descriptor = connection._sock, connection._sock.fileno()
    parents = socket.socket(fileno=os.dup(descriptor))

    link.forget()
    reused = os.open(os.devnull, os.O_RDONLY)
    sock.close()
    link.forget()
    link.close()

    assert reused == descriptor
    os.close(reused)  # it is still open: a socket that is closed later closes nothing
    parents.settimeout(5)
    parents.sendall(pack((b"PING",)))
    assert parents.recv(100) == b"+PONG\r\n"
    parents.close()


def test_one_client_that_cannot_let_go_does_not_keep_the_others_from_it(monkeypatch: pytest.MonkeyPatch):
    told = []

    class Ours:
        def after_fork(self):
            told.append(self)
            raise ValueError("operation on destroyed loop")

    monkeypatch.setattr(client, "_CLIENTS", [Ours(), Ours()])
    client._forget_in_child()

    assert len(told) == 2


def test_lanes_are_closed_while_another_thread_drops_one():
    lanes = Lanes(Counted)
    link = lanes.take(time.monotonic() + 1)

    class Changing(weakref.WeakSet):
        times = 0

        def __iter__(self):
            self.times += 1
            if self.times == 1:
                raise RuntimeError("Set changed size during iteration")
            return super().__iter__()

    lanes._alive = Changing([link])
    lanes.close()

    assert lanes._alive.times == 2
    with pytest.raises(LanesClosed):
        lanes.take(time.monotonic() + 1)
