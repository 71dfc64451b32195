"""A producer of the comparison: enqueues one by one through a queue's own client, and records what came of each call.

`python -m tests.faults.peers.produce APP SPEC`, in the queue's own environment; APP is a module of `apps`, SPEC a
`Spec` as JSON. A call that raises leaves its job indeterminate: no other queue says whether it is in.
"""

import logging
import os
import random
import sys
import time
from importlib import import_module

import msgspec

from tests.faults.history import Recorder


class Spec(msgspec.Struct, frozen=True):
    """What a producer does: *jobs* at *pace* a second.

    Attributes:
        duration: of a job in seconds, uniform from 0.
        dies: share of jobs that kill their process once, after the effect.
        burn: seconds for which one job, the tenth part of all having gone before, keeps the processor; 0: none does.
    """

    number: int
    seed: int
    jobs: int
    pace: float
    duration: float
    dies: float = 0.0
    burn: float = 0.0


def run(app: str, spec: Spec, recorder: Recorder) -> None:
    """Enqueue all."""
    enqueue = import_module(f"tests.faults.peers.apps.{app}").enqueue
    chance = random.Random(spec.seed)
    next_at = time.monotonic()
    for number in range(spec.jobs):
        key = f"p{spec.number}-{number}"
        if spec.burn and number == spec.jobs // 10:
            task, arguments = "burn", (spec.burn,)
        else:
            task = "work"
            arguments = (round(chance.uniform(0.0, spec.duration), 3), chance.random() < spec.dies)
        recorder.attempt(key)
        try:
            recorder.ack(key, enqueue(task, key, *arguments))
        except Exception as error:  # whatever a client raises when Redis is away: the run goes on
            recorder.unknown(key, f"{type(error).__name__}: {error}"[:200])
        next_at += 1 / spec.pace
        time.sleep(max(0.0, next_at - time.monotonic()))


if __name__ == "__main__":
    logging.basicConfig(level=logging.WARNING, format="%(asctime)s %(name)s: %(message)s")
    run(sys.argv[1], msgspec.json.decode(sys.argv[2], type=Spec), Recorder(os.environ["FAULTS_FOLDER"], "producer"))
