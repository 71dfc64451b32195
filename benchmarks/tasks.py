"""The jobs of the benchmarks, and the worker's side of the measuring: `--app benchmarks.tasks:queue`.

Each measured job carries its number, 0 to COUNT-1; warm-up jobs carry -1. The worker notes the time at the start of
the first measured job and at the end of the last, and writes what lies between, and whether each number came once, to
the file REPORT: measured is the worker at work, and neither the start of the interpreter nor the producer.
"""

import json
import os
import sys
import time
from array import array
from collections.abc import Callable

import gqueue

COUNT = int(os.environ.get("GQUEUE_BENCH_COUNT", "0"))
REPORT = os.environ.get("GQUEUE_BENCH_REPORT", "")

queue = gqueue.Queue("bench", capacity=10_000_000)

runs = array("L", [0]) * COUNT
"""How often each numbered job ran."""

seen = 0
first_start = 0.0


def _begin() -> None:
    global first_start
    if not first_start:
        first_start = time.perf_counter()


def _end(number: int) -> None:
    global seen
    runs[number] += 1
    seen += 1
    if seen == COUNT:
        last_end = time.perf_counter()
        with open(REPORT, "w", encoding="utf-8") as file:
            json.dump({"seconds": last_end - first_start, "exactly_once": all(count == 1 for count in runs)}, file)


def _no_op(number: int) -> int:
    if number >= 0:
        _begin()
        _end(number)
    return number


def _io(number: int, seconds: float) -> int:
    if number >= 0:
        _begin()
    time.sleep(seconds)  # patched: yields to the other greenlets, as a socket would
    if number >= 0:
        _end(number)
    return number


def _io_10ms(number: int) -> int:
    return _io(number, 0.010)


def _io_100ms(number: int) -> int:
    return _io(number, 0.100)


JOBS: dict[str, Callable[[int], int]] = {"no-op": _no_op, "10 ms": _io_10ms, "100 ms": _io_100ms}
"""Kind of job -> what it does."""

TASKS = {
    (kind, results): queue.task(name=f"{function.__name__[1:]}.{results}", result_ttl=300 if results else 0)(function)
    for kind, function in JOBS.items()
    for results in (False, True)
}
"""(kind, whether results are kept) -> task."""


def produce(kind: str, results: bool, count: int, warm_up: int) -> None:
    """Enqueue the warm-up jobs of a run, then the measured ones."""
    task = TASKS[kind, results]
    queue.enqueue_many(task.job(-1) for _ in range(warm_up))
    queue.enqueue_many(task.job(number) for number in range(count))


if __name__ == "__main__":
    produce(sys.argv[1], sys.argv[2] == "results", int(sys.argv[3]), int(sys.argv[4]))
