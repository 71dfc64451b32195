from collections.abc import Iterator
from typing import Any

import pytest

import gqueue
from benchmarks import depth
from benchmarks.benchmark import BenchmarkError
from benchmarks.server import Server

CELL = {"depth": 300, "stretch": 2_500, "calls": 50}


@pytest.fixture
def server() -> Iterator[Server]:
    with Server() as made:
        yield made


def record(waiting: int, rate: float) -> dict[str, Any]:
    return {"depth": waiting, **dict.fromkeys(depth.RATES, rate)}


def test_rates_are_compared_round_by_round():
    records = [record(1_000, 100), record(50, 200), record(50, 100), record(1_000, 90), record(50, 50)]
    targets = depth.BENCHMARK.targets([*records, record(1_000, 45)])

    assert [target.what for target in targets] == [f"{what}, 1,000 waiting to 50" for what in depth.RATES.values()]
    assert {(target.measured, target.met) for target in targets} == {("90.0 [50.0 - 90.0]", True)}


def test_one_depth_cannot_be_compared():
    assert depth.BENCHMARK.targets([record(50, 100)]) == []


def test_depth_that_does_not_fit_into_memory_is_left_out(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("benchmarks.process.available_bytes", lambda: 3 << 30)

    assert [cell["depth"] for cell in depth.BENCHMARK.cells(short=False)] == [1_000, 10_000, 100_000, 1_000_000]


def test_lost_job_is_an_error(server: Server):
    queue = gqueue.Queue("bench", url=server.url)
    task = queue.task(name="no_op")(lambda number: number)
    queue.enqueue_many(task.job(number) for number in range(5))
    depth.check(queue, put_in=5)
    server.client.zpopmin("gq:{bench}:ready")
    try:
        with pytest.raises(BenchmarkError, match="of 5 jobs 0 ran and 4 wait"):
            depth.check(queue, put_in=5)
    finally:
        queue.close()


def test_no_table_is_enlarged_between_the_filling_and_the_end_of_the_stretch():
    for waiting in (100_000, 1_000_000, 5_000_000):
        assert waiting in depth.DEPTHS
        assert waiting.bit_length() == (waiting + depth.CALLS + depth.WARM_UP + depth.STRETCH).bit_length()


def test_tables_are_at_rest_after_as_many_looks_as_jobs(server: Server):
    queue = gqueue.Queue("bench", url=server.url)
    task = queue.task(name="no_op")(lambda number: number)
    queue.enqueue_many(task.job(number) for number in range(2_000))
    before = server.usage()
    depth.rest(server, 2_000)
    queue.close()

    assert (server.usage() - before).calls.items() >= {("hexists", 2_000), ("zscore", 2_000)}


@pytest.mark.blackbox
def test_depth_is_measured_beside_jobs_that_wait(server: Server):
    measured = depth.BENCHMARK.measure(CELL, server)

    assert min(measured[name] for name in depth.RATES) > 10
    for what in ("claim", "enqueue"):
        assert 0 < measured[f"{what}_p50_us"] <= measured[f"{what}_p99_us"]
    assert measured["job_bytes"] > 100
    shown = {**CELL, **measured, "ping_per_s": 1, "zpopmin_per_s": 1}
    assert "300 waiting: drain" in depth.BENCHMARK.line(shown)
    assert depth.BENCHMARK.tables([shown]).count("\n\n") == 1
