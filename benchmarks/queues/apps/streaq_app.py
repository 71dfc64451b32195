"""streaQ: on uvloop, without a log line a task, and no result is kept."""

import os
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager

from streaq import Worker

from benchmarks.queues.jobs import ASYNC_JOBS

worker = Worker(
    redis_url=os.environ["PEERS_URL"],
    concurrency=int(os.environ.get("PEERS_SLOTS", "100")),
    queue_name="bench",
    anyio_kwargs={"use_uvloop": True},
)
"""What `streaq run benchmarks.queues.apps.streaq_app:worker` runs."""

_tasks = {kind: worker.task(name=kind, silent=True, ttl=0)(function) for kind, function in ASYNC_JOBS.items()}


@asynccontextmanager
async def connected() -> AsyncIterator[None]:
    """Connect."""
    async with worker:
        yield


async def enqueue(kind: str, number: int) -> None:
    """Enqueue one."""
    await _tasks[kind].enqueue(number)


async def enqueue_many(kind: str, numbers: Iterable[int]) -> None:
    """Enqueue all."""
    await worker.enqueue_many([_tasks[kind].enqueue(number) for number in numbers])
