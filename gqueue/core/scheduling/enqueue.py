"""How jobs come in: admission, the line of waiting producers, and shedding."""

from collections.abc import Mapping, Sequence

from attrs import evolve

from gqueue.core.admission import ahead_of, ahead_of_newcomer, quota
from gqueue.core.lifecycle import Move, after
from gqueue.core.model import TICKET_MS, Admission, NewJob, Place, Reason, Rules, State, Ticket, WhenFull
from gqueue.core.order import Entry, rank_of
from gqueue.core.scheduling.state import (
    SHED_OUTCOME,
    SHED_REPORT,
    InLine,
    LastCall,
    QueueState,
    best,
    bury,
    count,
    drop_lapsed_tickets,
    places,
    where,
    without,
)
from gqueue.errors import StaleCall


def enqueue(
    state: QueueState,
    rules: Rules,
    lane: str,
    call: int,
    jobs: Sequence[NewJob],
    *,
    when_full: WhenFull,
    capacity: int,
    ticket: Ticket | None,
    now_ms: int,
) -> tuple[QueueState, Admission]:
    """Admit *jobs* or a prefix of them; give the rest a place in line if they are to wait.

    Raises StaleCall.
    """
    last = state.lanes.get(lane)
    if last and call == last.call:
        return state, last.reply
    if last and call != last.call + 1:
        raise StaleCall(lane, call)

    state = drop_lapsed_tickets(state, now_ms)
    state = evolve(state, capacity_brought=capacity, epoch_ms=now_ms if state.epoch_ms is None else state.epoch_ms)
    age_ms = now_ms - (state.epoch_ms or 0)
    ranks = [rank_of(job.priority, rules.aging_per_second, age_ms) for job in jobs]
    mine = ticket.place if ticket else None
    others = _line_without(state, ticket)
    ahead = ahead_of(others, mine) if mine else ahead_of_newcomer(others, ranks[0])
    may_enter = quota(_room(state), ahead, in_line=mine is not None)
    may_shed = when_full is WhenFull.SHED and ahead == 0

    accepted, entered, taken = 0, 0, []
    for index, job in enumerate(jobs):
        if job.id in state.jobs or job.id in state.letters:
            taken.append(index)
        elif others and ranks[index] > ranks[0]:
            break  # a worse job of the same batch would overtake who waits between the two
        elif entered < may_enter:
            state = _enter(state, job, ranks[index], now_ms)
            entered += 1
        elif may_shed and (victim := _to_shed(state, ranks[index])):
            state = bury(
                state,
                rules,
                victim,
                Reason.SHED,
                failures=state.attempts.get(victim, 0),
                report=SHED_REPORT,
                outcome=SHED_OUTCOME,
                ttl_ms=rules.result_ttl_ms,
                now_ms=now_ms,
            )
            state = _enter(state, job, ranks[index], now_ms)
        else:
            break
        accepted += 1

    place, place_ahead = None, 0
    if ticket:
        state = evolve(state, line=_line_mapping_without(state, ticket))
        if accepted < len(jobs) and when_full is WhenFull.WAIT:
            state, place = _stand(state, ticket, ranks[accepted], moved_on=accepted > 0, now_ms=now_ms)
            place_ahead = ahead_of((p for p, _ in places(state)), place)
    reply = Admission(accepted, tuple(taken), state.depth, state.capacity or 0, place, place_ahead)
    return evolve(state, lanes={**state.lanes, lane: LastCall(call, reply)}), reply


def renew_tickets(state: QueueState, tickets: Sequence[Ticket], *, now_ms: int) -> tuple[QueueState, tuple[str, ...]]:
    """Renew the live ones of *tickets*; return the names of the others."""
    state = drop_lapsed_tickets(state, now_ms)
    line, lapsed = dict(state.line), []
    for ticket in tickets:
        key = (ticket.place.number, ticket.name) if ticket.place else (0, ticket.name)
        if key in line:
            line[key] = InLine(line[key].rank, now_ms + TICKET_MS)
        else:
            lapsed.append(ticket.name)
    return evolve(state, line=line), tuple(lapsed)


def leave_line(state: QueueState, ticket: Ticket, *, now_ms: int) -> tuple[QueueState, None]:
    """Take *ticket* out of the line."""
    state = drop_lapsed_tickets(state, now_ms)
    return evolve(state, line=_line_mapping_without(state, ticket)), None


def _room(state: QueueState) -> int:
    return max(0, state.room)


def _enter(state: QueueState, job: NewJob, rank: float, now_ms: int) -> QueueState:
    sequence = state.sequence + 1
    move = Move.SCHEDULE if job.delay_ms > 0 else Move.ENQUEUE
    before = where(state, job.id, now_ms)
    # A finished id is free again: its old outcome is dropped with the enqueue.
    after(State.UNKNOWN if before in (State.SUCCEEDED, State.CANCELLED, State.DEAD) else before, move)
    state = evolve(
        state,
        sequence=sequence,
        jobs={**state.jobs, job.id: Entry(rank, sequence, job.record)},
        results=without(state.results, job.id),
    )
    if job.delay_ms > 0:
        state = evolve(state, scheduled={**state.scheduled, job.id: now_ms + job.delay_ms})
    else:
        state = evolve(state, ready=state.ready | {job.id})
    return count(state, enqueued=1)


def _to_shed(state: QueueState, rank: float) -> str | None:
    """Return the last ready job if it ranks strictly worse than *rank*."""
    if not state.ready:
        return None
    last = best(state, state.ready)[-1]
    return last if state.jobs[last].rank > rank else None


def _stand(state: QueueState, ticket: Ticket, rank: float, *, moved_on: bool, now_ms: int) -> tuple[QueueState, Place]:
    """Put *ticket* in line: where it stood, or, when part of its batch went in, behind its equals."""
    if ticket.place and not moved_on:
        place = ticket.place
    else:
        state = evolve(state, places=state.places + 1)
        place = Place(rank, state.places)
    line = {**state.line, (place.number, ticket.name): InLine(place.rank, now_ms + TICKET_MS)}
    return evolve(state, line=line), place


def _line_without(state: QueueState, ticket: Ticket | None) -> list[Place]:
    gone = (ticket.place.number, ticket.name) if ticket and ticket.place else None
    return [Place(waiter.rank, number) for (number, name), waiter in state.line.items() if (number, name) != gone]


def _line_mapping_without(state: QueueState, ticket: Ticket) -> Mapping[tuple[int, str], InLine]:
    gone = (ticket.place.number, ticket.name) if ticket.place else None
    return {key: waiter for key, waiter in state.line.items() if key != gone}
