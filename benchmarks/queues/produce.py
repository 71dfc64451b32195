"""A producer of the comparison, in each queue's own environment: enqueues, and writes what it took as JSON to stdout.

`python -m benchmarks.queues.produce APP fill KIND WARM_UP SINGLE BULK` enqueues so many warm-up jobs, so many one by
one, and the rest with the queue's own call for many, 1,000 a call.
`... APP paced FIRST PLAN` enqueues no-ops one by one, each when it is due, or as soon as the call before has returned:
PLAN is a file with a list of seconds from the start on.

APP is a module of `apps`: it has `enqueue(kind, number)` and, where the queue has such a call, `enqueue_many(kind,
numbers)`. Those of asyncio are coroutine functions, with `connected()` beside, an async context manager. The apps for
Node and Ruby are producers themselves, and do the same.
"""

import asyncio
import inspect
import json
import sys
import time
from collections.abc import Awaitable, Callable, Coroutine
from importlib import import_module
from pathlib import Path
from typing import Any

CHUNK = 1_000


def chunks(first: int, count: int) -> list[range]:
    """Return *count* numbers from *first* on, in pieces of `CHUNK` at most."""
    return [range(start, min(start + CHUNK, first + count)) for start in range(first, first + count, CHUNK)]


def fill(app: Any, kind: str, warm_up: int, single: int, bulk: int) -> dict[str, float]:
    """Enqueue through a plain client; return the seconds of each part, and of its processor time."""
    for _ in range(warm_up):
        app.enqueue(kind, -1)
    began, busy = time.perf_counter(), time.process_time()
    for number in range(single):
        app.enqueue(kind, number)
    took = {"single_s": time.perf_counter() - began, "single_cpu_s": time.process_time() - busy}
    if bulk:
        began = time.perf_counter()
        for numbers in chunks(single, bulk):
            app.enqueue_many(kind, numbers)
        took["bulk_s"] = time.perf_counter() - began
    return took


async def fill_async(app: Any, kind: str, warm_up: int, single: int, bulk: int) -> dict[str, float]:
    """Enqueue through a client for asyncio, likewise one call after the other."""
    for _ in range(warm_up):
        await app.enqueue(kind, -1)
    began, busy = time.perf_counter(), time.process_time()
    for number in range(single):
        await app.enqueue(kind, number)
    took = {"single_s": time.perf_counter() - began, "single_cpu_s": time.process_time() - busy}
    if bulk:
        began = time.perf_counter()
        for numbers in chunks(single, bulk):
            await app.enqueue_many(kind, numbers)
        took["bulk_s"] = time.perf_counter() - began
    return took


def paced(app: Any, first: int, plan: str) -> dict[str, Any]:
    """Enqueue as *plan* says; return when it began, and when each call was made, on the clock of the jobs."""
    due, called = json.loads(Path(plan).read_text()), []
    start = time.monotonic()
    for number, offset in enumerate(due, first):
        _sleep_until(start + offset)
        called.append(time.monotonic())
        app.enqueue("no_op", number)
    return {"start": start, "called": called}


async def paced_async(app: Any, first: int, plan: str) -> dict[str, Any]:
    """Do so through a client for asyncio. Its loop stands still meanwhile: `asyncio.sleep` is up to 1 ms late."""
    due, called = json.loads(Path(plan).read_text()), []
    start = time.monotonic()
    for number, offset in enumerate(due, first):
        _sleep_until(start + offset)
        called.append(time.monotonic())
        await app.enqueue("no_op", number)
    return {"start": start, "called": called}


def _sleep_until(moment: float) -> None:
    time.sleep(max(0.0, moment - time.monotonic()))


def main(name: str, what: str, *arguments: str) -> None:
    """Do what the command line says."""
    app = import_module(f"benchmarks.queues.apps.{name}")
    given: tuple[Any, ...]
    call: Callable[..., Any]
    call_async: Callable[..., Awaitable[Any]]
    if what == "fill":
        call, call_async, given = fill, fill_async, (arguments[0], *map(int, arguments[1:]))
    else:
        call, call_async, given = paced, paced_async, (int(arguments[0]), arguments[1])
    if inspect.iscoroutinefunction(app.enqueue):
        told = _loop()(_connected(app, call_async, given))
    else:
        told = call(app, *given)
    print(json.dumps(told))


async def _connected(app: Any, call: Callable[..., Awaitable[Any]], given: tuple[Any, ...]) -> Any:
    async with app.connected():
        return await call(app, *given)


def _loop() -> Callable[[Coroutine[Any, Any, Any]], Any]:
    """Return what runs a coroutine: uvloop where it is installed, as in the worker."""
    try:
        run: Callable[[Coroutine[Any, Any, Any]], Any] = import_module("uvloop").run
    except ImportError:
        return asyncio.run
    return run


if __name__ == "__main__":
    main(*sys.argv[1:])
