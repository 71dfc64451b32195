import pytest

from benchmarks.benchmark import (
    at_least,
    at_most,
    beside,
    group,
    load,
    names,
    percentile,
    select,
    spread,
    table,
    values,
    whiskers,
)

RECORDS = [
    {"slots": 50, "results": True, "jobs_per_s": 30.0, "ping_per_s": 10},
    {"slots": 1, "results": True, "jobs_per_s": 8.0, "ping_per_s": 4},
    {"slots": 50, "results": False, "jobs_per_s": 50.0, "ping_per_s": 10},
    {"slots": 50, "results": True, "jobs_per_s": 90.0, "ping_per_s": 9},
]


def test_percentile_is_a_measured_value_that_so_many_do_not_pass():
    measured = [float(value) for value in range(1_000, 0, -1)]

    assert percentile(measured, 50) == 500
    assert percentile(measured, 99) == 990
    assert percentile(measured, 99.9) == 999
    assert percentile(measured, 100) == 1_000


def test_percentile_of_few_is_among_them():
    assert percentile([7.0], 0.1) == percentile([7.0], 99.9) == 7
    assert percentile([1.0, 2.0, 3.0], 50) == 2
    assert percentile([1.0, 2.0, 3.0], 99) == 3


def test_percentile_of_nothing_is_refused():
    with pytest.raises(ValueError, match="no values"):
        percentile([], 50)


def test_spread_is_median_and_range():
    assert spread([3_000.0, 1_000.4, 2_000.0]) == "2,000 [1,000 - 3,000]"
    assert spread([0.25, 0.75], digits=2, unit="%") == "0.50% [0.25 - 0.75]"
    assert spread([5.0], digits=1) == "5.0"  # one run has no range
    assert spread([]) == ""


def test_records_are_grouped_in_the_order_in_which_they_come_first():
    cells = group(RECORDS, "slots", "results")

    assert list(cells) == [(50, True), (1, True), (50, False)]
    assert cells[50, True] == [RECORDS[0], RECORDS[3]]


def test_ratio_is_to_the_reference_of_the_same_run():
    runs = select(RECORDS, slots=50, results=True)

    assert values(runs, "jobs_per_s") == [30, 90]
    assert values(runs, "jobs_per_s", per="ping_per_s") == [3, 10]


def test_target_is_met_by_the_median():
    assert at_least("rate", 50, [10, 50, 90]).met
    assert not at_least("rate", 50, [10, 49, 90]).met
    assert at_most("time", 50, [10, 50, 90]).met
    assert not at_most("time", 50, [10, 51, 90]).met


def test_target_that_was_not_measured_is_not_met():
    for target in (at_least("rate", 0, []), at_most("time", 1_000, [])):
        assert not target.met
        assert target.measured == ""
        assert target.verdict == "not measured"


def test_target_is_judged_and_what_is_beside_it_is_not():
    assert at_least("rate", 50, [50]).verdict == "yes"
    assert at_least("rate", 50, [49]).verdict == "no"
    assert beside("rate of the same script", [80, 90], "%").verdict == ""


def test_table_is_markdown_that_reads_as_it_is():
    assert table(["job", "jobs/s"], [["no-op", "80,000"], ["10 ms", "97"]]) == (
        "| job   | jobs/s |\n| ----- | -----: |\n| no-op | 80,000 |\n| 10 ms |     97 |"
    )


def test_table_without_rows_is_its_head():
    assert table(["job", "jobs/s"], []) == "| job | jobs/s |\n| --- | -----: |"


@pytest.mark.parametrize("name", names())
def test_every_benchmark_says_what_it_measures_and_its_short_form_is_less(name: str):
    benchmark, about = load(name)

    assert benchmark.title
    assert about
    assert 0 < len(benchmark.cells(short=True)) <= len(benchmark.cells(short=False))


def test_of_a_line_without_a_run_nothing_is_drawn():
    panel = pytest.importorskip("matplotlib.figure").Figure().subplots()
    whiskers(panel, {1: [2.0, 4.0], 5: []}, "measured")
    whiskers(panel, {1: []}, "not measured")

    (line,) = panel.containers
    assert (line.get_label(), list(line[0].get_ydata())) == ("measured", [3.0])
