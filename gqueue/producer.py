"""This process's part in one queue: its store, its numbered calls, its producers on their way and in line.

Carries out what `core.producer` decides. One object a process and queue: a forked child makes its own, and never
touches the parent's connections, lanes or threads. Safe for any number of threads or greenlets: those who wait are
attended to in each native thread by itself under gevent, whose events and sockets belong to a thread's hub.
"""

import logging
import os
import random
import threading
import time
import weakref
from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from gqueue import failpoints
from gqueue.config import QueueSettings
from gqueue.core.durability import Durability
from gqueue.core.model import Admission, NewJob, Ticket, WhenFull
from gqueue.core.producer import (
    Step,
    next_step,
    one_call_carries,
    policy,
    refusal,
    travels_alone,
)
from gqueue.errors import (
    BadSetting,
    DurabilityUnconfirmed,
    DurabilityUnsupported,
    GqueueError,
    QueueFull,
    StaleCall,
    StoreFull,
    StoreUnavailable,
)
from gqueue.group import GroupCommit, Trip
from gqueue.job import carried, current
from gqueue.lanes import Lane, Lanes
from gqueue.line import Line, Waiter
from gqueue.outcomes import Outcomes
from gqueue.store import age, patience
from gqueue.store.base import Store
from gqueue.store.owners import half_patched, owner, rests, tell_of_ends

if TYPE_CHECKING:
    from gqueue.job import JobHandle

PAUSE_S = (0.1, 1.0)
"""Between the calls of a producer that waits through an outage; the store has backed off by itself before."""


_logger = logging.getLogger("gqueue.producer")


class Batch:
    """Jobs on their way in: one call's worth, of which a growing prefix is in.

    *meanwhile* is called while a call with them is under way, by who makes it: not in a task, whose calls others make.
    *behind* tells how many jobs their caller has brought that are to follow.
    """

    __slots__ = ("before", "behind", "durable", "jobs", "meanwhile", "rest")

    def __init__(
        self,
        jobs: Sequence[NewJob],
        before: Sequence["JobHandle[Any]"] = (),
        durable: Durability | None = None,
        meanwhile: Callable[[], None] | None = None,
        behind: Callable[[], int] | None = None,
    ) -> None:
        self.jobs = self.rest = jobs
        self.before, self.durable, self.meanwhile, self.behind = before, durable, meanwhile, behind

    def admitted(self) -> tuple[str, ...]:
        """Return the ids of what is in, with what went in before this batch."""
        inside = self.jobs[: len(self.jobs) - len(self.rest)]
        return (*(job.id for job in self.before), *(job.id for job in inside))


class Passage:
    """A numbered call on its way: what is to be known to send it again; and the reply, once that is there.

    With the reply its lane is free for others: the call is not to be sent again.
    """

    __slots__ = ("lane", "may_be_in", "reply", "since", "told")

    def __init__(self, lane: Lane) -> None:
        self.lane, self.since = lane, 0.0
        self.may_be_in = self.told = False
        self.reply: Admission | None = None


