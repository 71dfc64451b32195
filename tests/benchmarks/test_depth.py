from collections.abc import Iterator
from typing import Any

import pytest

import gqueue
from benchmarks import depth
from benchmarks.benchmark import BenchmarkError
from benchmarks.server import Server

CELL = {"depth": 300, "turns": 2, "stretch": 2_500, "calls": 50}


@pytest.fixture
def server() -> Iterator[Server]:
    with Server() as made:
        yield made


def record(waiting: int, rate: float, beside: float) -> dict[str, Any]:
    rates = dict.fromkeys(depth.RATES, rate)
    return {"depth": waiting, **rates, **{f"at_1000_{name}": beside for name in rates}}


def test_rates_at_the_greatest_depth_are_compared_with_those_beside_in_the_same_run():
    records = [record(5_000, 90, 100), record(1_000, 500, 100), record(5_000, 10, 20), record(5_000, 450, 500)]
    targets = depth.BENCHMARK.targets(records)

    assert [target.what for target in targets] == [f"{what}, 5,000 waiting to 1,000" for what in depth.RATES.values()]
    assert {(target.measured, target.met) for target in targets} == {("90.0 [50.0 - 90.0]", True)}


def test_nothing_is_aimed_at_where_as_few_wait_as_beside():
    assert depth.BENCHMARK.targets([record(1_000, 100, 200)]) == []


def test_turn_that_is_disturbed_does_not_change_what_is_recorded():
    turns = [{"jobs_per_s": 100, "p99": 9.0}, {"jobs_per_s": 3, "p99": 700.0}, {"jobs_per_s": 101, "p99": 8.0}]

    assert depth.medians(turns) == {"jobs_per_s": 100, "p99": 9.0}


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


def test_calls_of_both_sides_alternate_in_pieces():
    made: list[str] = []

    def calls(side: str, count: int) -> Iterator[float]:
        for number in range(count):
            made.append(side)
            yield number

    assert depth.alternate([calls("a", 5), calls("b", 5)], 2) == [[0, 1, 2, 3, 4]] * 2
    assert "".join(made) == "aabbaabbab"


@pytest.mark.blackbox
def test_depth_is_measured_beside_jobs_that_wait_and_in_turns_beside_few(server: Server):
    measured = depth.BENCHMARK.measure(CELL, server)

    for side in ("", "at_1000_"):
        assert min(measured[f"{side}{name}"] for name in depth.RATES) > 10
        for what in ("claim", "enqueue"):
            assert 0 < measured[f"{side}{what}_p50_us"] <= measured[f"{side}{what}_p99_us"]
    assert measured["job_bytes"] > 100
    shown = {**CELL, **measured, "ping_per_s": 1, "zpopmin_per_s": 1}
    assert "300 waiting: drain" in depth.BENCHMARK.line(shown)
    assert depth.BENCHMARK.tables([shown]).count("\n\n") == 2
