"""RQ: `python -m benchmarks.queues.apps.rq_app Worker` (a process for each job) or SimpleWorker (none).

A script of one's own that imports the jobs first, so that not every process has to: as its documentation says under
"Performance Notes". No result is kept.
"""

import os
import sys
from collections.abc import Iterable

import redis
import rq

from benchmarks.queues.jobs import JOBS

connection = redis.Redis.from_url(os.environ["PEERS_URL"])
queue = rq.Queue("bench", connection=connection)


def enqueue(kind: str, number: int) -> None:
    """Enqueue one."""
    queue.enqueue(JOBS[kind], number, result_ttl=0)


def enqueue_many(kind: str, numbers: Iterable[int]) -> None:
    """Enqueue all."""
    queue.enqueue_many([rq.Queue.prepare_data(JOBS[kind], (number,), result_ttl=0) for number in numbers])


if __name__ == "__main__":
    getattr(rq, sys.argv[1])([queue], connection=connection).work(logging_level="WARNING")
