"""A task that holds the interpreter's lock, so that no Python of its process runs: it is ended all the same."""

import os
import signal
import time
from pathlib import Path
from typing import Any

import pytest

from gqueue.queue import Queue
from tests.cli.conftest import Start
from tests.conftest import wait_until
from tests.servers import Server

pytestmark = pytest.mark.blackbox

APP = """
import ctypes, os, time
import gqueue

queue = gqueue.Queue("work", lease=1.5, max_crashes=1)

def note(file: str, *words: object) -> None:
    with open(file, "a") as opened:
        opened.write(" ".join(map(str, words)) + "\\n")

@queue.task(timeout=1, max_attempts=1)
def total(file: str, n: int) -> int:
    with open(file, "w") as opened:
        opened.write(str(os.getpid()))
    return sum(range(n))

@queue.task(timeout=1, max_attempts=1)
def holds(file: str, n: int) -> int:
    note(file, "holds", os.getpid(), time.time())
    return sum(range(n))

@queue.task(timeout=3, max_attempts=1)
def naps(file: str, seconds: int) -> None:
    note(file, "naps", os.getpid(), time.time())
    time.sleep(seconds)
    note(file, "woke", os.getpid(), time.time())

@queue.task(timeout=20, max_attempts=1)
def sleeps(file: str, seconds: int) -> int:
    with open(file, "w") as opened:
        opened.write(str(os.getpid()))
    return ctypes.PyDLL(None).sleep(seconds)
"""

BOUND_S, FIRST_THAT_COMES_S = 1.5 * 4 / 3 + 1, 1.5 * 2 / 3 + 1


class Work:
    """The queue of the app, and what its tasks noted."""

    def __init__(self, url: str, folder: Path) -> None:
        (folder / "work.py").write_text(APP)
        self.queue = Queue("work", url, max_crashes=1)
        self.file = folder / "pid"

    def enqueue(self, task: str, number: int) -> Any:
        return self.queue.task(name=task)(lambda *_: None).enqueue(str(self.file), number)

    def noted(self, what: str) -> list[tuple[int, float]]:
        """Return process and time of each attempt that left a line of *what*, earliest first."""
        lines = [line.split() for line in self.file.read_text().splitlines()] if self.file.exists() else []
        return [(int(pid), float(at)) for word, pid, at in lines if word == what]

    def pid(self) -> int:
        """Return the process that is in the task."""
        wait_until(lambda: self.file.exists() and self.file.read_text(), 20)
        return int(self.file.read_text())


@pytest.fixture
def work(own_server: Server, tmp_path: Path):
    made = Work(own_server.url, tmp_path)
    yield made
    made.queue.close()


def test_task_that_holds_the_lock_for_ever_ends_its_process_each_time_and_its_neighbour_runs_elsewhere(
    start: Start, work: Work, own_server: Server, tmp_path: Path
) -> None:
    app = APP.split("@queue.task(timeout=20")[0].replace("max_crashes=1", "max_crashes=3")
    (tmp_path / "work.py").write_text(app)
    options = ("--app", "work:queue", "--workers", "2", "--stuck-after", "0.5", "--redis", own_server.url)
    first = start(*options)
    wait_until(lambda: work.queue.stats().workers == 1, 20)
    work.enqueue("naps", 2)
    wait_until(lambda: work.noted("naps"), 20)
    job = work.enqueue("holds", 10**12)
    wait_until(lambda: work.noted("holds"), 20)
    program = start("--processes", "2", *options)
    wait_until(lambda: work.queue.stats().workers > 1, 20)
    up_at = time.time()
    wait_until(lambda: len(work.noted("naps")) > 1 and len(work.noted("holds")) > 1, 20)

    (held, held_again), (napped, napped_again) = work.noted("holds")[:2], work.noted("naps")[:2]
    assert held[0] == napped[0] == first.process.pid
    promised = max(held[1] + BOUND_S, up_at + FIRST_THAT_COMES_S)
    for again in (held_again, napped_again):
        assert again[1] < promised + 1, "one second is for a busy machine"
    assert first.end()[0] == 1, first.said
    program.await_lines("(exit 1); it is started again", 2, 30)
    for said in (first.said, program.said):
        assert "Timeout (0:00:13" in said  # 0.5 s and 10 s beyond the longer of both limits
        assert "in holds" in said
    wait_until(lambda: job.status() == "dead", 20)
    assert [letter.reason for letter in work.queue.dead.list()] == ["worker_lost"]
    program.await_line(f"job {job.id} is a dead letter (worker_lost)")
    assert len(work.noted("holds")) == len({pid for pid, _ in work.noted("holds")}) == 3
    assert len(work.noted("woke")) == 1
    assert work.queue.stats().counters["succeeded"] == 1
    wait_until(lambda: work.queue.stats().workers == 2, 20)
    program.send(signal.SIGTERM)
    assert program.end()[0] == 0, program.said


def test_task_that_holds_the_lock_within_its_limit_is_left_alone(start: Start, work: Work, own_server: Server) -> None:
    program = start("--app", "work:queue", "--stuck-after", "0.5", "--lease", "60", "--redis", own_server.url)
    wait_until(lambda: work.queue.stats().workers == 1, 20)
    job = work.enqueue("sleeps", 14)  # longer than it would take a timer that looks at the shorter task only

    assert job.result(timeout=40) == 0, program.said
    program.send(signal.SIGTERM)
    assert program.end()[0] == 0, program.said


def test_supervisor_kills_a_process_that_holds_the_lock_after_a_third_signal(
    start: Start, work: Work, own_server: Server
) -> None:
    options = ("--stuck-after", "60", "--workers", "1", "--redis", own_server.url)
    program = start("--app", "work:queue", "--processes", "2", *options)
    wait_until(lambda: work.queue.stats().workers == 2, 20)
    work.enqueue("total", 10**12)
    pid = work.pid()
    for _ in range(3):
        program.send(signal.SIGTERM)
        wait_until(lambda: "draining" in program.said)

    assert program.end(30)[0] == 128 + signal.SIGKILL, program.said
    assert "is killed" in program.said
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)
