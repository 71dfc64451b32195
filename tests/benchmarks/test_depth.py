from collections.abc import Iterator
from typing import Any

import pytest

from benchmarks import depth, sides
from benchmarks.server import Server

CELL = {"depth": 30_000, "turns": 2, "stretch": 2_500, "calls": 50}


@pytest.fixture
def server() -> Iterator[Server]:
    with Server() as made:
        yield made


def record(waiting: int, drained: float, beside: float) -> dict[str, Any]:
    rates = {**dict.fromkeys(depth.RATES, 1), "jobs_per_s": drained}  # the others are no matter
    return {"depth": waiting, **rates, **{f"at_1000_{name}": beside for name in rates}}


def test_drain_of_five_million_is_compared_with_that_beside_in_the_same_run():
    at = 5_000_000
    records = [record(at, 90, 100), record(1_000, 500, 100), record(at, 10, 20), record(at, 450, 500)]
    target, *others = depth.BENCHMARK.targets(records)

    assert target.what == "drain, 5,000,000 waiting to 1,000"
    assert (target.measured, target.met) == ("90.0 [50.0 - 90.0]", True)
    assert [other.what.partition(",")[0] for other in others] == ["enqueue_many", "enqueue", "claim"]
    assert not any(other.target for other in others)


def test_fewer_than_five_million_are_not_judged():
    target, *_ = depth.BENCHMARK.targets([record(1_000, 100, 200), record(1_000_000, 100, 100)])

    assert (target.measured, target.met) == ("", False)


def test_depth_that_does_not_fit_into_memory_is_left_out(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("benchmarks.process.available_bytes", lambda: 3 << 30)

    assert [cell["depth"] for cell in depth.BENCHMARK.cells(short=False)] == [1_000, 10_000, 100_000, 1_000_000]


def test_no_table_is_enlarged_between_the_filling_and_the_end_of_the_stretch():
    for waiting in (100_000, 1_000_000, 5_000_000):
        assert waiting in depth.DEPTHS
        assert waiting.bit_length() == (waiting + 2 * depth.CALLS + sides.WARM_UP + depth.STRETCH).bit_length()


@pytest.mark.blackbox
def test_depth_is_measured_beside_jobs_that_wait_and_in_turns_beside_few(server: Server):
    measured = depth.BENCHMARK.measure(CELL, server)

    for side in ("", "at_1000_"):
        assert min(measured[f"{side}{name}"] for name in depth.RATES) > 10
        for what in ("claim", "enqueue"):
            assert 0 < measured[f"{side}{what}_p50_us"] <= measured[f"{side}{what}_p99_us"]
    assert measured["job_bytes"] > 100
    shown = {**CELL, **measured, "ping_per_s": 1, "zpopmin_per_s": 1}
    assert "30,000 waiting: drain" in depth.BENCHMARK.line(shown)
    assert depth.BENCHMARK.tables([shown]).count("\n\n") == 2
