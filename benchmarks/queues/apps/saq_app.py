"""SAQ: deletes a job when it has ended."""

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from saq import Queue

from benchmarks.queues.jobs import ASYNC_JOBS, IO, NO_OP

queue = Queue.from_url(os.environ["PEERS_URL"], name="bench")


async def no_op(context: dict[str, Any], *, number: int) -> None:
    """Do nothing."""
    await ASYNC_JOBS[NO_OP](number)


async def io(context: dict[str, Any], *, number: int) -> None:
    """Wait."""
    await ASYNC_JOBS[IO](number)


settings = {"queue": queue, "functions": [no_op, io], "concurrency": int(os.environ.get("PEERS_SLOTS", "100"))}
"""What `saq benchmarks.queues.apps.saq_app.settings` serves."""


@asynccontextmanager
async def connected() -> AsyncIterator[None]:
    """Connect."""
    await queue.connect()
    yield
    await queue.disconnect()


async def enqueue(kind: str, number: int) -> None:
    """Enqueue one."""
    await queue.enqueue(kind, number=number, ttl=-1)
