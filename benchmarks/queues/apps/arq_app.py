"""ARQ: looks for jobs every 10 ms instead of 500, and keeps no result."""

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, ClassVar

from arq import create_pool
from arq.connections import ArqRedis, RedisSettings

from benchmarks.queues.jobs import ASYNC_JOBS, IO, NO_OP

SETTINGS = RedisSettings.from_dsn(os.environ["PEERS_URL"])
LOG = {"version": 1}
"""For --custom-log-dict: warnings alone."""

pool: ArqRedis


async def no_op(context: dict[Any, Any], number: int) -> None:
    """Do nothing."""
    await ASYNC_JOBS[NO_OP](number)


async def io(context: dict[Any, Any], number: int) -> None:
    """Wait."""
    await ASYNC_JOBS[IO](number)


class Worker:
    """What `arq benchmarks.queues.apps.arq_app.Worker` serves."""

    functions: ClassVar = [no_op, io]
    redis_settings = SETTINGS
    max_jobs = int(os.environ.get("PEERS_SLOTS", "100"))
    poll_delay = 0.01
    keep_result = 0
    log_results = False


@asynccontextmanager
async def connected() -> AsyncIterator[None]:
    """Connect."""
    global pool
    pool = await create_pool(SETTINGS)
    yield
    await pool.aclose()


async def enqueue(kind: str, number: int) -> None:
    """Enqueue one."""
    await pool.enqueue_job(kind, number)
