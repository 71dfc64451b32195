"""A producer process of the campaign: enqueues one by one and many at once, and records what the queue promised.

`python -m tests.faults.producer SPEC`, where SPEC is a `Spec` as JSON; FAULTS_FOLDER and the rest of the environment
are those of tests.faults.app. It ends when its jobs are in, or refused; on SIGTERM after the call that is under way.
"""

import logging
import os
import random
import signal
import sys
import threading
import time
from collections.abc import Collection, Sequence
from typing import Any

import msgspec

import gqueue
from gqueue import DurabilityUnconfirmed, GqueueError, QueueFull, StoreFull, StoreUnavailable
from gqueue.task import PreparedJob
from tests.faults.app import queue, work
from tests.faults.history import Recorder


class Spec(msgspec.Struct, frozen=True):
    """What a producer does.

    Attributes:
        jobs: how many; 0: until SIGTERM.
        pace: jobs a second; 0: as fast as it can.
        duration: of a job in seconds, uniform from 0.
        priorities: one of them by chance.
        burst: so many jobs first, as fast as it can, and the rest at its pace.
        raising: share of the jobs of which the first attempt raises.
        retrying: share of those of which it asks for another.
        doomed: share of those of which both attempts raise, so that they are dead letters in the end.
        delayed: share that may not run for up to a second.
        kept: share of which the result is to be kept, for KEPT_S.
        many: largest batch; one by one and batches are mixed. 1: always one by one.
        threads: that share jobs and pace.
        wait_timeout: of each enqueue, in seconds; None: for ever.
        durable: what must have each job before its enqueue is done, as `Queue` takes it; keys begin with d then, not p.
    """

    number: int
    seed: int
    jobs: int
    pace: float
    duration: float
    priorities: tuple[float, ...]
    many: int
    threads: int
    wait_timeout: float | None
    durable: str = ""
    burst: int = 0
    raising: float = 0.0
    retrying: float = 0.0
    doomed: float = 0.0
    delayed: float = 0.0
    kept: float = 0.0


KEPT_S = 7_200.0
"""Longer than any run, an hour by which its clock is stepped included."""
DELAY_S = (0.05, 1.0)


class Producer:
    """Enqueues as one of the threads of *spec* does; `stop` ends it."""

    def __init__(self, spec: Spec, recorder: Recorder, thread: int) -> None:
        self._spec, self._recorder, self._thread = spec, recorder, thread
        self._chance = random.Random(f"{spec.seed} {thread}")
        self._stopping = False
        self._kept: set[str] = set()
        self._doomed: set[str] = set()

    def stop(self) -> None:
        """End after the call that is under way."""
        self._stopping = True

    def run(self) -> None:
        """Enqueue all."""
        spec, done, next_at = self._spec, 0, time.monotonic()
        jobs_of_mine, pace = spec.jobs // spec.threads, spec.pace / spec.threads
        while not self._stopping and (not spec.jobs or done < jobs_of_mine):
            left = jobs_of_mine - done if spec.jobs else spec.many
            count = min(left, self._chance.choice((1, 1, self._chance.randint(1, spec.many))))
            jobs = [self._prepare(number) for number in range(done, done + count)]
            alone = count == 1 and self._chance.random() < 0.5
            enqueue(queue, self._recorder, jobs, alone=alone, kept=self._kept, doomed=self._doomed)
            done += count
            if pace and done > spec.burst // spec.threads:
                next_at += count / pace
                time.sleep(max(0.0, next_at - time.monotonic()))

    def _prepare(self, number: int) -> tuple[str, PreparedJob[str]]:
        spec, chance = self._spec, self._chance
        name = f"{'d' if spec.durable else 'p'}{spec.number}"
        key = f"{name}.{self._thread}-{number}" if spec.threads > 1 else f"{name}-{number}"
        seconds = round(chance.uniform(0.0, spec.duration), 3)
        shares = (spec.raising, spec.retrying, spec.doomed, 1 - spec.raising - spec.retrying - spec.doomed)
        (fate,) = chance.choices(("raise", "retry", "fail", ""), shares)
        if fate == "fail":
            self._doomed.add(key)
        if chance.random() < spec.kept:
            self._kept.add(key)
        options = work.options(
            priority=chance.choice(spec.priorities),
            delay=round(chance.uniform(*DELAY_S), 3) if chance.random() < spec.delayed else 0,
            wait_timeout=spec.wait_timeout,
            durable=spec.durable or "off",
            result_ttl=KEPT_S if key in self._kept else None,
            **({"max_attempts": 2} if fate == "fail" else {}),
        )
        return key, options.job(key, seconds, *filter(None, (fate,)))


def enqueue(
    into: gqueue.Queue,
    recorder: Recorder,
    jobs: Sequence[tuple[str, PreparedJob[Any]]],
    *,
    alone: bool,
    kept: Collection[str] = (),
    doomed: Collection[str] = (),
) -> None:
    """Enqueue *jobs*, each (key, job), and record what became of each; *alone*: by `enqueue`, it is only one.

    *kept* has the keys of those of which the result is kept for KEPT_S, *doomed* of those that never succeed.
    """
    for key, job in jobs:
        recorder.attempt(
            key,
            job.new.priority,
            job.id,
            delay=job.new.delay_ms / 1000,
            kept=KEPT_S if key in kept else 0.0,
            doomed="failed" if key in doomed else "",
        )
    inside: Sequence[str] = ()
    maybe: Sequence[str] = ()
    why = ""
    try:
        if alone:
            inside = (into.enqueue(jobs[0][1]).id,)
        else:
            inside = tuple(handle.id for handle in into.enqueue_many(job for _, job in jobs))
    except (QueueFull, StoreFull) as full:
        inside, why = full.admitted, type(full).__name__
    except StoreUnavailable as away:
        inside, why = away.admitted, f"StoreUnavailable: {away}"
        maybe = away.job_ids if away.may_be_in else ()
    except DurabilityUnconfirmed as unsafe:  # they are in, and may be lost
        inside = [job_id for job_id in unsafe.admitted if job_id not in unsafe.job_ids]
        maybe, why = unsafe.job_ids, "DurabilityUnconfirmed"
    except GqueueError as error:
        # One call was refused, and nothing of it written; of a batch that stood in line a part may have gone in before.
        why = f"{type(error).__name__}: {error}"
        maybe = () if len(jobs) == 1 else tuple(job.id for _, job in jobs)
    for key, job in jobs:
        if job.id in inside:
            recorder.ack(key, job.id)
        elif job.id in maybe:
            recorder.unknown(key, why)
        else:
            recorder.refused(key, why)


def main(text: str) -> None:
    """Run one producer."""
    logging.basicConfig(level=logging.WARNING, format="%(asctime)s %(name)s: %(message)s")
    spec = msgspec.json.decode(text, type=Spec)
    recorder = Recorder(os.environ["FAULTS_FOLDER"], "producer")
    producers = [Producer(spec, recorder, thread) for thread in range(spec.threads)]
    signal.signal(signal.SIGTERM, lambda *_: [producer.stop() for producer in producers])
    threads = [threading.Thread(target=producer.run) for producer in producers[1:]]
    for thread in threads:
        thread.start()
    producers[0].run()
    for thread in threads:
        thread.join()
    queue.close()


if __name__ == "__main__":
    main(sys.argv[1])
