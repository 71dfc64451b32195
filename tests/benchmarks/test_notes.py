import os
from pathlib import Path

import pytest

from benchmarks.notes import Notes, mapped_bytes, read


@pytest.fixture
def processes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[Notes]:
    """Two processes that run jobs 0 to 3."""
    made = []
    for pid in (101, 102):
        monkeypatch.setattr(os, "getpid", lambda pid=pid: pid)
        made.append(Notes(tmp_path, 4))
    return made


def run(notes: Notes, *numbers: int) -> None:
    for number in numbers:
        notes.began()
        notes.ended(number)


def test_jobs_that_ran_once_in_any_process_are_exact(processes: list[Notes], tmp_path: Path):
    run(processes[0], 3, 0)
    run(processes[1], 1, 2)

    assert read(tmp_path, 4).wrong == ""


def test_job_that_ran_in_two_processes_is_seen(processes: list[Notes], tmp_path: Path):
    run(processes[0], 0, 1, 2)
    run(processes[1], 2, 3)

    assert read(tmp_path, 4).wrong == "0 jobs did not run, 1 ran more than once"


def test_missing_job_is_seen_though_as_many_ran(processes: list[Notes], tmp_path: Path):
    run(processes[0], 0, 1, 1, 3)

    assert read(tmp_path, 4).wrong == "1 jobs did not run, 1 ran more than once"


def test_time_is_from_the_first_start_to_the_last_end_of_all(
    processes: list[Notes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    now = [100.0]
    monkeypatch.setattr("time.perf_counter", lambda: now[0])
    for at, notes, number in ((100.0, 0, 0), (101.0, 1, 1), (103.0, 0, 2), (107.0, 1, 3)):
        now[0] = at
        run(processes[notes], number)

    assert read(tmp_path, 4).seconds == 7.0


def test_process_that_ran_nothing_says_nothing_of_the_time(processes: list[Notes], tmp_path: Path):
    run(processes[1], 0, 1, 2, 3)

    assert 0 <= read(tmp_path, 4).seconds < 5


def test_no_process_at_all_ran_nothing(tmp_path: Path):
    report = read(tmp_path, 4)

    assert report.wrong == "4 jobs did not run, 0 ran more than once"
    assert (report.seconds, report.cpu_us) == (0.0, None)


def test_processor_time_is_that_of_the_jobs_between_two_looks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    spent = [0.0]
    monkeypatch.setattr("time.process_time", lambda: spent[0])
    notes = Notes(tmp_path, 2_500)
    for number in range(2_500):
        notes.began()
        spent[0] += 20e-6
        notes.ended(number)

    assert read(tmp_path, 2_500).cpu_us == pytest.approx(20)


def test_first_start_of_all_is_told(processes: list[Notes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    now = [100.0]
    monkeypatch.setattr("time.perf_counter", lambda: now[0])
    run(processes[1], 1)
    now[0] = 105.0
    run(processes[0], 0)

    assert read(tmp_path, 4).began == 100.0


def test_memory_that_notes_take_is_what_was_written(tmp_path: Path):
    count = 1_000_000
    notes = Notes(tmp_path, count)
    assert mapped_bytes(tmp_path, os.getpid()) <= 256 * 1024  # the system may map some pages around the first

    run(notes, *range(count))

    assert count <= mapped_bytes(tmp_path, os.getpid()) < count + 256 * 1024
