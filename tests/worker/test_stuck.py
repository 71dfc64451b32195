"""Jobs that swallow what is to end them: given up with their slots, and the process replaced when too many are gone.

And code of a task that runs after its return, which must not get past the limit, either.
"""

import time
from typing import Any

import pytest

import gqueue
from gqueue.core.sharing import Doing
from tests.worker.stage import dead, perform, play, tell, until

pytestmark = pytest.mark.slow


def swallow(release: list[Any], blows: list[float]) -> None:
    """Swallow whatever comes, until *release* holds something."""
    while not release:
        try:
            time.sleep(0.02)
        except BaseException:
            blows.append(time.monotonic())


def quick(queue: gqueue.Queue) -> Any:
    """Register a task that does nothing."""

    @queue.task
    def is_quick() -> int:
        return 1

    return is_quick


def lost_greenlet(worker: Any) -> Any:
    (greenlet,) = (slot.greenlet for slot in worker.slots.all if slot.lost)
    return greenlet


def scene_of_a_stuck_job() -> dict[str, Any]:
    queue = gqueue.Queue("q", "memory:", lease=1.5)
    is_quick = quick(queue)
    release: list[Any] = []
    blows: list[float] = []

    @queue.task(timeout=0.1, max_attempts=3)
    def stuck() -> str:
        current = gqueue.current_job()
        assert current is not None
        swallow(release, blows)
        current.progress("of no use")
        return "after all"

    job = stuck.options(job_id="stuck").enqueue()

    def script(worker: Any) -> None:
        tell(meanwhile=is_quick.enqueue().result(timeout=5))
        until(lambda: dead(queue))
        tell(after=[is_quick.enqueue().result(timeout=5) for _ in range(20)], letter=dead(queue)["stuck"])
        tell(
            where=queue.dead.list()[0].traceback, numbers=[worker.state.limit, worker.state.lost, worker.state.running]
        )
        time.sleep(1.5)
        tell(blows=[round(blow - blows[0], 1) for blow in blows])
        release.append("")
        until(lambda: lost_greenlet(worker).dead)
        tell(again=[is_quick.enqueue().result(timeout=5) for _ in range(20)], progress=job.progress())
        tell(slots={slot.number for slot in worker.slots.idle} == {*range(len(worker.slots.all))} - {0})

    code = perform(queue, script, slots=8)
    return {"code": code, "status": job.status(), "counters": queue.stats().counters}


def test_job_that_swallows_its_time_out_twice_is_dead_whatever_becomes_of_it_and_costs_its_slot_only() -> None:
    scene = play(scene_of_a_stuck_job)

    assert (scene["meanwhile"], scene["after"], scene["again"]) == (1, [1] * 20, [1] * 20)
    assert scene["letter"] == ["stuck", "ran past its limit of 0.1 s, swallowed the time-out 2 times, and still runs"]
    assert "in swallow\n" in scene["where"]
    assert scene["numbers"] == [7, 1, 0]
    assert scene["blows"] == [0.0, 1.0]  # it is left alone from then on
    assert (scene["status"], scene["progress"], scene["slots"]) == ("dead", None, True)
    assert (scene["counters"]["dead"], scene["counters"]["succeeded"]) == (1, 41)
    assert "job stuck (stuck) on slot 0 swallowed its time-out 2 times and is stuck: it is a dead letter" in scene.log
    assert "1 of 8 are gone" in scene.log
    assert scene.log.count("job stuck (stuck) on slot 0 ended after all") == 1
    assert scene["code"] == 0


def scene_of_a_stuck_cancel() -> dict[str, Any]:
    queue = gqueue.Queue("q", "memory:", lease=0.9)
    started: list[Any] = []

    @queue.task
    def stuck() -> None:
        started.append("")
        swallow([], [])

    def script(worker: Any) -> None:
        job = stuck.enqueue()
        until(lambda: started)
        job.cancel()
        tell(done=job.wait(10), status=job.status())
        tell(lost=worker.state.lost, stats=queue.stats().running)

    perform(queue, script, slots=8)
    return {"came back": True}


