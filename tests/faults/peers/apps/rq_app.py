"""RQ: a job's id is its key; PEERS_RETRY is how often one that failed, its worker's death included, is tried again."""

import os

import redis
import rq

from tests.faults.peers import tasks

_queue = rq.Queue("default", connection=redis.Redis.from_url(os.environ["PEERS_URL"]))
_retries = int(os.environ.get("PEERS_RETRY", "0"))


def enqueue(task: str, key: str, *arguments: object) -> str:
    """Enqueue, and return the job's id."""
    retry = rq.Retry(max=_retries) if _retries else None
    return str(_queue.enqueue(getattr(tasks, task), key, *arguments, job_id=key, retry=retry).id)
