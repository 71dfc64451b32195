"""Processes that make way for fresh ones: after so many jobs, with so much memory, or when jobs got stuck in them."""

import signal
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from gqueue.queue import Queue
from tests.cli.conftest import Program, Start
from tests.conftest import wait_until
from tests.servers import Server

pytestmark = pytest.mark.blackbox

APP = """
import os, time
import gqueue

queue = gqueue.Queue("work", lease=1.5)
kept = []

@queue.task(result_ttl=0)
def note(file: str, number: int) -> None:
    at = os.open(file, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    os.write(at, f"{os.getpid()} {number}\\n".encode())
    os.close(at)

@queue.task(result_ttl=0)
def leak(file: str, number: int) -> None:
    kept.append(b"x" * 2**20)
    note(file, number)
    time.sleep(0.05)

@queue.task(timeout=0.2)
def stuck() -> None:
    while True:
        try: time.sleep(0.05)
        except BaseException: pass
"""


class Work:
    """The queue of the app, as its producer sees it, and what its tasks noted."""

    def __init__(self, start: Start, url: str, folder: Path) -> None:
        (folder / "work.py").write_text(APP)
        self._start, self.url, self.file = start, url, folder / "noted"
        self.queue = Queue("work", url)
        self.tasks: dict[str, Any] = {
            name: self.queue.task(name=name)(lambda *_: None) for name in ("note", "leak", "stuck")
        }

    def enqueue(self, task: str, count: int) -> None:
        for _ in self.queue.enqueue_many(self.tasks[task].job(str(self.file), number) for number in range(count)):
            pass

    def worker(self, *args: str) -> Program:
        return self._start("--app", "work:queue", "--redis", self.url, *args)

    def noted(self) -> list[tuple[int, int]]:
        """Return process and number of each job that ran."""
        lines = self.file.read_text().splitlines() if self.file.exists() else []
        return [(int(pid), int(number)) for pid, number in map(str.split, lines)]

    def is_done_once(self, count: int) -> bool:
        return sorted(number for _, number in self.noted()) == list(range(count))


@pytest.fixture
def work(start: Start, own_server: Server, tmp_path: Path) -> Iterator[Work]:
    made = Work(start, own_server.url, tmp_path)
    yield made
    made.queue.close()


def test_process_ends_cleanly_after_so_many_jobs_and_leaves_the_rest(work: Work) -> None:
    work.enqueue("note", 100)
    program = work.worker("--max-jobs", "20", "--workers", "2")

    assert program.end()[0] == 0, program.said
    ran = len(work.noted())
    assert 18 <= ran <= 24
    assert (work.queue.stats().ready, work.queue.stats().running, work.queue.stats().workers) == (100 - ran, 0, 0)
    assert program.count("recycling after about 20 jobs") == 1


def test_processes_that_are_recycled_drain_everything_each_job_once(work: Work) -> None:
    work.enqueue("note", 400)
    program = work.worker("--max-jobs", "60", "--workers", "4", "--processes", "2", "--burst")

    assert program.end(60)[0] == 0, program.said
    assert work.is_done_once(400)
    by_process = Counter(pid for pid, _ in work.noted())
    assert len(by_process) >= 6
    assert max(by_process.values()) <= 60 + 8  # what was claimed when the last of its jobs ended
    assert program.count("a fresh one takes over") >= 4
    assert program.count("started again") == 0
    assert (work.queue.stats().dead, work.queue.stats().workers) == (0, 0)


def test_process_that_has_grown_too_large_is_followed_by_a_fresh_one(work: Work) -> None:
    work.enqueue("leak", 300)
    program = work.worker("--max-rss", "100M", "--workers", "2", "--processes", "2", "--burst")

    assert program.end(60)[0] == 0, program.said
    assert work.is_done_once(300)
    assert len({pid for pid, _ in work.noted()}) >= 3
    assert program.count("(max_rss 100 MiB)") >= 1
    assert program.count("started again") == 0


def test_size_that_the_process_has_from_the_start_is_refused(work: Work) -> None:
    program = work.worker("--max-rss", "2M")

    assert program.end()[0] == 2, program.said
    assert "max_rss 2 MiB: the process has" in program.said
    assert "Traceback" not in program.said


@pytest.mark.parametrize("size", ["much", "1", "-5M", "0.5G"])
def test_what_is_no_size_is_refused(work: Work, size: str) -> None:
    program = work.worker("--max-rss", size)

    assert program.end()[0] == 2, program.said


def test_process_whose_slots_are_stuck_ends_with_4(work: Work) -> None:
    work.tasks["stuck"].enqueue()
    program = work.worker("--workers", "2")

    assert program.end()[0] == 4, program.said
    assert [letter.reason for letter in work.queue.dead.list()] == ["stuck"]
    assert program.count("1 of 2 slots are lost to stuck jobs") == 1


def test_process_whose_slots_are_stuck_is_followed_by_a_fresh_one_at_once(work: Work) -> None:
    work.tasks["stuck"].enqueue()
    program = work.worker("--workers", "2", "--processes", "2")
    program.await_line("(exit 4); it is started again in 0.0 s")
    work.enqueue("note", 50)

    wait_until(lambda: work.is_done_once(50))
    wait_until(lambda: work.queue.stats().workers == 2)
    assert program.count("exit 4") == 1
    program.send(signal.SIGTERM)
    assert program.end()[0] == 0, program.said
    assert [letter.reason for letter in work.queue.dead.list()] == ["stuck"]
