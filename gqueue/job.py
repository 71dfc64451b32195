"""A job as seen from outside, by its handle, and from inside, by `current_job()`.

Decides what a handle's answers mean. The waiting is done in `gqueue.outcomes`; what a worker knows of the job it runs
is its own (`Running` is all that this side asks of it). Never imports gevent: `Running.carry` is the only door to it.
"""

import time
from collections.abc import Callable
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, Generic, Protocol, TypeVar, cast

from gqueue.config import Seconds, to_ms
from gqueue.core.model import Look, Reason, State, check_priority
from gqueue.errors import JobCancelled, JobFailed, JobTimeout, ResultTimeout, UnknownJob, WouldDeadlock
from gqueue.store import codec, patience

if TYPE_CHECKING:
    from gqueue.queue import Queue

R = TypeVar("R")
R_co = TypeVar("R_co", covariant=True)
T = TypeVar("T")

ALIVE = frozenset((State.SCHEDULED, State.READY, State.RUNNING))


class Running(Protocol):
    """A worker's side of a running job; set in the job's own context."""

    # Read-only, so that a frozen value may stand for it.
    @property
    def job_id(self) -> str:
        """Return the job's id."""
        ...

    @property
    def task_name(self) -> str:
        """Return the name of its task."""
        ...

    @property
    def queue_name(self) -> str:
        """Return the name of its queue."""
        ...

    @property
    def attempt(self) -> int:
        """Return failures + crashes + 1."""
        ...

    @property
    def priority(self) -> float:
        """Return the priority in its record."""
        ...

    @property
    def slot(self) -> int:
        """Return the number of the slot, from 0."""
        ...

    @property
    def deadline(self) -> float:
        """Return when the time limit ends the attempt, on `time.monotonic()`."""
        ...

    def carry(self, call: Callable[[], T]) -> T:
        """Carry out *call* on a greenlet of the process; the job's time limit ends the waiting for it, not the call."""
        ...

    def serves(self, url: str, queue_name: str) -> bool:
        """Return whether this worker process itself serves that queue."""
        ...

    def report_progress(self, data: bytes) -> None:
        """Have *data* (JSON) kept for the job's handle, sooner or later or not at all; does not wait for the store."""
        ...


current: ContextVar[Running | None] = ContextVar("gqueue.current", default=None)
"""The job that runs in this context; None outside of a worker."""


def carried(call: Callable[[], T]) -> T:
    """Carry out a call to the store: here and now, or, inside a task, on a greenlet of the worker."""
    running = current.get()
    return call() if running is None else running.carry(call)


class CurrentJob:
    """The job that runs here, for the task's own eyes."""

    __slots__ = ("_running",)

    def __init__(self, running: Running) -> None:
        self._running = running

    @property
    def id(self) -> str:
        """Return the job's id."""
        return self._running.job_id

    @property
    def task(self) -> str:
        """Return the name of its task."""
        return self._running.task_name

    @property
    def queue(self) -> str:
        """Return the name of its queue."""
        return self._running.queue_name

    @property
    def attempt(self) -> int:
        """Return the number of this attempt, from 1; attempts that ended with their worker count."""
        return self._running.attempt

    @property
    def priority(self) -> float:
        """Return the priority it was enqueued with."""
        return self._running.priority

    @property
    def slot(self) -> int:
        """Return the number of the worker's slot, from 0."""
        return self._running.slot

    @property
    def deadline(self) -> float:
        """Return when the time limit ends this attempt, as a value of `time.monotonic()`."""
        return self._running.deadline

    @property
    def remaining(self) -> float:
        """Return the seconds until the deadline; negative once it is past."""
        return self._running.deadline - time.monotonic()

    def progress(self, value: object) -> None:
        """Have *value* (of the types that a result may have) kept for `JobHandle.progress` to read.

        It is a hint, and never fails or delays the job: the worker sends it while the task goes on, the latest value
        of each job some ten times a second at most. While Redis is away or full, values are dropped; the worker's log
        tells. At the end of the attempt the last value goes, sent or not.

        Raises BadPayload: another type is in it, or it is larger than the queue's max_payload_bytes.
        """
        self._running.report_progress(codec.encode_json(value, "progress"))

    def __repr__(self) -> str:
        return f"<CurrentJob {self.id} of {self.task}, attempt {self.attempt}>"


def current_job() -> CurrentJob | None:
    """Return the job that runs here; None in a plain call of the task, outside of a worker."""
    running = current.get()
    return None if running is None else CurrentJob(running)


