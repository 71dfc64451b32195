"""The contract between the queue and what keeps it: one Store is one queue on one server.

Decides which operations there are, what they take, what they answer and what they refuse; `core.scheduling` decides
what they do. MemoryStore runs that specification, RedisStore repeats it in Lua; one conformance suite and one model
test hold the two together. A change here is a change of the wire: it concerns workers and producers of other versions.

Every operation takes `now_ms`, which only tests pass: otherwise the server's clock counts. Every operation may raise
StoreUnavailable after having tried again for `retry_for`; those that are not numbered are safe to repeat.
"""

from collections.abc import Callable, Sequence
from typing import Any, Literal, Protocol

from gqueue.core.durability import Durability
from gqueue.core.model import (
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

Wait = Literal["room", "done"]
"""What wait_room, and what wait_done wait for."""


class Store(Protocol):
    """One queue, in memory or in Redis; safe for several threads or greenlets at once, unless a method says no."""

    name: str
    rules: Rules

    # Life of the object.

    def clone(self) -> "Store":
        """Return a store of the same queue that shares no lock and no connection with this one: for a native thread."""
        ...

    def close(self) -> None:
        """Drop the connections; what waits in wait_hint, wait_room or wait_done returns or raises. Idempotent."""
        ...

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
        """Admit *jobs*, or a prefix of them, in order.

        *lane* names a caller that has one call in flight at a time, *call* numbers its calls from 1: a number sent
        again is answered as before and applied once. An id that is waiting, running or dead is `taken`: it needs no
        room and changes nothing. Under WAIT a *ticket* is required and names the producer; give the place of the
        reply with the next call, which then brings the jobs that were not accepted.

        Args:
            jobs: 1 to 1,000, of about 4 MiB together.
            capacity: most jobs that may wait, >= 1; an operator's set_capacity overrules it.
            durable: wait until this holds of what was accepted, at most its time-out; the reply's *safety* tells.
            meanwhile: called when the call is on its way, before the answer is waited for; each time it is sent, and
                not at all while that of many others is: it may call the store, for which connections must be left.
            first_sent: of a call that may have arrived, when it was first sent, by `store.age.now`; sent again 5
                minutes later it might be applied twice, so it is not sent.

        Raises:
            StaleCall: *call* is neither the next nor the last of the lane.
            StoreFull: Redis is at its maxmemory; nothing was written.
            DurabilityUnsupported: of *durable* alone; where that can be known before, nothing was written.
        """
        ...

    def renew_tickets(self, tickets: Sequence[Ticket], *, now_ms: int | None = None) -> tuple[str, ...]:
        """Keep *tickets* (with place) alive for TICKET_MS; return the names of those that had lapsed.

        A lapsed one is not revived here, which could raise one that was just served: its producer enqueues again.
        """
        ...

    def leave_line(self, ticket: Ticket, *, now_ms: int | None = None) -> None:
        """Take *ticket* (with place) out of the line, and hint the waiters that room now reaches. Idempotent."""
        ...

    def wait_room(self, producer: str, timeout: float) -> tuple[str, ...]:
        """Block until a hint that room may reach a ticket of *producer*, and take all that are there.

        Returns the names of the tickets, none on time-out. Hints may be lost or doubled. One caller a producer at a
        time; *timeout* in seconds, <= 2.
        """
        ...

    # Workers. A worker id is new for every registration.

    def register(self, worker: str, *, now_ms: int | None = None) -> None:
        """Give *worker* a lease. Nothing else does: all other calls of one that has none raise LeaseLost."""
        ...

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
        """Record what ended, put retries and dead letters where they belong, then claim at most *limit* jobs.

        *call* numbers the worker's calls from 1; one of the last two sent again applies nothing and answers with the
        jobs which that call had claimed. *done* are ids of jobs that succeeded and leave no result. Renews the lease.

        Args:
            limit: 0 to 1,000. Fewer jobs come back when their records pass 4 MiB; `left` then says MORE.
            meanwhile: called when the call is on its way, before the answer is waited for; each time it is sent, and
                once if it was sent behind another. What it returns is the next call, number *call* + 1: it may be sent
                right behind this one, and is to be made next, when this one is answered.

        Raises:
            LeaseLost: nothing was recorded, of a call behind this one neither; the jobs run elsewhere.
            StaleCall: *call* is neither the next nor one of the last two.
        """
        ...

    def held(self, worker: str, call: int, *, now_ms: int | None = None) -> tuple[ClaimedJob, ...]:
        """Return the jobs that *worker* holds according to the store, best first, at most 1,000 and 4 MiB.

        *call* is the number of the last that was answered. If the store knows another, it went back in time: nothing
        that the worker does could be recorded.

        Raises LeaseLost, StaleCall.
        """
        ...

    def heartbeat(self, worker: str, *, now_ms: int | None = None) -> Beat:
        """Renew the lease; return which running jobs to cancel, what an operator asks, and how many jobs are held.

        What is asked is told at every beat, since a reply may be lost. Raises LeaseLost.
        """
        ...

    def fence(self, *, now_ms: int | None = None) -> tuple[str, ...]:
        """Fence the workers whose lease is over; return, sorted, all fenced ones with jobs still to be taken back."""
        ...

    def reap(self, worker: str, limit: int, *, now_ms: int | None = None) -> Reaped:
        """Take at most *limit* (1 to 1,000) jobs of the fenced *worker* back, by id; each counts one crash more.

        Raises NotLapsed: the worker lives, or nothing of it is left.
        """
        ...

    def leave(self, worker: str, limit: int, *, now_ms: int | None = None) -> int:
        """Give back at most *limit* jobs of *worker*, place kept and no attempt used; return how many it still holds.

        At 0 the worker is deregistered; leaving again is answered with 0. Raises LeaseLost if it was fenced.
        """
        ...

    def wait_hint(self, timeout: float) -> bool:
        """Block until a hint that there may be work; False on time-out. One caller at a time; *timeout* in seconds."""
        ...

    def report_progress(self, worker: str, job_id: str, progress: bytes, *, now_ms: int | None = None) -> bool:
        """Keep *progress* (JSON) of a running job for its handle to read; False if the worker does not hold the job."""
        ...

    # Handles.

    def look(self, job_ids: Sequence[str], *, now_ms: int | None = None) -> tuple[Look, ...]:
        """Return state and outcome of at most 1,000 jobs, in the order asked for."""
        ...

    def progress(self, job_id: str) -> bytes | None:
        """Return what the running job last reported (JSON), None if nothing."""
        ...

    def await_done(self, job_ids: Sequence[str], *, now_ms: int | None = None) -> tuple[str, ...]:
        """Note for AWAITED_MS that someone waits for *job_ids*; return those that are neither waiting nor running.

        At most 1,000 ids. Call it after listening began, then again every 2 s at most.
        """
        ...

    def wait_done(self, timeout: float) -> tuple[str, ...]:
        """Block until awaited jobs finish; return their ids, () on time-out. Listens from the first call on.

        Call it once with 0 before await_done. One caller at a time; *timeout* in seconds. Ids may come that nobody
        here waits for. Who listens must go on calling, or call stop_waiting: the server keeps what is not fetched.
        """
        ...

    def stop_waiting(self, what: Wait) -> None:
        """Drop what wait_room or wait_done hold: of the latter the next call listens anew, and hears nothing older.

        A wait under way may return at once, with nothing. Under gevent's patching it is the current native thread's
        waits that end, since each thread has waits of its own. Idempotent; sends nothing.
        """
        ...

    def cancel(self, job_id: str, ttl_ms: int, *, now_ms: int | None = None) -> State:
        """Cancel a job that waits, or ask for it if it runs; return its state after: CANCELLED, RUNNING, or as it was.

        *ttl_ms*: how long the outcome is kept.
        """
        ...

    def set_priority(self, job_id: str, priority: float, *, now_ms: int | None = None) -> State:
        """Rank a waiting job anew, its sequence kept; return its state. Any that does not wait is left as it is."""
        ...

    # Operators.

    def stats(self, *, now_ms: int | None = None) -> Stats:
        """Count everything; waiters are those with a live ticket."""
        ...

    def pause(self) -> None:
        """Let no more jobs be claimed; running ones go on, producers may enqueue."""
        ...

    def resume(self) -> None:
        """Undo pause, and hint the workers."""
        ...

    def set_capacity(self, capacity: int | None, *, now_ms: int | None = None) -> None:
        """Put an operator's capacity (>= 1) in force over what producers bring; None: theirs again."""
        ...

    def ask(self, worker: str, what: Ask) -> bool:
        """Ask *worker* to be quiet or to stop; False if there is no such worker."""
        ...

    def workers(self, *, now_ms: int | None = None) -> dict[str, int]:
        """Return the registered workers and how many ms of lease each has left (negative: about to be fenced)."""
        ...

    def letters(self, *, offset: int = 0, limit: int = 100, shed: bool = False) -> tuple[Letter, ...]:
        """Return dead letters, newest first; the *shed* ones are a list of their own."""
        ...

    def redrive(self, job_ids: Sequence[str], *, force: bool = False, now_ms: int | None = None) -> tuple[str, ...]:
        """Put dead letters back to ready, place kept, attempts and crashes forgotten, as many as there is room for.

        *force* passes the capacity. At most 1,000; returns the ids that went back, a prefix of those that are dead.
        """
        ...

    def delete_letters(self, job_ids: Sequence[str]) -> int:
        """Forget dead letters (at most 1,000 ids); return how many there were."""
        ...

    def purge(self, limit: int, *, now_ms: int | None = None) -> int:
        """Drop at most *limit* (1 to 1,000) waiting jobs, worst first; return how many wait still."""
        ...

    def inspect(self, state: State, *, offset: int = 0, limit: int = 100) -> tuple[tuple[str, float, bytes], ...]:
        """Return waiting jobs as (id, rank or due time in ms, record), in order; READY (suspects last) or SCHEDULED."""
        ...

    def snapshot(self) -> dict[str, Any]:
        """Return the whole content as plain data, for tests and fsck: the same from every kind of store."""
        ...
