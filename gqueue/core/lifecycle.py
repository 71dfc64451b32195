"""The table of a job's life: which move leads from which state to which. Every move is in it, and nowhere else.

`scheduling` asks it before it moves a job, handles ask it what is final, and the picture in the README is drawn from
it. A suspect counts as ready. A new move is a new row here, in `scheduling`, and in the Lua that repeats it.
"""

from collections.abc import Mapping
from enum import Enum

from gqueue.core.model import State
from gqueue.errors import IllegalMove


class Move(Enum):
    """What may happen to a job."""

    ENQUEUE = "enqueue"
    SCHEDULE = "schedule"
    PROMOTE = "promote"
    CLAIM = "claim"
    SUCCEED = "succeed"
    RETRY = "retry"
    BURY = "bury"
    CANCEL = "cancel"
    GIVE_BACK = "give back"
    REAP = "reap"
    SHED = "shed"
    REDRIVE = "redrive"
    PURGE = "purge"
    FORGET = "forget"


S, M = State, Move

TABLE: Mapping[tuple[State, Move], State] = {
    (S.UNKNOWN, M.ENQUEUE): S.READY,
    (S.UNKNOWN, M.SCHEDULE): S.SCHEDULED,
    (S.SCHEDULED, M.PROMOTE): S.READY,
    (S.READY, M.CLAIM): S.RUNNING,
    (S.RUNNING, M.SUCCEED): S.SUCCEEDED,
    (S.RUNNING, M.RETRY): S.SCHEDULED,
    (S.RUNNING, M.BURY): S.DEAD,
    (S.RUNNING, M.GIVE_BACK): S.READY,
    (S.RUNNING, M.REAP): S.READY,
    (S.SCHEDULED, M.CANCEL): S.CANCELLED,
    (S.READY, M.CANCEL): S.CANCELLED,
    (S.RUNNING, M.CANCEL): S.CANCELLED,
    (S.READY, M.SHED): S.DEAD,
    (S.DEAD, M.REDRIVE): S.READY,
    (S.READY, M.PURGE): S.UNKNOWN,
    (S.SCHEDULED, M.PURGE): S.UNKNOWN,
    (S.SUCCEEDED, M.FORGET): S.UNKNOWN,
    (S.CANCELLED, M.FORGET): S.UNKNOWN,
    (S.DEAD, M.FORGET): S.UNKNOWN,
}

FINAL = frozenset({State.SUCCEEDED, State.DEAD, State.CANCELLED})
"""States with an outcome: nothing happens to the job any more unless somebody asks for it."""

WAITING = frozenset({State.READY, State.SCHEDULED})
"""States that the capacity bounds."""


def after(state: State, move: Move) -> State:
    """Return the state that *move* leads to; raise IllegalMove if a job in *state* cannot make it."""
    try:
        return TABLE[state, move]
    except KeyError:
        raise IllegalMove(f"a job that is {state.value} cannot {move.value}") from None
