"""The proxy of the campaign against a real server: what each fault does, and that nothing else is changed."""

import socket
import threading
import time
from collections.abc import Iterator

import pytest
import redis
import redis.backoff
import redis.retry

from tests.conftest import wait_until
from tests.faults.toxics import Toxics
from tests.servers import Server, free_port


@pytest.fixture
def toxics(server: Server) -> Iterator[Toxics]:
    with server.client() as plain:
        plain.flushall()
    with Toxics(server.socket) as running:
        yield running


def client(toxics: Toxics, timeout: float = 10.0) -> redis.Redis:
    never = redis.retry.Retry(redis.backoff.NoBackoff(), 0)
    return redis.Redis(port=toxics.port, protocol=2, socket_timeout=timeout, retry=never)


def seconds_of(call) -> float:
    began = time.monotonic()
    call()
    return time.monotonic() - began


def test_bytes_pass_unchanged_and_are_counted(toxics):
    big = bytes(range(256)) * 8_192
    with client(toxics) as through:
        through.set("k", big)
        assert through.get("k") == big
        with pytest.raises(redis.ResponseError):
            through.execute_command("INCR", "k")
        pipe = through.pipeline(transaction=False)
        for number in range(500):
            pipe.rpush("l", number)
        assert pipe.execute() == list(range(1, 501))

    counts = toxics.counts()
    assert (counts["request RPUSH"], counts["request GET"], counts["reply INCR: ERR"]) == (500, 1, 1)
    assert counts["connections"] == 1


def test_latency_delays_every_reply_and_clear_ends_it(toxics):
    with client(toxics) as through:
        through.ping()
        toxics.latency(0.2, jitter=0.05)
        assert 0.14 < seconds_of(through.ping) < 0.6
        toxics.clear()
        assert seconds_of(through.ping) < 0.14


def test_bandwidth_bounds_a_connection(toxics):
    with client(toxics) as through:
        through.set("k", b"x" * 30_000)
        toxics.bandwidth(100_000)
        assert seconds_of(lambda: through.get("k")) > 0.25


def test_slices_arrive_as_one_reply(toxics):
    with client(toxics) as through:
        through.set("k", bytes(range(200)))
        toxics.slicer(4, 0.002, "both")
        assert through.get("k") == bytes(range(200))
        toxics.slicer(40, 0.0, "both")
        through.set("k", b"y" * 20_000)
        assert through.get("k") == b"y" * 20_000
    assert toxics.counts()["slices"] > 1_000


@pytest.mark.parametrize("way", ["up", "down", "both"])
def test_what_a_black_hole_holds_passes_when_it_ends(toxics, server, way):
    with client(toxics, timeout=0.2) as through, server.client() as plain:
        through.ping()
        toxics.blackhole(way)
        with pytest.raises(redis.TimeoutError):
            through.set("k", "late")
        assert plain.exists("k") == (way == "down")
        with client(toxics, timeout=0.2) as another, pytest.raises(redis.TimeoutError):
            another.ping()  # it is taken, and held
        toxics.clear()
        wait_until(lambda: plain.get("k") == b"late")  # although its sender gave up, and is gone
        assert through.ping()
    counts = toxics.counts()
    held = {side for side in ("up", "down") if counts[f"bytes held {side}"]}
    assert held == {"up", "down"} & {way, *(("up",) if way == "both" else ())}
    assert counts["bytes passed up"] > 0 < counts["bytes passed down"]


def test_a_lost_reply_is_of_a_request_that_was_carried_out(toxics, server):
    with client(toxics) as through:
        through.ping()
        toxics.lose_replies(1.0, ["INCR"])
        assert through.ping()
        with pytest.raises(redis.ConnectionError):
            through.execute_command("INCR", "k")
    with server.client() as plain:
        assert plain.get("k") == b"1"
    assert toxics.counts()["replies lost"] == 1


def test_a_share_of_replies_is_lost(toxics, server):
    lost = 0
    toxics.lose_replies(0.2, ["INCR"])
    with client(toxics) as through:
        for _ in range(500):
            try:
                through.execute_command("INCR", "k")
            except redis.ConnectionError:
                lost += 1
    with server.client() as plain:
        assert plain.get("k") == b"500"
    assert 50 < lost < 150
    assert toxics.counts()["replies lost"] == lost


def test_the_nth_request_is_sent_on_and_its_connection_cut(toxics, server):
    with client(toxics) as through:
        through.ping()
        toxics.cut_after(3, ["INCR"])
        through.execute_command("INCR", "k")
        through.execute_command("INCR", "k")
        with pytest.raises(redis.ConnectionError):
            through.execute_command("INCR", "k")
        assert through.ping()
    with server.client() as plain:
        wait_until(lambda: plain.get("k") == b"3")
    assert toxics.counts()["cuts after a request"] == 1


def test_a_reply_is_cut_in_its_middle(toxics, server):
    with server.client() as plain:
        plain.set("k", b"x" * 1_000)
    with socket.create_connection(("127.0.0.1", toxics.port), 10) as raw:
        toxics.cut_inside_reply(1.0)
        raw.sendall(b"*2\r\n$3\r\nGET\r\n$1\r\nk\r\n")
        came = b""
        while data := raw.recv(65536):
            came += data
    assert came.startswith(b"$1000\r\nxxx")
    assert 100 < len(came) < 900
    assert toxics.counts()["cuts inside a reply"] == toxics.counts()["cut inside GET"] == 1


def test_all_connections_are_reset_and_new_ones_pass(toxics):
    socks = [socket.create_connection(("127.0.0.1", toxics.port), 10) for _ in range(2)]
    for sock in socks:
        sock.sendall(b"*1\r\n$4\r\nPING\r\n")
        assert sock.recv(100) == b"+PONG\r\n"
    assert toxics.reset_all() == 2
    for sock in socks:
        with sock, pytest.raises(ConnectionResetError):
            sock.recv(100)
    with client(toxics) as through:
        assert through.ping()


def test_a_server_that_is_away_is_a_connection_that_ends(tmp_path):
    with Toxics(tmp_path / "nobody") as toxics, client(toxics) as through, pytest.raises(redis.ConnectionError):
        through.ping()
    with Toxics(free_port()) as toxics, client(toxics) as through, pytest.raises(redis.ConnectionError):
        through.ping()


@pytest.mark.slow
def test_each_of_many_requests_on_many_connections_is_carried_once(toxics):
    # Pipelines of 10 from 8 connections: no client in Python stands between.
    request = b"*1\r\n$4\r\nPING\r\n" * 10
    answered = [0] * 8

    def ask(number: int) -> None:
        with socket.create_connection(("127.0.0.1", toxics.port), 30) as sock:
            for _ in range(250):
                sock.sendall(request)
                missing = 70
                while missing:
                    missing -= len(sock.recv(missing))
                answered[number] += 10

    threads = [threading.Thread(target=ask, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert answered == [2_500] * 8
    assert toxics.counts()["requests"] == 20_000
