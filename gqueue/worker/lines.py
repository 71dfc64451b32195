"""The lines of the log that tell of jobs, on the logger `gqueue.jobs`; and those of the start.

Decides what a line says and how much of a value. Successes are lines only where they are asked for; what failed is
one always. A formatter that writes JSON finds the parts as attributes of the record (`extra`).
"""

import logging
import os
import platform
import reprlib
import time
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version
from itertools import islice
from typing import TYPE_CHECKING, Any

import gevent
import greenlet

from gqueue.config import WorkerOptions, name_shown, printable
from gqueue.core.model import LONGEST_NAME, Settlement
from gqueue.core.retry import Cancelled, Failed, Outcome, Rejected, RetryAsked, Succeeded, TimedOut, UnknownTask
from gqueue.worker.running import Interrupted, RunningJob

if TYPE_CHECKING:
    from gqueue.worker.pump import Pump

SHOWN_ARGUMENTS = 20
"""Most arguments that a line may show: of one digit each, they fill it."""

SHOWN_IDS = 20
"""Most jobs that a line names: a batch of the usual ids, and still a line."""

SHOWN_CHARS = 60
"""Longest form of the arguments, and of a value, in a line."""

WITHHELD = "<sensitive>"
"""In place of arguments and results of a task that was marked so."""

_logger = logging.getLogger("gqueue.jobs")
_worker = logging.getLogger("gqueue.worker")

_short = reprlib.Repr()
_short.maxstring = _short.maxother = _short.maxlong = 40
_short.maxlist = _short.maxdict = _short.maxtuple = 4
_short.maxlevel = 3


def started(options: WorkerOptions, pumps: "Sequence[Pump]", weights: Sequence[int]) -> None:
    """Write what starts: versions, slots; and of each queue the server, the tasks, the ids of keys."""
    _worker.info(
        "gqueue %s on Python %s, gevent %s, greenlet %s: process %d, %d slots",
        _version(),
        platform.python_version(),
        gevent.__version__,
        greenlet.__version__,
        os.getpid(),
        options.slots,
    )
    for pump, weight in zip(pumps, weights, strict=True):
        server = getattr(pump.store, "server", None)  # a store in memory has none
        keys = pump.queue.settings.signing_keys.keys  # their ids
        _worker.info(
            "queue %s%s at %s: tasks %s%s",
            pump.queue.name,
            "" if options.weights is None else f" (weight {weight})",
            server() if server is not None else pump.queue.url,
            ", ".join(sorted(pump.queue.tasks)) or "none",
            f"; runs only what is signed by key {' or '.join(keys)}" if keys else "",
        )


def _version() -> str:
    try:
        return version("gqueue")
    except PackageNotFoundError:  # a source tree on sys.path, not installed
        return "(not installed)"


def wanted(log_jobs: bool) -> bool:
    """Return whether each success is to be a line; asked once a batch."""
    return _logger.isEnabledFor(logging.INFO if log_jobs else logging.DEBUG)


def job_ended(
    job: RunningJob, outcome: Outcome | None, settlement: Settlement | None, shown: str, log_jobs: bool
) -> None:
    """Write the line of a job that ended; *outcome* is None if nothing is recorded.

    *shown* is the value in words, already: its own code must run under the job's limit, if any.
    """
    ms = (time.monotonic() - job.started) * 1000
    call = call_of(job)
    level = logging.INFO if log_jobs else logging.DEBUG
    if outcome is None:
        level, what = logging.INFO, f"{call} interrupted: {'its lease is lost' if job.lost else 'it is given back'}"
    elif isinstance(outcome, Succeeded):
        what = f"{call} = {WITHHELD if job.sensitive else shown}"
    elif isinstance(outcome, Cancelled):
        level, what = logging.INFO, f"{call} cancelled"
    else:
        level, what = logging.WARNING, f"{call} {_how(outcome)}; {_next(job, settlement)}"
    _logger.log(
        level,
        "%s  job %s slot %d priority %g %.0f ms",
        what,
        name_shown(job.job_id),
        job.slot,
        job.priority,
        ms,
        extra={
            "job_id": job.job_id[:LONGEST_NAME],
            "task": job.task_name,
            "queue": job.queue_name,
            "slot": job.slot,
            "priority": job.priority,
            "attempt": job.attempt,
            "ms": round(ms, 3),
            "outcome": "interrupted" if outcome is None else type(outcome).__name__,
        },
    )


