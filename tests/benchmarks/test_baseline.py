from pathlib import Path

import pytest

from benchmarks.baseline import MOST_LOSS, Line, cannot_compare, compare, load, middle, save, shown


@pytest.mark.parametrize(
    ("before", "now", "verdict"),
    [
        (4.0, 4.0, "ok"),
        (4.0, 9.0, "ok"),
        (4.0, 4.0 * (1 - MOST_LOSS), "ok"),
        (4.0, 4.0 * (1 - MOST_LOSS) - 0.001, "SLOWER"),
        (None, 4.0, "not in it"),
        (4.0, None, "NOT MEASURED"),
    ],
)
def test_loss_of_more_than_a_quarter_is_bad(before: float | None, now: float | None, verdict: str):
    line = Line("drain: 50 slots", before, now)

    assert line.verdict == verdict
    assert line.bad == (verdict in ("SLOWER", "NOT MEASURED"))


def test_mark_that_is_no_longer_measured_is_not_forgotten():
    lines = compare({"drain": {"1 slot": 0.2, "50 slots": 0.3}}, {"drain": {"50 slots": 0.3, "100 slots": 0.4}})

    assert {line.name: line.verdict for line in lines} == {
        "drain: 1 slot": "NOT MEASURED",
        "drain: 50 slots": "ok",
        "drain: 100 slots": "not in it",
    }


def test_benchmark_that_was_not_asked_for_is_not_compared():
    lines = compare({"drain": {"1 slot": 0.2}, "enqueue": {"many": 1.0}}, {"enqueue": {"many": 1.0}})

    assert [line.name for line in lines] == ["enqueue: many"]


def test_of_three_measurements_the_median_counts_mark_by_mark():
    tries = [{"a": 1.0, "b": 5.0}, {"a": 9.0, "b": 4.0}, {"a": 2.0, "c": 3.0}]

    assert middle(tries) == {"a": 2.0, "b": 4.5, "c": 3.0}


def test_ratios_to_another_reference_are_not_compared(tmp_path: Path):
    path = tmp_path / "baseline.json"
    save(path, {"reference": "redis-benchmark"}, {})

    assert cannot_compare(path, "redis-benchmark") == ""
    assert "was measured by redis-benchmark; here it would be a loop" in cannot_compare(path, "a loop")


def test_what_was_compared_is_shown():
    text = shown([Line("drain: 50 slots", 0.2, 0.1), Line("drain: 1 slot", 0.4, 0.5), Line("enqueue: many", None, 0.5)])

    assert [[cell.strip() for cell in row.split("|")[1:-1]] for row in text.splitlines()[2:]] == [
        ["drain: 50 slots", "0.2", "0.1", "-50%", "SLOWER"],
        ["drain: 1 slot", "0.4", "0.5", "+25%", "ok"],
        ["enqueue: many", "", "0.5", "", "not in it"],
    ]


def test_baseline_is_read_as_it_was_written(tmp_path: Path):
    path = tmp_path / "baseline.json"
    save(path, {"commit": "abc"}, {"drain": {"50 slots": 0.123456}})

    assert load(path) == {"drain": {"50 slots": 0.1235}}
