from pathlib import Path

import pytest

from benchmarks import benchmark, page

MEASURED = [name for name in benchmark.names() if page.load(page.HERE, name)]


def test_page_shows_the_runs_in_the_files():
    assert MEASURED, "python -m benchmarks was never run"
    assert (page.HERE / "README.md").read_text() == page.text()


def test_page_shows_a_benchmark_with_machine_targets_table_and_plot(monkeypatch: pytest.MonkeyPatch):
    data = {"about": {"cpu": "fast", "commit": ""}, "runs": drained(90_000, 70_000)}
    text = page.section("drain", data, plot="drain.png")

    assert text.startswith("## No-op jobs\n\n`python -m benchmarks drain`. ")
    assert "- cpu: fast" in text
    assert "commit" not in text
    assert "| 50 slots, results off        | >= 80,000 jobs/s | 80,000 [70,000 - 90,000] | yes |" in text
    assert "| 50 slots, results on         | >= 60,000 jobs/s | not measured             | no  |" in text
    assert "| 80,000 [70,000 - 90,000] |   8.50 |" in text  # 9 and 8 times the PING of the same run
    assert text.endswith("![No-op jobs](results/drain.png)\n")


def test_what_was_saved_is_on_the_page(tmp_path: Path):
    pytest.importorskip("matplotlib")
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
