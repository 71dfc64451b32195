"""Whatever a task does, its job ends as it should, and the worker goes on."""

import os
import sys
import threading
import time
from typing import Any

import gqueue
from tests.worker.stage import dead, perform, play, tell, until

ONCE: dict[str, Any] = {"max_attempts": 1}


def scene_of_everything_a_task_can_do() -> dict[str, Any]:
    import gevent

    from gqueue.core.model import NewJob, WhenFull
    from gqueue.store.codec import Record, encode_record

    queue = gqueue.Queue("q", "memory:", lease=1.5, max_payload_bytes=2_000)
    tasks = {}

    def task(function: Any) -> Any:
        tasks[function.__name__] = queue.task(**ONCE)(function)
        return function

    @task
    def returns() -> dict[str, Any]:
        return {"a": [1, 2.5, None, "ü"], "b": (1,)}

    @task
    def raises() -> None:
        raise ValueError("on purpose")

    @task
    def exits() -> None:
        sys.exit(3)

    @task
    def interrupted_by_hand() -> None:
        raise KeyboardInterrupt

    @task
    def kills_its_greenlet() -> None:
        itself: Any = gevent.getcurrent()
        itself.kill()

    @task
    def kills_its_greenlet_later() -> None:
        itself: Any = gevent.getcurrent()
        itself.kill(block=False)  # it comes when the job is done

    @task
    def has_a_limit_of_its_own() -> None:
        with gevent.Timeout(0.01):
            time.sleep(5)

    @task
    def rejects() -> None:
        raise gqueue.Reject("no such customer")

    @task
    def recurses() -> None:
        recurses()

    @task
    def has_no_text() -> None:
        class Odd(Exception):
            def __str__(self) -> str:
                raise RuntimeError

        raise Odd

    @task
    def returns_a_set() -> Any:
        return {"deep": [{1, 2}]}

    @task
    def returns_a_generator() -> Any:
        return (n for n in range(3))

    @task
    def returns_a_coroutine() -> Any:
        async def never() -> None: ...

        return never()

    @task
    def returns_much() -> str:
        return "x" * 3_000

    @task
    def wants_two(a: int, b: int) -> int:
        return a + b

    @task
    def has_a_type_error_inside(a: Any) -> Any:
        return a + "text"

    @task
    def asks_for_an_impossible_retry() -> None:
        raise gqueue.Retry(delay=float("nan"))

    names = {name: tasks[name].enqueue().id for name in tasks if name not in ("wants_two", "has_a_type_error_inside")}
    names["wants_two"] = tasks["wants_two"].enqueue(1, c=2).id
    names["has_a_type_error_inside"] = tasks["has_a_type_error_inside"].enqueue(1).id
    records = {
        "garbage": b"\xff{",
        "an array": b"[1]",
        "negative limit": encode_record(Record("returns", timeout=-1)),
        "no attempts": encode_record(Record("returns", max_attempts=0)),
        "stranger": encode_record(Record("nobody_knows")),
        "stranger for good": encode_record(Record("nobody_knows", max_attempts=1)),
    }
    jobs = [NewJob(name.replace(" ", "_"), 0.0, 0, record) for name, record in records.items()]
    queue.store.enqueue("lane", 1, jobs, when_full=WhenFull.REJECT, capacity=100)
    names.update((name, name.replace(" ", "_")) for name in records)

    def script(_: Any) -> None:
        until(lambda: queue.stats().depth == queue.stats().scheduled and not queue.stats().running)
        last = tasks["returns"].enqueue()
        assert last.result(timeout=5)["b"] == [1]

    code = perform(queue, script, slots=2)
    letters = dead(queue)
    states = {name: queue.fetch_job(job_id).status() for name, job_id in names.items()}
    return {"code": code, "states": states, "dead": {name: letters.get(job_id) for name, job_id in names.items()}}


def test_every_ending_of_a_task_is_an_outcome_and_the_worker_goes_on() -> None:
    scene = play(scene_of_everything_a_task_can_do)

    assert (scene.code, scene["code"]) == (0, 0)
    states, letters = scene["states"], scene["dead"]
    assert {name for name, state in states.items() if state == "succeeded"} == {"returns", "kills_its_greenlet_later"}
    assert {name for name, state in states.items() if state == "scheduled"} == {"stranger"}
    for name in ("returns", "kills_its_greenlet_later", "stranger"):
        assert letters.pop(name) is None
    reasons = {name: reason for name, (reason, _) in letters.items()}
    bad_results = {"returns_a_set", "returns_a_generator", "returns_a_coroutine", "returns_much"}
    bad_records = {"garbage", "an array", "negative limit", "no attempts", "wants_two"}
    assert {name for name, reason in reasons.items() if reason == "bad_result"} == bad_results
    assert {name for name, reason in reasons.items() if reason == "bad_record"} == bad_records
    assert {name for name, reason in reasons.items() if reason == "unknown_task"} == {"stranger for good"}
    assert {name for name, reason in reasons.items() if reason == "rejected"} == {"rejects"}
    errors = {name: error for name, (_, error) in letters.items()}
    assert errors["raises"] == "ValueError: on purpose"
    assert errors["exits"] == "SystemExit: 3"
    assert errors["rejects"] == "no such customer"
    assert errors["kills_its_greenlet"].startswith("greenlet.GreenletExit")
    assert "a time limit of the task's own" in errors["has_a_limit_of_its_own"]
    assert errors["returns_a_set"].startswith("result['deep'][0]: set")
    assert "did not run" in errors["returns_a_coroutine"]
    assert "3,0" in errors["returns_much"]
    assert "2,000" in errors["returns_much"]
    assert errors["wants_two"].startswith("arguments do not fit wants_two(a: int, b: int)")
    assert "unsupported operand" in errors["has_a_type_error_inside"]
    assert "Retry" in errors["asks_for_an_impossible_retry"]
    assert "RecursionError" in errors["recurses"]
    assert "nobody_knows" in errors["stranger for good"]


