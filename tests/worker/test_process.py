"""A worker process from beginning to end: draining, signals, several queues, bursts, and stores that go away."""

import contextlib
import os
import subprocess
import sys
import time
from typing import Any

import pytest

import gqueue
from tests.servers import Server
from tests.worker.stage import ROOT, Played, dead, perform, play, played, start, tell, until, workers_store

pytestmark = pytest.mark.slow


def sleeper(queue: gqueue.Queue, started: list[str]) -> Any:
    """Register a task that sleeps, and notes that it began."""

    @queue.task(max_attempts=1)
    def sleeps(seconds: float) -> str:
        started.append(gqueue.current_job().id)  # type: ignore[union-attr]
        time.sleep(seconds)
        return "slept"

    return sleeps


def scene_of_a_drain(phase: str) -> dict[str, Any]:
    import signal

    queue = gqueue.Queue("q", "memory:", lease=1.5)
    started: list[str] = []
    sleeps = sleeper(queue, started)
    handles = [] if phase == "idle" else [sleeps.enqueue(0.6) for _ in range(6)]
    at: list[float] = []

    def script(_: Any) -> None:
        if phase == "before the first job":
            return
        until(lambda: len(started) == min(4, len(handles)))
        if phase == "quiet":
            os.kill(os.getpid(), signal.SIGTSTP)
            until(lambda: queue.stats().running == 0)
            time.sleep(0.2)
            tell(quiet=[len(started), queue.stats().ready])
        at.append(time.monotonic())
        os.kill(os.getpid(), signal.SIGINT if phase == "interrupt" else signal.SIGTERM)
        time.sleep(60)

    code = perform(queue, script)
    stats = queue.stats()
    return {
        "code": code,
        "took": time.monotonic() - at[0] if at else 0,
        "started": len(started),
        "states": sorted(handle.status() for handle in handles),
        "workers": stats.workers,
        "order": [job_id for job_id, _, _ in queue.store.inspect(gqueue.State.READY)] == [h.id for h in handles[4:]],
    }


@pytest.mark.parametrize("phase", ["idle", "terminate", "interrupt", "quiet"])
def test_worker_that_is_to_end_finishes_what_runs_and_leaves_the_rest(phase: str) -> None:
    scene = play(scene_of_a_drain, phase)

    assert (scene.code, scene["code"], scene["workers"]) == (0, 0, 0)
    if phase == "idle":
        assert scene["took"] < 2
    else:
        assert scene["states"] == ["ready"] * 2 + ["succeeded"] * 4
        assert scene["order"] is True
        assert scene["started"] == 4
        assert scene["took"] < 3
    if phase == "quiet":
        assert scene["quiet"] == [4, 2]


def scene_of_the_end_of_the_grace(behaviour: str) -> dict[str, Any]:
    import signal

    queue = gqueue.Queue("q", "memory:", lease=1.5)
    started: list[str] = []
    ended: list[str] = []

    @queue.task(max_attempts=1)
    def lasts() -> str:
        started.append("")
        try:
            time.sleep(30)
        except BaseException as error:
            ended.append(str(error))
            if "finishes" in behaviour:
                return "in time"
            while behaviour == "swallows":
                with contextlib.suppress(BaseException):
                    time.sleep(30)
            if behaviour == "fails":
                raise ValueError from None
            raise
        return "slept"

    job = lasts.options(job_id="job").enqueue()

    def script(_: Any) -> None:
        until(lambda: started)
        os.kill(os.getpid(), signal.SIGTERM)
        if "twice" in behaviour:
            time.sleep(0.3)
            tell(ended_before=list(ended))
            os.kill(os.getpid(), signal.SIGTERM)
        if behaviour == "swallows":
            until(lambda: not queue.stats().workers)
            tell(status=job.status(), attempts=queue.store.look(["job"])[0].failures, ended=ended)
        time.sleep(60)

    began = time.monotonic()
    code = perform(queue, script, grace_ms=30_000 if "twice" in behaviour else 300)
    return {
        "code": code,
        "took": time.monotonic() - began,
        "status": job.status(),
        "attempts": queue.store.look(["job"])[0].failures,
        "ended": ended,
    }


@pytest.mark.parametrize(
    ("behaviour", "status"),
    [("gives up", "ready"), ("finishes", "succeeded"), ("fails", "ready"), ("swallows", "ready")],
)
def test_at_the_end_of_the_grace_jobs_are_interrupted_and_given_back_with_no_attempt_used(
    behaviour: str, status: str
) -> None:
    scene = play(scene_of_the_end_of_the_grace, behaviour)

    assert scene.code == 0
    assert (scene["status"], scene["attempts"]) == (status, 0)
    assert scene["ended"][0] == "the worker gives the job up: grace over"
    assert ("took" in scene.facts) is (behaviour != "swallows"), "a slot that does not end ends with the process"


