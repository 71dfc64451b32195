"""Taskiq: PEERS_BROKER is the class of taskiq_redis, on a list or on a stream. No result is kept by default."""

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import taskiq_redis

from benchmarks.queues.jobs import ASYNC_JOBS

broker = getattr(taskiq_redis, os.environ["PEERS_BROKER"])(os.environ["PEERS_URL"], queue_name="bench")

_tasks = {kind: broker.task(task_name=kind)(function) for kind, function in ASYNC_JOBS.items()}


@asynccontextmanager
async def connected() -> AsyncIterator[None]:
    """Start the broker: makes the stream's group, without which a worker sees only what comes after its start."""
    await broker.startup()
    yield
    await broker.shutdown()


async def enqueue(kind: str, number: int) -> None:
    """Enqueue one."""
    await _tasks[kind].kiq(number)
