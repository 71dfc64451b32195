"""Producers that make jobs and enqueue them, whatever that takes: threads or greenlets, in processes of their own.

Each takes its time to make a job, or a batch of them, and then enqueues what it made; nobody sends it on while that
takes. All processes begin and end together.
"""

import json
import sys
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from time import monotonic_ns

from attrs import asdict, astuple, frozen

import gqueue
from benchmarks.child import Child, ready
from benchmarks.moments import sleep_until
from benchmarks.server import Server
from benchmarks.timed import register

AHEAD_NS = 200_000_000
"""From when all are ready to the start."""


@frozen
class Plan:
    """What one process of producers does.

    Attributes:
        numbers: of its producers; the n-th job of producer p is p + n * *producers*, of all processes.
        most: jobs of each.
        gap_s: what *batch* jobs take to make; more than one go in an `enqueue_many`.
        job_s: what a job takes to run.
        capacity: what they bring as the queue's.
    """

    numbers: list[int]
    producers: int
    most: int
    gap_s: float
    batch: int
    job_s: float
    capacity: int


@frozen
class Call:
    """One enqueue: by which producer, from when to when (ns), of how many jobs."""

    producer: int
    began: int
    ended: int
    jobs: int


def run(
    server: Server, plans: Sequence[Plan], seconds: float, meanwhile: Callable[[], None], *, patched: bool
) -> tuple[list[Call], int, int]:
    """Carry out *plans*, each in a process of its own, for so long; call *meanwhile* again and again.

    *patched*: by gevent. Returns the calls, and start and end (monotonic_ns).
    """
    with ExitStack() as stack:
        children = [
            stack.enter_context(Child("benchmarks.producers", asdict(plan), server, patched=patched)) for plan in plans
        ]
        for child in children:
            child.await_ready()
        start = monotonic_ns() + AHEAD_NS
        end = start + int(seconds * 1e9)
        for child in children:
            child.tell(f"{start} {end}")
        while monotonic_ns() < end:
            meanwhile()
        return [Call(*call) for child in children for call in child.result()], start, end


# What follows runs in a process of its own.


def produce(plan: Plan) -> list[Call]:
    """Get ready, then enqueue jobs from start to end, which are told; return the calls."""
    queue = gqueue.Queue("bench", capacity=plan.capacity)
    tasks = register(queue)
    calls: list[Call] = []

    def warm_up(_: int) -> None:
        tasks.no_op.enqueue(-1)

    def work(producer: int) -> None:
        numbers = range(producer, plan.most * plan.producers, plan.producers)
        for first in range(0, plan.most, plan.batch):
            time.sleep(plan.gap_s)
            made = [tasks.job(number, plan.job_s) for number in numbers[first : first + plan.batch]]
            if (began := monotonic_ns()) >= end:
                break
            if plan.batch > 1:
                queue.enqueue_many(made)
            else:
                queue.enqueue(made[0])
            calls.append(Call(producer, began, monotonic_ns(), len(made)))

    with ThreadPoolExecutor(len(plan.numbers)) as pool:
        list(pool.map(warm_up, plan.numbers))
        start, end = map(int, ready().split())
        sleep_until(start)
        list(pool.map(work, plan.numbers))
    queue.close()
    return calls


if __name__ == "__main__":
    print(json.dumps([astuple(call) for call in produce(Plan(**json.loads(sys.argv[1])))]))
