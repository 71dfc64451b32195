"""Scenarios 1 to 4 and 9: workers that are killed, stopped, or asked to end."""

from attrs import evolve

from tests.faults.history import events
from tests.faults.rig import Rig
from tests.faults.scenarios.scenario import BACKLOG_FULL, BACKLOG_SHORT, FULL, SHORT, scenario


@scenario(
    1,
    # Of one priority, and behind a backlog: who had lost its place would be late.
    full=evolve(BACKLOG_FULL, priorities=(0.0,), duration=0.3),
    short=evolve(BACKLOG_SHORT, priorities=(0.0,)),
    recovers=True,
    inversions=0,
    reached=("kill -9 worker", "stats: crashed"),
)
def kill_workers(rig: Rig) -> None:
    """Kill one worker after another, every 2 s, and start it anew: the next when that one is up, as somebody has to be.

    No job is lost. What ran when its worker was killed runs again, place kept, within lease + lease/3, and may be done
    twice: killed after its effect, before it was settled. The others are not touched.
    """
    for number in rig.every(rig.scaled(2.0)):
        for worker in rig.workers:
            rig.wait(worker.is_up, 20, f"worker {worker.number} was not up")
        rig.kill_worker(number % rig.setup.workers)


@scenario(
    2,
    full=evolve(FULL, priorities=(0.0,), failpoints="settle=kill@100"),
    short=evolve(SHORT, priorities=(0.0,), failpoints="settle=kill@15"),
    recovers=True,
    inversions=0,
    reached=("failpoint settle=kill", "stats: crashed"),
)
def kill_after_effect(rig: Rig) -> None:
    """Workers kill themselves when jobs have ended, before the call that settles them is sent.

    No job is lost. Those jobs had their effect and have it again: exactly what at least once means. They and all others
    of the worker start again within lease + lease/3.
    """
    for _ in rig.every(rig.scaled(1.0)):
        pass


@scenario(
    3,
    full=evolve(FULL, priorities=(0.0,), failpoints="claimed=kill@100"),
    short=evolve(SHORT, priorities=(0.0,), failpoints="claimed=kill@15"),
    recovers=True,
    inversions=0,
    reached=("failpoint claimed=kill", "stats: crashed"),
)
def kill_after_claim(rig: Rig) -> None:
    """Workers kill themselves when the reply to a claim is there, before any of its jobs is started.

    No job is lost: Redis knows who holds them. They start within lease + lease/3. What they claimed had no effect
    yet, so only what ran beside it can be done twice.
    """
    for _ in rig.every(rig.scaled(1.0)):
        pass


@scenario(
    4,
    # The worker stops in the pause before a settlement, so that one is sent when it goes on: else the heartbeat may be
    # faster to find out that the lease is lost, and what is to be settled is dropped without asking.
    full=evolve(FULL, duration=6.0, jobs=300, raising=0.0, failpoints="settle=sleep:0.3", failing=2, runs=20),
    # Of few jobs more raise than elsewhere: of those of a stopped worker it may not be recorded.
    short=evolve(SHORT, duration=5.0, jobs=32, seconds=5.0, raising=0.3, failpoints="settle=sleep:0.3", failing=2),
    recovers=True,
    overlapping=None,
    reached=("workers seen standing still", "stale settlements refused", "attempts interrupted", "stats: crashed"),
)
def stop_worker(rig: Rig) -> None:
    """Stop a worker for longer than its lease allows; let it go on when its jobs have been taken back; the next.

    No job is lost. The other worker runs its jobs within lease + lease/3. When it goes on, what it has to settle is
    refused and recorded nowhere, its running jobs are interrupted, and it registers anew. Until then a job may run in
    two places: that is what a lease cannot prevent, and it is counted.
    """
    for number in rig.every(rig.setup.lease):
        worker = number % rig.setup.workers
        taken_back = rig.log_has("of worker")
        rig.wait_failpoint(worker, "settle=sleep")
        rig.stop_worker(worker)
        rig.sleep(rig.setup.lease * 4 / 3 + 0.3)
        rig.wait(lambda before=taken_back: rig.log_has("of worker") > before, 5, "nobody took the jobs back")
        rig.cont_worker(worker)


@scenario(
    9,
    full=BACKLOG_FULL,
    short=BACKLOG_SHORT,
    recovers=True,
    within=lambda setup: setup.grace,
    duplicated=0,
    inversions=0,
    reached=("SIGTERM worker", "second signals heard", "stats: given_back", "attempts interrupted"),
)
def sigterm(rig: Rig) -> None:
    """Ask one worker after another to end, with jobs shorter and longer than the grace; every second one twice.

    It ends with 0. What is short is finished and settled; what is longer than the grace, and everything at the second
    signal, is interrupted and given back, with its place and no attempt used. Nothing is lost or done twice.
    """
    hurried: set[int] = set()
    for number in rig.every(rig.scaled(1.0)):
        worker = number % rig.setup.workers
        rig.put("work", f"long-{number}", 3 * rig.setup.grace, priority=-10.0)
        rig.wait(rig.workers[worker].is_up, 20, f"worker {worker} was not up")
        rig.sleep(rig.scaled(1.0))
        rig.term_worker(worker)
        if number % 2:
            rig.sleep(0.1)
            rig.term_worker(worker, "second SIGTERM")
            hurried.add(rig.workers[worker].pid)
        code = rig.wait_worker(worker, rig.setup.grace * 3 / 4 if number % 2 else rig.setup.grace + 15)
        if code is None:
            rig.kill_worker(worker, again=False)
        elif code:
            rig.problems.append(f"worker {worker} ended with {code}, not 0")
        rig.start_worker(worker)
    _look_at_what_was_given_back(rig, hurried)


def _look_at_what_was_given_back(rig: Rig, hurried: set[int]) -> None:
    """See that no attempt was used, and that only what is long was interrupted, but for the processes *hurried*."""
    given: dict[str, int] = {}
    for event in events(rig.folder):
        if event.e == "start" and given.pop(event.job, event.attempt) != event.attempt:
            rig.problems.append(f"{event.job} was given back, and its next attempt is number {event.attempt}")
        elif event.e == "end" and event.how == "interrupted":
            given[event.job] = event.attempt
            if event.pid not in hurried and not event.job.startswith("long-"):
                rig.problems.append(f"{event.job} was interrupted, although it is shorter than the grace")
