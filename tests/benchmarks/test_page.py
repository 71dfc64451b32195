import re
from pathlib import Path

import pytest

from benchmarks import benchmark, page

MEASURED = [name for name in benchmark.names() if page.load(page.HERE, name)]


def test_page_shows_the_runs_in_the_files():
    assert MEASURED, "python -m benchmarks was never run"
    assert (page.HERE / "README.md").read_text() == page.text()


def test_page_shows_a_benchmark_with_machine_targets_table_and_plot(monkeypatch: pytest.MonkeyPatch):
    data = {"about": {"cpu": "fast", "commit": "", "runs": 2}, "runs": drained(90_000, 70_000)}
    text = page.section("drain", data, plot="drain.png")

    assert text.startswith("## No-op jobs\n\n`python -m benchmarks drain`. ")
    assert "- cpu: fast" in text
    assert "commit" not in text
    assert "| 50 slots, results off        | >= 80,000 jobs/s | 80,000 [70,000 - 90,000] | yes          |" in text
    assert "| 50 slots, results on         | >= 60,000 jobs/s |                          | not measured |" in text
    assert "| 80,000 [70,000 - 90,000] |   8.50 |" in text  # 9 and 8 times the PING of the same run
    assert text.endswith("![No-op jobs](results/drain.png)\n")


@pytest.mark.parametrize(("name", "what"), [(name, what) for name, of in page.limits().items() for what in of])
def test_what_is_told_about_a_limit_is_about_a_target(name: str, what: str):
    data = page.load(page.HERE, name)
    targets = benchmark.load(name)[0].targets(data["runs"] if data else [])

    assert what in [one.what for one in targets if one.target]
    assert page.limits()[name][what].strip()


def test_why_is_told_of_each_target_that_is_missed_on_the_page():
    assert "not told yet" not in page.text()


def test_why_a_target_is_missed_is_told_beside_it_and_not_of_those_met():
    why_not = {"one": "It is too far.\n", "two": "It is too near.\n"}
    missed = benchmark.at_least("one", 10, [5])
    text = page.targets_table([missed, benchmark.at_least("two", 10, [15])], why_not)

    assert text.endswith('\n\nWhy not "one": It is too far.')
    assert "too near" not in text
    assert page.targets_table([missed], {}).endswith('\n\nWhy not "one": not told yet.')
    assert "Why" not in page.targets_table([benchmark.at_least("one", 10, [])], why_not)


def test_all_targets_are_at_the_top_those_not_measured_too():
    text = page.all_targets(
        [
            ("No-op jobs", benchmark.at_least("rate", 10, [5, 6, 7])),
            ("No-op jobs", benchmark.at_most("time", 10, [5])),
            ("I/O, or so", benchmark.at_most("rest", 10, [])),
            ("I/O, or so", benchmark.beside("for comparison", [5])),
        ]
    )

    assert "Of 3 targets 1 are met, 1 are not, 1 were not measured." in text
    assert [[cell.strip() for cell in row.split("|")[1:-1]] for row in text.splitlines()[6:]] == [
        ["No-op jobs", "rate", ">= 10 jobs/s", "6 [5 - 7]", "no"],
        ["No-op jobs", "time", "<= 10", "5", "yes"],
        ["I/O, or so", "rest", "<= 10", "", "not measured"],
    ]


def test_page_without_results_has_the_targets_of_all_benchmarks(tmp_path: Path):
    text = page.text(tmp_path)

    assert "| not measured |" in text
    assert "](#no-op-jobs)" not in text
    assert not {"yes", "no"} & {cell.strip() for cell in text.split("|")}
    for name in benchmark.names():
        assert all(target.verdict != "yes" for target in benchmark.load(name)[0].targets([]))


@pytest.mark.parametrize("name", benchmark.names())
def test_page_says_what_is_checked_in_each_benchmark(name: str):
    checked = re.findall(r"^- ([a-z_, ]+): ", page.HEAD, re.MULTILINE)

    assert [name in names.split(", ") for names in checked].count(True) == 1


def test_cells_that_were_not_measured_as_often_as_the_others_are_told():
    records = [{"peer": peer, "part": "live", "round": 0, "jobs_per_s": 5} for peer in ("rq", "saq", "saq")]

    assert page.unequal(records, 2) == "Runs of a cell, where not 2:\n\n- peer rq, part live: 1"
    assert page.unequal(records[1:], 2) == ""


def test_contents_tell_how_long_each_benchmark_took_and_all():
    text = page.contents({"No-op jobs": 600, "I/O, or so": 5_400})

    assert text.splitlines() == [
        "- [Targets](#targets)",
        "- [No-op jobs](#no-op-jobs), 10 min",
        "- [I/O, or so](#io-or-so), 90 min",
        "",
        "To measure this took 100 min.",
    ]
    assert "took" not in page.contents({"No-op jobs": 600, "Memory": None})


def test_page_of_several_commits_or_of_none_says_so():
    abc, abd = {"commit": "abc"}, {"commit": "abd"}
    assert page.doubts({"drain": abc, "enqueue": abc}) == page.doubts({}) == ""

    several = page.doubts({"drain": abc, "enqueue": abd, "io": abc})
    assert several.startswith("**Not of one commit**: drain, io of abc; enqueue of abd.")

    changed = page.doubts({"drain": abc, "enqueue": {"commit": "abc+"}})
    assert changed.startswith("**Of no commit** (+: the tree differed from it): enqueue.")


def test_page_of_commits_that_have_the_same_package_says_so():
    one, other = ({"commit": commit, "gqueue/": "tree 123"} for commit in ("abc", "abd"))

    assert page.doubts({"drain": one, "enqueue": other}).startswith(
        "Of commits with the same gqueue/, tree 123: drain of abc; enqueue of abd."
    )
    for less in ({"commit": "abd"}, {**other, "gqueue/": "tree 124"}, {**other, "commit": "abd+"}):
        assert page.doubts({"drain": one, "enqueue": less}).startswith("**Not of one commit**: ")


def test_what_was_saved_is_on_the_page(tmp_path: Path):
    pytest.importorskip("matplotlib")
    page.prepare(tmp_path)
    page.save(tmp_path, "drain", {"about": {}, "runs": drained(90_000, 70_000)})
    page.write(tmp_path)

    assert (tmp_path / "results/drain.png").stat().st_size > 1_000
    text = (tmp_path / "README.md").read_text()
    assert text == page.text(tmp_path)
    assert "results/drain.png" in text
    assert "python -m benchmarks enqueue" not in text


@pytest.mark.parametrize("name", MEASURED)
def test_plot_is_drawn_from_the_file(name: str, tmp_path: Path):
    pytest.importorskip("matplotlib")
    data = page.load(page.HERE, name)
    assert data
    page.draw(benchmark.load(name)[0], data["runs"], tmp_path / "plot.png")

    assert (tmp_path / "plot.png").exists() == (page.HERE / f"results/{name}.png").exists()


def drained(*rates: float) -> list[benchmark.Record]:
    """Return runs of the plain cell of drain; PING is a 9th, an 8th, ... of the rate."""
    cell = {"processes": 1, "slots": 50, "results": False, "payload": 0, "signed": False, "jobs": 1_000}
    costs = {"worker_cpu_us": 11.0, "redis_cpu_us": 4.5, "jobs_a_call": 30.0}
    return [
        {**cell, **costs, "jobs_per_s": rate, "ping_per_s": rate / (9 - number), "zadd_per_s": rate * 5}
        for number, rate in enumerate(rates)
    ]
