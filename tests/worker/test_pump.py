"""A pump's calls, as the log tells of them."""

import logging
import os
import time
from collections import Counter
from typing import Any

import gevent.event
import pytest

import gqueue
from gqueue.core.dispatch import MiscountedJobs
from gqueue.errors import GqueueError, LeaseLost
from gqueue.worker import heartbeat, lines, pump
from tests.worker.stage import dead, perform, play, tell, until, workers_store


def scene_of_a_paused_queue() -> dict[str, Any]:
    queue = gqueue.Queue("q", "memory:", lease=1.5)
    lines: list[str] = []

    class Listener(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            if "paused" in record.getMessage() or "resumed" in record.getMessage():
                lines.append(f"{record.levelname} {record.getMessage()}")

    logging.getLogger("gqueue.worker").addHandler(Listener())

    @queue.task
    def nothing() -> None: ...

    queue.pause()

    def script(_: Any) -> None:
        until(lambda: len(lines) == 1)
        queue.resume()
        nothing.enqueue().wait(5)
        until(lambda: len(lines) == 2)
        for _ in range(5):
            nothing.enqueue().wait(5)
        queue.pause()
        nothing.options(delay=0.01).enqueue()  # has the worker call, which finds it paused
        until(lambda: len(lines) == 3)

    return {"code": perform(queue, script), "lines": lines}


def test_worker_says_once_a_change_that_its_queue_is_paused_or_resumed() -> None:
    scene = play(scene_of_a_paused_queue)

    paused = "WARNING queue q is paused: nothing is claimed until `gqueue resume`"
    assert scene["lines"] == [paused, "INFO queue q is resumed", paused]
    assert scene["code"] == 0


def scene_of_an_answer_that_cannot_be_read(operation: str) -> dict[str, Any]:
    queue = gqueue.Queue("q", "memory:", lease=1.5)
    store = workers_store(queue)
    real, answers = getattr(store, operation), iter(["refused", "unreadable"])

    def answer(*arguments: Any, **options: Any) -> Any:
        match next(answers, None):
            case "refused":
                raise GqueueError("not now")
            case "unreadable":
                raise UnicodeDecodeError("utf-8", b"\xff", 0, 1, "invalid start byte")
        return real(*arguments, **options)

    setattr(store, operation, answer)
    return {"code": perform(queue, lambda worker: until(lambda: worker.stopped or worker._ending.ready()))}


def test_worker_ends_with_an_answer_that_cannot_be_read_and_does_not_ask_for_it_for_ever() -> None:
    scene = play(scene_of_an_answer_that_cannot_be_read, "settle_and_claim")

    assert scene["code"] == 1
    assert "the call is repeated until it is answered" in scene.log  # the refusal
    assert "CRITICAL gqueue is at fault, and ends: UnicodeDecodeError" in scene.log
    assert scene.log.count("Traceback") == 2


def scene_of_leases_that_are_lost_at_once() -> dict[str, Any]:
    queue = gqueue.Queue("q", "memory:", lease=1.5)
    store = workers_store(queue)
    real, registered, until_s = store.settle_and_claim, [], time.monotonic() + 1.5

    @queue.task
    def nothing() -> None: ...

    def lose(worker: str, *arguments: Any, **options: Any) -> Any:
        if time.monotonic() < until_s:
            raise LeaseLost(worker)
        return real(worker, *arguments, **options)

    def register(worker: str, register: Any = store.register) -> None:
        registered.append(worker)
        register(worker)

    store.settle_and_claim, store.register = lose, register
    job = nothing.enqueue()
    code = perform(queue, lambda _: job.wait(10))
    return {"code": code, "state": job.status(), "registered": len(registered)}


def test_worker_whose_lease_is_taken_away_at_once_does_not_register_in_a_storm() -> None:
    scene = play(scene_of_leases_that_are_lost_at_once)

    assert (scene["code"], scene["state"]) == (0, "succeeded")
    assert 2 <= scene["registered"] <= 4


def scene_of_a_beat_that_is_refused_late() -> dict[str, Any]:
    queue = gqueue.Queue("q", "memory:", lease=1.5)
    store = workers_store(queue)
    heartbeats = store.clone()
    real, refused, running = store.settle_and_claim, [], []

    @queue.task
    def nap() -> None:
        running.append(True)
        until(lambda: len(refused) == 2)
        time.sleep(0.3)

    def lose_once(worker: str, *arguments: Any, **options: Any) -> Any:
        if not refused:
            refused.append(worker)
            raise LeaseLost(worker)
        return real(worker, *arguments, **options)

    def beat(worker: str, beat: Any = heartbeats.heartbeat) -> Any:
        if len(refused) < 2:
            until(lambda: running)
            refused.append(worker)
            raise LeaseLost(worker)
        return beat(worker)

    store.settle_and_claim, store.clone, heartbeats.heartbeat = lose_once, lambda: heartbeats, beat
    nap.enqueue()
    code = perform(queue, lambda _: until(lambda: queue.stats().running == 0 and running))
    return {
        "code": code,
        "runs": len(running),
        "succeeded": queue.stats().counters["succeeded"],
        "of": len(set(refused)),
    }


def test_late_news_that_the_lease_is_lost_leave_jobs_of_the_next_lease_alone() -> None:
    scene = play(scene_of_a_beat_that_is_refused_late)

    assert (scene["code"], scene["runs"], scene["succeeded"]) == (0, 1, 1)
    assert scene["of"] == 1


def scene_of_a_beat_while_the_worker_leaves() -> dict[str, Any]:
    queue = gqueue.Queue("q", "memory:", lease=1.5)
    store = workers_store(queue)
    heartbeats = store.clone()
    leaves, refused = [], []

    def leave(worker: str, limit: int, leave: Any = store.leave) -> Any:
        left = leave(worker, limit)
        leaves.append(worker)
        until(lambda: refused)
        time.sleep(0.1)
        return left

    def beat(worker: str, beat: Any = heartbeats.heartbeat) -> Any:
        until(lambda: leaves)
        refused.append(worker)
        return beat(worker)

    store.leave, store.clone, heartbeats.heartbeat = leave, lambda: heartbeats, beat
    return {"code": perform(queue, lambda _: None), "refused": len(refused)}


def test_worker_that_leaves_is_not_told_that_its_lease_is_lost() -> None:
    scene = play(scene_of_a_beat_while_the_worker_leaves)

    assert (scene["code"], scene["refused"]) == (0, 1)
    assert "is lost" not in scene.log


def scene_of_damaged_jobs(url: str) -> dict[str, Any]:
    queue = gqueue.Queue(f"damaged{os.getpid()}", url, lease=1.5)

    @queue.task
    def double(number: int) -> int:
        return 2 * number

    jobs = [double.options(job_id=f"j{number}").enqueue(number) for number in range(3)]
    client, prefix = queue.store._client, queue.store._keys.prefix  # type: ignore[attr-defined]
    client.call("hset", (b"HSET", prefix + b"attempts", "j0", "abc"))
    client.call("hset", (b"HSET", prefix + b"crashes", "j1", b"\xff"))
    for name, record in ((b"\xfe", b"{}"), (b"\xff", b'{"task":"double","args":[4]}')):
        client.call("zadd", (b"ZADD", prefix + b"ready", -1, b"0000000000000" + name))
        client.call("hset", (b"HSET", prefix + b"jobs", name, b"00000000000000 " + record))

    def script(_: Any) -> None:
        tell(results=[job.result(timeout=5) for job in jobs])
        until(lambda: queue.stats().running == 0)
        tell(dead=dead(queue), succeeded=queue.stats().counters["succeeded"])

    return {"code": perform(queue, script)}


def test_damaged_counters_and_ids_stop_nobody(redis_url: str) -> None:
    scene = play(scene_of_damaged_jobs, redis_url)

    assert scene["results"] == [0, 2, 4]
    letters = sorted((name, letter[0]) for name, letter in scene["dead"].items())
    assert letters == [("\udcfe", "bad_record"), ("\udcff", "bad_record")]
    assert (scene["succeeded"], scene["code"]) == (3, 0)


def scene_of_outcomes_that_are_refused() -> dict[str, Any]:
    queue = gqueue.Queue("q", "memory:", lease=1.5)
    store = workers_store(queue)
    real, pumps, refused, begun, both = store.settle_and_claim, [], [], [], gevent.event.Event()

    @queue.task
    def ends(fails: bool) -> None:
        begun.append(fails)
        both.wait()  # who waits for one event goes on in one turn: both outcomes are there before a call is made
        if fails and not refused:
            raise ValueError

    def settle(worker: str, call: int, done: Any, settlements: Any, limit: int, **options: Any) -> Any:
        if len(done) + len(settlements) == 2 and not refused:
            refused.append(worker)
            now_ms = time.time_ns() // 1_000_000
            for seconds in (0.5, 1.0, 1.4, 1.6):  # as if this process had been frozen for longer than the lease
                store.fence(now_ms=now_ms + int(seconds * 1000))
            until(lambda: pumps)[0].done.append("meanwhile")
        return real(worker, call, done, settlements, limit, **options)

    store.settle_and_claim = settle
    jobs = [ends.options(job_id=f"fails-{fails}".lower()).enqueue(fails) for fails in (False, True)]

    def script(worker: Any) -> None:
        pumps.extend(until(lambda: worker._pumps))
        until(lambda: len(begun) == 2)
        both.set()
        for job in jobs:
            job.wait(10)

    code = perform(queue, script, log_jobs=True)
    return {"code": code, "states": [job.status() for job in jobs]}


def test_jobs_whose_outcomes_are_refused_are_named() -> None:
    scene = play(scene_of_outcomes_that_are_refused)

    assert (scene["code"], scene["states"]) == (0, ["succeeded", "succeeded"])
    said = [line for line in scene.log.splitlines() if "are not recorded" in line]
    assert [line.partition("did: ")[2] for line in said] == ["fails-false, fails-true", "meanwhile"], scene.log
    assert "WARNING queue q: the outcomes of 2 jobs are not recorded" in said[0]


def scene_of_two_calls_that_are_refused() -> dict[str, Any]:
    queue = gqueue.Queue("q", "memory:", lease=1.5)
    store = workers_store(queue)
    real, refused = store.settle_and_claim, []

    @queue.task
    def nothing() -> None: ...

    def settle(worker: str, *arguments: Any, meanwhile: Any = None, **options: Any) -> Any:
        def lose_both() -> Any:
            behind = meanwhile()
            if behind is not None and not refused:
                refused.append(worker)
                now_ms = time.time_ns() // 1_000_000
                for seconds in (0.5, 1.0, 1.4, 1.6):
                    store.fence(now_ms=now_ms + int(seconds * 1000))
            return behind

        return real(worker, *arguments, meanwhile=meanwhile and lose_both, **options)

    store.settle_and_claim = settle
    jobs = [nothing.options(job_id=f"j{number}").enqueue() for number in range(6)]
    code = perform(queue, lambda _: [job.wait(10) for job in jobs])
    return {"code": code, "states": [job.status() for job in jobs]}


def test_jobs_of_a_call_that_was_sent_behind_a_refused_one_are_named_too() -> None:
    scene = play(scene_of_two_calls_that_are_refused)

    assert (scene["code"], scene["states"]) == (0, ["succeeded"] * 6)
    said = [line.partition("did: ")[2] for line in scene.log.splitlines() if "are not recorded" in line]
    assert said == ["j0, j1", "j2, j3"], scene.log


def scene_of_a_second_call_that_cannot_be_made(fault: str) -> dict[str, Any]:
    queue = gqueue.Queue("q", "memory:", lease=1.5)

    @queue.task
    def nothing() -> None: ...

    def fail(*_: Any) -> Any:
        raise OSError("no space left") if fault == "OSError" else MiscountedJobs("two too many")

    pump.Pump._gather_behind = fail  # type: ignore[method-assign]
    queue.enqueue_many(nothing.job() for _ in range(6))
    return {"code": perform(queue, lambda worker: until(lambda: worker.stopped or worker._ending.ready()))}


@pytest.mark.parametrize("fault", ["OSError", "MiscountedJobs"])
def test_worker_ends_if_it_fails_at_the_call_behind_the_one_under_way_and_does_not_repeat_that_for_ever(
    fault: str,
) -> None:
    scene = play(scene_of_a_second_call_that_cannot_be_made, fault)

    assert scene["code"] == 1
    assert "the call behind the one under way could not be made" in scene.log
    assert fault in scene.log
    assert "the call is repeated" not in scene.log


def scene_of_a_lease_that_is_lost_with_two_calls_on_their_way() -> dict[str, Any]:
    queue = gqueue.Queue("q", "memory:", lease=1.5)
    store = workers_store(queue)
    real, workers, lost = store.settle_and_claim, [], []
    runs: Counter[str] = Counter()

    @queue.task
    def count(name: str) -> None:
        runs[name] += 1

    def settle(worker: str, *arguments: Any, meanwhile: Any = None, **options: Any) -> Any:
        def lose() -> Any:
            behind = meanwhile()
            if behind is not None and not lost:
                lost.append(worker)
                until(lambda: workers)[0]._take(heartbeat.Lost(workers[0]._pumps[0], worker))
            return behind

        return real(worker, *arguments, meanwhile=meanwhile and lose, **options)

    store.settle_and_claim = settle
    jobs = [count.options(job_id=f"j{number}").enqueue(f"j{number}") for number in range(6)]

    def script(worker: Any) -> None:
        workers.append(worker)
        for job in jobs:
            job.wait(10)

    code = perform(queue, script)
    return {"code": code, "states": [job.status() for job in jobs], "runs": runs, "lost": len(lost)}


def test_of_two_calls_on_their_way_the_second_is_answered_too_when_the_lease_is_taken_for_lost() -> None:
    scene = play(scene_of_a_lease_that_is_lost_with_two_calls_on_their_way)

    assert (scene["code"], scene["states"], scene["lost"]) == (0, ["succeeded"] * 6, 1)
    assert [scene["runs"][f"j{number}"] for number in range(4)] == [1] * 4
    assert "are not recorded" not in scene.log


def scene_of_short_jobs(url: str) -> dict[str, Any]:
    queue = gqueue.Queue(f"short{os.getpid()}", url)
    store = workers_store(queue)
    client, behind, crowded, running = store._client, [], [], set()
    real = client.call

    def call(*arguments: Any, **options: Any) -> Any:
        behind.append(options.get("sent_on"))
        return real(*arguments, **options)

    @queue.task(result_ttl=0)
    def nothing(number: int) -> None:
        running.add(number)
        crowded.append(store._client.connections())
        running.discard(number)

    client.call = call
    queue.enqueue_many(nothing.job(number) for number in range(400))

    def script(worker: Any) -> None:
        until(lambda: queue.stats().counters.get("succeeded") == 400)
        until(lambda: not queue.stats().running)
        tell(counters=queue.stats().counters)

    code = perform(queue, script)
    return {"code": code, "behind": len([one for one in behind if one]), "connections": max(crowded)}


def test_calls_of_short_jobs_go_one_behind_the_other_on_one_connection(redis_url: str) -> None:
    scene = play(scene_of_short_jobs, redis_url)

    assert (scene["code"], scene["connections"]) == (0, 1)
    assert scene["counters"] == {"enqueued": 400, "claimed": 400, "succeeded": 400}
    assert scene["behind"] > 50


def test_line_names_the_first_of_many_jobs() -> None:
    assert lines.named(["a\n", "b"]) == "a\\n, b"
    assert lines.named([f"j{number}" for number in range(25)]).endswith(", j19, and 5 more")


def test_each_job_that_is_dead_since_its_worker_was_lost_has_a_line_up_to_a_bound(
    caplog: pytest.LogCaptureFixture,
) -> None:
    lines.took_back("q", "w", 3, ("a\n",))
    lines.took_back("q", "w", 25, tuple(f"j{number}" for number in range(25)))

    said = [record.getMessage() for record in caplog.records]
    assert "took 3 jobs of worker w back, whose lease is over; 1 of them are dead" in said[0]
    assert "job a\\n is a dead letter (worker_lost)" in said[1]
    assert sum("is a dead letter" in line for line in said) == 1 + lines.SHOWN_IDS
    assert "5 more" in said[-1]
