"""What becomes of a job after an attempt: done, again later, or a dead letter.

Decides by the outcome, the attempts made and the task's policy. Leaves the encoding of what is kept to the caller's
codec, and the doing to the store. Crashes are not counted here: whoever takes a lost worker's jobs back does that.
"""

from typing import NamedTuple, Protocol

from attrs import frozen

from gqueue.core.lifecycle import Move
from gqueue.core.model import Backoff, Reason, Settlement

UNKNOWN_TASK_MS = (15_000, 45_000)
"""Shortest and longest delay after an attempt at an unknown task: 30 s on average, a rolling deploy's next step."""

MAX_DELAY_MS = 10 * 365 * 86_400_000
"""Longest delay of a retry: that of `config.MAX_SECONDS`, far above any in use, far below 2**53."""


class Succeeded(NamedTuple):
    """The task returned; *value* is the encoded outcome, None if no result is kept."""

    value: bytes | None = None


_SUCCEED = Move.SUCCEED.value


@frozen
class Failed:
    """The task raised."""

    error: str
    traceback: str = ""


@frozen
class TimedOut:
    """The task ran past its time limit."""

    error: str
    traceback: str = ""


@frozen
class Cancelled:
    """The task was interrupted because the job was cancelled."""


@frozen
class Rejected:
    """Another attempt would be of no use: the task said so, or the record or the result is bad."""

    error: str
    reason: Reason = Reason.REJECTED
    traceback: str = ""


@frozen
class RetryAsked:
    """The task asked for another attempt, after *delay_ms* (None: as its backoff says)."""

    delay_ms: int | None = None
    traceback: str = ""


@frozen
class UnknownTask:
    """No task of this name is registered in this worker; another one may know it."""

    name: str


Outcome = Succeeded | Failed | TimedOut | Cancelled | Rejected | RetryAsked | UnknownTask


class Encoder(Protocol):
    """What makes the bytes that are kept; the module `gqueue.store.codec` is one."""

    def encode_death(self, reason: str, error: str, traceback: str = ...) -> bytes:
        """Return what the job's handle reads."""
        ...

    def encode_report(self, error: str, traceback: str = ...) -> bytes:
        """Return what an operator reads of the dead letter."""
        ...


def backoff_ms(attempt: int, policy: Backoff, jitter: float) -> int:
    """Return the delay before the next attempt, in milliseconds.

    Full jitter: uniform over [0, `envelope_ms(attempt, policy)`].
    Source: M. Brooker, "Exponential Backoff And Jitter", AWS Architecture Blog, 2015.

    Args:
        attempt: attempts that failed so far, >= 1, of any size.
        policy: base, cap and factor.
        jitter: a uniform draw from [0, 1), made by the caller.

    Raises:
        ValueError: attempt < 1, or jitter outside [0, 1).
    """
    return int(envelope_ms(attempt, policy) * _uniform(jitter))


def envelope_ms(attempt: int, policy: Backoff) -> float:
    """Return the longest delay after *attempt* failed attempts: min(cap, base * factor ** (attempt - 1)), in ms."""
    if attempt < 1:
        raise ValueError(f"attempt {attempt} is below 1")
    try:
        # The exponent is clamped to what a float can hold; a power that overflows all the same is above any cap.
        grown = policy.base * policy.factor ** min(attempt - 1, 2**53)
    except OverflowError:
        grown = policy.cap
    return min(policy.cap, grown) * 1000.0


def settle_success(job_id: str, value: bytes | None, result_ttl_ms: int) -> Settlement:
    """Return what to record of a job that ended with `Succeeded(value)`: what `settle` does, for what most end with."""
    return Settlement(job_id, _SUCCEED, 0, "", b"", value, result_ttl_ms) if value else Settlement(job_id, _SUCCEED)


def settle(
    outcome: Outcome,
    *,
    job_id: str,
    failures: int,
    max_attempts: int,
    backoff: Backoff,
    jitter: float,
    result_ttl_ms: int,
    encoder: Encoder,
) -> Settlement:
    """Return what to record of a job whose attempt ended with *outcome*.

    A failure is followed by another attempt while `failures + 1 < max_attempts`; a job is never tried more often.

    Args:
        failures: failed attempts before this one, >= 0.
        max_attempts: >= 1.
        jitter: a uniform draw from [0, 1), made by the caller.
        result_ttl_ms: how long the job's handle may read the outcome; 0: not at all.

    Raises:
        ValueError: a number outside its range.
    """
    if failures < 0 or max_attempts < 1:
        raise ValueError(f"failures {failures} must be at least 0, max_attempts {max_attempts} at least 1")
    match outcome:
        case Succeeded(value):
            return settle_success(job_id, value, result_ttl_ms)
        case Cancelled():
            return Settlement(job_id, Move.CANCEL.value, ttl_ms=result_ttl_ms)
    delay_ms = None if failures + 1 >= max_attempts else _delay_ms(outcome, failures + 1, backoff, jitter)
    if delay_ms is not None:
        return Settlement(job_id, Move.RETRY.value, delay_ms=delay_ms, ttl_ms=result_ttl_ms)
    reason, error, traceback = _death(outcome)
    return Settlement(
        job_id,
        Move.BURY.value,
        reason=reason.value,
        report=encoder.encode_report(error, traceback),
        outcome=encoder.encode_death(reason.value, error, traceback) if result_ttl_ms else b"",
        ttl_ms=result_ttl_ms,
    )


def _delay_ms(outcome: Outcome, attempt: int, backoff: Backoff, jitter: float) -> int | None:
    """Return how long to wait before the next attempt; None: there is to be none."""
    match outcome:
        case Failed() | TimedOut() | RetryAsked(delay_ms=None):
            return backoff_ms(attempt, backoff, jitter)
        case RetryAsked(delay_ms=int() as delay_ms):
            return max(0, min(delay_ms, MAX_DELAY_MS))
        case UnknownTask():
            shortest, longest = UNKNOWN_TASK_MS
            return shortest + int((longest - shortest) * _uniform(jitter))
    return None


def _death(outcome: Outcome) -> tuple[Reason, str, str]:
    match outcome:
        case Failed(error, traceback):
            return Reason.FAILED, error, traceback
        case TimedOut(error, traceback):
            return Reason.TIMED_OUT, error, traceback
        case Rejected(error, reason, traceback):
            return reason, error, traceback
        case RetryAsked(traceback=traceback):
            return Reason.FAILED, "Retry: asked for in the last attempt", traceback
        case UnknownTask(name):
            return Reason.UNKNOWN_TASK, f"no task {name!r} is registered in the workers of this queue", ""
        case _:
            raise TypeError(f"{outcome!r} is no outcome of a job that died")


def _uniform(jitter: float) -> float:
    if not 0 <= jitter < 1:
        raise ValueError(f"jitter {jitter} is outside [0, 1)")
    return jitter
