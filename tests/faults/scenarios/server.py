"""Scenarios 10 to 18, 24 to 29, 31 to 33: a Redis that is killed, slow, empty, full, refusing, or set up wrongly."""

import redis

from tests.faults.rig import Rig
from tests.faults.scenarios.scenario import scenario


@scenario(17, duplicated=0, reached=("CLIENT KILL", "connections killed"))
def client_kill(rig: Rig) -> None:
    """Cut all connections at the server, every 200 ms, under load.

    No job is lost and none is done twice: a call whose reply was lost is sent again, under its number, and applied
    once. No lease is lost: a beat passes between two cuts.
    """
    for _ in rig.every(0.2):
        with rig.redis() as client:
            rig.note("CLIENT KILL")
            try:
                rig.reach("connections killed", client.client_kill_filter(_type="normal", skipme=True))
            except redis.ConnectionError:
                pass