class JobHandle(Generic[R_co]):
    """A job by its id, in any process; nothing is asked of Redis until a method is called.

    Every method may raise StoreUnavailable.
    """

    __slots__ = ("_id", "_queue")

    def __init__(self, queue: "Queue", job_id: str) -> None:
        self._queue, self._id = queue, job_id

    @property
    def id(self) -> str:
        """Return the job's id."""
        return self._id

    @property
    def queue(self) -> "Queue":
        """Return the queue that it is in."""
        return self._queue

    def status(self) -> str:
        """Return its state: scheduled, ready, running, succeeded, dead, cancelled or unknown.

        A job that failed and has attempts left is scheduled. Unknown: never enqueued, or done and no longer kept.
        """
        return self._look().state.value

    def wait(self, timeout: Seconds | None = None) -> bool:
        """Block until the job is done, whatever came of it; return False if it is not after *timeout* seconds.

        A job that the queue does not know counts as done. None waits for ever.
        """
        return self._wait(timeout) is not None

    def result(self, timeout: Seconds | None = None) -> R_co:
        """Return the value that the job returned, waiting for it at most *timeout* seconds; None waits for ever.

        Raises:
            JobFailed: it is dead; with reason, error and the worker's traceback.
            JobTimeout: it is dead, because its last attempt ran past its time limit.
            JobCancelled: it was cancelled.
            ResultTimeout: it is not done yet.
            UnknownJob: never enqueued, or its result was not kept, or is no longer.
            WouldDeadlock: inside a task, without *timeout*, on a queue that the task's own worker serves.
        """
        look = self._wait(timeout)
        if look is None:
            waited = f"{to_ms('timeout', timeout or 0) / 1000:g} s"
            raise ResultTimeout(f"job {self._id} of queue {self._queue.name!r} is not done after {waited}; it goes on")
        return cast(R_co, value_of(self._id, self._queue.name, look, self._queue.settings.max_payload_bytes))

    def cancel(self) -> bool:
        """Cancel the job if it waits; if it runs, have it interrupted.

        Return True if the job is cancelled now, by this call or an earlier one, or asked to be: a job that succeeds
        before the interrupt reaches it stays a success. False if it is dead, succeeded or not known (any longer).
        """
        queue = self._queue
        state = carried(lambda: queue.store.cancel(self._id, queue.settings.rules.result_ttl_ms))
        return state is State.CANCELLED or state is State.RUNNING

    def progress(self) -> Any:
        """Return what the running job last gave to `current_job().progress(...)`; None if nothing.

        Raises gqueue.store.codec.BadRecord (a ValueError): what Redis holds is no such thing.
        """
        data = carried(lambda: self._queue.store.progress(self._id))
        return None if data is None else codec.decode_json(data, self._queue.settings.max_payload_bytes)

    def set_priority(self, priority: float) -> bool:
        """Rank the job anew if it waits, its order of arrival kept; return False if it does not wait."""
        value = check_priority(priority)
        state = carried(lambda: self._queue.store.set_priority(self._id, value))
        return state is State.READY or state is State.SCHEDULED

    def _look(self, until: float | None = None) -> Look:
        return carried(lambda: patience.until(until, lambda: self._queue.store.look((self._id,))))[0]

    def _wait(self, timeout: Seconds | None) -> Look | None:
        """Return what the queue knows of the job once it is done; None after *timeout*."""
        queue, until = self._queue, None
        if timeout is not None:
            until = time.monotonic() + to_ms("timeout", timeout) / 1000
        elif (running := current.get()) is not None and running.serves(queue.url, queue.name):
            raise WouldDeadlock(
                f"job {self._id} may need the slot of the task that waits for it: queue {queue.name!r} is served by "
                "the task's own worker; give a timeout"
            )
        while True:
            try:
                look = self._look(until)
                if look.state not in ALIVE:
                    return look
                if until is not None and time.monotonic() >= until:
                    return None
                queue.producer.outcomes.wait(self._id, until)
            except patience.AllBusy:
                return None

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, JobHandle):
            return NotImplemented
        return (self._id, self._queue.name, self._queue.url) == (other._id, other._queue.name, other._queue.url)

    def __hash__(self) -> int:
        return hash((self._id, self._queue.name))

    def __repr__(self) -> str:
        return f"<JobHandle {self._id} of queue {self._queue.name!r}>"


def value_of(job_id: str, queue_name: str, look: Look, max_bytes: int | None = None) -> Any:
    """Return the value of a job that is done, or raise what came of it instead.

    A result larger than *max_bytes*, or that holds what no task could have sent, is one that cannot be read.
    """
    if look.state is State.UNKNOWN or (look.state is State.SUCCEEDED and not look.outcome):
        raise UnknownJob(job_id, queue_name)
    if look.state is State.CANCELLED:
        raise JobCancelled(job_id)
    try:
        if look.state is State.SUCCEEDED:
            return codec.decode_outcome(look.outcome, max_bytes).value
        reason, error, traceback = _death(look)
    except codec.BadRecord as unreadable:
        error = f"its outcome in the store cannot be read: {unreadable}"
        raise JobFailed(job_id, Reason.BAD_RESULT.value, error) from None
    raise (JobTimeout if reason == Reason.TIMED_OUT.value else JobFailed)(job_id, reason, error, traceback)


def _death(look: Look) -> tuple[str, str, str]:
    if look.outcome:
        death = codec.decode_death(look.outcome)
        return death.reason, death.error, death.traceback
    # The outcome is no longer kept; the dead letter still is.
    report = codec.decode_report(look.report) if look.report else codec.Report()
    return look.reason.value if look.reason else Reason.FAILED.value, report.error, report.traceback
