"""The command with a benchmark that measures nothing: `seen` tells what it was asked to measure."""

import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from benchmarks import __main__ as command
from benchmarks import baseline, benchmark, page
from benchmarks.benchmark import Benchmark, BenchmarkError, Cell, Record
from benchmarks.machine import machine
from benchmarks.server import Server
from tests.conftest import wait_until


class Fake(Benchmark):
    title = "A fake"

    def __init__(self) -> None:
        self.seen: list[Any] = []
        self.rates = [100.0]
        self.lost: Cell | None = None
        self.broken: BaseException | None = None

    def cells(self, short: bool) -> list[dict[str, Any]]:
        return [{"cell": "a"}, {"cell": "b"}] + ([] if short else [{"cell": "slow"}])

    def rounds(self, cell: Cell, rounds: int) -> int:
        return 1 if cell["cell"] == "slow" else rounds

    def measure(self, cell: Cell, server: Server) -> dict[str, Any]:
        assert server.client.dbsize() == 0
        self.seen.append(cell["cell"])
        if cell == self.lost or (self.broken and not self.lost):
            raise self.broken or BenchmarkError("1 jobs did not run")
        return {"jobs_per_s": self.rates.pop(0) if len(self.rates) > 1 else self.rates[0]}

    def line(self, record: Record) -> str:
        return f"{record['cell']}: {record['jobs_per_s']}"

    def tables(self, records: Sequence[Record]) -> str:
        return f"{len(records)} records"

    def marks(self, records: Sequence[Record]) -> dict[str, float]:
        return {"rate": max(record["jobs_per_s"] / record["ping_per_s"] for record in records)}


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> Fake:
    made = Fake()
    monkeypatch.setattr(benchmark, "names", lambda: ["fake"])
    monkeypatch.setattr(benchmark, "load", lambda name: (made, "It measures nothing."))
    monkeypatch.setattr(baseline, "WATCHED", ("fake",))
    monkeypatch.setattr("benchmarks.reference.measure", lambda server: {"ping_per_s": 10})
    return made


def invoke(*arguments: str) -> Result:
    return CliRunner().invoke(command.main, arguments)


def test_rounds_go_round_the_cells(fake: Fake, tmp_path: Path):
    pytest.importorskip("matplotlib")
    result = invoke("--runs", "3", "--out", str(tmp_path))

    assert result.exit_code == 0, result.output
    assert fake.seen == ["a", "b", "slow", "a", "b", "a", "b"]
    data = page.load(tmp_path, "fake")
    assert data
    assert data["runs"][0] == {"cell": "a", "round": 0, "ping_per_s": 10, "jobs_per_s": 100.0}
    assert [record["round"] for record in data["runs"]] == [0, 0, 0, 1, 1, 2, 2]
    assert len(data["runs"]) == 7
    assert "7 records" in (tmp_path / "README.md").read_text()


