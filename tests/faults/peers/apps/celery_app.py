"""Celery: PEERS_ACKS_LATE=1 acknowledges a task when it has ended, as its documentation recommends against loss."""

import os

from celery import Celery

from tests.faults.peers import tasks

app = Celery("faults", broker=os.environ["PEERS_URL"])
app.conf.broker_transport_options = {"visibility_timeout": float(os.environ["PEERS_TIMEOUT"])}
app.conf.broker_connection_retry_on_startup = True
app.conf.task_ignore_result = True
if os.environ.get("PEERS_ACKS_LATE"):
    app.conf.task_acks_late = True
    app.conf.task_reject_on_worker_lost = True
    app.conf.worker_prefetch_multiplier = 1

_tasks = {function.__name__: app.task(function) for function in (tasks.work, tasks.burn)}


def enqueue(task: str, key: str, *arguments: object) -> str:
    """Enqueue, and return the task's id."""
    return str(_tasks[task].delay(key, *arguments).id)
