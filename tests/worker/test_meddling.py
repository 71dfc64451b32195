"""Tasks that meddle with the process they run in: what the worker takes back, and what it goes on in spite of."""

import _thread
import gc
import os
import signal
import sys
import time
from typing import Any

import pytest

import gqueue
from tests.worker.stage import dead, perform, play, tell, until

pytestmark = pytest.mark.slow


def scene_of_a_meddler(what: str) -> dict[str, Any]:
    import gevent

    queue = gqueue.Queue("q", "memory:", lease=0.9)
    ends = (signal.SIGTERM, signal.SIGINT, signal.SIGURG, signal.SIGTSTP, signal.SIGUSR1)

    @queue.task
    def meddles() -> None:
        match what:
            case "handlers":
                for number in ends:
                    signal.signal(number, signal.SIG_IGN)
            case "mask":
                signal.pthread_sigmask(signal.SIG_BLOCK, ends)
            case "switches":
                sys.setswitchinterval(100)
            case "time":
                time.monotonic = lambda: 0.0
                time.time = lambda: 0.0
            case "exits":
                gevent.spawn(sys.exit, 3)
            case "interrupts":
                gevent.spawn(raise_interrupt)

    @queue.task(timeout=1, max_attempts=1)
    def hogs() -> None:
        while True:
            pass

    @queue.task
    def is_quick() -> int:
        return 1

    def script(_: Any) -> None:
        real = time.monotonic
        (before,) = queue.store.workers()
        meddles.enqueue().wait(5)
        for _ in range(15):  # as long as the worker needs to notice; and another may find that its lease is over
            time.sleep(0.1)
            queue.store.fence()
        job = hogs.options(job_id="hog").enqueue()
        until(lambda: dead(queue))
        time.monotonic = real
        tell(hog=dead(queue)[job.id][0], kept=list(queue.store.workers()) == [before])
        tell(quick=[is_quick.enqueue().result(timeout=5) for _ in range(5)])
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(30)

    return {"code": perform(queue, script), "workers": queue.stats().workers}


def raise_interrupt() -> None:
    raise KeyboardInterrupt


@pytest.mark.parametrize("what", ["handlers", "mask", "switches", "time", "exits", "interrupts"])
def test_worker_that_a_task_meddled_with_keeps_its_lease_ends_what_hogs_and_drains_when_told(what: str) -> None:
    scene = play(scene_of_a_meddler, what)

    assert (scene["hog"], scene["kept"], scene["quick"]) == ("timed_out", True, [1] * 5)
    assert (scene.code, scene["code"], scene["workers"]) == (0, 0, 0)
    said = {
        "handlers": "which has taken it back",
        "switches": "made the switch interval of threads longer",
        "exits": "raised SystemExit; the worker goes on",
        "interrupts": "raised KeyboardInterrupt; the worker goes on",
    }
    assert said.get(what, "") in scene.log


def scene_of_an_interrupt_that_only_python_hears_of() -> dict[str, Any]:
    from gqueue.cli import leave

    leave.on_signals()
    queue = gqueue.Queue("q", "memory:", lease=1.5)

    @queue.task
    def interrupts() -> str:
        _thread.interrupt_main()
        time.sleep(0.3)
        return "done"

    def script(_: Any) -> None:
        tell(result=interrupts.enqueue().result(timeout=5))
        time.sleep(30)

    return {"code": perform(queue, script), "workers": queue.stats().workers}


def test_interrupt_that_only_the_interpreter_hears_of_drains_like_any_other() -> None:
    scene = play(scene_of_an_interrupt_that_only_python_hears_of)

    assert (scene["result"], scene["code"], scene["workers"], scene.code) == ("done", 0, 0, 0)


def scene_of_a_killer_of_greenlets() -> dict[str, Any]:
    import gevent

    queue = gqueue.Queue("q", "memory:", lease=1.5)

    @queue.task
    def kills() -> None:
        gc.unfreeze()
        own = gevent.getcurrent()
        others = [each for each in gc.get_objects() if isinstance(each, gevent.Greenlet) and each is not own]
        gevent.killall(others, block=False)

    kills.enqueue()
    return {"code": perform(queue, lambda _: time.sleep(20))}


def test_worker_whose_own_greenlets_are_killed_does_not_only_look_alive() -> None:
    scene = play(scene_of_a_killer_of_greenlets)

    assert scene["code"] == 1
    assert "gqueue is at fault, and ends: GreenletExit" in scene.log