def test_second_signal_gives_everything_back_at_once() -> None:
    scene = play(scene_of_the_end_of_the_grace, "twice")

    assert scene["ended_before"] == []
    assert (scene.code, scene.facts.get("status", "ready")) == (0, "ready")
    assert scene.facts.get("took", 0) < 3


def test_what_has_ended_when_everything_is_given_back_is_settled_not_done_again() -> None:
    scene = play(scene_of_the_end_of_the_grace, "twice; finishes")

    assert (scene.code, scene["status"], scene["ended"]) == (
        0,
        "succeeded",
        ["the worker gives the job up: grace over"],
    )


def scene_of_several_queues(weights: str) -> dict[str, Any]:
    first, second = (gqueue.Queue(name, "memory:", lease=1.5) for name in ("first", "second"))
    order: list[str] = []

    for queue in (first, second):

        @queue.task(name="job", max_attempts=1)
        def job(name: str) -> None:
            order.append(name)
            time.sleep(0.002)

        queue.enqueue_many(queue.tasks["job"].job(queue.name) for _ in range(60))

    def script(_: Any) -> None:
        until(lambda: len(order) == 120)
        # A later job of the first queue goes before those of the second that wait.
        second.enqueue_many(second.tasks["job"].job("second") for _ in range(50))
        until(lambda: len(order) > 125)
        first.tasks["job"].enqueue("urgent")
        until(lambda: len(order) == 171)

    code = perform([first, second], script, slots=2, weights=tuple(map(int, weights.split(","))) if weights else None)
    return {"code": code, "order": order}


def test_queues_in_strict_order_are_emptied_one_after_the_other() -> None:
    scene = play(scene_of_several_queues, "")

    assert scene["order"][:120] == ["first"] * 60 + ["second"] * 60
    assert scene["order"][120:].index("urgent") < 45
    assert scene["code"] == 0


def test_queues_by_weights_get_their_shares() -> None:
    scene = play(scene_of_several_queues, "3,1")

    assert 36 <= scene["order"][:56].count("first") <= 48
    assert scene["code"] == 0


def scene_of_a_store_that_fails() -> dict[str, Any]:
    queue = gqueue.Queue("q", "memory:", lease=1.5)
    started: list[str] = []
    sleeps = sleeper(queue, started)
    store = workers_store(queue)
    real = store.settle_and_claim
    calls: list[tuple[int, tuple[str, ...], int]] = []
    away = [False]

    def flaky(worker: str, call: int, done: Any, settlements: Any, limit: int, **options: Any) -> Any:
        calls.append((call, tuple(settlement.job_id for settlement in settlements), limit))
        if away[0]:
            raise gqueue.StoreUnavailable("away")
        return real(worker, call, done, settlements, limit, **options)

    store.settle_and_claim = flaky
    handle = sleeps.enqueue(0.2)

    def script(_: Any) -> None:
        until(lambda: started)
        away[0] = True
        late = sleeps.enqueue(0.1)
        until(lambda: len(calls) > 6)
        tell(meanwhile=handle.status())
        away[0] = False
        tell(results=[handle.result(timeout=5), late.result(timeout=5)])

    code = perform(queue, script)
    return {"code": code, "calls": calls, "started": len(started)}


def test_worker_whose_store_is_away_repeats_the_very_same_call_until_it_is_answered() -> None:
    scene = play(scene_of_a_store_that_fails)

    assert (scene["meanwhile"], scene["results"], scene["started"]) == ("running", ["slept", "slept"], 2)
    repeated = max((call for call, _, _ in scene["calls"]), key=[c for c, _, _ in scene["calls"]].count)
    same = [tuple(map(str, call)) for call in scene["calls"] if call[0] == repeated]
    assert len(same) >= 4
    assert len(set(same)) == 1
    assert scene.log.count("StoreUnavailable") == 1
    assert "answers again" in scene.log


