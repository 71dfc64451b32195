"""Tasks: registered functions, their options, and the jobs prepared from them.

Decides what can be a task and what a job's record says; leaves sending to the queue. A prepared job is complete: its
arguments are encoded, so that bad ones are refused on the line that passed them, and later changes do not show.
"""

import inspect
import os
from binascii import b2a_base64
from collections.abc import Callable
from datetime import timedelta
from functools import update_wrapper
from typing import TYPE_CHECKING, Any, Generic, Literal, ParamSpec, TypeAlias, TypeVar

from gqueue.config import Seconds, to_count, to_durability, to_ms, to_wait_ms
from gqueue.core.durability import Durability
from gqueue.core.model import Backoff, NewJob, WhenFull, check_name, check_priority
from gqueue.errors import BadSetting, NotATask
from gqueue.job import JobHandle
from gqueue.store.codec import PRIORITY, Record, check_payload, check_sensitive

if TYPE_CHECKING:
    from gqueue.queue import Queue

P = ParamSpec("P")
R = TypeVar("R")
R_co = TypeVar("R_co", covariant=True)

Terms: TypeAlias = tuple[WhenFull, int | None, Durability | None]

WhenFullName = Literal["wait", "reject", "shed"]


_LETTERS = bytes.maketrans(b"+/", b"01")


def new_job_id() -> str:
    """Return an id that no other job has: 14 letters and digits, 82 random bits; a forked child draws its own.

    Redis has it twice for each job that waits, and its allocator rounds to 16 bytes: one character more would take 16.
    """
    return b2a_base64(os.urandom(11))[:14].translate(_LETTERS).decode()


class PreparedJob(Generic[R_co]):
    """A job that is ready to be enqueued; it has its id already, and enqueuing it twice puts it in once.

    *terms*: its policy, how long it waits for room (ms; None: for ever), and what must have it. The jobs of one round
    trip have them in common.
    """

    __slots__ = ("new", "queue", "terms")

    def __init__(self, queue: "Queue", new: NewJob, terms: Terms) -> None:
        self.queue, self.new, self.terms = queue, new, terms

    @property
    def id(self) -> str:
        """Return the id that the job will have."""
        return self.new.id

    def enqueue(self) -> JobHandle[R_co]:
        """Put the job into its queue, as `Task.enqueue` does."""
        return self.queue.enqueue(self)

    def __repr__(self) -> str:
        return f"<PreparedJob {self.new.id} for queue {self.queue.name!r}>"


class Options(Generic[P, R]):
    """A task with options for the jobs that are enqueued through it; made by `Task.options`."""

    __slots__ = (
        "_delay_ms",
        "_job_id",
        "_max_attempts",
        "_priority",
        "_queue",
        "_result_ttl",
        "_sensitive",
        "_task_name",
        "_terms",
        "_timeout",
    )

    def __init__(
        self,
        task: "Task[P, R]",
        *,
        priority: float | None = None,
        delay: Seconds = 0,
        job_id: str | None = None,
        when_full: WhenFullName = "wait",
        wait_timeout: Seconds | None = None,
        durable: str | None = None,
        durable_timeout: Seconds | None = None,
        timeout: Seconds | None = None,
        max_attempts: int | None = None,
        result_ttl: Seconds | None = None,
    ) -> None:
        self._queue, self._task_name, self._sensitive = task.queue, task.name, task.sensitive
        self._priority = (task.priority if priority is None else check_priority(priority)) or PRIORITY
        self._delay_ms = to_ms("delay", delay)
        self._job_id = None if job_id is None else check_name("job", job_id)
        settings = task.queue.settings
        self._terms: Terms = (
            to_when_full(when_full),
            to_wait_ms(wait_timeout, settings.wait_ms),
            to_durability(durable, durable_timeout, settings.durable, settings.durable_ms),
        )
        self._timeout = None if timeout is None else to_ms("timeout", timeout, least=0.001) / 1000
        self._max_attempts = None if max_attempts is None else to_count("max_attempts", max_attempts)
        self._result_ttl = None if result_ttl is None else to_ms("result_ttl", result_ttl) / 1000

    def enqueue(self, *args: P.args, **kwargs: P.kwargs) -> JobHandle[R]:
        """Put a job into the queue that calls the task with these arguments; see `Task.enqueue`."""
        return self._queue.enqueue(self.job(*args, **kwargs))

    def job(self, *args: P.args, **kwargs: P.kwargs) -> PreparedJob[R]:
        """Return a job for `Queue.enqueue_many`; nothing is sent. Raises BadPayload, PayloadTooLarge."""
        check: Callable[[Any, str], None] = check_sensitive if self._sensitive else check_payload
        if args:
            check(args, "args")
        if kwargs:
            check(kwargs, "kwargs")
        job_id = self._job_id or new_job_id()
        record = self._queue.records.write(
            job_id,
            Record(
                self._task_name,
                list(args),
                kwargs,
                self._priority,
                self._timeout,
                self._max_attempts,
                self._result_ttl,
                self._sensitive,
            ),
        )
        new = NewJob(job_id, self._priority, self._delay_ms, record)
        return PreparedJob(self._queue, new, self._terms)