@pytest.mark.parametrize("option", [("--short",), ("--where", "cell=a")])
def test_part_of_the_measurement_writes_nothing(option: tuple[str, ...], fake: Fake, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(page, "save", None)
    monkeypatch.setattr(page, "write", None)
    result = invoke("--runs", "1", *option)

    assert result.exit_code == 0, result.output
    assert fake.seen == (["a"] if "cell=a" in option else ["a", "b"])
    assert "records" in result.output


def test_lost_job_is_a_failed_run_and_the_others_are_measured_and_kept(fake: Fake, tmp_path: Path):
    pytest.importorskip("matplotlib")
    fake.lost = {"cell": "b"}
    result = invoke("--runs", "2", "--out", str(tmp_path))

    assert result.exit_code == 1
    assert "1: FAILED: 1 jobs did not run; measured was {'cell': 'b'}" in result.output
    assert "Error: fake: 2 of 5 runs failed" in result.output
    data = page.load(tmp_path, "fake")
    assert data
    assert [record["cell"] for record in data["runs"]] == ["a", "slow", "a"]
    assert data["failed"] == [{"cell": "b", "error": "1 jobs did not run"}] * 2
    text = (tmp_path / "README.md").read_text()
    assert "**Failed: 2 of 5 runs.**\n- cell b: 1 jobs did not run\n" in text
    assert "3 records" in text


def test_benchmark_of_which_all_runs_failed_is_on_the_page(fake: Fake, tmp_path: Path):
    pytest.importorskip("matplotlib")
    fake.broken = RuntimeError("a fault of the benchmark itself")
    result = invoke("--runs", "1", "--out", str(tmp_path))

    assert result.exit_code == 1
    text = (tmp_path / "README.md").read_text()
    assert "**Failed: 3 of 3 runs.**" in text
    assert "records" not in text


def test_what_was_measured_is_kept_when_it_is_interrupted(fake: Fake, tmp_path: Path):
    pytest.importorskip("matplotlib")
    fake.broken, fake.lost = KeyboardInterrupt(), {"cell": "b"}
    invoke("--runs", "2", "--out", str(tmp_path))

    data = page.load(tmp_path, "fake")
    assert data
    assert [record["cell"] for record in data["runs"]] == ["a"]
    assert "**Interrupted: 4 of 5 runs were not made.**" in page.text(tmp_path)


def test_failed_run_is_not_compared(fake: Fake, tmp_path: Path):
    path = tmp_path / "baseline.json"
    baseline.save(path, {}, {"fake": {"rate": 1.0}})
    fake.lost = {"cell": "b"}
    result = invoke("--compare", str(path), "--runs", "1")

    assert result.exit_code == 1
    assert "Error: fake: 1 of 2 runs failed" in result.output


def test_unknown_name_is_refused_with_those_that_there_are(fake: Fake):
    result = invoke("drian")

    assert result.exit_code == 2
    assert "there is no benchmark drian, but fake" in result.output


@pytest.mark.parametrize("where", ["cell=c", "cel=a", "cell", "cell=slow"])
def test_where_that_matches_nothing_is_refused_with_what_there_is(where: str, fake: Fake):
    result = invoke("--short", "--where", where)

    assert result.exit_code == 2
    assert f"no cell of fake has {where}; there are cell=a, b" in result.output
    assert fake.seen == []


@pytest.mark.parametrize("option", [("--report",), ("--compare", "baseline.json"), ("--renew", "baseline.json")])
def test_where_is_refused_where_it_would_be_ignored(option: tuple[str, ...], fake: Fake):
    result = invoke(*option, "--where", "cell=a")

    assert result.exit_code == 2
    assert "--where goes with measuring" in result.output


@pytest.mark.parametrize("option", [("fake",), ("--short",), ("--runs", "2"), ("--compare", "baseline.json")])
def test_what_a_report_would_ignore_is_refused(option: tuple[str, ...], fake: Fake):
    result = invoke("--report", *option)

    assert result.exit_code == 2
    assert "--report measures nothing" in result.output


def test_folder_that_cannot_be_written_is_told_before_anything_is_measured(fake: Fake, tmp_path: Path):
    pytest.importorskip("matplotlib")
    (tmp_path / "results").write_text("a file")
    result = invoke("--out", str(tmp_path))

    assert result.exit_code == 1
    assert f"Error: results cannot be written to {tmp_path}" in result.output
    assert fake.seen == []


@pytest.mark.parametrize("text", [None, "[metadata]", "[]", '{"runs": []}'])
def test_what_is_no_baseline_is_told_in_a_line(text: str | None, fake: Fake, tmp_path: Path):
    path = tmp_path / "baseline.json"
    if text is not None:
        path.write_text(text)
    result = invoke("--compare", str(path))

    assert result.exit_code == 1
    assert f"Error: {path} is no baseline" in result.output
    assert fake.seen == []


def test_baseline_of_another_interpreter_is_compared_and_told(fake: Fake, tmp_path: Path):
    path = tmp_path / "baseline.json"
    baseline.save(path, {**machine(), "python": "3.0.0, gevent 1.0"}, {"fake": {"rate": 10.0}})
    result = invoke("--compare", str(path))

    assert result.exit_code == 0
    assert "measured with something else, which a ratio may show: python 3.0.0, gevent 1.0, here " in result.output


@pytest.mark.blackbox
def test_command_that_is_terminated_leaves_neither_server_nor_folder_and_takes_no_settings(tmp_path: Path):
    environ = {**os.environ, "TMPDIR": str(tmp_path), "GQUEUE_FAILPOINTS": "claimed=kill"}
    command = [sys.executable, "-m", "benchmarks.pool_sizes", "--short", "--where", "kind=100 ms"]
    with subprocess.Popen(command, env=environ, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout
        lines = iter(process.stdout.readline, "")
        assert any("100 ms,     1 slots" in line for line in lines)
        wait_until(lambda: list(tmp_path.glob("*/gqueue-bench-*")))  # that of the server of the next cell
        process.terminate()
        errors = process.communicate(timeout=30)[1]

    assert process.returncode == 128 + signal.SIGTERM
    assert "GQUEUE_FAILPOINTS is left out" in errors
    assert not list(tmp_path.iterdir())


@pytest.mark.blackbox
def test_end_takes_along_what_was_being_started_and_its_files(tmp_path: Path):
    program = """
import os, signal, subprocess, tempfile
from benchmarks.ending import leaving_nothing

with leaving_nothing():
    folder = tempfile.mkdtemp()
    subprocess.Popen(["sh", "-c", "sleep 1000 & while true; do touch $0/$(date +%N); done", folder])
    while not os.listdir(folder):
        pass
    os.kill(os.getpid(), signal.SIGTERM)
"""
    environ = {**os.environ, "TMPDIR": str(tmp_path)}
    command = [sys.executable, "-c", program]
    # Its output ends when the last of its descendants has.
    ended = subprocess.run(command, env=environ, stdout=subprocess.PIPE, timeout=30)

    assert ended.returncode == 128 + signal.SIGTERM
    assert not list(tmp_path.iterdir())


@pytest.mark.blackbox
def test_what_is_measured_is_compiled_beforehand(tmp_path: Path):
    environ = {**os.environ, "PYTHONDONTWRITEBYTECODE": "1", "PYTHONPYCACHEPREFIX": str(tmp_path)}
    subprocess.run([sys.executable, "-m", "benchmarks", "--help"], env=environ, check=True, capture_output=True)

    assert list(tmp_path.rglob("core/dispatch.*.pyc"))
    assert list(tmp_path.rglob("benchmarks/tasks.*.pyc"))


def test_as_fast_as_the_baseline_is_well(fake: Fake, tmp_path: Path):
    path = tmp_path / "baseline.json"
    assert invoke("--renew", str(path)).exit_code == 0
    assert baseline.load(path) == {"fake": {"rate": 10.0}}
    result = invoke("--compare", str(path))

    assert result.exit_code == 0
    assert "fake: rate" in result.output


def test_slower_three_times_is_an_error(fake: Fake, tmp_path: Path):
    path = tmp_path / "baseline.json"
    baseline.save(path, {}, {"fake": {"rate": 14.0}})
    result = invoke("--compare", str(path), "--runs", "1")

    assert result.exit_code == 1
    assert fake.seen == ["a", "b"] * 3
    assert "SLOWER" in result.output
    assert "slower than" in result.output


def test_slower_once_is_measured_twice_more_and_the_median_counts(fake: Fake, tmp_path: Path):
    path = tmp_path / "baseline.json"
    baseline.save(path, {}, {"fake": {"rate": 14.0}})
    fake.rates = [100.0, 100.0, 140.0]
    result = invoke("--compare", str(path), "--runs", "1")

    assert result.exit_code == 0, result.output
    assert fake.seen == ["a", "b"] * 3
    assert "2 times more" in result.output


def test_slower_twice_is_an_error(fake: Fake, tmp_path: Path):
    path = tmp_path / "baseline.json"
    baseline.save(path, {}, {"fake": {"rate": 14.0}})
    fake.rates = [100.0] * 4 + [140.0]
    result = invoke("--compare", str(path), "--runs", "1")

    assert result.exit_code == 1
    assert "slower than" in result.output


def test_nothing_is_compared_with_a_baseline_of_another_reference(fake: Fake, tmp_path: Path):
    path = tmp_path / "baseline.json"
    baseline.save(path, {"reference": "another"}, {"fake": {"rate": 14.0}})
    result = invoke("--compare", str(path))

    assert result.exit_code == 0
    assert fake.seen == []
    assert "NOT COMPARED: the reference of" in result.output


def test_mark_that_the_baseline_has_not_is_told(fake: Fake, tmp_path: Path):
    path = tmp_path / "baseline.json"
    baseline.save(path, {}, {"fake": {}})
    result = invoke("--compare", str(path))

    assert result.exit_code == 0
    assert "until it is made anew with --renew: fake: rate" in result.output
