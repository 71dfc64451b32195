"""A store in Redis: each operation is one Lua script, sent by the client and its reply read into the model's values.

Decides nothing about jobs: `core.scheduling` says what the operations do, the scripts repeat it. The scripts' heads say
which keys and arguments they take; what is passed here is checked against them by a test.
"""

from collections.abc import Callable, Sequence
from typing import Any

from attrs import evolve

from gqueue.core.durability import Durability
from gqueue.core.model import (
    AWAITED_MS,
    LANE_MS,
    TICKET_MS,
    Admission,
    Ask,
    Beat,
    Claim,
    ClaimedJob,
    Letter,
    Look,
    NewJob,
    Reaped,
    Rules,
    Settlement,
    State,
    Stats,
    Ticket,
    WhenFull,
    WorkerCall,
)
from gqueue.errors import LeaseLost, NotLapsed, StaleCall, StoreUnavailable
from gqueue.store import confirm, replies, scripts
from gqueue.store.base import Wait
from gqueue.store.client import Client
from gqueue.store.connection import Argument, Link, Opening
from gqueue.store.keys import Keys
from gqueue.store.sentinel import address_of
from gqueue.store.server import Server
from gqueue.store.snapshot import snapshot

REPLY_TIMEOUT_S = 5.0
"""A server that is silent for so long is away: the longest script takes some milliseconds."""

ROOM_HINTS = 256
"""Taken together: as many as a producer's list holds (_room.lua)."""

MOST_OPENINGS = 256
"""Kept a store: one for each script, lane and worker in use; lanes and workers come and go."""