def scene_of_a_reply_that_lost_its_jobs() -> dict[str, Any]:
    from attrs import evolve

    queue = gqueue.Queue("q", "memory:", lease=0.6)
    started: list[str] = []
    sleeps = sleeper(queue, started)
    store = workers_store(queue)
    real = store.settle_and_claim
    dropped: list[str] = []

    def forgetful(worker: str, call: int, done: Any, settlements: Any, limit: int, **options: Any) -> Any:
        reply = real(worker, call, done, settlements, limit, **options)
        if reply.jobs and not dropped:
            dropped.extend(job.id for job in reply.jobs[1:])
            return evolve(reply, jobs=reply.jobs[:1])
        return reply

    store.settle_and_claim = forgetful
    handles = queue.enqueue_many(sleeps.job(0.05) for _ in range(4))

    def script(_: Any) -> None:
        tell(results=[handle.result(timeout=10) for handle in handles])

    code = perform(queue, script)
    return {"code": code, "dropped": len(dropped), "started": len(started), "jobs": len(set(started))}


def test_jobs_that_the_store_holds_for_a_worker_that_knows_nothing_of_them_are_adopted() -> None:
    scene = play(scene_of_a_reply_that_lost_its_jobs)

    assert scene["dropped"] == 3
    assert scene["results"] == ["slept"] * 4
    assert scene["started"] == scene["jobs"] == 4
    assert "took 3 jobs over" in scene.log


def scene_of_a_burst() -> dict[str, Any]:
    from gqueue.worker import burst

    burst.SAY_S = 0.2
    queue = gqueue.Queue("q", "memory:", lease=1.5)
    sleeps = sleeper(queue, [])
    busy = ["the producer"]
    handles = [sleeps.enqueue(0.05), sleeps.options(delay=1.0).enqueue(0.05)]

    from gqueue.config import WorkerOptions
    from gqueue.worker import Worker

    worker = Worker([queue], WorkerOptions(burst=True), busy=lambda: busy[0] if busy else None)
    import gevent

    gevent.spawn_later(2.0, busy.clear)
    began = time.monotonic()
    return {"code": worker.run(), "took": time.monotonic() - began, "states": [handle.status() for handle in handles]}


def test_burst_ends_when_nothing_is_left_and_says_what_it_waits_for() -> None:
    scene = play(scene_of_a_burst)

    assert scene["states"] == ["succeeded", "succeeded"]
    assert 1.9 < scene["took"] < 4
    assert "burst: waiting for the producer" in scene.log
    assert scene["code"] == 0


def scene_of_an_idle_worker() -> dict[str, Any]:
    queue = gqueue.Queue("q", "memory:", lease=1.5)

    @queue.task
    def when() -> float:
        return time.monotonic()

    def script(_: Any) -> None:
        time.sleep(0.5)
        delays = []
        for _ in range(5):
            began = time.monotonic()
            delays.append(when.enqueue().result(timeout=5) - began)
            time.sleep(0.05)
        began = time.monotonic()
        tell(delays=delays, delayed=when.options(delay=0.3).enqueue().result(timeout=5) - began)

    return {"code": perform(queue, script)}


def test_idle_worker_wakes_for_a_job_and_for_one_that_comes_due() -> None:
    scene = play(scene_of_an_idle_worker)

    assert sorted(scene["delays"])[2] < 0.25, "hints wake it, not the poll"
    assert 0.29 <= scene["delayed"] < 1.5, "an alarm wakes it, not the poll"
    assert scene["code"] == 0


def scene_of_a_quiet_worker() -> dict[str, Any]:
    from gqueue.config import WorkerOptions
    from gqueue.worker import Worker

    queue = gqueue.Queue("q", "memory:", lease=1.5)
    worker = Worker([queue], WorkerOptions())
    worker.quiet()
    tell(ready=True)
    return {"code": worker.run()}


def test_worker_with_nothing_to_wait_for_but_signals_waits_for_them(eventually: Any) -> None:
    with start(scene_of_a_quiet_worker) as process:
        assert process.stderr
        while "quiet:" not in process.stderr.readline():
            assert process.poll() is None
        with pytest.raises(subprocess.TimeoutExpired):
            process.wait(3)
        process.terminate()
        out, err = process.communicate(timeout=20)

    assert played(process.returncode, out, err)["code"] == 0


def scene_of_an_operator() -> dict[str, Any]:
    from gqueue.core.model import Ask

    queue = gqueue.Queue("q", "memory:", lease=0.6)

    def script(worker: Any) -> None:
        (name,) = queue.store.workers()
        queue.store.ask(name, Ask.QUIET)
        until(lambda: worker.state.phase.value == "quiet")
        queue.store.ask(name, Ask.STOP)
        time.sleep(60)

    return {"code": perform(queue, script)}