def test_job_that_swallows_its_cancel_is_cancelled_and_its_slot_gone() -> None:
    scene = play(scene_of_a_stuck_cancel)

    assert (scene["done"], scene["status"], scene["lost"], scene["stats"]) == (True, "cancelled", 1, 0)
    assert "swallowed its interrupt 2 times and is stuck: it is cancelled" in scene.log
    # Nothing but the end of the process ends that greenlet; it does not hold the process either.
    assert ("came back" in scene.facts, scene.code) == (False, 0)


def scene_of_a_stuck_job_whose_lease_is_lost() -> dict[str, Any]:
    queue = gqueue.Queue("q", "memory:", lease=1.5)
    runs: list[int] = []
    release: list[Any] = []

    @queue.task(max_attempts=1)
    def stuck() -> str:
        current = gqueue.current_job()
        assert current is not None
        runs.append(current.attempt)
        if current.attempt == 1:
            swallow(release, [])
        return f"attempt {current.attempt}"

    def script(worker: Any) -> None:
        job = stuck.enqueue()
        until(lambda: runs)
        store = queue.open_store()
        now_ms = time.time_ns() // 1_000_000
        for seconds in (0.5, 1.0, 1.4, 1.6):
            store.fence(now_ms=now_ms + int(seconds * 1000))
        tell(result=job.result(timeout=10))
        until(lambda: worker.state.lost)
        release.append("")
        until(lambda: lost_greenlet(worker).dead)
        tell(limit=worker.state.limit, result_again=job.result(timeout=1))

    return {"code": perform(queue, script, slots=8), "dead": dead(queue), "runs": runs}


def test_stuck_job_whose_lease_is_lost_costs_its_slot_and_records_nothing() -> None:
    scene = play(scene_of_a_stuck_job_whose_lease_is_lost)

    assert (scene["result"], scene["result_again"], scene["runs"]) == ("attempt 2", "attempt 2", [1, 2])
    assert (scene["limit"], scene["dead"], scene["code"]) == (7, {}, 0)
    assert "its lease is lost, and it runs elsewhere" in scene.log


def scene_of_too_many_stuck_jobs(slots: str) -> dict[str, Any]:
    queue = gqueue.Queue("q", "memory:", lease=1.5)
    is_quick = quick(queue)

    @queue.task(timeout=0.1)
    def stuck() -> None:
        swallow([], [])

    @queue.task
    def lasts() -> str:
        time.sleep(3)
        return "slept"

    def script(worker: Any) -> None:
        job = lasts.enqueue() if worker.slots.limit > 1 else None
        for _ in range(worker.state.bearable):
            stuck.enqueue()
        until(lambda: worker.state.replaced and worker.state.queues[0].doing is not Doing.CALLING)
        waits = is_quick.enqueue()
        tell(phase=worker.state.phase.value, bearable=worker.state.bearable)
        until(lambda: not queue.stats().workers)
        tell(status=job and job.status(), waits=waits.status(), stuck=[reason for reason, _ in dead(queue).values()])
        time.sleep(30)

    perform(queue, script, slots=int(slots))
    return {"came back": True}


@pytest.mark.parametrize(("slots", "bearable"), [(1, 1), (2, 1), (6, 2)])
def test_process_that_lost_its_share_of_slots_finishes_the_rest_and_ends_with_4(slots: int, bearable: int) -> None:
    scene = play(scene_of_too_many_stuck_jobs, str(slots))

    assert scene["phase"] in ("draining", "stopped")  # as long as others run
    assert (scene["bearable"], scene.code) == (bearable, 4)
    assert scene["status"] == (None if slots == 1 else "succeeded")
    assert (scene["waits"], scene["stuck"]) == ("ready", ["stuck"] * bearable)
    assert f"{bearable} of {slots} slots are lost to stuck jobs" in scene.log
    assert "came back" not in scene.facts


def scene_of_a_stuck_job_in_a_drain() -> dict[str, Any]:
    queue = gqueue.Queue("q", "memory:", lease=1.5)
    started: list[Any] = []

    @queue.task(timeout=0.1)
    def stuck() -> None:
        started.append("")
        swallow([], [])

    def script(worker: Any) -> None:
        stuck.options(job_id="stuck").enqueue()
        until(lambda: started)
        tell(began=time.monotonic())
        worker.drain()
        until(lambda: not queue.stats().workers)
        tell(letter=dead(queue)["stuck"][0], left=time.monotonic())
        time.sleep(30)

    perform(queue, script, slots=1, grace_ms=30_000)
    return {}


