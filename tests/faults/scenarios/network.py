"""Scenarios 19 to 23: a network that is slow, loses replies, swallows everything, or cuts in the middle."""

from tests.faults.rig import Rig
from tests.faults.scenarios.scenario import scenario


@scenario(20, duplicated=0, reached=("replies lost", "reply lost settle_and_claim", "reply lost enqueue"))
def lost_replies(rig: Rig) -> None:
    """Lose the reply of 5% of all calls, after they were carried out, and cut the connection.

    No job is lost, none is enqueued or done twice: whoever misses the reply sends the same call again under the same
    number, and is answered as before.
    """
    with rig.during("replies lost", "5%"):
        rig.proxy.lose_replies(0.05)
        for _ in rig.every(rig.scaled(1.0)):
            pass
        rig.proxy.clear()
