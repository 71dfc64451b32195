"""Latency, idle workers, backpressure and I/O: how they count, and each measured once with few jobs."""

from collections.abc import Iterator, Sequence
from typing import Any

import pytest

from benchmarks import backpressure, idle, latency
from benchmarks.backpressure import ideal_ms, producers_of
from benchmarks.benchmark import Benchmark, BenchmarkError, load
from benchmarks.idle import END
from benchmarks.moments import Report
from benchmarks.open_loop import Sent
from benchmarks.producers import Call
from benchmarks.server import Server

MS = 1_000_000


@pytest.fixture
def server() -> Iterator[Server]:
    with Server() as made:
        yield made


@pytest.mark.parametrize(
    ("answered", "start", "waited"),
    [
        (12, 27, 12),  # 2 for the call, 10 since 17, when the one that began at 5 should have ended
        (15, 16, 6),  # it had a slot before
        (21, 24, 14),  # the one that began at 5 should have ended by then
        (26, 45, 33),  # the one that began at 16 has 2 left
        (30, 45, 23),  # none runs; one had been claimed, and starts at 32
        (50, 60, 50),  # none runs, none comes
    ],
)
def test_urgent_job_waits_for_its_call_and_for_what_a_running_one_has_left(answered: int, start: int, waited: int):
    others = [(5, 25), (16, 28), (17, 29), (32, 44)]
    assert latency.beyond(10, answered, start, others, takes=12) == waited