def test_operator_may_ask_a_worker_to_be_quiet_and_to_stop() -> None:
    assert play(scene_of_an_operator)["code"] == 0


def test_worker_refuses_to_run_without_gevents_patches() -> None:
    from gqueue.config import WorkerOptions
    from gqueue.worker import Worker

    with pytest.raises(gqueue.GqueueError, match="patch_all"):
        Worker([], WorkerOptions())


def scene_on_a_server(url: str) -> dict[str, Any]:
    queue = gqueue.Queue("q", url, lease=1.5)
    started: list[str] = []
    sleeps = sleeper(queue, started)

    @queue.task(result_ttl=0)
    def nothing() -> None: ...

    def script(_: Any) -> None:
        tell(ready=True)
        until(lambda: started)
        tell(started=True)
        time.sleep(60)

    return {"code": perform(queue, script, slots=20), "sleeps": sleeps.name}


@pytest.mark.parametrize("damaged", [False, True], ids=["", "beside one that cannot be taken back"])
def test_jobs_of_a_killed_worker_run_again_on_another_within_a_lease_and_a_third(
    redis_url: str, server: Server, eventually: Any, damaged: bool
) -> None:
    queue = gqueue.Queue("q", redis_url, lease=1.5)
    if damaged:
        with server.client() as client:
            client.set("gq:{q}:running:0", "a string")
            client.zadd("gq:{q}:lapsed", {"0": 0.0})
    sleeps = sleeper(queue, [])
    with start(scene_on_a_server, redis_url) as first, start(scene_on_a_server, redis_url) as second:
        for each in (first, second):
            assert each.stdout
            assert "ready" in each.stdout.readline()
        handles = queue.enqueue_many(sleeps.job(1.0) for _ in range(30))
        eventually(lambda: queue.stats().running == 30)
        first.kill()
        killed_at = time.monotonic()
        for handle in handles:
            assert handle.result(timeout=20) == "slept"
        took = time.monotonic() - killed_at
        second.terminate()
        out, err = second.communicate(timeout=20)
    scene: Played = played(second.returncode, out, err)

    assert (scene.code, scene["code"]) == (0, 0), err
    assert took < 5 * 2.0 + 1.0
    assert queue.stats().workers == 0
    queue.close()
    if damaged:
        with server.client() as client:
            client.delete("gq:{q}:running:0", "gq:{q}:lapsed")


def test_jobs_in_flight_outlast_a_restart_of_redis_and_run_once(eventually: Any) -> None:
    with Server(appendonly=True) as own:
        queue = gqueue.Queue("q", own.url, lease=1.5)
        sleeps = sleeper(queue, [])
        with start(scene_on_a_server, own.url) as process:
            assert process.stdout
            assert "ready" in process.stdout.readline()
            handles = queue.enqueue_many(sleeps.job(0.5) for _ in range(10))
            eventually(lambda: queue.stats().running == 10)
            own.stop()
            time.sleep(2.5)  # longer than the lease
            own.start()
            for handle in handles:
                assert handle.result(timeout=20) == "slept"
            assert queue.stats().counters["claimed"] == 10
            process.terminate()
            out, err = process.communicate(timeout=20)
        queue.close()

    assert played(process.returncode, out, err)["code"] == 0, err
    assert "Traceback" not in err


def scene_of_an_end_without_a_store() -> dict[str, Any]:
    from gqueue.worker import process

    process.GIVE_UP_S = 0.5
    queue = gqueue.Queue("q", "memory:", lease=1.5)
    store = workers_store(queue)

    def away(*_: Any, **__: Any) -> Any:
        raise gqueue.StoreUnavailable("away")

    store.leave = away
    return {"code": perform(queue, grace_ms=200)}


def test_worker_that_cannot_give_its_jobs_back_says_so_and_ends_with_1() -> None:
    scene = play(scene_of_an_end_without_a_store)

    assert (scene.code, scene["code"]) == (0, 1)
    assert "the store does not answer" in scene.log


def scene_without_a_server() -> dict[str, Any]:
    queue = gqueue.Queue("q", "redis://127.0.0.1:1/0", retry_for=0.2)
    return {"code": perform(queue, lambda _: time.sleep(60))}


def test_server_that_cannot_be_reached_at_the_start_is_exit_code_3() -> None:
    scene = play(scene_without_a_server)

    assert scene["code"] == 3
    assert "127.0.0.1:1" in scene.log


def test_module_of_the_supervisor_loads_no_gevent() -> None:
    code = "import sys, gqueue.worker.supervisor; sys.exit('gevent' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False).returncode == 0


