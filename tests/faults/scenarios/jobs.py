"""Scenarios 5 to 8 and 35: jobs that hog their worker, kill it, swallow what would end them, or fork."""

from collections import Counter

from attrs import evolve

from tests.faults.history import events
from tests.faults.rig import Rig
from tests.faults.scenarios.scenario import FULL, SHORT, TARDY_S, scenario

URGENT = -10.0
NEIGHBOURS = 6
WAYS = ("exit", "return", "raise", "outlives", "process", "command")
"""How a task forks; see the task."""


@scenario(
    5, duplicated=0, short=evolve(SHORT, jobs=300), reached=("jobs that burned for 3 leases", "app: hub stood still")
)
def cpu_job(rig: Rig) -> None:
    """Jobs compute for 3 leases in pure Python, one after another: the hub of their worker stands still.

    The heartbeat has a thread of its own, so no lease is lost, no job is done twice, and none is lost. What else the
    worker runs goes on when the hub turns again.
    """
    for number in rig.every(rig.scaled(2.0)):
        job_id = rig.put("burn", f"burn-{number}", 3 * rig.setup.lease, priority=URGENT)
        if rig.wait(lambda job_id=job_id: rig.is_over(job_id), 20 * rig.setup.lease, "the job that burns did not end"):
            rig.reach("jobs that burned for 3 leases")
    rig.never |= {"leases lost", "stats: crashed"}


@scenario(
    6,
    short=evolve(SHORT, jobs=300),
    recovers=True,
    overlapping=None,
    reached=("GIL held", "jobs taken back", "leases lost"),
)
def gil_held(rig: Rig) -> None:
    """Jobs sit in a call of C that keeps the interpreter's lock for 3 leases: not even the heartbeat runs.

    The lease lapses, as it must: nobody can tell such a process from a dead one. No job is lost; what the worker held
    runs elsewhere within lease + lease/3, and what it has to settle afterwards is refused. Until the lock is let go
    jobs may run in two places.
    """
    for number in rig.every(rig.scaled(2.0)):
        job_id = rig.put("hold_gil", f"gil-{number}", 3 * rig.setup.lease)  # as urgent as all: all recoveries count
        pid = rig.runs_on(job_id)
        if pid:
            rig.hit("GIL held", pid)
            rig.sleep(3 * rig.setup.lease + 0.5)
            rig.healed("GIL held")


@scenario(
    7,
    full=evolve(FULL, jobs=1_000, seconds=10.0, max_crashes=3, runs=20),
    short=evolve(SHORT, jobs=300, max_crashes=3),
    dead={"worker_lost": 1},
    reached=("worker ended: -9", "stats: crashed", "stats: dead", "neighbours started as suspects"),
)
def poison_job(rig: Rig) -> None:
    """One job among a thousand kills whatever worker runs it.

    It alone is dead, as `worker_lost`, after it has cost 3 workers. Its neighbours, which were lost with it twice, are
    suspects then: they run one at a time, so that none of them is buried with it, and recover as they come to it.
    """
    rig.may_die = frozenset({-9})
    rig.sleep(rig.scaled(1.0))
    neighbours = [("work", f"neighbour-{number}", 1.0) for number in range(NEIGHBOURS)]
    *_, job_id = rig.put_together([*neighbours, ("poison", "poison")], URGENT)  # so that they are lost with it, twice
    rig.wait(lambda: rig.is_over(job_id), 20 * rig.setup.lease, "the poison job was not buried")
    _look_at_suspects(rig)


def _look_at_suspects(rig: Rig) -> None:
    """See that no worker ran two jobs at a time of which each had cost all but one of the workers that it may."""
    lost: Counter[str] = Counter()
    running: dict[int, set[str]] = {}
    for event in events(rig.folder):
        here = running.setdefault(event.pid, set())
        if event.e == "start":
            here.add(event.job)
            suspects = {job for job in here if lost[job] >= rig.setup.max_crashes - 1}
            rig.reach("neighbours started as suspects", event.job in suspects and event.job != "poison")
            if event.job in suspects and len(suspects) > 1:
                rig.problems.append(f"a worker ran {len(suspects)} suspects at a time: {', '.join(sorted(suspects))}")
        elif event.e == "end":
            here.discard(event.job)
        elif event.e == "died":
            lost.update(running.pop(event.pid, ()))


@scenario(
    8,
    dead={"stuck": 12},
    duplicated=0,
    inversions=0,
    reached=("stuck jobs", "worker ended: 4", "stats: dead"),
)
def swallowed_timeout(rig: Rig) -> None:
    """Jobs swallow their time-out, and whatever else would end them.

    Each is dead, as `stuck`, its slot is written off and logged, and no other job notices. A worker that lost a quarter
    of its slots so drains, ends with 4, and a fresh one takes over; nothing is done twice.
    """
    rig.may_die = frozenset({4})
    jobs = [rig.put("swallow", f"swallow-{number}", 600.0, priority=URGENT) for number in range(12)]
    if rig.wait(lambda: all(map(rig.is_over, jobs)), 20 * rig.setup.lease, "stuck jobs were not buried"):
        rig.reach("stuck jobs", len(jobs))
    rig.wait(lambda: rig.reached["worker ended: 4"], 20, "no worker was replaced")


@scenario(35, duplicated=0, inversions=0, tardy_s=TARDY_S, reached=tuple(f"app: child {way}" for way in WAYS))
def forking_task(rig: Rig) -> None:
    """Tasks fork: the child exits, returns, raises, or outlives it; by multiprocessing and subprocess too.

    The child settles nothing and uses none of its parent's connections: no job is lost, none is done twice, and the
    worker goes on.
    """
    for number in rig.every(rig.scaled(0.2)):
        rig.put("fork", f"fork-{number}", WAYS[number % len(WAYS)])