def scene_of_attempts() -> dict[str, Any]:
    queue = gqueue.Queue("q", "memory:", lease=1.5)
    seen: list[tuple[str, int]] = []

    @queue.task(max_attempts=3, backoff=gqueue.Backoff(base=0.01, cap=0.01))
    def fails() -> None:
        seen.append(("fails", gqueue.current_job().attempt))  # type: ignore[union-attr]
        raise ValueError

    @queue.task(max_attempts=2)
    def asks(when: float) -> float:
        job = gqueue.current_job()
        assert job is not None
        seen.append(("asks", job.attempt))
        if job.attempt == 1:
            raise gqueue.Retry(delay=0.3)
        return time.time() - when

    failed, asked = fails.enqueue(), asks.enqueue(time.time())

    def script(_: Any) -> None:
        failed.wait(5)
        tell(waited=asked.result(timeout=5))

    perform(queue, script)
    return {"seen": seen, "dead": dead(queue).get(failed.id)}


def test_failing_job_is_tried_as_often_as_it_may_and_retry_waits_as_long_as_asked() -> None:
    scene = play(scene_of_attempts)

    assert [n for name, n in scene["seen"] if name == "fails"] == [1, 2, 3]
    assert [n for name, n in scene["seen"] if name == "asks"] == [1, 2]
    assert scene["dead"] == ["failed", "ValueError"]
    assert 0.3 <= scene["waited"] < 1.5


def scene_of_results_that_are_not_kept() -> dict[str, Any]:
    queue = gqueue.Queue("q", "memory:", lease=1.5)

    @queue.task(result_ttl=0)
    def returns_a_set() -> Any:
        return {1}

    @queue.task(result_ttl=0, max_attempts=1)
    def returns_a_generator() -> Any:
        return (n for n in (1,))

    jobs = [returns_a_set.enqueue(), returns_a_generator.enqueue()]
    perform(queue, lambda _: until(lambda: queue.stats().counters["claimed"] == 2), burst=True)
    return {"states": [job.status() for job in jobs]}


def test_result_that_is_not_kept_may_be_of_any_type_but_a_task_that_never_ran_is_told() -> None:
    assert play(scene_of_results_that_are_not_kept)["states"] == ["unknown", "dead"]


def scene_of_contexts() -> dict[str, Any]:
    from contextvars import ContextVar

    queue = gqueue.Queue("q", "memory:", lease=1.5)
    mine: ContextVar[str] = ContextVar("mine", default="nothing")
    mine.set("the worker's")
    seen: list[Any] = []

    @queue.task
    def sets(value: str) -> None:
        job = gqueue.current_job()
        assert job is not None
        seen.append(mine.get())
        mine.set(value)
        time.sleep(0.02)
        seen.append(mine.get())
        inherited = gqueue.spawn(lambda: (gqueue.current_job().id, mine.get()))  # type: ignore[union-attr]
        seen.append(inherited.get() == (job.id, value))
        seen.append(0 < job.remaining <= 60)

    jobs = [sets.options(priority=n).enqueue(str(n)) for n in range(4)]
    perform(queue, lambda _: [job.wait(5) for job in jobs], slots=2)
    return {"seen": sorted(map(str, seen)), "outside": gqueue.current_job() is None}


def test_each_job_runs_in_a_context_of_its_own_which_spawn_hands_on() -> None:
    scene = play(scene_of_contexts)

    assert scene["seen"] == sorted(["nothing"] * 4 + ["0", "1", "2", "3"] + ["True"] * 8)
    assert scene["outside"] is True


def scene_of_a_task_that_uses_gqueue() -> dict[str, Any]:
    queue = gqueue.Queue("q", "memory:", lease=1.5, capacity=2)
    other = gqueue.Queue("other", "memory:", lease=1.5)

    @queue.task
    def inner(n: int) -> int:
        return n * 2

    @other.task
    def elsewhere() -> None: ...

    @queue.task(max_attempts=1)
    def outer() -> list[Any]:
        child = inner.enqueue(21)
        try:
            child.result()
        except gqueue.WouldDeadlock:
            refused = True
        gqueue.current_job().progress({"half": "way"})  # type: ignore[union-attr]
        return [child.result(timeout=5), refused, elsewhere.enqueue().status()]

    @queue.task(max_attempts=1)
    def overfills() -> str:
        try:
            for n in range(9):
                inner.options(delay=60).enqueue(n)
        except gqueue.QueueFull as full:
            return type(full).__name__
        return "all in"

    first = outer.enqueue()

    def script(_: Any) -> None:
        tell(outer=first.result(timeout=5), full=overfills.enqueue().result(timeout=5))

    perform(queue, script)
    return {}


