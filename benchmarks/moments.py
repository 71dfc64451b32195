"""When jobs started and ended, as the workers note it, and what can be told from that.

All by `time.monotonic_ns`, which on Linux is one clock for all processes of a machine: a time of the producer's may be
subtracted from one of the worker's. A worker's process has a file of its own, mapped into its memory; a note is two
stores.
"""

import mmap
import os
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from time import monotonic_ns

from attrs import frozen

from benchmarks.benchmark import percentile

PERCENTS = (0, 10, 25, 50, 75, 90, 95, 99, 99.5, 99.9, 99.99, 100)
"""What is recorded of a distribution: enough to draw it. 100 is the longest."""

_BYTES = 17
"""Of each job: when it started, when it ended (8 each), how often it ran."""


class Moments:
    """The notes of this process, on jobs numbered 0 to count - 1."""

    def __init__(self, folder: Path, count: int) -> None:
        with open(folder / str(os.getpid()), "w+b") as file:
            file.write(bytes(_BYTES * count))  # no page is missing, to be allotted when a job is about to be timed
            file.flush()
            view = memoryview(mmap.mmap(file.fileno(), _BYTES * count, flags=mmap.MAP_SHARED | mmap.MAP_POPULATE))
        self._starts, self._ends, self._ran = _columns(view, count)

    def began(self, number: int) -> None:
        """Note that a job starts now."""
        self._starts[number] = monotonic_ns()

    def ended(self, number: int) -> None:
        """Note that it ends now."""
        self._ends[number] = monotonic_ns()
        self._ran[number] += 1


@frozen
class Report:
    """What all processes noted: by number, when a job started and ended (ns, 0: not at all), and how often it ran."""

    starts: Sequence[int]
    ends: Sequence[int]
    ran: Sequence[int]

    def wrong(self, expected: Iterable[int]) -> str:
        """Return what is not as it must be, "" if the *expected* jobs ran once each, and no other."""
        wanted = set(expected)
        missing = sum(not self.ran[number] for number in wanted)
        twice = sum(count > 1 for count in self.ran)
        strange = sum(1 for number, count in enumerate(self.ran) if count and number not in wanted)
        if missing or twice or strange:
            return f"{missing:,} jobs did not run, {twice:,} ran more than once, {strange:,} were never enqueued"
        return ""


def read(folder: Path, count: int) -> Report:
    """Return what the processes that noted into *folder* say together."""
    starts, ends, ran = [0] * count, [0] * count, [0] * count
    for path in folder.iterdir():
        its_starts, its_ends, its_ran = _columns(memoryview(path.read_bytes()), count)
        for number, times in enumerate(its_ran):
            if times:
                starts[number], ends[number] = its_starts[number], its_ends[number]
                ran[number] += times
    return Report(starts, ends, ran)


def _columns(view: memoryview, count: int) -> tuple[memoryview, memoryview, memoryview]:
    return view[: 8 * count].cast("q"), view[8 * count : 16 * count].cast("q"), view[16 * count :]


# To be in time.


def sleep_until(due: int) -> None:
    """Sleep until *due* (monotonic_ns)."""
    left = due - monotonic_ns()
    if left > 0:
        time.sleep(left / 1e9)


def wake_in_time() -> None:
    """Have the kernel wake this thread, and those that it starts, without the usual delay of 50 us to save power."""
    try:
        Path("/proc/self/timerslack_ns").write_text("1")
    except OSError:
        pass  # then what it does is that much later, which counts


# Distributions.


def distribution(lengths_ns: Iterable[int]) -> dict[str, float]:
    """Return percent -> the least length, in ms, that so many do not pass (nearest rank); {} of nothing."""
    ordered = sorted(lengths_ns)
    return {f"{percent:g}": round(percentile(ordered, percent) / 1e6, 4) for percent in PERCENTS} if ordered else {}


def at(records: Iterable[Mapping[str, Mapping[str, float]]], name: str, percent: float) -> list[float]:
    """Return the percentile of the distribution *name* of each record, in ms."""
    return [record[name][f"{percent:g}"] for record in records]
