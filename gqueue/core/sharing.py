"""How the queues of one worker share its slots: strictly in order, or by weights.

Decides, of the slots that are free, how many each queue may claim jobs for. When it is asked, and what the queues do
meanwhile, is `dispatch`. A change must keep this: what is given never exceeds what is free.
"""

from enum import Enum
from typing import NamedTuple

from gqueue.core.model import MOVE_LIMIT


class Doing(Enum):
    """What a queue's pump is busy with."""

    NOTHING = "nothing"
    CALLING = "calling"
    ADOPTING = "adopting"
    REGISTERING = "registering"
    LEAVING = "leaving"
    LEFT = "left"


class QueueState(NamedTuple):  # one is made for each event of a batch: in less time than attrs' evolve takes
    """One queue, as its worker sees it.

    Args:
        weight: its share, >= 1.
        running: jobs of it on slots, or waiting for one; those of a lost lease too, until they end.
        unsettled: outcomes that were not sent yet, or whose call was not answered yet.
        asked, behind: limit of the call in flight; and of the one that was sent right behind it, None if there is none.
        requested: how many slots are kept free for their answers. A call that failed is sent again, but no longer keeps
            slots from other queues.
        empty: the last answer was that nothing is ready, or that the queue is paused.
        hinted: a hint was taken, so the next call must come at once.
        due: it is time to ask, though the last answer was empty.
        lost: the lease is; nothing may be sent before the next registration.
        credit: how many jobs it may claim before the others to be even with them; of all queues together, 0.
        charged: turns that the call in flight was charged for; a queue that was the only one is not.
    """

    weight: int = 1
    doing: Doing = Doing.NOTHING
    running: int = 0
    unsettled: int = 0
    asked: int = 0
    behind: int | None = None
    requested: int = 0
    empty: bool = False
    hinted: bool = False
    due: bool = False
    listening: bool = False
    failing: bool = False
    adopt: bool = False
    lost: bool = False
    credit: float = 0.0
    charged: int = 0

    @property
    def wants(self) -> bool:
        """Return whether there is, or may be, something to claim; the answer to a call in flight may tell otherwise."""
        return (
            (not self.empty or self.hinted or self.due) and not self.failing and not self.lost and self.doing in _OPEN
        )


_OPEN = (Doing.NOTHING, Doing.CALLING, Doing.ADOPTING)


def shares(queues: list[QueueState], limit: int, *, strict: bool) -> list[int]:
    """Return how many jobs each queue is to claim now; 0 for one whose pump is busy.

    Slots kept for a call in flight count as taken: the slots are never overcommitted. Strict: what is free goes to the
    first queue that may have something, and to none behind it before its answer is there. If no queue has anything,
    the free slots ride along with the first settlements to be sent.
    """
    given = [0] * len(queues)
    free = limit
    for queue in queues:
        free -= queue.running + queue.requested
    wanting = [number for number, queue in enumerate(queues) if queue.wants]
    if wanting and not strict:
        _level(queues, wanting)
    if free <= 0:
        return given
    free = min(free, MOVE_LIMIT)
    if not wanting:
        wanting = [number for number, queue in enumerate(queues) if queue.unsettled and queue.doing is Doing.NOTHING]
    if wanting and (strict or len(wanting) == 1):
        given[wanting[0]] = free
    elif wanting:
        given = _by_weight(queues, wanting, free)
        _charge(queues, wanting, given)
    return [share if queue.doing is Doing.NOTHING else 0 for queue, share in zip(queues, given, strict=True)]


def refund(queues: list[QueueState], number: int, unused: int) -> None:
    """Undo *unused* turns of a queue that was given more than there was to claim."""
    wanting = [each for each, queue in enumerate(queues) if queue.wants or each == number]
    _pay(queues, wanting, -unused)
    queues[number] = queues[number]._replace(credit=queues[number].credit + unused)


def _by_weight(queues: list[QueueState], wanting: list[int], free: int) -> list[int]:
    """Share *free* slots among the *wanting* queues: smooth weighted round-robin.

    Each turn pays every queue its part of one slot, and is taken by the queue with the most credit, the first of
    equals. If no credit is as large as a turn, then after as many turns as the weights add up to all are as before.
    Source: nginx, ngx_http_upstream_round_robin, since 1.3.1.
    """
    weights = {number: queues[number].weight for number in wanting}
    total = sum(weights.values())
    credit = {number: queues[number].credit for number in wanting}
    even = all(abs(turns) < 1 for turns in credit.values())
    whole, rest = divmod(free, total) if even else (0, free)
    given = [whole * weights.get(number, 0) for number in range(len(queues))]
    for _ in range(rest):
        for number, weight in weights.items():
            credit[number] += weight / total
        number = max(credit, key=credit.__getitem__)
        credit[number] -= 1
        given[number] += 1
    return given


def _charge(queues: list[QueueState], wanting: list[int], given: list[int]) -> None:
    """Book the turns that are taken now; what a queue would get whose call is in flight stays free."""
    taken = 0
    for number in wanting:
        if queues[number].doing is Doing.NOTHING:
            taken += given[number]
            credit = queues[number].credit - given[number]
            queues[number] = queues[number]._replace(credit=credit, charged=given[number])
    _pay(queues, wanting, taken)


def _level(queues: list[QueueState], wanting: list[int]) -> None:
    """Share the credit of queues that have nothing now: none saves up turns meanwhile, or keeps owing any."""
    left = 0.0
    for number, queue in enumerate(queues):
        if queue.credit and not queue.wants:
            left += queue.credit
            queues[number] = queue._replace(credit=0.0)
    _pay(queues, wanting, left)


def _pay(queues: list[QueueState], wanting: list[int], turns: float) -> None:
    total = sum(queues[number].weight for number in wanting)
    for number in wanting if turns else ():
        queue = queues[number]
        queues[number] = queue._replace(credit=queue.credit + turns * queue.weight / total)