def not_recorded(queue_name: str, job_ids: Sequence[str]) -> None:
    """Write that what came of these jobs here counts for nothing, whatever their own lines said before."""
    _worker.warning(
        "queue %s: the outcomes of %d jobs are not recorded, since this worker did not hold them any more; they run "
        "elsewhere, or did: %s",
        queue_name,
        len(job_ids),
        named(job_ids),
    )


def took_back(queue_name: str, worker_id: str, jobs: int, buried: Sequence[str]) -> None:
    """Write that jobs of a lapsed worker were taken back; and of each that is dead for it, a line."""
    _worker.warning(
        "queue %s: took %d jobs of worker %s back, whose lease is over; %d of them are dead",
        queue_name,
        jobs,
        name_shown(worker_id),
        len(buried),
    )
    for job_id in buried[:SHOWN_IDS]:
        _worker.warning(
            "queue %s: job %s is a dead letter (worker_lost): it ran on worker %s, and has lost as many workers as "
            "max_crashes allows",
            queue_name,
            name_shown(job_id),
            name_shown(worker_id),
        )
    if len(buried) > SHOWN_IDS:
        _worker.warning("queue %s: and so are %d more; see `gqueue dead list`", queue_name, len(buried) - SHOWN_IDS)


def named(job_ids: Sequence[str]) -> str:
    """Return the first of some ids, and how many more there are."""
    more = len(job_ids) - SHOWN_IDS
    return ", ".join(map(name_shown, job_ids[:SHOWN_IDS])) + (f", and {more} more" if more > 0 else "")


def stuck(job: RunningJob, outcome: Outcome | None, lost: int, slots: int) -> None:
    """Write that the job is given up, and its slot with it: *lost* of *slots* are gone."""
    became = "cancelled" if isinstance(outcome, Cancelled) else "a dead letter (stuck)"
    _worker.error(
        "job %s (%s) on slot %d swallowed %s %d times and is stuck: %s. The slot is written off, %d of %d are gone; "
        "%s must let BaseException through: catch Exception, and no bare except",
        name_shown(job.job_id),
        job.task_name,
        job.slot,
        "its time-out" if not isinstance(job.fate, Interrupted) else "its interrupt",
        job.hits,
        f"it is {became}" if outcome is not None else "its lease is lost, and it runs elsewhere",
        lost,
        slots,
        job.task_name,
    )


def stuck_ended(job: RunningJob) -> None:
    """Write that a stuck job ended after all."""
    _worker.warning(
        "job %s (%s) on slot %d ended after all, %.1f s after its limit: what came of it is dropped, since it was "
        "given up as stuck; the slot stays written off",
        name_shown(job.job_id),
        job.task_name,
        job.slot,
        time.monotonic() - job.deadline,
    )


def call_of(job: RunningJob) -> str:
    """Return a job as a call, shortened: `sum_first(10)`."""
    record = job.record
    if record is None:
        return "an unreadable record"
    if job.sensitive:
        return f"{name_shown(record.task)}({WITHHELD})"
    # More than fit are not even looked at: a record may hold half a million.
    parts = [shorten(value) for value in record.args[:SHOWN_ARGUMENTS]]
    parts += [
        f"{printable(_cut(name))}={shorten(value)}" for name, value in islice(record.kwargs.items(), SHOWN_ARGUMENTS)
    ]
    return f"{name_shown(record.task)}({_cut(', '.join(parts))})"


def shorten(value: Any, chars: int = SHOWN_CHARS) -> str:
    """Return the repr of *value* in about *chars* characters, whatever its size."""
    try:
        return _cut(printable(_short.repr(value)), chars)
    except ValueError:  # Python does not print an int of any size
        return f"<{type(value).__name__} too large to be shown>"


def _cut(text: str, chars: int = SHOWN_CHARS) -> str:
    return text if len(text) <= chars else text[: chars - 3] + "..."


def _one_line(text: str) -> str:
    return _cut(printable(" ".join(text[:1_000].split())), 200)


def _how(outcome: Outcome) -> str:
    match outcome:
        case UnknownTask():
            return "failed: no task of this name is registered here"
        case RetryAsked():
            return "asks for another attempt"
        case TimedOut(error):
            return f"timed out: {_one_line(error)}"
        case Failed(error) | Rejected(error):
            return f"failed: {_one_line(error)}"
        case _:
            return type(outcome).__name__


def _next(job: RunningJob, settlement: Settlement | None) -> str:
    if settlement is None or settlement.move == "bury":
        return "dead"
    return f"attempt {job.job.failures + 1} of {job.known.max_attempts}, again in {settlement.delay_ms / 1000:.1f} s"