class Task(Generic[P, R]):
    """A registered function. Calling it runs it here and now; `enqueue` has a worker run it."""

    __name__: str

    def __init__(
        self,
        queue: "Queue",
        function: Callable[P, R],
        *,
        name: str | None = None,
        priority: float = 0.0,
        timeout: Seconds = timedelta(minutes=1),
        max_attempts: int = 3,
        backoff: Backoff | None = None,
        result_ttl: Seconds | None = None,
        sensitive: bool = False,
    ) -> None:
        function = check_function(function)
        update_wrapper(self, function, updated=())  # the function's own attributes must not hide the task's
        self.queue = queue
        self.function = function
        self.name = check_name("task", _name_of(function) if name is None else name)
        self.priority = check_priority(priority)
        self.timeout_ms = to_ms("timeout", timeout, least=0.001)
        self.max_attempts = to_count("max_attempts", max_attempts)
        if not isinstance(backoff, Backoff | None):
            raise BadSetting(f"backoff must be a gqueue.Backoff, not {backoff!r}")
        self.backoff = backoff or Backoff()
        kept_ms = queue.settings.rules.result_ttl_ms
        self.result_ttl_ms = kept_ms if result_ttl is None else to_ms("result_ttl", result_ttl)
        self.sensitive = sensitive
        self._plain: Options[P, R] = Options(self)

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R:
        """Call the function, here and now."""
        return self.function(*args, **kwargs)

    def enqueue(self, *args: P.args, **kwargs: P.kwargs) -> JobHandle[R]:
        """Put a job into the queue that calls the task with these arguments; wait while the queue is full.

        Without a wait_timeout, of the queue or of `options`, it waits for ever, and through an outage of Redis too.

        Raises:
            BadPayload, PayloadTooLarge: the arguments cannot be sent; nothing was.
            QueueFull: after the queue's wait_timeout; at once, if a task enqueues into a queue of its own worker.
            StoreUnavailable: with a wait_timeout, after the queue's retry_for.
            StoreFull: Redis is at its maxmemory.
            DurabilityUnconfirmed: the job is in, but not as safe as the queue's `durable` asks for.
            DurabilityUnsupported: the server cannot tell.
        """
        return self._plain.enqueue(*args, **kwargs)

    def job(self, *args: P.args, **kwargs: P.kwargs) -> PreparedJob[R]:
        """Return a job for `Queue.enqueue_many`; nothing is sent. Raises BadPayload, PayloadTooLarge."""
        return self._plain.job(*args, **kwargs)

    def options(
        self,
        *,
        priority: float | None = None,
        delay: Seconds = 0,
        job_id: str | None = None,
        when_full: WhenFullName = "wait",
        wait_timeout: Seconds | None = None,
        durable: str | None = None,
        durable_timeout: Seconds | None = None,
        timeout: Seconds | None = None,
        max_attempts: int | None = None,
        result_ttl: Seconds | None = None,
    ) -> Options[P, R]:
        """Return the task with options for its jobs: `add.options(priority=-5).enqueue(1, 2)`.

        Args:
            priority: lower runs first; None: the task's own, as for timeout, max_attempts and result_ttl.
            delay: seconds (or a timedelta) before the job may run; it takes room in the queue at once.
            job_id: an id of your own; while a job of this id waits, runs or is dead, enqueuing adds nothing.
            when_full: wait for room, be refused (QueueFull), or displace the least urgent ready job (else QueueFull).
            wait_timeout: seconds to wait for room at most, then QueueFull; None: as the queue says, and that is for
                ever, through an outage too, unless it was given one; math.inf: for ever.
            durable: what must have the job before the enqueue is done: 'replicas:N' (so many replicas, in memory),
                'fsync' (the server's append-only file, on disk; Redis 7.2) or 'fsync+replicas:N' (theirs too); 'off';
                None: as the queue says.
            durable_timeout: seconds to wait for that, then DurabilityUnconfirmed: the job is in nevertheless.
            timeout: seconds that an attempt may take.
            max_attempts: attempts before the job is dead.
            result_ttl: seconds that the result is kept; 0: not at all.
        """
        return Options(
            self,
            priority=priority,
            delay=delay,
            job_id=job_id,
            when_full=when_full,
            wait_timeout=wait_timeout,
            durable=durable,
            durable_timeout=durable_timeout,
            timeout=timeout,
            max_attempts=max_attempts,
            result_ttl=result_ttl,
        )

    def __repr__(self) -> str:
        return f"<Task {self.name!r} of queue {self.queue.name!r}>"


