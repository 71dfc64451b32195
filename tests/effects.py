"""An app whose tasks leave a line for each effect in a file outside Redis: what tests of the promises count.

GQUEUE_TEST_EFFECTS names the file, GQUEUE_REDIS_URL the server. A line is: what, job's argument, pid, time. One write
with O_APPEND is one line, whole, whoever else writes.
"""

import os
import signal
import time
from pathlib import Path

import gqueue

queue = gqueue.Queue("promises", lease=1.5, capacity=100_000)


def note(what: str, argument: object) -> None:
    """Leave a line."""
    line = f"{what} {argument} {os.getpid()} {time.time():.6f}\n".encode()
    file = os.open(os.environ["GQUEUE_TEST_EFFECTS"], os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    try:
        os.write(file, line)
    finally:
        os.close(file)


def read(path: Path) -> list[tuple[str, str, int, float]]:
    """Return the lines that were left so far."""
    lines = path.read_text().splitlines() if path.exists() else []
    return [(what, argument, int(pid), float(at)) for what, argument, pid, at in (line.split() for line in lines)]


@queue.task(result_ttl=0)
def run(argument: int) -> None:
    """Leave a line."""
    note("ran", argument)


@queue.task(result_ttl=0, max_attempts=1)
def nap(argument: int, seconds: float) -> None:
    """Take a while."""
    note("began", argument)
    time.sleep(seconds)
    note("ended", argument)


@queue.task(max_attempts=1)
def poison(argument: int) -> None:
    """Kill the worker."""
    note("poison", argument)
    os.kill(os.getpid(), signal.SIGKILL)


@queue.task(max_attempts=1, timeout=30)
def burn(argument: int, seconds: float) -> int:
    """Keep the CPU, and the hub, busy; never yield."""
    note("began", argument)
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        pass
    note("ended", argument)
    return argument


@queue.task(max_attempts=1, timeout=0.5)
def burn_too_long(argument: int) -> None:
    """Burn beyond the limit."""
    began = time.monotonic()
    try:
        while True:
            pass
    finally:
        note(f"stopped-after-{time.monotonic() - began:.3f}", argument)


@queue.task(timeout=0.5)
def wedge(argument: int, file: str) -> None:
    """Block the hub and swallow whatever would end it, the first time; the next worker finds the file."""
    note("began", argument)
    if os.path.exists(file):
        note("ended", argument)
        return
    Path(file).touch()
    while True:
        try:
            while True:
                pass
        except BaseException:  # the fault that this is about
            pass
