"""Scenario 25: the master of a Redis that Sentinel watches dies, or is replaced by command."""

from attrs import evolve

from tests.faults.rig import Rig
from tests.faults.scenarios.scenario import FULL, SHORT, scenario

CUT_S = 0.3
"""How long the replica had been cut off when its master died: what is acknowledged meanwhile is nowhere else."""

HEARD_S = 1.0 + 0.25 + 1.0
"""How long after a promotion the old master may still be used: gqueue promises to ask once a second, and waits for the
answer for 0.25 s; the rest is for a busy machine. Not taken from gqueue, so that one that asks less often fails."""

REPLICATED = "d"
"""What the keys of jobs begin with that were acknowledged when the replica had them."""


@scenario(
    25,
    full=evolve(
        FULL,
        jobs=10_800,
        seconds=90.0,
        slots=7,
        duration=0.2,
        sentinels=True,
        durable="replicas:1",
        durable_producers=2,
        drain=90.0,
    ),
    short=evolve(
        SHORT,
        jobs=800,
        seconds=16.0,
        slots=3,
        duration=0.2,
        sentinels=True,
        durable="replicas:1",
        durable_producers=2,
        drain=40.0,
    ),
    lost=None,
    missing=None,
    lost_within_s=2.0,
    lost_after_s=HEARD_S,
    never_lost=REPLICATED,
    doubled_by=("kill -9 master", "failover"),
    overlapping=None,
    reached=("kill -9 master", "links to the replica cut", "failover"),
)
def fail_over(rig: Rig) -> None:
    """Cut the replica off, kill the master; then have a sentinel replace the new master too. Again and again.

    Of what half of the producers had acknowledged, so much is lost as was not replicated: it is measured, and must have
    been acknowledged at most 2 s before the fault, before another master was promoted, or within 2.25 s of that: one
    that was replaced by command answers for some 10 s more, until the sentinels demote it, but is left as soon as a
    sentinel was asked. Nothing is lost of what the others enqueued with durable="replicas:1". What was done and not
    replicated is done twice, and may be under way in two places.
    """
    for _ in rig.every(rig.scaled(2.0)):
        rig.kill_master(CUT_S)
        rig.sleep(rig.scaled(2.0))
        rig.fail_over()
        if rig.short:
            break
