"""What a worker with signing keys runs, what it refuses, and what becomes of that."""

from typing import Any

import gqueue
from tests.worker.stage import dead, perform, play, until

OURS, OLD, THEIRS = {"ours": "k" * 32}, {"old": "o" * 32}, {"theirs": "t" * 32}


def scene_of_records_from_others(url: str) -> dict[str, Any]:
    from gqueue.core.model import NewJob, WhenFull
    from gqueue.store.codec import Record

    ran: list[str] = []

    def queue_with(keys: Any, name: str = "signed") -> tuple[gqueue.Queue, Any]:
        queue = gqueue.Queue(name, url, signing_keys=keys, max_payload_bytes=2_000, lease=1.5)

        @queue.task(max_attempts=1)
        def note(who: str) -> None:
            ran.append(who)
            if who.startswith("fails"):
                raise ValueError

        return queue, note

    queue, note = queue_with(OURS | OLD)
    sound, failing = note.enqueue("ours"), note.enqueue("fails once")
    queue_with(OLD)[1].enqueue("the old key")
    stored = note.options(job_id="model").job("x").new.record
    ours, of_old = gqueue.Queue("signed", url, signing_keys=OURS).records, gqueue.Queue("signed", url).records
    elsewhere = gqueue.Queue("elsewhere", url, signing_keys=OURS).records
    record = Record("note", ["a stranger"])
    strange = {
        "unsigned": of_old.write("unsigned", record),
        "strange_key": queue_with(THEIRS)[0].records.write("strange_key", record),
        "key_of_the_same_id": queue_with({"ours": "x" * 32})[0].records.write("key_of_the_same_id", record),
        "changed": ours.write("changed", record).replace(b"stranger", b"robber"),
        "of_another_job": stored,
        "of_another_queue": elsewhere.write("of_another_queue", record),
        "cut": ours.write("cut", record)[:-1],
        "garbage": b"\xff\x00",
        "large": b"x" * 3_000,
    }
    jobs = [NewJob(job_id, 0.0, 0, data) for job_id, data in strange.items()]
    queue.store.enqueue("lane", 1, jobs, when_full=WhenFull.REJECT, capacity=100)

    def script(_: Any) -> None:
        until(lambda: not queue.stats().depth and not queue.stats().running)
        ran.append("redrive")
        queue.dead.redrive([failing.id, "changed"], force=True)
        until(lambda: not queue.stats().depth and not queue.stats().running)

    perform(queue, script)
    states = {job_id: queue.fetch_job(job_id).status() for job_id in strange}
    try:
        queue.fetch_job("changed").result(timeout=1)
    except gqueue.JobFailed as failed:
        told = failed.reason, failed.error
    return {"ran": ran, "dead": dead(queue), "states": states, "sound": sound.status(), "told": told}


def test_only_what_a_key_of_ours_signed_runs_and_the_rest_is_dead_at_once(redis_url: str) -> None:
    scene = play(scene_of_records_from_others, redis_url)

    assert scene["ran"] == ["ours", "fails once", "the old key", "redrive", "fails once"]  # with its signature kept
    assert scene["sound"] == "succeeded"
    assert set(scene["states"].values()) == {"dead"}
    reasons = {job_id: reason for job_id, (reason, _) in scene["dead"].items() if job_id in scene["states"]}
    assert reasons.pop("large") == "bad_record"
    assert set(reasons.values()) == {"bad_signature"}
    reason, error = scene["told"]
    assert reason == "bad_signature"
    assert "its signature is wrong (key ours)" in error
    assert "tasks note; runs only what is signed by key ours or old\n" in scene.log
    assert "it is not signed, and this queue has signing keys; dead  job unsigned" in scene.log
    assert "not known here: theirs; dead  job strange_key" in scene.log
    for keys in (OURS, OLD, THEIRS):
        assert not any(key in scene.log for key in keys.values())


def scene_of_a_worker_without_keys() -> dict[str, Any]:
    queue = gqueue.Queue("q", "memory:", signing_keys={})
    signed = gqueue.Queue("q", "memory:", signing_keys=OURS)
    ran: list[int] = []
    queue.task(name="t")(ran.append)
    signed.task(name="t")(ran.append).enqueue(1)
    perform(queue, lambda _: until(lambda: ran))
    return {"ran": ran}


