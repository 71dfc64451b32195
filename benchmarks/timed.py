"""Jobs that are timed one by one: the app that a worker runs, `--app benchmarks.timed:queue`, and a run of it, checked.

Each job has a number, and the worker notes by it when it started and ended (moments.py), in the folder
GQUEUE_BENCH_MOMENTS; those numbered -1 are for warming up, and not noted.
"""

import os
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from types import TracebackType

from attrs import frozen

import gqueue
from benchmarks.benchmark import BenchmarkError
from benchmarks.moments import Moments, Report, read
from benchmarks.server import Server
from gqueue.task import PreparedJob, Task

APP = "benchmarks.timed:queue"

UNBOUNDED = 10_000_000
"""A capacity that no benchmark reaches."""

_folder = os.environ.get("GQUEUE_BENCH_MOMENTS")
_moments = Moments(Path(_folder), int(os.environ["GQUEUE_BENCH_COUNT"])) if _folder else None


def _no_op(number: int) -> None:
    if _moments and number >= 0:
        _moments.began(number)
        _moments.ended(number)


def _wait(number: int, seconds: float) -> None:
    if _moments and number >= 0:
        _moments.began(number)
    time.sleep(seconds)  # patched: yields to the other greenlets, as a socket would
    if _moments and number >= 0:
        _moments.ended(number)


@frozen
class Tasks:
    """The tasks, of one queue."""

    no_op: Task[[int], None]
    wait: Task[[int, float], None]

    def job(self, number: int, seconds: float) -> PreparedJob[None]:
        """Return a job that takes so long, not to be noted if *number* is -1; 0: a no-op."""
        return self.wait.job(number, seconds) if seconds else self.no_op.job(number)


def register(queue: gqueue.Queue) -> Tasks:
    """Register the tasks with *queue*: the worker's, or that of a producer."""
    no_op, wait = queue.task(name="no_op", result_ttl=0)(_no_op), queue.task(name="wait", result_ttl=0)(_wait)
    return Tasks(no_op, wait)


queue = gqueue.Queue("bench", capacity=UNBOUNDED)
tasks = register(queue)


class Run:
    """A run of at most *count* jobs on *server*, seen from the measuring process; a context manager.

    Attributes:
        environ: what the worker is to find.
        queue: with its `tasks`; *capacity* is that of all producers.
    """

    def __init__(self, server: Server, count: int, capacity: int = UNBOUNDED) -> None:
        self._server, self._count = server, count
        self.queue = gqueue.Queue("bench", url=server.url, capacity=capacity)
        self.tasks = register(self.queue)

    def __enter__(self) -> "Run":
        self._folder = TemporaryDirectory()
        self.environ: Mapping[str, str] = {
            "GQUEUE_BENCH_MOMENTS": self._folder.name,
            "GQUEUE_BENCH_COUNT": str(self._count),
        }
        return self

    def __exit__(
        self, _: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.queue.close()
        self._folder.cleanup()

    def await_all(self, seconds: float = 120.0) -> None:
        """Wait until no job waits or runs."""
        deadline = time.monotonic() + seconds
        while (stats := self.queue.stats()).depth + stats.running:
            if time.monotonic() > deadline:
                raise BenchmarkError(f"not done after {seconds:g} s: {stats}")
            time.sleep(0.02)

    def report(self, expected: Iterable[int]) -> Report:
        """Return what was noted, once the worker has ended.

        Raises BenchmarkError if the *expected* jobs did not run once each and no others, or something is left.
        """
        report, stats, left = read(Path(self._folder.name), self._count), self.queue.stats(), self._server.keys_left()
        wrong = report.wrong(expected)
        if wrong or left or stats.depth + stats.running + stats.dead:
            raise BenchmarkError(f"{wrong or 'each job ran once'}; left behind: {stats}, keys {left[:5]}")
        return report
