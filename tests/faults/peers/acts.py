"""The scenarios of the campaign that every queue can be put through, in the form of the comparison.

They are those of tests/faults/scenarios, done from outside: without gqueue's failpoints, and with jobs and faults that
fit queues whose timeouts are `TIMEOUT_S` at best.
"""

import time
from collections.abc import Callable

from attrs import evolve, frozen

from tests.faults.peers.run import Load, Trial
from tests.faults.peers.systems import TIMEOUT_S
from tests.faults.scenarios.names import NAMES

FULL = Load()
SHORT = Load(jobs=200, seconds=8.0, scale=0.4)


@frozen
class Act:
    """What is done to a running trial; *reached* must have been met, else the run shows nothing.

    *recovers*: it takes jobs from workers, so that some must be seen to start again.
    """

    number: int
    act: Callable[[Trial], None]
    reached: str
    full: Load = FULL
    short: Load = SHORT
    recovers: bool = False

    @property
    def name(self) -> str:
        """Return NN-slug."""
        return str(NAMES[self.number])


def kill_workers(trial: Trial) -> None:
    """Kill one worker after the other, every 5 s, with all its processes, and start it anew."""
    for number in trial.every(trial.scaled(5.0)):
        trial.kill_worker(number % trial.load.workers)


def kill_after_effect(trial: Trial) -> None:
    """Some jobs kill the process that runs them, once, right after their effect."""
    while trial.loading():
        trial.sleep(0.1)


def stop_worker(trial: Trial) -> None:
    """Stop a worker for one and a half of the timeout; let it go on; the other."""
    for number in trial.every(2.0):
        with trial.stopped(number % trial.load.workers):
            trial.sleep(1.5 * TIMEOUT_S)


def cpu_job(trial: Trial) -> None:
    """One job of three timeouts burns in Python among the others."""
    trial.reached["a job burnt"] += 1
    until = time.monotonic() + trial.load.seconds / 10 + trial.load.burn
    while trial.loading() or time.monotonic() < until:
        trial.sleep(0.1)


def kill_redis(trial: Trial) -> None:
    """Kill the server, which syncs its file before it answers; start it again a second later; three times."""
    for _ in range(3):
        trial.sleep(trial.load.seconds / 4)
        with trial.during("kill -9 redis"):
            trial.server.kill()
            trial.sleep(1.0)
            trial.server.start()


def debug_sleep(trial: Trial) -> None:
    """The server answers nobody for 10 s, as long as the timeouts."""
    trial.sleep(trial.load.seconds / 3)
    trial.debug_sleep(10.0)


def lost_replies(trial: Trial) -> None:
    """Of 5% of all requests the reply is dropped, and the connection cut, after the server has carried them out."""
    with trial.during("replies lost"):
        trial.proxy.lose_replies(0.05)
        while trial.loading():
            trial.sleep(0.1)
        trial.proxy.clear()


ACTS: dict[int, Act] = {
    act.number: act
    for act in (
        Act(1, kill_workers, "kill -9 worker", recovers=True),
        Act(2, kill_after_effect, "kill -9 itself", evolve(FULL, dies=0.005), evolve(SHORT, dies=0.02), recovers=True),
        Act(4, stop_worker, "SIGSTOP worker", recovers=True),
        Act(5, cpu_job, "a job burnt", evolve(FULL, burn=3 * TIMEOUT_S), evolve(SHORT, burn=1.5 * TIMEOUT_S)),
        Act(10, kill_redis, "kill -9 redis", evolve(FULL, fsync="always"), evolve(SHORT, fsync="always")),
        Act(15, debug_sleep, "DEBUG SLEEP"),
        Act(20, lost_replies, "replies lost"),
    )
}
