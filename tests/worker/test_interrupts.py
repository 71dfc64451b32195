"""Time limits, cancels and lost leases: a task is interrupted where it waits, and where it hogs the hub."""

import os
import time
from typing import Any

import pytest

import gqueue
from tests.worker.stage import dead, perform, play, tell, until

pytestmark = pytest.mark.slow


def scene_of_time_limits() -> dict[str, Any]:
    import gevent

    queue = gqueue.Queue("q", "memory:", lease=1.5)
    ended: dict[str, float] = {}
    limits: dict[str, Any] = {"timeout": 0.3, "max_attempts": 1}

    def timed(function: Any) -> Any:
        def wrapped() -> Any:
            started = time.monotonic()
            try:
                return function()
            finally:
                ended[function.__name__] = round(time.monotonic() - started, 3)

        return queue.task(name=function.__name__, **limits)(wrapped)

    @timed
    def waits() -> None:
        time.sleep(30)

    @timed
    def hogs() -> None:
        while True:
            pass

    @timed
    def swallows_once() -> None:
        try:
            time.sleep(30)
        except BaseException:
            time.sleep(30)

    @timed
    def swallows_once_hogging() -> None:
        try:
            while True:
                pass
        except BaseException:
            while True:
                pass

    @timed
    def swallows_and_returns() -> str:
        try:
            time.sleep(30)
        except gevent.Timeout:
            pass
        return "as if nothing had happened"

    @timed
    def asks_again() -> None:
        try:
            time.sleep(30)
        except gevent.Timeout:
            raise gqueue.Reject("no time") from None

    @timed
    def raises_another() -> None:
        try:
            time.sleep(30)
        finally:
            raise ValueError

    @timed
    def is_quick() -> str:
        return "done"

    calm = [waits, swallows_once, swallows_and_returns, asks_again, raises_another, is_quick]
    jobs = {task.name: task.enqueue() for task in calm}

    def script(_: Any) -> None:
        for job in jobs.values():
            job.wait(5)
        for task in (hogs, swallows_once_hogging):
            jobs[task.name] = task.enqueue()
            jobs[task.name].wait(5)

    code = perform(queue, script, slots=8)
    letters = dead(queue)
    return {"code": code, "ended": ended, "dead": {name: letters.get(job.id) for name, job in jobs.items()}}


def test_time_limit_ends_what_waits_and_what_hogs_and_hits_again_what_swallows_it() -> None:
    scene = play(scene_of_time_limits)

    reasons = {name: letter and letter[0] for name, letter in scene["dead"].items()}
    assert reasons.pop("is_quick") is None
    assert reasons.pop("asks_again") == "rejected"
    assert set(reasons.values()) == {"timed_out"}
    assert "the task caught the time-out" in scene["dead"]["swallows_and_returns"][1]
    assert "then ValueError" in scene["dead"]["raises_another"][1]
    ended = scene["ended"]
    for name in ("waits", "hogs", "swallows_and_returns"):
        assert 0.29 <= ended[name] < 1.3, name
    for name in ("swallows_once", "swallows_once_hogging"):
        assert 1.29 <= ended[name] < 2.6, name
    assert scene["code"] == 0


def scene_of_cancels() -> dict[str, Any]:
    queue = gqueue.Queue("q", "memory:", lease=1.5)
    started: list[str] = []

    @queue.task
    def waits() -> None:
        started.append("waits")
        time.sleep(30)

    @queue.task
    def hogs() -> None:
        started.append("hogs")
        while True:
            pass

    @queue.task
    def succeeds_all_the_same() -> str:
        started.append("succeeds")
        try:
            time.sleep(30)
        except BaseException:
            pass
        return "done"

    def script(_: Any) -> None:
        waiting, saved = waits.enqueue(), succeeds_all_the_same.enqueue()
        until(lambda: len(started) == 2)
        assert waiting.cancel()
        assert saved.cancel()
        tell(saved=saved.result(timeout=5))
        waiting.wait(5)
        # The hub will hang: the cancel is asked for before, and the heartbeat's thread learns of it meanwhile.
        hogging = hogs.options(job_id="hog").enqueue()
        store = queue.open_store().clone()
        from gevent import get_hub

        get_hub().threadpool.spawn(lambda: (until(lambda: started[2:]), store.cancel("hog", 1_000)))
        hogging.wait(10)
        tell(states=[waiting.status(), saved.status(), hogging.status()])

    return {"code": perform(queue, script)}


def test_cancel_interrupts_what_waits_and_what_hogs_but_a_success_stands() -> None:
    scene = play(scene_of_cancels)

    assert scene["states"] == ["cancelled", "succeeded", "cancelled"]
    assert scene["saved"] == "done"
    assert scene["code"] == 0