def sent_to(seconds: float, stall_ms: int) -> dict[str, Any]:
    """Return what 400 urgent jobs, one each 10 ms, wait behind others on a worker that once stops for *stall_ms*."""

    def real(moment: float) -> int:
        stopped = 1_000 * MS <= moment < (1_000 + stall_ms) * MS
        return (1_000 + stall_ms) * MS if stopped else round(moment)

    takes = seconds * 1e9
    step = (takes or 0.1 * MS) / 50  # of 50 slots, one becomes free
    others = [(real(number * step), real(number * step + takes)) for number in range(int(4_100 * MS / step))]
    due = [round((1 + number * 10.01) * MS) for number in range(400)]
    starts = [real(at + step) + MS // 2 for at in due]
    all_starts, all_ends = [*(began for began, _ in others), *starts], [*(ended for _, ended in others), *starts]
    report = Report(all_starts, all_ends, [1] * len(all_starts))
    waited = latency.waits(Sent(due, due, [at + MS // 5 for at in due], 0.1), report, len(others), seconds)
    return {"urgent": "some", "backlog": 100_000, "left": 100_000, **waited}


@pytest.mark.parametrize("seconds", [0.0, 0.010, 0.100])
def test_target_of_urgent_jobs_is_missed_by_a_worker_that_stops_for_50_ms(seconds: float):
    for stall_ms in (0, 50):
        target = latency.BENCHMARK.targets([sent_to(seconds, stall_ms)])[-1]
        assert target.what.startswith("urgent behind 100,000 some jobs")
        assert target.met is (stall_ms == 0), target


def test_urgent_jobs_behind_fewer_than_were_to_wait_are_an_error():
    latency.check_backlog(20_000, 20_000)
    with pytest.raises(BenchmarkError, match="19,675 jobs waited at the end, of a backlog of 20,000 or more"):
        latency.check_backlog(19_675, 20_000)


def test_more_that_start_before_an_urgent_job_than_a_worker_has_claimed_are_an_error():
    others = [5, 40, 9, 10, 11, 19, 20, 21]
    assert latency.most_before([4, 10], [5, 20], others) == 2  # 11 and 19: before, not at the same time
    assert latency.most_before([21], [10], others) == 0  # it started before it was acknowledged
    latency.check_claimed(50)
    with pytest.raises(BenchmarkError, match="51 less urgent jobs started before an urgent one"):
        latency.check_claimed(51)


@pytest.mark.blackbox
def test_urgent_run_that_drains_its_backlog_is_an_error(server: Server, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(latency.KINDS, "no-op", (0.0, 0))
    with pytest.raises(BenchmarkError, match="0 jobs waited at the end, of a backlog of 200 or more"):
        latency.BENCHMARK.measure({"urgent": "no-op", "backlog": 200, "seconds": 1}, server)


def test_waits_count_from_when_a_job_was_due():
    sent = Sent([10 * MS, 20 * MS], [15 * MS, 20 * MS], [17 * MS, 22 * MS], 0.1)
    found = latency.waits(sent, Report([12 * MS, 24 * MS], [13 * MS, 25 * MS], [1, 1]))

    assert {name: (of["0"], of["100"]) for name, of in found.items()} == {
        "latency_ms": (2, 4),
        "acknowledged_ms": (2, 7),
        "called_ms": (0, 5),
    }


def test_waits_behind_others_are_those_of_the_urgent_jobs():
    sent = Sent([10 * MS], [10 * MS], [11 * MS], 0.1)
    report = Report([1 * MS, 2 * MS, 18 * MS], [9 * MS, 17 * MS, 19 * MS], [1, 1, 1])
    found = latency.waits(sent, report, first=2, seconds=0.014)

    assert found["latency_ms"]["100"] == 8
    assert found["beyond_ms"]["100"] == 3  # 1 to be sent, 2 since the end that was due at 16


def test_ideal_stall_is_what_producers_wait_if_no_slot_is_idle():
    # 20 producers share 1,000 places a second: each has one in 20 ms, and makes its job in 10 of them.
    assert ideal_ms(producers_of("threads", 10), 1_000) == pytest.approx(10)
    # 10 of them bring 100 jobs at a time: of 5,000 places a second each has 100 in 200 ms, and makes them in 100.
    assert ideal_ms(producers_of("batches", 50), 5_000) == pytest.approx(100)
    assert ideal_ms(producers_of("no-op batches", 50), 50_000) == pytest.approx(40)  # 2, with 1,000 at a time


@pytest.mark.parametrize("kind", ["threads", "greenlets", "batches"])
def test_producers_make_twice_as_many_jobs_as_the_slots_run(kind: str):
    made = producers_of(kind, 50)

    assert made.count * made.batch / made.gap_s == pytest.approx(2 * 50 / made.job_s)


def test_jobs_are_counted_by_producer():
    assert backpressure.jobs_of([Call(0, 1, 2, 5), Call(2, 1, 2, 1), Call(0, 3, 4, 5)], 3) == [10, 0, 1]


def test_depth_above_the_capacity_is_an_error(server: Server, monkeypatch: pytest.MonkeyPatch):
    run = {"depth": 100, "jobs_per_s": 1.0, "sent_per_s": 2.0}
    monkeypatch.setattr(backpressure, "_run", lambda cell, server, capacity: run)
    cell = {"slots": 10, "producers": "threads", "seconds": 1}
    assert backpressure.BENCHMARK.measure(cell, server)["depth"] == 100

    run["depth"] = 101
    with pytest.raises(BenchmarkError, match="101 jobs were seen to wait, with a capacity of 100"):
        backpressure.BENCHMARK.measure(cell, server)


def test_commands_of_scripts_and_our_own_do_not_count(server: Server):
    with server.client.monitor() as monitor:
        server.client.info("cpu")
        server.client.eval("return redis.call('GET', 'a')", 0)
        server.client.get("a")
        server.client.get(END)
        server.client.echo(END)
        server.client.get("a")

        assert idle.count_commands(monitor.listen()) == {"EVAL": 1, "GET": 2}


# Each measured, and shown.


def few(name: str, cells: Sequence[dict[str, Any]], server: Server) -> tuple[Benchmark, list[dict[str, Any]]]:
    """Measure *cells* once each."""
    one, records = load(name)[0], []
    for cell in cells:
        records.append({**cell, "ping_per_s": 10_000, "zpopmin_per_s": 400_000, **one.measure(cell, server)})
        server.empty()
    return one, records


CELLS: dict[str, tuple[dict[str, Any], ...]] = {
    "latency": (
        {"rate": 100, "sent": "each", "seconds": 1},
        {"rate": 1_000, "sent": "together", "seconds": 1},
        {"rate": 1_000, "sent": "each, greenlets", "seconds": 1},
        {"urgent": "10 ms", "backlog": 200, "seconds": 1},
    ),
    "idle": ({"processes": 1, "seconds": 2.5, "wakes": 10}, {"processes": 2, "seconds": 1.0, "wakes": 5}),
    "backpressure": (
        {"slots": 5, "producers": "threads", "seconds": 1.5},
        {"slots": 50, "producers": "no-op batches", "seconds": 2.0},
    ),
    "io": ({"slots": 200, "results": False, "jobs": 1_000}, {"slots": 200, "results": True, "jobs": 1_000}),
}


@pytest.mark.blackbox
@pytest.mark.parametrize("name", CELLS)
def test_benchmark_measures_and_shows(name: str, server: Server):
    one, records = few(name, CELLS[name], server)

    for record in records:
        assert one.line(record)
    assert one.tables(records).count("\n|") >= len(records)
    assert all(target.measured for target in one.targets(records) if "10,000" not in target.what)
    match name:
        case "latency":
            rate, together, greenlets, urgent = records
            assert [record["jobs"] for record in (rate, together, greenlets, urgent)] == [100, 1_000, 1_000, 100]
            assert urgent["left"] >= 200
            assert 0 <= urgent["before"] <= 50
            assert 0 < rate["latency_ms"]["50"] < 1_000
            assert 0 < rate["bare_ms"]["50"] < 1_000
            assert "called p99" in one.tables([rate])
            assert all(mark > 0 for mark in one.marks(records).values())
            assert urgent["beyond_ms"]["50"] <= urgent["latency_ms"]["50"]
        case "idle":
            assert 0.5 < records[0]["commands_per_s"] < 10
            assert set(records[0]["by_name"]) == {"BLPOP", "EVALSHA"}
        case "backpressure":
            assert all(record["depth"] <= 100 for record in records)
            assert all(record["fewest"] > 0 for record in records)
        case "io":
            assert 100 < records[0]["jobs_per_s"] <= 2_000


@pytest.mark.parametrize("name", CELLS)
def test_short_form_is_a_part(name: str):
    one = load(name)[0]

    assert 0 < len(one.cells(short=True)) <= len(one.cells(short=False))