class Producer:
    """What a process needs to put jobs into a queue and to ask for them; without I/O until the first call."""

    def __init__(self, settings: QueueSettings, open_store: Callable[[], Store]) -> None:
        self.settings, self._open_store = settings, open_store
        self._lock = threading.Lock()
        self._store: Store | None = None
        self._closed = False
        self._lanes = Lanes()
        self._lines: dict[int, Line] = {}
        self._groups: dict[tuple[int, bool], GroupCommit[tuple[Batch, float | None]]] = {}
        self._outcomes: dict[int, Outcomes] = {}
        tell_of_ends(self)
        self._at_enqueue = failpoints.at("enqueue", settings.failpoints)
        self._at_enqueued = failpoints.at("enqueued", settings.failpoints)
        _of_this_process.add(self)

    @property
    def store(self) -> Store:
        """Return this process's store, opened now if this is its first use; raise BadSetting where it cannot work."""
        if self._store is None:
            if half_patched():
                raise BadSetting(
                    f"queue {self.settings.name!r}: gevent has patched sockets, but not threads, and a greenlet that "
                    "waits for another would stop all: call gevent.monkey.patch_all() without thread=False"
                )
            opened = self._open_store()  # outside the lock: it may take long
            with self._lock:
                if self._store is None:
                    self._store = opened
            if self._store is not opened:
                opened.close()
        return self._store

    @property
    def line(self) -> Line:
        """Return the line of the current owner (see store.owners)."""
        line = self._lines.get(owner())
        if line is None:
            line = Line(self.settings.name, lambda: self.store, rests=rests())
            line = self._lines.setdefault(owner(), line)
            if self._closed:
                line.close()
        return line

    @property
    def outcomes(self) -> Outcomes:
        """Return the waiters for outcomes of the current owner."""
        outcomes = self._outcomes.get(owner())
        if outcomes is None:
            outcomes = Outcomes(self.settings.name, lambda: self.store, rests=rests())
            outcomes = self._outcomes.setdefault(owner(), outcomes)
            if self._closed:
                outcomes.close()
        return outcomes

    def admit(self, batch: Batch, when_full: WhenFull, wait_ms: int | None) -> None:
        """Put the jobs of *batch* into the queue, in order; wait for room if that is the policy.

        Args:
            wait_ms: longest wait without any of the jobs getting in; None: for ever, through an outage too.

        Raises:
            QueueFull, StoreUnavailable: with the ids of what is in, and of what may be.
            StoreFull: nothing of the last call was written; with the ids of what is in.
            DurabilityUnconfirmed, DurabilityUnsupported.
        """
        settings, running = self.settings, current.get()
        served_here = running is not None and running.serves(settings.url, settings.name)
        in_force = policy(when_full, wait_ms, served_here=served_here)
        ticket = self.line.new_ticket() if in_force is WhenFull.WAIT else None
        endless = ticket is not None and wait_ms is None
        reply = self._arrive(batch, in_force, ticket, None if ticket is None else _until(wait_ms), endless)
        if not batch.rest:
            return
        if ticket is not None:
            reply = self._stand_in_line(batch, ticket, reply, wait_ms)
        if batch.rest:
            why = refusal(when_full, wait_ms, served_here=served_here)
            raise QueueFull(settings.name, reply.capacity, reply.depth, why, batch.admitted())

    def _arrive(
        self, batch: Batch, when_full: WhenFull, ticket: Ticket | None, until: float | None, endless: bool
    ) -> Admission:
        """Make the first call for *batch*: together with others that are on their way, if they ask for the same."""
        settings = self.settings
        usual, line = batch.durable == settings.durable, ticket is not None and self.line.anyone
        if travels_alone(len(batch.rest), when_full, usual=usual, line=line):
            return self._send(batch, when_full, ticket, until=until, endless=endless)
        group = self._groups.get((owner(), endless)) or self._group(endless)
        alone, myself = not group.under_way, object()
        try:
            group.under_way.add(myself)
            if not alone and (reply := self._go_with_others(group, batch, until)):
                return reply
            return self._send(batch, when_full, ticket, until=until, endless=endless)
        finally:
            group.under_way.discard(myself)

    def _go_with_others(
        self, group: GroupCommit[tuple[Batch, float | None]], batch: Batch, until: float | None
    ) -> Admission | None:
        """Return the answer to the call that took the job of *batch* along; None: it is not in, and to ask for itself.

        A call that carries several has nobody stand in line, and is a newcomer: so it may be refused what one of its
        jobs would be granted.
        """
        rider = group.ride((batch, until))
        assert rider.trip is not None
        error, reply = rider.trip.error, rider.trip.outcome
        # Whatever may be in is not sent once more with another call: Redis would not know it, if it has run already.
        if isinstance(error, StoreUnavailable) and (error.may_be_in or not isinstance(error, patience.AllBusy)):
            raise self._unavailable(error, batch) from error
        if isinstance(error, DurabilityUnsupported) and rider.seat < len(error.job_ids):
            inside = (batch.rest[0].id,)
            raise DurabilityUnsupported(error.queue, error.wanted, error.why, inside) from error
        if not isinstance(reply, Admission) or rider.seat >= reply.accepted:
            return None
        self._note_in(batch, 1, reply)
        return reply

    def _group(self, endless: bool) -> GroupCommit[tuple[Batch, float | None]]:
        group: GroupCommit[tuple[Batch, float | None]] = GroupCommit(
            partial(self._carry, endless),
            lambda those, callers: one_call_carries([len(one.rest[0].record) for one, _ in those], callers),
        )
        return self._groups.setdefault((owner(), endless), group)

    def _carry(self, endless: bool, trip: Trip[tuple[Batch, float | None]]) -> None:
        """Make the call of *trip*, or go on with it when who carried it was hit; tell its riders."""
        if trip.state is None:
            trip.state = Passage(self._lanes.take())
        elif trip.state.reply:  # all that was left is to tell
            return trip.end(trip.state.reply)
        else:
            trip.state.may_be_in = True
        jobs = [batch.rest[0] for batch, _ in (rider.brings for rider in trip.riders)]
        limits = [until for _, until in (rider.brings for rider in trip.riders) if until is not None]
        try:
            reply = self._call(
                Batch(jobs, durable=self.settings.durable),
                WhenFull.REJECT,
                None,
                until=min(limits, default=None),
                endless=endless,
                passage=trip.state,
            )
        except GqueueError as error:
            trip.end(None, error)
        else:
            trip.end(reply)

    def _stand_in_line(self, batch: Batch, ticket: Ticket, reply: Admission, wait_ms: int | None) -> Admission:
        """Ask again whenever it is worth it, until all of *batch* is in or time is up; return the last reply."""
        waiter, until = Waiter(ticket, reply), _until(wait_ms)
        try:
            self.line.join(waiter)
            while True:
                step = next_step(len(batch.rest), reply)
                if step is Step.DONE or step is Step.REFUSED:
                    return reply
                if step is Step.WAIT and not self.line.sleep(waiter, until):
                    self._leave_line(waiter.ticket)
                    return reply
                asked = len(batch.rest)
                reply = self._send(batch, WhenFull.WAIT, waiter.ticket, until=until, endless=wait_ms is None)
                waiter.stand(reply)
                if len(batch.rest) < asked:
                    until = _until(wait_ms)
        except BaseException:  # an interrupt too must not leave a place that holds others up
            self.line.leave_soon(waiter.ticket)
            raise
        finally:
            self.line.part(waiter)

    def _leave_line(self, ticket: Ticket) -> None:
        try:
            carried(partial(self.store.leave_line, ticket))
        except StoreUnavailable:
            pass  # the ticket lapses by itself

    def _send(
        self, batch: Batch, when_full: WhenFull, ticket: Ticket | None, *, until: float | None, endless: bool
    ) -> Admission:
        """Make one numbered call with what is left of *batch*; the arguments are those of `_call`."""
        passage = Passage(self._lanes.take())
        try:
            reply = self._call(batch, when_full, ticket, until=until, endless=endless, passage=passage)
        except StoreFull as error:
            inside = batch.admitted()
            went_in = f" {len(inside)} jobs of the batch went in before." if inside else ""
            raise StoreFull(f"{error}{went_in}", tuple(job.id for job in batch.rest), inside) from error
        except StoreUnavailable as error:
            raise self._unavailable(error, batch) from error
        self._note_in(batch, reply.accepted, reply)
        return reply

    def _call(
        self,
        batch: Batch,
        when_full: WhenFull,
        ticket: Ticket | None,
        *,
        until: float | None,
        endless: bool,
        passage: Passage,
    ) -> Admission:
        """Send a numbered call until it is answered, *endless*, or given up.

        *until*: how long to wait for a connection, see store.patience.

        Whatever is raised without a reply, the lane is not given back: the call may yet arrive.
        """
        store, rest, capacity = self.store, batch.rest, self.settings.capacity
        while True:
            if self._closed:
                gone = f"queue {store.name!r} was closed, or the process forked"
                raise StoreUnavailable(gone, (), passage.may_be_in)
            if not passage.may_be_in:
                passage.since = age.now()
            try:
                lane = passage.lane
                enqueue = partial(
                    store.enqueue,
                    lane.id,
                    lane.call + 1,
                    rest,
                    when_full=when_full,
                    capacity=capacity,
                    ticket=ticket,
                    durable=batch.durable,
                    meanwhile=batch.meanwhile if current.get() is None else None,
                    first_sent=passage.since if passage.may_be_in else None,
                )
                self._at_enqueue()
                reply = carried(partial(patience.until, until, enqueue))
                self._at_enqueued()
            except StaleCall:
                if lane.call == 0:
                    raise
                passage.lane = self._lanes.new()
            except StoreUnavailable as error:
                error.may_be_in = passage.may_be_in = passage.may_be_in or error.may_be_in
                if not endless or (passage.may_be_in and age.too_old(passage.since)):
                    raise
                if not passage.told:
                    _logger.warning(
                        "queue %s: %s sent until Redis answers, for ever if need be: no wait_timeout was given; "
                        "give wait_timeout to be told instead. %s",
                        store.name,
                        _they_are([job.id for job in rest]),
                        error,
                    )
                    passage.told = True
                time.sleep(random.uniform(*PAUSE_S))
            else:
                passage.reply = reply
                self._lanes.give_back(lane)
                return reply

    def _note_in(self, batch: Batch, count: int, reply: Admission) -> None:
        """Note that the first *count* jobs left of *batch* are in; raise DurabilityUnconfirmed."""
        sent, batch.rest = batch.rest, batch.rest[count:]
        wanted = batch.durable
        if wanted is not None and reply.safety is not None and not wanted.met_by(reply.safety):
            ids = tuple(job.id for job in sent[:count])
            out = len(batch.rest) + (batch.behind() if batch.behind else 0)
            raise DurabilityUnconfirmed(self.settings.name, ids, str(wanted), str(reply.safety), batch.admitted(), out)

    def _unavailable(self, error: StoreUnavailable, batch: Batch) -> StoreUnavailable:
        ids = tuple(job.id for job in batch.rest)
        which = f"job {ids[0]}" if len(ids) == 1 else f"{len(ids)} jobs, from {ids[0]} on,"
        fate = "may be in: to be sure, enqueue again under the same id" if error.may_be_in else "did not go in"
        what = f"{error}; {which} {fate}"
        return StoreUnavailable(what, ids, error.may_be_in, batch.admitted())

    def clear_out(self, owner: int) -> None:
        """Let go of what was an owner's whose thread ends (see store.owners)."""
        self._lines.pop(owner, None)
        self._outcomes.pop(owner, None)
        for endless in (False, True):
            self._groups.pop((owner, endless), None)

    def close(self) -> None:
        """End the threads and drop the connections."""
        self._closed = True
        for part in self._parts():
            part.close()
        if self._store is not None:
            self._store.close()

    def end_in_child(self) -> None:
        """In a forked child: let nothing go on that the fork copied; its numbered calls are the parent's."""
        self._closed = True
        for part in self._parts():
            part.end_threads()

    def _parts(self) -> list[Line | Outcomes]:
        return [*list(self._lines.values()), *list(self._outcomes.values())]


def _they_are(ids: Sequence[str]) -> str:
    return f"job {ids[0]} is" if len(ids) == 1 else f"{len(ids)} jobs, from {ids[0]} on, are"


def _until(wait_ms: int | None) -> float | None:
    return None if wait_ms is None else time.monotonic() + wait_ms / 1000


_of_this_process: "weakref.WeakSet[Producer]" = weakref.WeakSet()
_forks = 0


def this_process() -> tuple[int, int]:
    """Return what tells this process from its ancestors: one that is dead may have had its id, as a daemon's parent."""
    return os.getpid(), _forks


def _end_in_child() -> None:
    global _forks
    _forks += 1
    # Under gevent the threads, and those who wait, are greenlets, which go on in the child.
    for producer in list(_of_this_process):
        producer.end_in_child()
    _of_this_process.clear()


os.register_at_fork(after_in_child=_end_in_child)
