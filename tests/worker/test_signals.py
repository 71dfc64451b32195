"""TERM and INT, counted as they come: when a worker starts, runs, and from the end until it is gone; a child's end."""

import os
import signal
import time
from collections.abc import Iterator
from typing import Any

import pytest

import gqueue
from tests.processes import Process
from tests.worker.stage import perform, play, tell, until, workers_store


def scene_of_signals_before_the_start() -> dict[str, Any]:
    queue = gqueue.Queue("q", "memory:", lease=1.5)
    store = workers_store(queue)
    real = store.register
    workers: list[Any] = []

    def register(worker_id: str) -> None:
        for count in (1, 2):
            os.kill(os.getpid(), signal.SIGTERM)
            until(lambda count=count: workers[0]._ends_heard == count)
        real(worker_id)

    store.register = register
    from gqueue.config import WorkerOptions
    from gqueue.worker import Worker

    workers.append(Worker([queue], WorkerOptions()))
    return {"code": workers[0].run(), "workers": queue.stats().workers}


def test_two_signals_while_a_worker_registers_end_it_without_leaving_a_lease_behind() -> None:
    scene = play(scene_of_signals_before_the_start)

    assert (scene.code, scene["code"], scene["workers"]) == (0, 0, 0)


def scene_of_a_second_signal_to_an_idle_worker() -> dict[str, Any]:
    queue = gqueue.Queue("q", "memory:", lease=1.5)
    store = workers_store(queue)
    real = store.leave

    def leave(worker_id: str, limit: int) -> int:
        os.kill(os.getpid(), signal.SIGINT)
        until(lambda: workers[0]._ends_heard == 2)
        return real(worker_id, limit)

    store.leave = leave
    workers: list[Any] = []

    def script(worker: Any) -> None:
        workers.append(worker)
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(60)

    return {"code": perform(queue, script), "workers": queue.stats().workers}


def test_second_signal_to_an_idle_worker_ends_it_cleanly() -> None:
    scene = play(scene_of_a_second_signal_to_an_idle_worker)

    assert (scene.code, scene["code"], scene["workers"]) == (0, 0, 0)


def scene_of_signals_after_the_end() -> dict[str, Any]:
    queue = gqueue.Queue("q", "memory:", lease=1.5)
    heard: list[int] = []
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda number, _frame: heard.append(number))

    def script(worker: Any) -> None:
        until(lambda: worker._heartbeat)
        real = worker._heartbeat.stop

        def stop() -> None:
            for number in (signal.SIGTERM, signal.SIGINT, signal.SIGTERM, signal.SIGINT):
                os.kill(os.getpid(), number)
                time.sleep(0.01)
            tell(sent=True)
            real()

        worker._heartbeat.stop = stop

    code = perform(queue, script)
    during = list(heard)
    os.kill(os.getpid(), signal.SIGTERM)
    until(lambda: heard)
    return {"code": code, "during": during, "after": heard}


def test_signals_are_ignored_once_the_end_is_decided_and_then_are_the_host_programs_again() -> None:
    scene = play(scene_of_signals_after_the_end)

    assert scene["sent"] is True
    assert (scene.code, scene["code"]) == (0, 0)
    assert scene["during"] == []
    assert scene["after"] == [signal.SIGTERM]


def scene_of_a_third_signal() -> dict[str, Any]:
    queue = gqueue.Queue("q", "memory:", lease=1.5)
    store = workers_store(queue)

    def away(*_: Any, **__: Any) -> Any:
        raise gqueue.StoreUnavailable("away")

    store.leave = away

    def script(worker: Any) -> None:
        for count in (1, 2, 3):
            tell(sent=count)
            os.kill(os.getpid(), signal.SIGTERM)
            until(lambda count=count: worker._ends_heard == count)
        time.sleep(60)

    return {"code": perform(queue, script)}


def test_third_signal_ends_as_it_is_a_process_that_cannot_give_back() -> None:
    scene = play(scene_of_a_third_signal)

    assert (scene.code, scene["sent"]) == (1, 3)
    assert scene.log.count("asked a second time") == scene.log.count("asked a third time") == 1
    assert "code" not in scene.facts


def scene_of_a_child_that_ends_at_once() -> dict[str, Any]:
    import gevent.os

    queue = gqueue.Queue("q", "memory:")

    def fork() -> int:
        pid: int = gevent.os.fork_gevent()
        if not pid:
            os._exit(7)
        os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)  # not gevent's: the child is gone before it is watched
        return pid

    @queue.task(max_attempts=1, timeout=20, result_ttl=60)
    def forks() -> int:
        _, status = os.waitpid(gevent.os.fork_and_watch(fork=fork), 0)
        return os.waitstatus_to_exitcode(status)

    job = forks.enqueue()
    perform(queue, lambda _: job.wait(timeout=10))
    return {"state": job.status(), "code": job.result() if job.status() == "succeeded" else None}


def test_child_of_a_task_that_ends_before_it_is_watched_is_heard_of() -> None:
    scene = play(scene_of_a_child_that_ends_at_once)

    assert (scene["state"], scene["code"]) == ("succeeded", 7)


@pytest.fixture
def processes() -> Iterator[list[Process]]:
    started: list[Process] = []
    yield started
    for each in started:
        each.remove()


@pytest.mark.blackbox
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("count", [1, 2])
def test_idle_program_that_is_signalled_until_it_is_gone_exits_0(
    redis_url: str, processes: list[Process], count: int, number: int, eventually: Any
) -> None:
    program = Process("--redis", redis_url, "--jobs", "0", "--processes", str(count))
    processes.append(program)
    eventually(lambda: program.output().count("queue demo at ") == count or not program.alive())
    program.signal(number)
    program.wait_for("draining")
    program.signal(number)
    eventually(lambda: program.output().count("gqueue.worker: ended") == count or not program.alive())
    while program.alive():
        program.signal(number)

    assert program.wait() == 0, program.output()
    assert "Traceback" not in program.output()