def to_when_full(value: str | WhenFull) -> WhenFull:
    """Return the policy of this name; raise BadSetting."""
    try:
        return WhenFull(value)
    except ValueError:
        raise BadSetting(f"when_full must be 'wait', 'reject' or 'shed', not {value!r}") from None


def check_function(function: Callable[P, R]) -> Callable[P, R]:
    """Return *function* if a worker can run it by calling it; raise NotATask, which tells why not."""
    if isinstance(function, Task):
        return function.function
    if not callable(function):
        raise NotATask(f"{function!r} cannot be called")
    called: Any = function if inspect.isroutine(inspect.unwrap(function)) else getattr(function, "__call__", function)  # noqa: B004
    for one in (function, called):
        if inspect.iscoroutinefunction(one) or inspect.isasyncgenfunction(one):
            raise NotATask(f"{_shown(function)} is an `async def`: tasks run on greenlets; write it as a plain `def`")
        if inspect.isgeneratorfunction(one):
            raise NotATask(f"{_shown(function)} is a generator: calling it runs nothing; return a list instead")
    if _is_method(function):
        raise NotATask(
            f"{_shown(function)} is a method: no worker has the object to call it on; "
            "write a function outside of the class, or a staticmethod"
        )
    return function


def _is_method(function: Callable[..., object]) -> bool:
    """Return whether *function* was defined in the body of a class and wants the object as its first argument."""
    path = getattr(function, "__qualname__", "").split(".")
    if not inspect.isfunction(function) or len(path) < 2 or path[-2] == "<locals>":
        return False
    return next(iter(inspect.signature(function).parameters), "") in ("self", "cls")


def _name_of(function: Callable[..., object]) -> str:
    name = getattr(function, "__name__", None)
    if name is None or name == "<lambda>":
        raise NotATask(f"{_shown(function)} has no name of its own: give one, as in @queue.task(name=...)")
    return str(name)


def _shown(function: Callable[..., object]) -> str:
    return getattr(function, "__qualname__", None) or repr(function)