def test_stuck_job_is_given_up_in_a_drain_too_which_is_not_held_by_it_and_stays_a_clean_end() -> None:
    scene = play(scene_of_a_stuck_job_in_a_drain)

    assert (scene["letter"], scene.code) == ("stuck", 0)
    assert scene["left"] - scene["began"] < 10


def scene_of_a_job_that_swallows_the_end_of_the_grace() -> dict[str, Any]:
    from gqueue.worker import process

    process.CLEAN_UP_S = 3.5  # long enough to be hit four times, in place of the two of a real end
    queue = gqueue.Queue("q", "memory:", lease=1.5)
    blows: list[float] = []

    @queue.task
    def lasts() -> None:
        swallow([], blows)

    def script(worker: Any) -> None:
        job = lasts.enqueue()
        until(lambda: worker.state.running)
        worker.drain()
        until(lambda: not queue.stats().workers)
        tell(status=job.status(), blows=len(blows), lost=worker.state.lost)
        time.sleep(30)

    perform(queue, script, slots=8, grace_ms=100)
    return {}


def test_job_that_swallows_the_end_of_the_grace_is_given_back_and_not_buried() -> None:
    scene = play(scene_of_a_job_that_swallows_the_end_of_the_grace)

    assert (scene["status"], scene["lost"], scene.code) == ("ready", 0, 0)
    assert scene["blows"] >= 3


def scene_of_code_that_runs_after_the_task() -> dict[str, Any]:
    queue = gqueue.Queue("q", "memory:", lease=1.5)
    is_quick = quick(queue)
    limits: dict[str, Any] = {"timeout": 0.3, "max_attempts": 1}

    def wait() -> str:
        time.sleep(60)
        return ""

    def hog() -> str:
        while True:
            pass

    def swallow_all() -> str:
        swallow([], [])
        return ""

    def making(kind: type, how: Any, method: str) -> Any:
        return type(kind.__name__, (kind,), {method: lambda _: how()})()

    def error_task(name: str, how: Any) -> Any:
        @queue.task(name=name, **limits)
        def raises() -> None:
            raise making(ValueError, how, "__str__")

        return raises

    def value_task(name: str, how: Any, method: str, **more: Any) -> Any:
        class Value:
            pass

        @queue.task(name=name, **(limits | more))
        def returns() -> Any:
            return making(Value, how, method)

        return returns

    tasks = {
        "str-waits": error_task("str-waits", wait),
        "str-hogs": error_task("str-hogs", hog),
        "str-swallows": error_task("str-swallows", swallow_all),
        "repr-waits": value_task("repr-waits", wait, "__repr__", result_ttl=0),
        "repr-hogs": value_task("repr-hogs", hog, "__repr__", result_ttl=0),
        "destructor-waits": value_task("destructor-waits", wait, "__del__", result_ttl=0),
        "destructor-hogs": value_task("destructor-hogs", hog, "__del__", result_ttl=0),
    }

    def script(worker: Any) -> None:
        for name, task in tasks.items():
            task.options(job_id=name).enqueue()
            until(lambda: queue.stats().running == 0, 5)
            tell(**{name: is_quick.enqueue().result(timeout=5)})
        tell(lost=worker.state.lost, letters=dead(queue))

    perform(queue, script, slots=8, log_jobs=True)
    return {}


def test_code_of_a_task_that_runs_after_its_return_is_under_its_limit() -> None:
    scene = play(scene_of_code_that_runs_after_the_task)

    names = ["str-waits", "str-hogs", "str-swallows", "repr-waits", "repr-hogs", "destructor-waits", "destructor-hogs"]
    assert [scene[name] for name in names] == [1] * len(names)
    assert scene["lost"] == 1  # the one that swallows
    letters = scene["letters"]
    assert {name: reason for name, (reason, _) in letters.items()} == {
        "str-waits": "failed",
        "str-hogs": "failed",
        "str-swallows": "stuck",
    }
    assert "ValueError" in letters["str-waits"][1]
    assert "ValueError" in letters["str-hogs"][1]
    assert scene.code == 0
