"""Every error that gqueue raises on purpose, named by what was refused.

Each says what happened, to which queue, job or key, and what to do next; what a program may want to look at
is an attribute. Where a builtin fits, an error derives from it too. This module imports nothing.
"""


class GqueueError(Exception):
    """The base of all errors of gqueue. They survive pickle and copy, with their attributes."""

    def __reduce__(self) -> tuple[object, ...]:
        # Exception's own calls __init__ again, with the finished text in place of what it was made of.
        return _rebuild, (type(self), self.args, self.__dict__)


def _rebuild(kind: type[GqueueError], args: tuple[object, ...], attributes: dict[str, object]) -> GqueueError:
    error = kind.__new__(kind, *args)
    error.args = args
    error.__dict__.update(attributes)
    return error


# What a producer may meet.


class QueueFull(GqueueError):
    """The queue had no room: the policy was to be refused, or the wait for room timed out.

    `queue`, `capacity` and `depth` (jobs waiting) tell where; `admitted` holds the ids of the jobs of this batch
    that went in before the queue was full, in order.
    """

    def __init__(self, queue: str, capacity: int, depth: int, why: str, admitted: tuple[str, ...] = ()) -> None:
        self.queue, self.capacity, self.depth, self.why, self.admitted = queue, capacity, depth, why, admitted
        went_in = f"; {len(admitted)} jobs of the batch went in before" if admitted else ""
        super().__init__(
            f"queue {queue!r} is full: {depth} jobs wait, capacity {capacity}: {why}{went_in}. "
            "Enqueue later, raise the capacity, or add workers."
        )


class StoreFull(GqueueError):
    """Redis refused to store more: it is at its maxmemory. Nothing of the call was written.

    `job_ids` are the jobs that are not in; `admitted` holds the ids of the jobs of the batch that went in before, in
    order.
    """

    def __init__(self, what: str, job_ids: tuple[str, ...] = (), admitted: tuple[str, ...] = ()) -> None:
        self.job_ids, self.admitted = job_ids, admitted
        super().__init__(what)


class StoreUnavailable(GqueueError, ConnectionError):
    """Redis could not be reached, or did not answer, for as long as the call may be retried.

    `job_ids` are the jobs that were on their way; `may_be_in` tells whether they may have been stored: the
    request was sent, and no reply came. `admitted` holds the ids of the jobs of the batch that are in, in order.
    """

    def __init__(
        self, what: str, job_ids: tuple[str, ...] = (), may_be_in: bool = False, admitted: tuple[str, ...] = ()
    ) -> None:
        self.job_ids, self.may_be_in, self.admitted = job_ids, may_be_in, admitted
        super().__init__(what)


class DurabilityUnconfirmed(GqueueError):
    """The jobs are in the queue and will run, but so many replicas, or the disk, had not confirmed them in time.

    `job_ids` are those jobs. `wanted` and `got` are in the words of `durable`, as in `replicas:2` and `replicas:1`;
    `admitted` holds the ids of all jobs of the batch that are in, in order. To wait again, enqueue them again under
    the same ids: that adds nothing. Of a batch, what came after them is not in: `left_out` jobs were taken from the
    iterable, and if any were, it may have had more.
    """

    def __init__(
        self,
        queue: str,
        job_ids: tuple[str, ...],
        wanted: str,
        got: str,
        admitted: tuple[str, ...] = (),
        left_out: int = 0,
    ) -> None:
        self.queue, self.job_ids, self.wanted, self.got, self.admitted = queue, job_ids, wanted, got, admitted
        self.left_out = left_out
        which = f"job {job_ids[0]} is" if len(job_ids) == 1 else f"{len(job_ids)} jobs, from {job_ids[0]} on, are"
        taken = "1 job was" if left_out == 1 else f"{left_out:,} jobs were"
        rest = (
            f" What came after them is not in: {taken} taken from the iterable and not sent, and no more was taken; "
            "enqueue all of that as well."
            if left_out
            else ""
        )
        super().__init__(
            f"queue {queue!r}: {which} in and will run, but not as safe as asked for: durable={wanted!r}, and within "
            f"durable_timeout there was {got!r}. A loss of the server now may lose them; "
            f"enqueue again under the same id to wait again.{rest}"
        )


class DurabilityUnsupported(GqueueError):
    """The store cannot tell whether jobs are as durable as asked for; `job_ids` are in the queue nevertheless."""

    def __init__(self, queue: str, wanted: str, why: str, job_ids: tuple[str, ...] = ()) -> None:
        self.queue, self.wanted, self.why, self.job_ids = queue, wanted, why, job_ids
        fate = f"{len(job_ids)} jobs, from {job_ids[0]} on, are in and will run" if job_ids else "nothing was enqueued"
        super().__init__(f"queue {queue!r}: durable={wanted!r} cannot be had: {why}; {fate}")


