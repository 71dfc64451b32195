import os
from pathlib import Path

import pytest

from benchmarks.moments import Moments, at, distribution, read


def noted(folder: Path, monkeypatch: pytest.MonkeyPatch, pid: int, *numbers: int, count: int = 5) -> Moments:
    """Note a job for each number, as the process *pid* would."""
    monkeypatch.setattr(os, "getpid", lambda: pid)
    moments = Moments(folder, count)
    for number in numbers:
        moments.began(number)
        moments.ended(number)
    return moments


def test_jobs_that_ran_once_each_are_as_they_must_be(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    noted(tmp_path, monkeypatch, 1, 0, 2)
    noted(tmp_path, monkeypatch, 2, 3)
    report = read(tmp_path, 5)

    assert list(report.ran) == [1, 0, 1, 1, 0]
    assert report.wrong([0, 2, 3]) == ""
    assert 0 < report.starts[0] <= report.ends[0] <= report.starts[2] <= report.ends[3]
    assert report.starts[1] == report.ends[4] == 0


def test_lost_doubled_and_strange_jobs_are_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    noted(tmp_path, monkeypatch, 1, 0, 2)
    noted(tmp_path, monkeypatch, 2, 2, 4)
    report = read(tmp_path, 5)

    assert report.wrong([0, 1, 2]) == "1 jobs did not run, 1 ran more than once, 1 were never enqueued"


def test_job_that_has_not_ended_did_not_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    noted(tmp_path, monkeypatch, 1).began(0)

    assert read(tmp_path, 5).wrong([0])


def test_distribution_is_by_nearest_rank_in_ms():
    found = distribution(number * 1_000_000 for number in range(1_000, 0, -1))

    assert [found[percent] for percent in ("0", "50", "99", "99.9", "99.99", "100")] == [1, 500, 990, 999, 1_000, 1_000]
    assert distribution([]) == {}
    assert at([{"late": found}, {"late": distribution([2_500_000])}], "late", 99.5) == [995, 2.5]
