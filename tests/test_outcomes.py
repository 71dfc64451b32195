"""Waiting for what became of a job, and for room, where Redis refuses; what is told is in test_queue and test_line."""

import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

import gqueue
from gqueue import CallRefused
from tests.servers import Server


@pytest.fixture
def limited(server: Server, queue_name: str) -> Iterator[gqueue.Queue]:
    """Return a queue whose user may do what the test allows, at first anything."""
    allow(server, "+@all")
    queue = gqueue.Queue(queue_name, f"unix://limited:pw@{server.socket}", capacity=1)
    queue.task(name="t")(lambda: None)
    yield queue
    queue.close()
    with server.client() as client:
        client.execute_command("ACL DELUSER", "limited")


def allow(server: Server, *rights: str) -> None:
    with server.client() as client:
        client.execute_command("ACL SETUSER", "limited", "on", ">pw", "~*", "allchannels", *rights)


@pytest.mark.parametrize("lacks", ["subscribe", "zadd"])
def test_who_may_not_hear_of_outcomes_is_told_at_once_and_the_log_once(limited, server, caplog, lacks) -> None:
    job = limited.tasks["t"].enqueue()
    allow(server, f"-{lacks}")
    before = set(threading.enumerate())

    with ThreadPoolExecutor(3) as pool:
        waiting = [pool.submit(job.result, 60) for _ in range(3)]
        for each in waiting:
            with pytest.raises(CallRefused, match=rf"the ACL of the user lacks \+{lacks}"):
                each.result(20)
    for _ in range(2):
        with pytest.raises(CallRefused):
            job.wait(60)

    said = [record for record in caplog.records if record.name == "gqueue.producer"]
    assert [record.exc_info for record in said] == [None] * (lacks == "subscribe")
    limited.close()
    assert not {thread for thread in threading.enumerate() if thread not in before and not ends(thread)}


def test_who_waits_without_end_is_told_when_nobody_will_listen_any_more(limited, monkeypatch) -> None:
    monkeypatch.setattr("gqueue.outcomes.ENSURE_S", 0.05)
    job = limited.tasks["t"].enqueue()
    limited.producer.outcomes.end_threads()  # as a fork does, under gevent

    with pytest.raises(gqueue.StoreUnavailable, match="was closed, or the process forked"):
        job.wait(None)


def test_who_waits_when_the_right_is_taken_away_is_told(limited, server, eventually) -> None:
    job = limited.tasks["t"].enqueue()
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(job.result, 60)
        eventually(lambda: limited.producer.outcomes._listening.is_set())
        allow(server, "-evalsha", "-eval")

        with pytest.raises(CallRefused):
            waiting.result(20)


def test_once_the_right_is_there_outcomes_are_heard_again(limited, server) -> None:
    job = limited.tasks["t"].enqueue()
    allow(server, "-subscribe")
    with pytest.raises(CallRefused):
        job.wait(60)
    allow(server, "+subscribe")
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(job.wait, 20)
        assert job.cancel()
        assert waiting.result(20)


def test_who_may_not_hear_of_room_is_told_at_once_and_the_log_once(limited, server, caplog) -> None:
    limited.tasks["t"].enqueue()
    allow(server, "-blpop")

    for _ in range(2):
        with pytest.raises(CallRefused, match=r"lacks \+blpop"):
            limited.tasks["t"].options(wait_timeout=20).enqueue()

    said = [record for record in caplog.records if record.name == "gqueue.producer"]
    assert [record.exc_info for record in said] == [None]


def test_who_may_not_stand_in_line_any_more_is_told(limited, server, eventually) -> None:
    limited.tasks["t"].enqueue()
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(limited.tasks["t"].options(wait_timeout=20).enqueue)
        eventually(lambda: limited.producer.line._waiters)
        allow(server, "-evalsha", "-eval")

        with pytest.raises(CallRefused):
            waiting.result(20)


def ends(thread: threading.Thread) -> bool:
    until = time.monotonic() + 10
    while thread.is_alive() and time.monotonic() < until:
        time.sleep(0.01)
    return not thread.is_alive()