def scene_of_a_lost_lease() -> dict[str, Any]:
    queue = gqueue.Queue("q", "memory:", lease=1.5)
    runs: list[int] = []
    interrupted: list[str] = []

    @queue.task(max_attempts=1)
    def job(seconds: float) -> str:
        current = gqueue.current_job()
        assert current is not None
        runs.append(current.attempt)
        try:
            time.sleep(seconds if current.attempt == 1 else 0.1)
        except BaseException as error:
            interrupted.append(f"{type(error).__name__}: {error}")
            if seconds < 20:
                return "too late"
            raise
        return f"attempt {current.attempt}"

    jobs = [job.enqueue(30), job.enqueue(10)]

    def script(worker: Any) -> None:
        until(lambda: len(runs) == 2)
        store = queue.open_store()
        (before,) = store.workers()
        now_ms = time.time_ns() // 1_000_000
        # As if this process had been frozen for longer than the lease, while others were not.
        for seconds in (0.5, 1.0, 1.4, 1.6):
            store.fence(now_ms=now_ms + int(seconds * 1000))
        tell(
            results=[one.result(timeout=10) for one in jobs],
            again=len(store.workers()),
            new=before not in store.workers(),
        )

    code = perform(queue, script)
    return {"code": code, "runs": sorted(runs), "interrupted": interrupted, "dead": dead(queue)}


def test_worker_that_lost_its_lease_gives_its_jobs_up_and_goes_on_under_a_new_id() -> None:
    scene = play(scene_of_a_lost_lease)

    assert scene["results"] == ["attempt 2", "attempt 2"]
    assert scene["runs"] == [1, 1, 2, 2]
    assert scene["interrupted"] == ["Interrupted: the worker gives the job up: lease lost"] * 2
    assert (scene["again"], scene["new"], scene["dead"], scene["code"]) == (1, True, {}, 0)


def scene_of_a_wedged_hub() -> dict[str, Any]:
    queue = gqueue.Queue("q", "memory:", lease=1.5)

    @queue.task(timeout=0.2)
    def wedges() -> None:
        while True:
            try:
                while True:
                    pass
            except BaseException:
                pass

    wedges.options(job_id="wedge").enqueue()
    perform(queue, lambda _: time.sleep(60), stuck_after_ms=1_500)
    return {}


def test_hub_that_is_wedged_beyond_a_limit_ends_the_process_with_4_and_tells_where() -> None:
    started = time.monotonic()
    scene = play(scene_of_a_wedged_hub)

    assert scene.code == 4
    assert time.monotonic() - started < 12
    assert "job wedge (wedges) is" in scene.log
    assert "in wedges" in scene.log


def scene_of_a_long_computation_within_its_limit() -> dict[str, Any]:
    queue = gqueue.Queue("q", "memory:", lease=0.6)

    @queue.task(timeout=30)
    def computes() -> str:
        until_time = time.monotonic() + 2.5
        while time.monotonic() < until_time:
            pass
        return "computed"

    @queue.task(timeout=0.3, max_attempts=1)
    def waits() -> None:
        time.sleep(30)

    waiting = waits.enqueue()
    computing = computes.enqueue()
    lost: list[Any] = []

    def script(_: Any) -> None:
        (before,) = queue.store.workers()
        tell(computed=computing.result(timeout=10))
        waiting.wait(5)
        lost.append(before not in queue.store.workers())

    code = perform(queue, script, stuck_after_ms=1_000)
    return {"code": code, "lost": lost, "waiting": dead(queue)[waiting.id][0]}


def test_job_that_hogs_the_hub_within_its_limit_costs_no_lease_and_is_left_alone() -> None:
    scene = play(scene_of_a_long_computation_within_its_limit)

    assert scene["computed"] == "computed"
    assert scene["lost"] == [False]
    assert scene["waiting"] == "timed_out"
    assert scene["code"] == 0


def scene_of_a_dump() -> dict[str, Any]:
    import signal

    queue = gqueue.Queue("q", "memory:", lease=1.5)

    @queue.task(timeout=1)
    def hogs() -> None:
        os.kill(os.getpid(), signal.SIGUSR1)
        while True:
            pass

    job = hogs.options(job_id="hog", max_attempts=1).enqueue()
    perform(queue, lambda _: job.wait(10))
    return {}


def test_usr1_tells_jobs_and_stacks_though_the_hub_hangs() -> None:
    scene = play(scene_of_a_dump)

    assert "slot 0: job hog of hogs, queue q, attempt 1, for" in scene.log
    assert "in hogs" in scene.log
    assert scene.code == 0
