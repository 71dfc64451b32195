import subprocess
from collections.abc import Iterator
from typing import Any

import pytest

import gqueue
from benchmarks import memory
from benchmarks.benchmark import BenchmarkError
from benchmarks.server import Server

SMALL: list[dict[str, Any]] = [
    {"of": "Redis", "payload": None, "jobs": 500},
    {"of": "Redis", "payload": 100, "jobs": 500},
    {"of": "worker", "slots": 20},
    {"of": "many jobs", "slots": 5, "jobs": 20_000},
]


@pytest.fixture
def server() -> Iterator[Server]:
    with Server() as made:
        yield made


def many(*sizes: float, jobs: int = 10_000_000) -> dict[str, Any]:
    ran = [50_000 * number for number in range(1, len(sizes) + 1)]
    size = [round(one * 1e6) for one in sizes]
    return {"of": "many jobs", "jobs": jobs, "ran": ran, "worker_bytes": size}


def worker(slots: int, idle: float, busy: float, after: float) -> dict[str, Any]:
    sizes = {"idle_bytes": idle, "busy_bytes": busy, "after_bytes": after}
    return {"of": "worker", "round": 0, "slots": slots, **{name: round(size * 1e6) for name, size in sizes.items()}}


def test_drift_is_counted_from_the_sample_after_the_warm_up():
    assert memory.drift_bytes(many(40, 48, 49, 48.5)) == 1_000_000
    assert memory.drift_bytes(many(40, 48, 45, 49)) == -3_000_000
    assert memory.drift_bytes(many(40, 48)) == 0


def test_targets_are_met_only_if_the_worst_state_is_within():
    records = [
        {"of": "Redis", "payload": None, "job_bytes": 249.0},
        {"of": "Redis", "payload": 0, "job_bytes": 300.0},
        worker(50, idle=46, busy=49, after=47),
        worker(10_000, idle=46, busy=168.3, after=150),
        many(40, 48, 51, 48),
    ]
    met = {target.what: target.met for target in memory.BENCHMARK.targets(records)}

    assert met == {
        "Redis, a no-op job that waits": True,
        "worker, 50 slots, at most": True,
        "each slot beyond, up to 10,000, at most": True,
        "worker over 10,000,000 jobs, away from 100,000": False,
    }
    records[3]["busy_bytes"] += 200_000
    assert not memory.BENCHMARK.targets(records)[2].met


def test_few_slots_and_few_jobs_are_not_judged_by_what_is_named_for_many():
    records = [worker(50, idle=46, busy=48, after=47), worker(1_000, idle=46, busy=49, after=48)]
    *_, slots, jobs = memory.BENCHMARK.targets([*records, many(40, 48, 48, jobs=300_000)])

    assert (slots.met, slots.measured) == (jobs.met, jobs.measured) == (False, "")


def test_what_was_not_measured_is_not_met():
    assert not any(target.met for target in memory.BENCHMARK.targets([]))


def test_queue_that_lost_a_job_is_an_error(server: Server):
    queue = gqueue.Queue("bench", url=server.url)
    task = queue.task(name="no_op")(lambda: None)
    queue.enqueue_many(task.job() for _ in range(3))
    try:
        with pytest.raises(BenchmarkError, match="of 3 jobs"):
            memory.check(server, queue, 3)
    finally:
        queue.close()


@pytest.mark.blackbox
def test_one_of_many_jobs_that_is_missing_is_an_error_though_as_many_ran(
    server: Server, monkeypatch: pytest.MonkeyPatch
):
    def start_producer(server: Server, environ: object, **what: Any) -> "subprocess.Popen[bytes]":
        queue = gqueue.Queue("bench", url=server.url)
        task = queue.task(name="no_op.False", result_ttl=0)(lambda number: number)
        queue.enqueue_many(task.job(number) for number in [0, 1, 1, 3])
        queue.close()
        return subprocess.Popen(["sleep", "60"])

    monkeypatch.setattr(memory, "start_producer", start_producer)
    with pytest.raises(BenchmarkError, match="1 jobs did not run, 1 ran more"):
        memory.BENCHMARK.measure({"of": "many jobs", "slots": 5, "jobs": 4}, server)


@pytest.mark.blackbox
def test_all_kinds_are_measured_shown_and_drawn(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(memory, "SAMPLE_JOBS", 1_000)
    monkeypatch.setattr(memory, "WARM_JOBS", 1_000)
    records = []
    for cell in SMALL:
        with Server() as server:
            records.append({**cell, **memory.BENCHMARK.measure(cell, server)})
    plain, loaded, slots, jobs = records

    assert 100 < plain["job_bytes"] < loaded["job_bytes"] - 100 < 1_000
    assert plain["left_bytes"] < 100 * plain["jobs"]
    assert 20e6 < slots["idle_bytes"] <= slots["busy_bytes"] < 200e6
    assert len(jobs["ran"]) == len(jobs["worker_bytes"]) >= 2
    assert jobs["ran"][-1] == 20_000
    assert all(memory.BENCHMARK.line(record) for record in records)
    assert memory.BENCHMARK.tables(records).count("\n\n") == 2