def scene_of_lines() -> dict[str, Any]:
    queue = gqueue.Queue("q", "memory:", lease=1.5)

    @queue.task
    def sum_first(n: int, text: str = "") -> int:
        return n * (n + 1) // 2

    @queue.task(max_attempts=1, timeout=0.1)
    def never_ends() -> None:
        time.sleep(9)

    handles = [
        sum_first.options(priority=-1).enqueue(10),
        sum_first.enqueue(3, text="x" * 10_000),
        never_ends.enqueue(),
    ]
    perform(queue, lambda _: [handle.wait(5) for handle in handles], log_jobs=True)
    return {"ids": [handle.id for handle in handles], "dead": dead(queue)}


def test_each_job_is_one_short_line_of_the_log() -> None:
    scene = play(scene_of_lines)

    first, second, third = scene["ids"]
    lines = {line.partition("job ")[2].split()[0]: line for line in scene.log.splitlines() if "gqueue.jobs" in line}
    assert f"gqueue.jobs INFO sum_first(10) = 55  job {first} slot 0 priority -1 " in lines[first]
    assert len(lines[second]) < 200
    assert "never_ends() timed out: ran past its limit of 0.1 s; dead" in lines[third]
    assert len(lines) == 3


def scene_without_a_server_that_is_told_to_end() -> dict[str, Any]:
    import signal

    from gqueue.config import WorkerOptions
    from gqueue.worker import Worker

    queue = gqueue.Queue("q", "redis://127.0.0.1:1/0", retry_for=0.2)
    store = workers_store(queue)
    real = store.register
    workers: list[Any] = []

    def register(worker_id: str) -> None:
        os.kill(os.getpid(), signal.SIGTERM)
        until(lambda: workers[0]._ends_heard)
        real(worker_id)

    store.register = register
    workers.append(Worker([queue], WorkerOptions()))
    return {"code": workers[0].run()}


def test_worker_that_is_told_to_end_while_no_server_can_be_reached_ends_cleanly() -> None:
    scene = play(scene_without_a_server_that_is_told_to_end)

    assert scene["code"] == 0
    assert "127.0.0.1:1" in scene.log


def scene_of_a_duty_that_fails(duty: str) -> dict[str, Any]:
    from gqueue.worker import heartbeat
    from gqueue.worker.process import Worker

    def fails(*_: Any) -> Any:
        raise ZeroDivisionError(duty)

    owner = heartbeat.Heartbeat if duty == "_beat_for_ever" else Worker
    setattr(owner, duty, fails)
    queue = gqueue.Queue("q", "memory:", lease=1.5)
    code = perform(queue, lambda _: time.sleep(20), burst=duty == "_burst")
    return {"code": code}


@pytest.mark.parametrize("duty", ["_burst", "_look_after", "_beat_for_ever"])
def test_worker_whose_own_greenlet_dies_ends(duty: str) -> None:
    began = time.monotonic()
    scene = play(scene_of_a_duty_that_fails, duty)

    assert (scene.code, scene["code"]) == (0, 1)
    assert time.monotonic() - began < 15
    assert f"gqueue is at fault, and ends: ZeroDivisionError('{duty}')" in scene.log


def scene_of_a_burst_that_may_not_count(times: str) -> dict[str, Any]:
    from gqueue.errors import CallRefused
    from gqueue.worker import burst

    burst.SAY_S, burst.REFUSED_S = 0.0, 2.0
    queue = gqueue.Queue("q", "memory:", lease=1.5)
    store = workers_store(queue)
    counts, refusals = store.stats, iter(range(int(times)))

    def refuses(*given: Any) -> Any:
        if next(refusals, None) is None:
            return counts(*given)
        raise CallRefused("q", "stats", "NOPERM")

    store.stats = refuses
    return {"code": perform(queue, lambda _: time.sleep(20), burst=True)}


def test_burst_that_is_refused_to_count_for_a_moment_goes_on() -> None:
    scene = play(scene_of_a_burst_that_may_not_count, "3")

    assert scene["code"] == 0
    assert "burst: waiting for the store, which refuses to count: NOPERM" in scene.log


def test_burst_that_may_not_count_ends_and_says_why_without_a_traceback() -> None:
    scene = play(scene_of_a_burst_that_may_not_count, "1000000")

    assert scene["code"] == 1
    assert "the worker cannot go on, and ends: queue 'q': Redis refused stats: NOPERM" in scene.log
    assert "Traceback" not in scene.log
