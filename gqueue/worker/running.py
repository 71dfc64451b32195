"""A job on a slot, and the tasks that this worker can run.

Decides which limits hold for a job: its record's, else its task's. A running job is what `gqueue.job` asks about the
worker's side of it; everything of gqueue's own that a task calls goes through its `carry`.
"""

import math
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Protocol, TypeVar, cast

import gevent
from gevent.event import AsyncResult

from gqueue.config import MAX_SECONDS
from gqueue.core.dispatch import Why
from gqueue.core.model import Backoff, ClaimedJob
from gqueue.errors import BadPayload
from gqueue.store.base import Store
from gqueue.store.codec import BadRecord, Record

if TYPE_CHECKING:
    from gqueue.queue import Queue
    from gqueue.task import Task
    from gqueue.worker.progress import Progress

T = TypeVar("T")

NO_TASK = "?"
"""Name of the task of a job whose record cannot be read."""


ONE_TURN = 2
"""The highest priority of an idle watcher: it waits for one turn of the loop. With `sleep(0)`, a task that does nothing
but compute and report lets the loop see sockets and timers at every fiftieth report."""


class Interrupted(BaseException):
    """Raised inside a task that is to end; not an Exception, so that `except Exception` does not catch it.

    *why* is None if the job was cancelled.
    """

    def __init__(self, why: Why | None) -> None:
        self.why = why
        super().__init__("the job was cancelled" if why is None else f"the worker gives the job up: {why.value}")


def _ignore(_limit_s: float) -> None:
    """Stand in for the worker's `allow`."""


class Known:
    """A task as the worker runs it. *allow* is told of a job whose record gives it longer than its task."""

    __slots__ = ("allow", "backoff", "function", "limit_s", "max_attempts", "name", "result_ttl_ms", "sensitive")

    def __init__(
        self,
        name: str,
        function: Callable[..., Any],
        *,
        limit_s: float,
        max_attempts: int,
        backoff: Backoff,
        result_ttl_ms: int,
        sensitive: bool = False,
        allow: Callable[[float], None] = _ignore,
    ) -> None:
        self.name, self.function, self.limit_s = name, function, limit_s
        self.max_attempts, self.backoff, self.result_ttl_ms = max_attempts, backoff, result_ttl_ms
        self.sensitive, self.allow = sensitive, allow

    def under(self, record: Record) -> "Known":
        """Return the task with the options of a job's record in place of its own; raise BadRecord."""
        timeout, max_attempts, result_ttl = record.timeout, record.max_attempts, record.result_ttl
        if timeout is None and max_attempts is None and result_ttl is None and record.sensitive <= self.sensitive:
            return self
        if max_attempts is not None and max_attempts < 1:
            raise BadRecord(f"max_attempts {max_attempts} is below 1")
        kept_ms = self.result_ttl_ms if result_ttl is None else int(_seconds("result_ttl", result_ttl, 0.0) * 1000)
        limit_s = self.limit_s if timeout is None else _seconds("timeout", timeout, 0.001)
        if limit_s > self.limit_s:
            self.allow(limit_s)
        return Known(
            self.name,
            self.function,
            limit_s=limit_s,
            max_attempts=self.max_attempts if max_attempts is None else max_attempts,
            backoff=self.backoff,
            result_ttl_ms=kept_ms,
            sensitive=self.sensitive or record.sensitive,
        )


def _seconds(name: str, value: float, least: float) -> float:
    if not least <= value <= MAX_SECONDS:
        raise BadRecord(f"{name} {value} is outside {least:g} to {MAX_SECONDS:g} seconds")
    return value


def _nothing() -> None:
    """Stand in for the function of a job whose task is not known."""


class Tasks(dict[str, Known]):
    """The tasks of a queue by name; one that was registered after the start is found when its first job comes.

    `stranger` has the limits for jobs of which the task is not known: those that a task has by default.
    """

    def __init__(
        self,
        tasks: "Mapping[str, Task[..., Any]]",
        result_ttl_ms: int,
        allow: Callable[[float], None] = _ignore,
    ) -> None:
        super().__init__()
        self._registered, self._allow = tasks, allow
        self.stranger = Known(
            NO_TASK, _nothing, limit_s=60.0, max_attempts=3, backoff=Backoff(), result_ttl_ms=result_ttl_ms
        )

    def __missing__(self, name: str) -> Known:
        task = self._registered[name]
        known = self[name] = Known(
            name,
            task.function,
            limit_s=task.timeout_ms / 1000,
            max_attempts=task.max_attempts,
            backoff=task.backoff,
            result_ttl_ms=task.result_ttl_ms,
            sensitive=task.sensitive,
            allow=self._allow,
        )
        return known


