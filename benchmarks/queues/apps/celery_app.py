"""Celery: no result is kept; PEERS_PREFETCH is the prefetch multiplier."""

import os

from celery import Celery

from benchmarks.queues.jobs import JOBS

app = Celery("bench", broker=os.environ["PEERS_URL"])
app.conf.broker_connection_retry_on_startup = True
app.conf.task_ignore_result = True
app.conf.worker_prefetch_multiplier = int(os.environ.get("PEERS_PREFETCH", "4"))

_tasks = {kind: app.task(function) for kind, function in JOBS.items()}


def enqueue(kind: str, number: int) -> None:
    """Enqueue one."""
    _tasks[kind].delay(number)
