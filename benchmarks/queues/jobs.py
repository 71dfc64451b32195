"""What the jobs do, the same under every queue for Python: run in a worker of each, with nothing installed but Python.

Each writes into the file PEERS_TALLY when it ran, `WIDTH` floats a job: how often it ran, the start and the end of the
last time, on the clock that all processes of a machine share. The file is mapped into memory and shared by the
processes of a worker, so that it costs less than a microsecond a job. The apps for Node and Ruby write the same.
"""

import asyncio
import mmap
import os
import time
from array import array

WIDTH = 3
IO_S = 0.05
NO_OP, IO = "no_op", "io"


def _cells() -> "memoryview[float]":
    path = os.environ.get("PEERS_TALLY")
    if not path:  # a producer's process
        return memoryview(array("d", [0.0] * WIDTH))
    with open(path, "r+b") as file:
        return memoryview(mmap.mmap(file.fileno(), 0)).cast("d")


_tally = _cells()


def no_op(number: int) -> None:
    """Do nothing; a negative number is a warm-up job."""
    if number >= 0:
        _began(number)
        _ended(number)


def io(number: int) -> None:
    """Wait, as for the reply of a socket."""
    if number >= 0:
        _began(number)
    time.sleep(IO_S)
    if number >= 0:
        _ended(number)


async def no_op_async(number: int) -> None:
    """Do nothing."""
    no_op(number)


async def io_async(number: int) -> None:
    """Wait, as for the reply of a socket."""
    if number >= 0:
        _began(number)
    await asyncio.sleep(IO_S)
    if number >= 0:
        _ended(number)


def _began(number: int) -> None:
    _tally[WIDTH * number + 1] = time.monotonic()


def _ended(number: int) -> None:
    _tally[WIDTH * number + 2] = time.monotonic()
    _tally[WIDTH * number] += 1


JOBS = {NO_OP: no_op, IO: io}
ASYNC_JOBS = {NO_OP: no_op_async, IO: io_async}