class CallRefused(GqueueError):
    """Redis refused a call for a reason that will not pass: no permission, a key of a wrong type, a faulty script."""

    def __init__(self, queue: str, operation: str, reason: str) -> None:
        self.queue, self.operation, self.reason = queue, operation, reason
        super().__init__(f"queue {queue!r}: Redis refused {operation}: {reason}")


class StoreTooOld(GqueueError):
    """The server is older than what the scripts need: Redis 6.2, or any Valkey."""


class PayloadTooLarge(GqueueError, ValueError):
    """A job's record is larger than `max_payload_bytes`; nothing was sent."""

    def __init__(self, job_id: str, size_bytes: int, limit_bytes: int) -> None:
        self.job_id, self.size_bytes, self.limit_bytes = job_id, size_bytes, limit_bytes
        super().__init__(
            f"job {job_id}: its record has {size_bytes:,} bytes, the limit is {limit_bytes:,} (max_payload_bytes). "
            "Store the data elsewhere and enqueue its key."
        )


class BadPayload(GqueueError, TypeError):
    """An argument or a result is of a type that JSON cannot give back; `path` names it, as in `args[0]['when']`."""

    def __init__(self, path: str, why: str) -> None:
        self.path = path
        super().__init__(f"{path}: {why}")


class BadName(GqueueError, ValueError):
    """A name of a queue, task or job breaks the rule; the message tells the rule."""


class BadSetting(GqueueError, ValueError):
    """A setting is outside its range, or cannot be read; the message names the setting and its source."""


class DuplicateTask(GqueueError, ValueError):
    """A queue has two tasks of one name."""


class NotATask(GqueueError, TypeError):
    """What was decorated cannot be a task: an `async def`, a lambda without a name, not callable."""


class UnknownTask(GqueueError, LookupError):
    """No task of this name is registered."""


class WouldDeadlock(GqueueError, RuntimeError):
    """A task asked to wait without a time-out for a job of a queue that its own worker serves."""


# What a job's handle may answer.


class JobFailed(GqueueError):
    """The job is among the dead letters; `reason`, `error` and `remote_traceback` tell why."""

    def __init__(self, job_id: str, reason: str, error: str, remote_traceback: str = "") -> None:
        self.job_id, self.reason, self.error, self.remote_traceback = job_id, reason, error, remote_traceback
        text = f"job {job_id} is dead ({reason}): {error}"
        if remote_traceback:
            text += f"\n\nThe traceback in the worker:\n{remote_traceback.rstrip()}"
        super().__init__(text)


class JobTimeout(JobFailed, TimeoutError):
    """The job ran past its time limit in its last attempt."""


class JobCancelled(GqueueError):
    """The job was cancelled."""

    def __init__(self, job_id: str) -> None:
        self.job_id = job_id
        super().__init__(f"job {job_id} was cancelled")


class ResultTimeout(GqueueError, TimeoutError):
    """The job was not done in the time that the caller would wait. It goes on."""


class UnknownJob(GqueueError, LookupError):
    """No job of this id: it was never enqueued, or its result was not kept, or is no longer."""

    def __init__(self, job_id: str, queue: str) -> None:
        self.job_id, self.queue = job_id, queue
        super().__init__(
            f"queue {queue!r} knows no job {job_id}: it was never enqueued, or it is done and its result is not kept "
            "(result_ttl)"
        )


# What a worker may meet.


class LeaseLost(GqueueError):
    """The worker was silent for longer than its lease: its jobs run elsewhere, and it may record nothing."""

    def __init__(self, worker: str) -> None:
        self.worker = worker
        super().__init__(f"worker {worker} has no lease any more: its jobs were given to others")


class StaleCall(GqueueError):
    """A numbered call is neither the next one nor among those that are answered again: nothing was applied."""

    def __init__(self, caller: str, call: int) -> None:
        self.caller, self.call = caller, call
        super().__init__(f"call {call} of {caller} was overtaken by a later one; nothing was applied")


class NotLapsed(GqueueError):
    """A worker whose jobs were to be taken back is not among the fenced ones."""

    def __init__(self, worker: str) -> None:
        self.worker = worker
        super().__init__(f"worker {worker} is not among the lapsed: it lives, or all its jobs were taken back")


class IllegalMove(GqueueError):
    """The lifecycle table has no such move from this state: a fault of gqueue."""


# What a task may raise to steer its own job.


class Retry(GqueueError):
    """Raise inside a task: end this attempt and run the job again after *delay* seconds (None: as the backoff says)."""

    def __init__(self, delay: float | None = None) -> None:
        self.delay = delay
        super().__init__("as the backoff says" if delay is None else f"after {delay} s")


class Reject(GqueueError):
    """Raise inside a task: the job can never succeed; bury it at once, with *why* as its error."""

    def __init__(self, why: str = "") -> None:
        self.why = why
        super().__init__(why)