def test_task_may_enqueue_and_wait_but_never_for_what_its_own_worker_must_do() -> None:
    scene = play(scene_of_a_task_that_uses_gqueue)

    assert scene["outer"] == [42, True, "ready"]
    assert scene["full"] == "QueueFull"


def scene_of_a_call_that_outlives_its_task() -> dict[str, Any]:
    queue = gqueue.Queue("q", "memory:", lease=1.5)
    carried: list[str] = []
    answered = threading.Event()

    @queue.task(timeout=0.1, max_attempts=1)
    def calls() -> None:
        from gqueue.job import carried as carry

        def slow() -> None:
            answered.wait(30)
            carried.append("to its end")

        carry(slow)

    job = calls.enqueue()

    def script(_: Any) -> None:
        job.wait(5)
        tell(when_timed_out=list(carried))
        answered.set()
        until(lambda: carried)

    perform(queue, script)
    return {"carried": carried, "dead": dead(queue)[job.id][0]}


def test_time_limit_ends_the_waiting_for_a_call_of_gqueue_not_the_call() -> None:
    scene = play(scene_of_a_call_that_outlives_its_task)

    assert scene["when_timed_out"] == []
    assert scene["carried"] == ["to its end"]
    assert scene["dead"] == "timed_out"


def scene_of_a_task_that_forks() -> dict[str, Any]:
    import signal
    import subprocess

    queue = gqueue.Queue("q", "memory:", lease=1.5)
    path = f"/tmp/gqueue-fork-{os.getpid()}"

    def note(text: str) -> None:
        with open(path, "a") as file:
            file.write(f"{text}\n")

    @queue.task(max_attempts=1)
    def neighbour() -> None:
        time.sleep(0.2)
        note("neighbour")

    @queue.task(max_attempts=1)
    def forks(how: str) -> int:
        time.sleep(0.05)
        child = os.fork()
        if child == 0:
            time.sleep(0.4)  # under gevent: the child's hub turns, and must not turn for the others
            note(f"child {how}")
            subprocess.run(["true"], check=True)
            if how == "raises":
                raise ValueError("in the child")
            if how == "is killed":
                os.kill(os.getpid(), signal.SIGTERM)
                time.sleep(5)
            if how == "exits":
                sys.exit(7)
            return 1
        _, status = os.waitpid(child, 0)
        return os.waitstatus_to_exitcode(status)

    @queue.task(max_attempts=1)
    def starts_a_program() -> str:
        return subprocess.run(["echo", "hello"], capture_output=True, text=True, check=True).stdout

    jobs = [neighbour.enqueue(), *(forks.enqueue(how) for how in ("returns", "raises", "is killed", "exits"))]
    program = starts_a_program.enqueue()

    def script(_: Any) -> None:
        tell(results=[job.result(timeout=20) for job in jobs], program=program.result(timeout=5))

    code = perform(queue, script, slots=8)
    with open(path) as file:
        notes = sorted(file.read().split("\n"))
    os.unlink(path)
    return {"code": code, "notes": notes, "pid": os.getpid()}


def test_in_a_child_that_a_task_forks_there_is_no_worker() -> None:
    scene = play(scene_of_a_task_that_forks)

    assert scene["results"] == [None, 0, 1, -15, 7]
    assert scene["program"] == "hello\n"
    assert scene["notes"] == ["", "child exits", "child is killed", "child raises", "child returns", "neighbour"]
    assert scene.code == 0
    assert scene.log.count("Traceback") == scene.log.count("ValueError: in the child") == 1, scene.log


def scene_of_forks_beside_connections(url: str) -> dict[str, Any]:
    import subprocess

    queue = gqueue.Queue(f"forks{os.getpid()}", url, lease=1.5)

    @queue.task(max_attempts=1)
    def forks() -> int:
        queue.stats()
        child = os.fork()
        if child == 0:
            os._exit(0 if queue.stats().running == 1 else 1)
        for _ in range(20):
            queue.stats()
        _, status = os.waitpid(child, 0)
        return os.waitstatus_to_exitcode(status)

    @queue.task(max_attempts=1)
    def starts_a_program() -> str:
        return subprocess.run(["echo", "hello"], capture_output=True, text=True, check=True).stdout

    def script(_: Any) -> None:
        tell(results=[task.enqueue().result(timeout=20) for task in (forks, starts_a_program)])

    return {"code": perform(queue, script)}


def test_child_that_a_task_forks_lets_go_of_the_connections_without_a_word(redis_url: str) -> None:
    scene = play(scene_of_forks_beside_connections, redis_url)

    assert scene["results"] == [0, "hello\n"]
    assert scene["code"] == 0
    assert "Exception ignored" not in scene.log, scene.log
    assert "Traceback" not in scene.log, scene.log
