"""Typed uses of the public names that mypy --strict must accept, with the types that it must see."""

from datetime import timedelta
from typing import assert_type

import gqueue

queue = gqueue.Queue("reports", url="redis://localhost:6379/0", capacity=1_000, lease=30)
plain = gqueue.Queue("plain")


@queue.task
def add(a: int, b: int = 0) -> int:
    return a + b


@queue.task(
    name="reports.title",
    priority=-1.0,
    timeout=timedelta(minutes=1),
    max_attempts=3,
    backoff=gqueue.Backoff(base=1, cap=60),
    result_ttl=300,
)
def title(words: list[str], *, upper: bool = False) -> str:
    if not words:
        raise gqueue.Reject("no words")
    if upper and len(words) > 100:
        raise gqueue.Retry(delay=30)
    return " ".join(words)


def produce() -> None:
    assert_type(add(1, 2), int)
    assert_type(title(["a"], upper=True), str)

    job = add.enqueue(1, b=2)
    assert_type(job, gqueue.JobHandle[int])
    assert_type(job.id, str)
    assert_type(job.result(timeout=5), int)
    assert_type(job.wait(timeout=timedelta(seconds=5)), bool)
    job.cancel()
    job.status()

    later = title.options(priority=-5, delay=60, when_full="reject", job_id="title-1").enqueue(["a", "b"], upper=True)
    assert_type(later.result(), str)
    waiting = title.options(when_full="wait", wait_timeout=2.0, delay=timedelta(hours=1)).enqueue([])
    assert_type(waiting, gqueue.JobHandle[str])

    safe = title.options(durable="fsync+replicas:1", durable_timeout=0.5).enqueue([])
    assert_type(safe, gqueue.JobHandle[str])
    queue.enqueue_many([add.job(1)], durable="replicas:1", durable_timeout=timedelta(seconds=2))

    many = queue.enqueue_many(add.job(n) for n in range(1_000))
    assert_type(many[0].result(timeout=1), int)


def inspect(job_id: str) -> None:
    queue.fetch_job(job_id).result(timeout=1)
    queue.pause()
    queue.resume()
    assert_type(queue.stats().depth, int)
    for letter in queue.dead.list():
        assert_type(letter.id, str)
    queue.dead.redrive([job_id])
    queue.dead.delete([job_id])


def refused() -> None:
    try:
        add.options(when_full="shed").enqueue(1)
    except gqueue.QueueFull as error:
        assert_type(error.depth, int)
    except gqueue.DurabilityUnconfirmed as error:
        assert_type(error.job_ids, tuple[str, ...])
    except (gqueue.PayloadTooLarge, gqueue.StoreUnavailable):
        raise
    except (gqueue.JobFailed, gqueue.JobTimeout, gqueue.JobCancelled, gqueue.ResultTimeout, gqueue.UnknownTask):
        raise


@plain.task
def inside() -> None:
    job = gqueue.current_job()
    if job is None:
        return
    assert_type(job.id, str)
    assert_type(job.attempt, int)
    job.progress({"done": 1})