class Home(Protocol):
    """Where a job came from, and where its outcome goes: the queue's pump."""

    queue: "Queue"
    store: Store
    worker_id: str
    progress: "Progress"
    max_payload_bytes: int

    def serves(self, url: str, queue_name: str) -> bool:
        """Return whether this process serves that queue."""
        ...


class RunningJob:
    """A claim on a slot: the worker's side of `gqueue.current_job()` (see `gqueue.job.Running`).

    Attributes:
        due: monotonic time of the next blow: the deadline, then a little after each blow.
        condemned: what it is to be interrupted with, before the deadline; may be set by the heartbeat's thread.
        fate: what it was hit with, if it was.
        known: its task, with its limits; until the record is read, that of a stranger.
        lost: the lease under which it was claimed is over, so its outcome is dropped.
        said: what it reported and was not sent yet; *saying*: that this is to be sent.
    """

    __slots__ = (
        "condemned",
        "deadline",
        "due",
        "fate",
        "hits",
        "home",
        "job",
        "known",
        "lost",
        "record",
        "said",
        "saying",
        "slot",
        "started",
        "worker_id",
    )

    def __init__(self, home: Home, job: ClaimedJob, slot: int, started: float, known: Known) -> None:
        self.home, self.job, self.slot, self.started = home, job, slot, started
        self.worker_id = home.worker_id
        self.record: Record | None = None
        self.known = known
        self.deadline = self.due = math.inf
        self.condemned: Interrupted | None = None
        self.fate: BaseException | None = None
        self.hits = 0
        self.lost = self.saying = False
        self.said = b""

    @property
    def given_back(self) -> bool:
        """Return whether it was interrupted because the grace is over: it goes on elsewhere, whatever it does here."""
        return isinstance(self.fate, Interrupted) and self.fate.why is Why.GRACE_OVER

    @property
    def job_id(self) -> str:
        """Return the job's id."""
        return self.job.id

    @property
    def task_name(self) -> str:
        """Return the name of its task."""
        return self.record.task if self.record is not None else NO_TASK

    @property
    def sensitive(self) -> bool:
        """Return whether nothing that it was given, returned or said may be shown; by its task, or by its record."""
        return self.known.sensitive or (self.record is not None and self.record.sensitive)

    @property
    def queue_name(self) -> str:
        """Return the name of its queue."""
        return self.home.queue.name

    @property
    def attempt(self) -> int:
        """Return the number of this attempt: failures and crashes both count."""
        return self.job.failures + self.job.crashes + 1

    @property
    def priority(self) -> float:
        """Return the priority it was enqueued with."""
        return self.record.priority if self.record is not None else 0.0

    def carry(self, call: Callable[[], T]) -> T:
        """Carry out *call* on a greenlet of the process; the job's time limit ends the waiting, not the call.

        A call that was cut short would leave a connection with half a reply, or a numbered call unanswered.
        """
        answer: AsyncResult[T] = AsyncResult()
        gevent.spawn(_answer, answer, call)
        return cast(T, answer.get())

    def serves(self, url: str, queue_name: str) -> bool:
        """Return whether this process serves that queue."""
        return self.home.serves(url, queue_name)

    def report_progress(self, data: bytes) -> None:
        """Have *data* sent, and give the hub one turn, for other jobs and what is to be sent of this one.

        Raises BadPayload: it is too large.
        """
        limit = self.home.max_payload_bytes
        if len(data) > limit:
            raise BadPayload("progress", f"it has {len(data):,} bytes, the limit is {limit:,} (max_payload_bytes)")
        self.home.progress.report(self, data)
        gevent.idle(ONE_TURN)

    def blow(self, now: float, again_after: float) -> BaseException:
        """Return what to raise in the task now, always the same; the next blow is due *again_after* s later."""
        if self.fate is None:
            self.fate = self.condemned or gevent.Timeout(self.known.limit_s)
        self.hits += 1
        self.due = now + again_after
        return self.fate


def _answer(answer: "AsyncResult[T]", call: Callable[[], T]) -> None:
    try:
        answer.set(call())
    except BaseException as error:  # noqa: BLE001 - it is the task's, which waits for it
        answer.set_exception(error)