class RedisStore:
    """A Store (see store.base) in Redis. Connects when it is first used; a forked child connects anew.

    Args:
        url: redis://, rediss://, unix://, redis+sentinel:// or rediss+sentinel://.
        retry_for_ms: how long a call is tried again while Redis is away.

    Raises:
        BadSetting: the URL cannot be read.
    """

    def __init__(
        self, url: str, name: str, rules: Rules, *, retry_for_ms: int = 10_000, client: Client | None = None
    ) -> None:
        self.name, self.rules = name, rules
        self._url, self._retry_for_ms = url, retry_for_ms
        self._keys = Keys(name)
        self._scripts = scripts.load()
        self._openings: dict[tuple[str, ...], Opening] = {}
        self._confirms: set[bool] = set()
        self._sent: tuple[str, int, Link] | None = None  # a worker's call that was sent behind another, and where
        self._client = client or Client(
            address_of(url),
            name,
            (b"ZREM", self._keys("ready"), b""),  # which producers may do, too
            retry_for=retry_for_ms / 1000,
            reply_timeout=REPLY_TIMEOUT_S,
        )

    # Life of the object.

    def clone(self) -> "RedisStore":
        # A sixth of the lease: a heartbeat thread replaces a connection that hangs well before the lease is over. And
        # when Redis is back, the first beat gives the others a third: a hanging reply and a pause together are less.
        lease_s = self.rules.lease_ms / 1000
        client = self._client.clone(
            reply_timeout=min(REPLY_TIMEOUT_S, max(0.25, lease_s / 6)), longest_pause=lease_s / 12
        )
        return RedisStore(self._url, self.name, self.rules, retry_for_ms=self._retry_for_ms, client=client)

    def close(self) -> None:
        self._drop_sent()
        self._client.close()

    def server(self) -> Server:
        """Return what the server is, connecting first if need be; raise StoreUnavailable, StoreTooOld."""
        if self._client.server is None:
            self._client.call("ping", (b"PING",))
        assert self._client.server is not None
        return self._client.server

    def parts(self) -> tuple[Client, Keys]:
        """Return what the audit reads with: the calls, and the names of the keys."""
        return self._client, self._keys

    # Producers.

    def enqueue(
        self,
        lane: str,
        call: int,
        jobs: Sequence[NewJob],
        *,
        when_full: WhenFull,
        capacity: int,
        ticket: Ticket | None = None,
        durable: Durability | None = None,
        meanwhile: Callable[[], None] | None = None,
        first_sent: float | None = None,
        now_ms: int | None = None,
    ) -> Admission:
        rules = self.rules
        place = ticket.place if ticket else None
        arguments: list[Argument] = [
            _now(now_ms),
            call,
            when_full.value,
            capacity,
            ticket.name if ticket else b"",
            place.number if place else b"",
            _float(place.rank) if place else b"",
            _float(rules.aging_per_second),
            rules.letters_max,
            rules.letters_ms,
            rules.shed_max,
            rules.result_ttl_ms,
            LANE_MS,
            TICKET_MS,
        ]
        for job in jobs:
            arguments += (job.id, _float(job.priority), job.delay_ms or b"0", job.record)
        job_ids = tuple(job.id for job in jobs)
        if durable is not None:
            return self._confirmed(arguments, lane, call, job_ids, durable, meanwhile, first_sent)
        reply = self._run("enqueue", arguments, LANE=lane, job_ids=job_ids, meanwhile=meanwhile, first_sent=first_sent)
        if reply[0] == b"stale_call":
            raise StaleCall(lane, call)
        return replies.admission(reply[1])

    def _confirmed(
        self,
        arguments: Sequence[Argument],
        lane: str,
        call: int,
        job_ids: tuple[str, ...],
        wanted: Durability,
        meanwhile: Callable[[], None] | None,
        first_sent: float | None,
    ) -> Admission:
        key = self._keys("call:LANE", lane)
        if wanted.fsync not in self._confirms:
            check = confirm.checking(self.name, key, wanted, lambda: self._client.server)
            try:
                self._client.call("asking whether it can wait for replicas or the disk", (b"PING",), receive=check)
            except StoreUnavailable as error:
                error.job_ids, error.may_be_in = job_ids, False
                raise
            self._confirms.add(wanted.fsync)
        receive = confirm.receiving(self.name, key, wanted, job_ids, int(REPLY_TIMEOUT_S * 500))
        admission: Admission | None = self._run(
            "enqueue",
            arguments,
            LANE=lane,
            job_ids=job_ids,
            receive=receive,
            meanwhile=meanwhile,
            first_sent=first_sent,
        )
        if admission is None:
            raise StaleCall(lane, call)
        return admission

    def renew_tickets(self, tickets: Sequence[Ticket], *, now_ms: int | None = None) -> tuple[str, ...]:
        standing: list[Argument] = [part for ticket in tickets for part in (_number(ticket), ticket.name)]
        return replies.texts(self._run("renew_tickets", [_now(now_ms), TICKET_MS, *standing])[1])

    def leave_line(self, ticket: Ticket, *, now_ms: int | None = None) -> None:
        self._run("leave_line", [_now(now_ms), _number(ticket), ticket.name, TICKET_MS])

    def wait_room(self, producer: str, timeout: float) -> tuple[str, ...]:
        key = self._keys("room:PRODUCER", producer)

        def commands(seconds: float) -> Sequence[Sequence[Argument]]:
            # The others come along with the first: by themselves each would take a round trip.
            return ((b"BLPOP", key, _seconds(seconds)), (b"LPOP", key, ROOM_HINTS))

        first, others = self._client.wait("room:PRODUCER", commands, timeout) or (None, None)
        return replies.texts([*(first or ())[1:], *(others or ())])

    # Workers.

    def register(self, worker: str, *, now_ms: int | None = None) -> None:
        self._run("register", [_now(now_ms), worker, self.rules.lease_ms])

    def settle_and_claim(
        self,
        worker: str,
        call: int,
        done: Sequence[str],
        settlements: Sequence[Settlement],
        limit: int,
        *,
        meanwhile: Callable[[], WorkerCall | None] | None = None,
        now_ms: int | None = None,
    ) -> Claim:
        sent_on = self._sent_on(worker, call)
        opening = self._opening("settle_and_claim", WORKER=worker)
        arguments = self._settling(worker, call, WorkerCall(done, settlements, limit), now_ms)

        def receive(link: Link) -> Any:
            link.owes = False
            behind = None if meanwhile is None else meanwhile()
            if behind is not None:
                link.owes = True
                link.send(opening.pack(self._settling(worker, call + 1, behind, now_ms)))
            reply = link.receive()
            if behind is not None:
                self._sent = worker, call + 1, link
            return reply

        reply = self._client.call("settle_and_claim", arguments, opening, receive=receive, sent_on=sent_on)
        if reply[0] == b"ok":
            return replies.claim(reply)
        self._drop_sent()
        _fenced(reply, worker)
        raise StaleCall(worker, call)

    def _sent_on(self, worker: str, call: int) -> Link | None:
        """Return the connection on which this call was sent already, if it was; close that of another."""
        if self._sent is not None and self._sent[:2] == (worker, call):
            sent, self._sent = self._sent, None
            return sent[2]
        self._drop_sent()
        return None

    def _drop_sent(self) -> None:
        if self._sent is not None:
            (_, _, link), self._sent = self._sent, None
            self._client.drop(link)

    def _settling(self, worker: str, number: int, call: WorkerCall, now_ms: int | None) -> list[Argument]:
        rules = self.rules
        arguments: list[Argument] = [
            _now(now_ms),
            worker,
            number,
            call.limit,
            rules.lease_ms,
            rules.max_crashes,
            rules.letters_max,
            rules.letters_ms,
            rules.shed_max,
            len(call.done),
            *call.done,
        ]
        for settlement in call.settlements:
            arguments += settlement
        return arguments

    def held(self, worker: str, call: int, *, now_ms: int | None = None) -> tuple[ClaimedJob, ...]:
        reply = _fenced(self._run("held", [worker, call], WORKER=worker), worker)
        if reply[0] == b"stale_call":
            raise StaleCall(worker, call)
        return replies.claimed(reply[1])

    def heartbeat(self, worker: str, *, now_ms: int | None = None) -> Beat:
        reply = self._run("heartbeat", [_now(now_ms), worker, self.rules.lease_ms], WORKER=worker)
        beat = replies.beat(_fenced(reply, worker))
        warning = self._client.look_again()
        return evolve(beat, warning=warning) if warning else beat

    def fence(self, *, now_ms: int | None = None) -> tuple[str, ...]:
        return replies.texts(self._run("fence", [_now(now_ms), self.rules.lease_ms])[1])

    def reap(self, worker: str, limit: int, *, now_ms: int | None = None) -> Reaped:
        rules = self.rules
        arguments: list[Argument] = [
            _now(now_ms),
            worker,
            limit,
            rules.lease_ms,
            rules.max_crashes,
            rules.letters_max,
            rules.letters_ms,
            rules.shed_max,
            rules.result_ttl_ms,
        ]
        reply = self._run("reap", arguments, WORKER=worker)
        if reply[0] == b"not_lapsed":
            raise NotLapsed(worker)
        _, ready, suspect, buried, cancelled, left = reply
        return Reaped(ready, suspect, replies.texts(buried), cancelled, left)

    def leave(self, worker: str, limit: int, *, now_ms: int | None = None) -> int:
        arguments: list[Argument] = [_now(now_ms), worker, limit, self.rules.max_crashes, self.rules.result_ttl_ms]
        return int(_fenced(self._run("leave", arguments, WORKER=worker), worker)[1])

    def wait_hint(self, timeout: float) -> bool:
        key = self._keys("wake")
        return self._client.wait("wake", lambda seconds: ((b"BLPOP", key, _seconds(seconds)),), timeout) is not None

    def report_progress(self, worker: str, job_id: str, progress: bytes, *, now_ms: int | None = None) -> bool:
        return bool(self._run("report_progress", [worker, job_id, progress], WORKER=worker)[1])

    # Handles.

    def look(self, job_ids: Sequence[str], *, now_ms: int | None = None) -> tuple[Look, ...]:
        return replies.looks(self._run("look", [*job_ids])[1])

    def progress(self, job_id: str) -> bytes | None:
        found = self._client.call("progress", (b"HGET", self._keys("progress"), job_id))
        return None if found is None else bytes(found)

    def await_done(self, job_ids: Sequence[str], *, now_ms: int | None = None) -> tuple[str, ...]:
        return replies.texts(self._run("await_done", [_now(now_ms), AWAITED_MS, *job_ids])[1])

    def wait_done(self, timeout: float) -> tuple[str, ...]:
        return replies.texts(self._client.listen(self._keys.done, timeout))

    def stop_waiting(self, what: Wait) -> None:
        self._client.stop_waiting("done" if what == "done" else "room:PRODUCER")

    def cancel(self, job_id: str, ttl_ms: int, *, now_ms: int | None = None) -> State:
        return replies.state(*self._run("cancel", [_now(now_ms), job_id, ttl_ms])[1:])

    def set_priority(self, job_id: str, priority: float, *, now_ms: int | None = None) -> State:
        arguments: list[Argument] = [_now(now_ms), job_id, _float(priority), _float(self.rules.aging_per_second)]
        return replies.state(*self._run("set_priority", arguments)[1:])

    # Operators.

    def stats(self, *, now_ms: int | None = None) -> Stats:
        return replies.stats(self._run("stats", [_now(now_ms)]))

    def pause(self) -> None:
        self._run("pause", [])

    def resume(self) -> None:
        self._run("resume", [])

    def set_capacity(self, capacity: int | None, *, now_ms: int | None = None) -> None:
        self._run("set_capacity", [_now(now_ms), b"" if capacity is None else capacity])

    def ask(self, worker: str, what: Ask) -> bool:
        return bool(self._run("ask", [worker, what.value])[1])

    def workers(self, *, now_ms: int | None = None) -> dict[str, int]:
        reply = self._run("workers", [_now(now_ms)])[1]
        return {replies.text(worker): int(left) for worker, left in zip(reply[::2], reply[1::2], strict=True)}

    def letters(self, *, offset: int = 0, limit: int = 100, shed: bool = False) -> tuple[Letter, ...]:
        return replies.letters(self._run("letters", [b"shed" if shed else b"dead", offset, limit])[1])

    def redrive(self, job_ids: Sequence[str], *, force: bool = False, now_ms: int | None = None) -> tuple[str, ...]:
        return replies.texts(self._run("redrive", [int(force), *job_ids])[1])

    def delete_letters(self, job_ids: Sequence[str]) -> int:
        return int(self._run("delete_letters", [*job_ids])[1])

    def purge(self, limit: int, *, now_ms: int | None = None) -> int:
        return int(self._run("purge", [_now(now_ms), limit])[1])

    def inspect(self, state: State, *, offset: int = 0, limit: int = 100) -> tuple[tuple[str, float, bytes], ...]:
        which = b"scheduled" if state is State.SCHEDULED else b"ready"
        found = self._run("inspect", [which, offset, limit])[1]
        return tuple(
            (replies.text(job_id), float(at), replies.record_of(entry))
            for job_id, at, entry in zip(found[::3], found[1::3], found[2::3], strict=True)
        )

    def snapshot(self) -> dict[str, Any]:
        return snapshot(self._client, self._keys)

    def _run(
        self,
        name: str,
        arguments: Sequence[Argument],
        *,
        job_ids: tuple[str, ...] = (),
        receive: Callable[[Link], Any] | None = None,
        meanwhile: Callable[[], None] | None = None,
        first_sent: float | None = None,
        **owners: str,
    ) -> Any:
        opening = self._opening(name, **owners)
        return self._client.call(name, arguments, opening, job_ids, receive, None, meanwhile, first_sent)

    def _opening(self, name: str, **owners: str) -> Opening:
        opening = self._openings.get((name, *owners.values()))
        if opening is not None:
            return opening
        script = self._scripts[name]
        keys = [self._keys(kind, owners.get(kind.rpartition(":")[2], "")) for kind in script.keys]
        if len(self._openings) >= MOST_OPENINGS:
            self._openings.clear()
        opening = self._openings[name, *owners.values()] = Opening(script, keys)
        return opening


def _seconds(seconds: float) -> Argument:
    """Return a time-out for BLPOP, which takes 0 for ever; and Redis 6.2 makes 0 of 0.001 at times."""
    return f"{max(seconds, 0.002):.3f}"


def _now(now_ms: int | None) -> Argument:
    return b"" if now_ms is None else now_ms


def _float(number: float) -> Argument:
    return f"{number:.17g}" if number else b"0"


def _number(ticket: Ticket) -> Argument:
    return ticket.place.number if ticket.place else 0


def _fenced(reply: Sequence[Any], worker: str) -> Sequence[Any]:
    if reply[0] == b"lease_lost":
        raise LeaseLost(worker)
    return reply
