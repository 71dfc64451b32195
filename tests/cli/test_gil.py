"""A task that holds the interpreter's lock, so that no Python of its process runs: it is ended all the same."""

import os
import signal
from pathlib import Path
from typing import Any

import pytest

from gqueue.queue import Queue
from tests.cli.conftest import Start
from tests.conftest import wait_until
from tests.servers import Server

pytestmark = pytest.mark.blackbox

APP = """
import ctypes, os
import gqueue

queue = gqueue.Queue("work", lease=1.5, max_crashes=1)

@queue.task(timeout=1, max_attempts=1)
def total(file: str, n: int) -> int:
    with open(file, "w") as opened:
        opened.write(str(os.getpid()))
    return sum(range(n))

@queue.task(timeout=20, max_attempts=1)
def sleeps(file: str, seconds: int) -> int:
    with open(file, "w") as opened:
        opened.write(str(os.getpid()))
    return ctypes.PyDLL(None).sleep(seconds)
"""


class Work:
    """The queue of the app, and the process that runs the task."""

    def __init__(self, url: str, folder: Path) -> None:
        (folder / "work.py").write_text(APP)
        self.queue = Queue("work", url, max_crashes=1)
        self.file = folder / "pid"

    def enqueue(self, task: str, number: int) -> Any:
        return self.queue.task(name=task)(lambda *_: None).enqueue(str(self.file), number)

    def pid(self) -> int:
        """Return the process that is in the task."""
        wait_until(lambda: self.file.exists() and self.file.read_text(), 20)
        return int(self.file.read_text())


@pytest.fixture
def work(own_server: Server, tmp_path: Path):
    made = Work(own_server.url, tmp_path)
    yield made
    made.queue.close()


def test_task_that_holds_the_lock_beyond_its_limit_ends_its_process_and_a_fresh_one_takes_over(
    start: Start, work: Work, own_server: Server, tmp_path: Path
) -> None:
    (tmp_path / "work.py").write_text(APP.split("@queue.task(timeout=20")[0])
    options = ("--workers", "1", "--stuck-after", "0.5", "--redis", own_server.url)
    program = start("--app", "work:queue", "--processes", "2", *options)
    wait_until(lambda: work.queue.stats().workers == 2, 20)
    job = work.enqueue("total", 10**12)
    work.pid()
    program.await_line("it is started again", 30)

    assert "(exit 1)" in program.said
    assert "Timeout (0:00:11" in program.said
    assert "in total" in program.said
    wait_until(lambda: job.status() == "dead", 20)
    assert [letter.reason for letter in work.queue.dead.list()] == ["worker_lost"]
    program.await_line(f"job {job.id} is a dead letter (worker_lost)")
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
