"""The jobs of the benchmarks: `--app benchmarks.tasks:queue`, and `python -m benchmarks.tasks JSON`, the producer.

Each measured job carries its number, 0 to GQUEUE_BENCH_COUNT - 1, and is noted by the worker (notes.py), in a file of
the folder GQUEUE_BENCH_NOTES; warm-up jobs carry -1 and are not noted.
"""

import json
import os
import sys
import time
from collections.abc import Callable, Iterable
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import gqueue
from benchmarks.notes import Notes

if TYPE_CHECKING:
    from gqueue.task import PreparedJob, Task

queue = gqueue.Queue("bench", capacity=10_000_000)

_folder = os.environ.get("GQUEUE_BENCH_NOTES")
notes = Notes(Path(_folder), int(os.environ["GQUEUE_BENCH_COUNT"])) if _folder else None


def _no_op(number: int, payload: str = "") -> int:
    if notes and number >= 0:
        notes.began()
        notes.ended(number)
    return number


def _io(number: int, seconds: float) -> int:
    if notes and number >= 0:
        notes.began()
    time.sleep(seconds)  # patched: yields to the other greenlets, as a socket would
    if notes and number >= 0:
        notes.ended(number)
    return number


def _io_10ms(number: int, payload: str = "") -> int:
    return _io(number, 0.010)


def _io_100ms(number: int, payload: str = "") -> int:
    return _io(number, 0.100)


def _io_3s(number: int, payload: str = "") -> int:
    return _io(number, 3.0)


JOBS: dict[str, Callable[[int, str], int]] = {"no-op": _no_op, "10 ms": _io_10ms, "100 ms": _io_100ms, "3 s": _io_3s}
"""Kind of job -> what it does."""

TASKS: "dict[tuple[str, bool], Task[..., Any]]" = {
    (kind, results): queue.task(name=f"{function.__name__[1:]}.{results}", result_ttl=300 if results else 0)(function)
    for kind, function in JOBS.items()
    for results in (False, True)
}
"""(kind, whether results are kept) -> task."""


@queue.task(name="no_op", result_ttl=0)
def _nothing() -> None:
    """Do nothing, without arguments: to be weighed."""


TASKS["nothing", False] = _nothing


def produce(kind: str, results: bool, count: int, warm_up: int, payload: int = 0) -> None:
    """Enqueue the warm-up jobs of a run, then the measured ones; each with *payload* bytes beside its number."""
    task = TASKS[kind, results]
    more = ["x" * payload] if payload else []
    unnoted = [] if task is _nothing else [-1, *more]
    enqueue_all(queue, (task.job(*unnoted) for _ in range(warm_up)))
    enqueue_all(queue, (task.job(number, *more) for number in range(count)))


def enqueue_all(queue: gqueue.Queue, jobs: "Iterable[PreparedJob[Any]]") -> None:
    """Enqueue *jobs* in bulk and keep nothing of them: millions of handles have their weight."""
    jobs = iter(jobs)
    while queue.enqueue_many(islice(jobs, 100_000)):
        pass


if __name__ == "__main__":
    produce(**json.loads(sys.argv[1]))
