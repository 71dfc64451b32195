"""What workers note of the jobs that they run, and what the notes of all of them say when read together.

A worker's process has a file of its own, mapped into its memory: a byte for each numbered job, which counts how often
it ran, and a few times. So a note is a store into memory, nothing is lost with a process, and two processes that run
the same job cannot hide that from each other.
"""

import mmap
import os
import re
import time
from pathlib import Path

from attrs import frozen

_FIRST_START, _LAST_END, _CPU_FIRST, _CPU_LAST, _CPU_JOBS = range(5)
_HEAD_BYTES = 64
_CPU_EVERY = 1_000
"""Jobs from one look at the processor time to the next: that takes a system call."""


class Notes:
    """The notes of this process, on jobs numbered 0 to count - 1."""

    def __init__(self, folder: Path, count: int) -> None:
        size = _HEAD_BYTES + count
        with open(folder / str(os.getpid()), "w+b") as file:
            file.truncate(size)
            self._view = memoryview(mmap.mmap(file.fileno(), size))
        self._times, self._ran = self._view[:_HEAD_BYTES].cast("d"), self._view[_HEAD_BYTES:]
        self._count = 0

    def began(self) -> None:
        """Note that a job starts."""
        if not self._times[_FIRST_START]:
            self._times[_FIRST_START] = time.perf_counter()
            self._times[_CPU_FIRST] = time.process_time()

    def ended(self, number: int) -> None:
        """Note that the job *number* ends."""
        self._ran[number] += 1
        self._times[_LAST_END] = time.perf_counter()
        self._count += 1
        if not self._count % _CPU_EVERY:
            self._times[_CPU_LAST], self._times[_CPU_JOBS] = time.process_time(), self._count


@frozen
class Report:
    """What the notes of all processes say.

    Attributes:
        ran: how often each job ran, by its number.
        seconds: from the start of the first job to the end of the last.
        cpu_us: processor time a job, in microseconds; None if there were too few to tell.
        began: when the first job started, by `time.perf_counter`, which on Linux is one clock for all processes.
    """

    ran: tuple[int, ...] | bytes
    seconds: float
    cpu_us: float | None
    began: float = 0.0

    @property
    def wrong(self) -> str:
        """Return what is not as it must be, "" if each job ran exactly once."""
        missing, twice = self.ran.count(0), sum(count > 1 for count in self.ran)
        return f"{missing:,} jobs did not run, {twice:,} ran more than once" if missing or twice else ""


def read(folder: Path, count: int) -> Report:
    """Return what the processes that noted into *folder* say together."""
    firsts, lasts, cpu_s, cpu_jobs = [], [], 0.0, 0
    ran: tuple[int, ...] | bytes = bytes(count)
    for number, path in enumerate(sorted(folder.iterdir())):
        content = path.read_bytes()
        times, own = memoryview(content)[:_HEAD_BYTES].cast("d"), content[_HEAD_BYTES:]
        ran = tuple(map(int.__add__, ran, own)) if number else own
        if times[_FIRST_START]:
            firsts.append(times[_FIRST_START])
            lasts.append(times[_LAST_END])
        if times[_CPU_JOBS]:
            cpu_s += times[_CPU_LAST] - times[_CPU_FIRST]
            cpu_jobs += int(times[_CPU_JOBS])
    seconds = max(lasts) - min(firsts) if lasts else 0.0
    return Report(ran, seconds, cpu_s / cpu_jobs * 1e6 if cpu_jobs else None, min(firsts, default=0.0))


def mapped_bytes(folder: Path, pid: int) -> int:
    """Return how much of its own notes the process *pid* has in memory: they are part of its RSS."""
    file, maps = re.escape(str((folder / str(pid)).resolve())), Path(f"/proc/{pid}/smaps").read_text()
    return 1024 * sum(map(int, re.findall(rf" {file}\n(?:.+\n)*?Rss: +(\d+) kB\n", maps)))
