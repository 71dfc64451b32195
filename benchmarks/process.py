"""Processes by /proc: what one takes of memory and processor time, what it started; and how much memory there is."""

import contextlib
import os
import re
import signal
from collections.abc import Iterable, Iterator
from pathlib import Path

from attrs import frozen

_TICKS = os.sysconf("SC_CLK_TCK")


@frozen
class Memory:
    """Bytes that are in memory: all (RSS), and with what is shared counted by its share (PSS)."""

    rss_bytes: int
    pss_bytes: int


def memory(pid: int) -> Memory:
    """Return what the process *pid* has in memory now; raise OSError if it has ended."""
    text = Path(f"/proc/{pid}/smaps_rollup").read_text()
    rss, pss = (re.search(rf"^{name}:\s+(\d+) kB$", text, re.MULTILINE) for name in ("Rss", "Pss"))
    if not rss or not pss:  # it waits to be reaped
        raise ProcessLookupError(f"process {pid} has ended")
    return Memory(int(rss[1]) * 1024, int(pss[1]) * 1024)


def available_bytes() -> int:
    """Return how much memory the machine can give without swapping."""
    found = re.search(r"^MemAvailable:\s+(\d+) kB$", Path("/proc/meminfo").read_text(), re.MULTILINE)
    assert found
    return int(found[1]) * 1024


def cpu_s(pid: int) -> float:
    """Return the processor time that *pid* has taken, all threads, in steps of 10 ms."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / _TICKS


def tree(pid: int) -> Iterator[int]:
    """Return *pid* and all its descendants, without those of one that ends meanwhile."""
    yield pid
    for children in Path(f"/proc/{pid}/task").glob("*/children"):
        try:
            found = children.read_text().split()
        except OSError:
            continue
        for child in found:
            yield from tree(int(child))


def kill(pids: Iterable[int]) -> None:
    """SIGKILL to all of *pids* that are there, looked up before the first is hit."""
    for pid in list(pids):
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
