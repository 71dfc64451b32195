"""The dead letters of a queue, readable: what each job was, why it died, and how to bring it back.

Decides how a letter is shown; a record that cannot be read must not hide the others, or itself. One that breaks a limit
of records is as one that cannot be read.
"""

from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from functools import partial
from typing import TYPE_CHECKING, Any

from attrs import field, frozen

from gqueue.config import to_count
from gqueue.core.model import MOVE_LIMIT, Letter
from gqueue.job import carried
from gqueue.store import codec, records

if TYPE_CHECKING:
    from gqueue.queue import Queue


@frozen
class DeadLetter:
    """A job that will not run again by itself.

    Args:
        sensitive: its task was marked so: *args* and *kwargs* are empty here, whatever it was called with.
        task, args, kwargs, priority: what was to be called; task is None if *record* cannot be read, or breaks a limit.
        reason: failed, timed_out, stuck, rejected, worker_lost, unknown_task, bad_record, bad_signature, bad_result
            or shed.
        error, traceback: of the last attempt, the traceback as the worker saw it; "" if there is none.
        attempts: how often it was tried; *crashes* of these attempts ended with their worker.
        died_at: in UTC, by the server's clock.
        record: as stored, JSON.
    """

    id: str
    task: str | None
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    priority: float
    reason: str
    error: str
    traceback: str = field(repr=False)
    attempts: int
    crashes: int
    died_at: datetime
    record: bytes = field(repr=False)
    sensitive: bool = False


_Letters = list[DeadLetter]
_Ids = list[str]


class DeadLetters:
    """What `queue.dead` is. Jobs are given by their ids, or as the letters themselves."""

    def __init__(self, queue: "Queue") -> None:
        self._queue = queue

    def list(self, limit: int = 100, *, offset: int = 0, shed: bool = False) -> _Letters:
        """Return at most *limit* dead letters, newest first; those that were shed are a list of their own.

        Raises BadSetting: *limit* or *offset* is below 0.
        """
        to_count("limit", limit, least=0)
        to_count("offset", offset, least=0)
        found: _Letters = []
        while len(found) < limit:
            ask = min(MOVE_LIMIT, limit - len(found))
            some = carried(partial(self._queue.store.letters, offset=offset + len(found), limit=ask, shed=shed))
            found += [readable(letter, self._queue.settings.max_payload_bytes) for letter in some]
            if len(some) < ask:
                break
        return found

    def redrive(self, jobs: Iterable[str | DeadLetter] | str, *, force: bool = False) -> _Ids:
        """Put dead letters back into the queue, place kept and attempts forgotten, as many as there is room for.

        *force* passes the capacity. Returns the ids of those that went back.
        """
        back: _Ids = []
        for ids in _chunks(jobs):
            back += carried(partial(self._queue.store.redrive, ids, force=force))
        return back

    def delete(self, jobs: Iterable[str | DeadLetter] | str) -> int:
        """Forget dead letters; return how many there were."""
        return sum(carried(partial(self._queue.store.delete_letters, ids)) for ids in _chunks(jobs))


def readable(letter: Letter, max_bytes: int) -> DeadLetter:
    """Return *letter* with its record, of at most *max_bytes*, and its report decoded, as far as they can be."""
    task: str | None = None
    record = codec.Record("")
    try:
        record = records.read_buried(letter.record, max_bytes)
        task = record.task
    except codec.BadRecord:
        pass  # `reason` or `record` tells
    try:
        report = codec.decode_report(letter.report) if letter.report else codec.Report()
    except codec.BadRecord as unreadable:
        report = codec.Report(f"the report cannot be read: {unreadable}")
    return DeadLetter(
        id=letter.job_id,
        task=task,
        args=() if record.sensitive else tuple(record.args),
        kwargs={} if record.sensitive else record.kwargs,
        priority=record.priority,
        reason=letter.reason.value,
        error=report.error,
        traceback=report.traceback,
        attempts=letter.failures + letter.crashes,
        crashes=letter.crashes,
        died_at=datetime.fromtimestamp(letter.died_at_ms / 1000, UTC),
        record=letter.record,
        # Of one that cannot be read nobody knows: what looks like it is taken for it.
        sensitive=record.sensitive or (task is None and b'"sensitive"' in letter.record),
    )


def _chunks(jobs: Iterable[str | DeadLetter] | str) -> Iterator[_Ids]:
    given = [jobs] if isinstance(jobs, str) else jobs
    ids = [job if isinstance(job, str) else job.id for job in given]
    for start in range(0, len(ids), MOVE_LIMIT):
        yield ids[start : start + MOVE_LIMIT]
