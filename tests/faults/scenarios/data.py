"""Scenarios 24 and 34: what Redis keeps for gqueue is forgotten, or damaged."""

from tests.faults.rig import Rig
from tests.faults.scenarios.scenario import scenario


@scenario(
    24,
    duplicated=0,
    reached=("SCRIPT FLUSH", "reply settle_and_claim: NOSCRIPT", "reply enqueue: NOSCRIPT", "NOSCRIPT of Redis"),
)
def flush_scripts(rig: Rig) -> None:
    """Have Redis forget all scripts, every 100 ms.

    No job is lost and none is done twice: a script that is not known was not carried out, and is sent itself.
    """
    with rig.redis() as client:
        for _ in rig.every(0.1):
            rig.note("SCRIPT FLUSH")
            client.script_flush()
        told = client.info("errorstats").get("errorstat_NOSCRIPT", {})
    rig.reach("NOSCRIPT of Redis", int(told.get("count", 0)))