def test_worker_without_keys_runs_signed_jobs() -> None:
    scene = play(scene_of_a_worker_without_keys)

    assert scene["ran"] == [1]
    assert "tasks t\n" in scene.log


def scene_of_hostile_names_and_arguments() -> dict[str, Any]:
    from gqueue.core.model import NewJob, WhenFull

    queue = gqueue.Queue("q", "memory:")
    ran: list[Any] = []

    @queue.task(max_attempts=1)
    def takes(*args: Any, **kwargs: Any) -> None:
        ran.append(len(args) + len(kwargs))
        raise ValueError("\x1b[2J" + "\n10:00:00.000 INFO jobs: forged " * 3)

    many = b",".join([b"0"] * 400_000)
    records = [
        b'{"task":"new\\nline"}',
        b'{"task":"\\u001b[31mred"}',
        b'{"task":"' + b"x" * 200 + b'"}',
        b'{"task":"takes","kwargs":{"a\\n10:00:00.000 INFO forged":"\\u001b[2J"}}',
        b'{"task":"takes","args":[' + many + b"]}",
        b'{"task":"takes","args":[' + b"[" * 100 + b"]" * 100 + b"]}",
        b'{"task":"takes","args":[' + b"9" * 100 + b"]}",
    ]
    jobs = [NewJob(f"j{number}", 0.0, 0, record) for number, record in enumerate(records)]
    jobs.append(NewJob("\n10:00:00.000 INFO forged " * 200, 0.0, 0, b'{"task":"takes"}'))
    queue.store.enqueue("lane", 1, jobs, when_full=WhenFull.REJECT, capacity=100)
    perform(queue, lambda _: until(lambda: queue.stats().dead == len(jobs)))
    return {"ran": ran, "dead": dead(queue)}


def scene_of_hostile_ids() -> dict[str, Any]:
    from gqueue.core.model import NewJob, WhenFull

    queue = gqueue.Queue("q", "memory:")
    ran: list[str] = []

    @queue.task(max_attempts=1)
    def runs() -> None:
        ran.append(gqueue.current_job().id)  # type: ignore[union-attr]

    ids = ["", "x\ny\x1b[31m", "\udcff\udcfe\x00", "a" * 5_000, "b" * 1_000_000, "1:a-good.one"]
    jobs = [NewJob(job_id, 0.0, 0, b'{"task":"runs"}') for job_id in ids]
    queue.store.enqueue("lane", 1, jobs, when_full=WhenFull.REJECT, capacity=100)
    perform(queue, lambda _: until(lambda: queue.stats().dead == 5 and not queue.stats().running), log_jobs=True)
    return {"ran": ran, "reasons": [reason for reason, _ in dead(queue).values()], "left": queue.stats().depth}


def test_job_of_an_id_that_no_producer_may_give_is_buried_in_a_short_line_and_never_runs() -> None:
    scene = play(scene_of_hostile_ids)

    assert (scene["ran"], scene["reasons"], scene["left"]) == (["1:a-good.one"], ["bad_record"] * 5, 0)
    told = [line for line in scene.log.splitlines() if line.startswith("gqueue.jobs")]
    assert len(told) == 6
    assert all(line.isprintable() and len(line) < 500 for line in told)
    assert len(scene.log) < 5_000


def test_hostile_names_and_arguments_end_as_dead_letters_in_one_line_each() -> None:
    scene = play(scene_of_hostile_names_and_arguments)

    assert scene["ran"] == [1, 400_000]
    reasons = [scene["dead"][f"j{number}"][0] for number in range(7)]
    assert reasons == ["bad_record"] * 3 + ["failed"] * 2 + ["bad_record"] * 2
    told = [line for line in scene.log.splitlines() if line.startswith("gqueue.jobs")]
    assert len(told) == 8
    assert all(line.isprintable() and len(line) < 500 for line in told)
    assert not any(line.startswith("10:00") for line in scene.log.splitlines())
