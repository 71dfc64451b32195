from typing import Any

import pytest

from benchmarks import drain, enqueue
from benchmarks.benchmark import Benchmark
from benchmarks.server import EVERY_SECOND

BOTH = pytest.mark.parametrize("one", [drain.BENCHMARK, enqueue.BENCHMARK], ids=["drain", "enqueue"])

REFERENCES = dict.fromkeys(["ping_per_s", "zadd_per_s", *enqueue.REFERENCES], 10_000.0)
COSTS = {"worker_cpu_us": 10.0, "redis_cpu_us": 5.0, "cpu_us": 10.0, "jobs_a_call": 25.0}


def recorded(one: Benchmark, factor: float = 1.0) -> list[dict[str, Any]]:
    """One run of each cell; with a file, the references take *factor* times as long, and jobs its square."""
    runs = []
    for cell in one.cells(short=False):
        speed = 1 / factor if cell["fsync"] else 1.0
        references = {name: rate * speed for name, rate in REFERENCES.items()}
        costs = {name: cost / speed for name, cost in COSTS.items()}
        runs.append({**cell, **references, **costs, "jobs_per_s": 200_000 * speed**2})
    return runs


@BOTH
def test_one_cell_has_a_file_that_is_synced_and_is_otherwise_plain(one: Benchmark):
    cells = one.cells(short=False)
    (synced,) = [cell for cell in cells if one.settings(cell)]

    assert one.settings(synced) == EVERY_SECOND
    assert {**synced, "fsync": None} == cells[0]
    assert not any(one.settings(cell) for cell in one.cells(short=True))


@BOTH
def test_run_with_a_file_has_a_row_and_counts_neither_for_targets_nor_for_the_baseline(one: Benchmark):
    alike, slow = recorded(one), recorded(one, factor=1_000)

    assert one.targets(slow) == one.targets(alike)
    assert one.marks(slow) == one.marks(alike)
    assert one.tables(slow).count("everysec") == 1
    assert "everysec" in one.line(slow[-1])


@BOTH
def test_runs_from_before_there_was_a_cell_with_a_file_are_shown(one: Benchmark):
    runs = [run for run in recorded(one) if not run["fsync"]]
    old = [{name: value for name, value in run.items() if name != "fsync"} for run in runs]

    assert one.tables(old) == one.tables(runs)
    assert one.targets(old) == one.targets(runs)


@BOTH
def test_run_with_a_file_is_shown_and_drawn_alone(one: Benchmark):
    figure = pytest.importorskip("matplotlib.figure").Figure()
    runs = [run for run in recorded(one) if run["fsync"]]

    assert one.plot(runs, figure)
    assert "everysec" in one.tables(runs)
    assert not any(target.met for target in one.targets(runs))
