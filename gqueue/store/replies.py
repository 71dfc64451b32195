"""What the scripts answer, read into the values of the model.

The shape of an answer is the script's and is not checked; what only Redis kept is read whatever it is, since a job that
somebody damaged must not stop the others: a counter that is none is 0, and an id that is not UTF-8 is escaped
(`surrogateescape`), and sent back as it was (`connection.pack`).
"""

import re
from collections.abc import Iterator, Sequence
from typing import Any

from gqueue.core.model import Admission, Ask, Beat, Claim, ClaimedJob, Left, Letter, Look, Place, Reason, State, Stats
from gqueue.store.codec import BadRecord, state_of

LARGEST = 2**53
"""A counter is smaller: Lua counts in doubles."""

_ASKED = {what.value.encode(): what for what in Ask}
_LEFT = {left.value.encode(): left for left in Left}
_STATES = {state.value.encode(): state for state in State}
_LETTER = re.compile(rb"(\S+) (\d+) (\d+) (\d+)")
LATEST_MS = 253_402_300_799_999  # the year 9999, with which Python's datetime ends
_REASONS = {reason.value.encode(): reason for reason in Reason}


def admission(text: bytes) -> Admission:
    """Read `ACCEPTED DEPTH CAPACITY PLACE_RANK PLACE AHEAD TAKEN,TAKEN,...`, where `-` stands for none."""
    accepted, depth, capacity, rank, number, ahead, taken = text.split(b" ")
    return Admission(
        accepted=int(accepted),
        taken=() if taken == b"-" else tuple(map(int, taken.split(b","))),
        depth=int(depth),
        capacity=int(capacity),
        place=None if number == b"-" else Place(float(rank), int(number)),
        ahead=int(ahead),
    )


def claim(reply: Sequence[Any]) -> Claim:
    """Read {"ok", left, due_in_ms, {skipped}, {id, entry, ...}, {failures}, {crashes}}."""
    _, left, due, skipped, found, failures, crashes = reply
    ids = [text(job_id) for job_id in found[::2]]
    records = [record_of(entry) for entry in found[1::2]]
    if failures or crashes:
        attempts = [count(n) for n in failures] or [0] * len(ids)
        lost = [count(n) for n in crashes] or [0] * len(ids)
        jobs = tuple(map(ClaimedJob, ids, records, attempts, lost))
    else:
        jobs = tuple([ClaimedJob(job_id, record, 0, 0) for job_id, record in zip(ids, records, strict=True)])
    return Claim(jobs, texts(skipped), _LEFT[left], int(due) if due else None)


def record_of(entry: bytes) -> bytes:
    """Return the record of an entry of `jobs`: what follows the first space behind the sequence; all if damaged."""
    return entry[entry.find(b" ", 13) + 1 :]


def beat(reply: Sequence[Any]) -> Beat:
    """Read {"ok", held, asked or "", {cancels}}."""
    _, held, asked, cancels = reply
    return Beat(texts(cancels), _ASKED.get(asked), held)


def claimed(found: Sequence[Any]) -> tuple[ClaimedJob, ...]:
    """Read {id, entry, failures, crashes, ...}."""
    return tuple(
        ClaimedJob(text(job_id), record_of(entry), count(failures), count(crashes))
        for job_id, entry, failures, crashes in _groups(found, 4)
    )


def looks(found: Sequence[Any]) -> tuple[Look, ...]:
    """Read {state, failures, crashes, outcome, reason, report, ...}."""
    return tuple(
        Look(state(word, outcome), outcome, count(failures), count(crashes), _REASONS.get(reason), report)
        for word, failures, crashes, outcome, reason, report in _groups(found, 6)
    )


def state(word: bytes, outcome: bytes = b"") -> State:
    """Read a state; of a job that is `finished`, its outcome tells which, or nobody can: unknown."""
    if word != b"finished":
        return _STATES[word]
    try:
        return _STATES.get(state_of(outcome).encode("utf-8", "replace"), State.UNKNOWN)
    except BadRecord:
        return State.UNKNOWN


def stats(reply: Sequence[Any]) -> Stats:
    """Read {"ok", ready, suspects, ..., paused, {totals}}: see the head of stats.lua."""
    ready, suspects, scheduled, jobs, dead, shed, waiters, workers, lapsed, capacity, paused = map(count, reply[1:12])
    return Stats(
        ready=ready,
        suspects=suspects,
        scheduled=scheduled,
        running=max(0, jobs - ready - suspects - scheduled),
        dead=dead,
        shed=shed,
        waiters=waiters,
        workers=workers,
        lapsed=lapsed,
        capacity=capacity,
        paused=bool(paused),
        counters={text(name): count(total) for name, total in _groups(reply[12], 2)},
    )


def letters(found: Sequence[Any]) -> tuple[Letter, ...]:
    """Read {id, letter, ...}; a letter that was damaged is told as one of a bad record, and a number in it as 0."""
    return tuple(_letter(text(job_id), letter) for job_id, letter in _groups(found, 2))


def _letter(job_id: str, written: bytes) -> Letter:
    head, _, rest = written.partition(b"\n")
    report, _, entry = rest.partition(b"\n")
    parts = _LETTER.fullmatch(head)
    if parts is None or parts[1] not in _REASONS:
        return Letter(job_id, Reason.BAD_RECORD, 0, 0, 0, b"", written)
    failures, crashes, died_at_ms = map(count, parts.groups()[1:])
    died_at_ms = died_at_ms if died_at_ms <= LATEST_MS else 0
    return Letter(job_id, _REASONS[parts[1]], died_at_ms, failures, crashes, report, record_of(entry))


def texts(found: Sequence[bytes]) -> tuple[str, ...]:
    """Read ids."""
    return tuple([text(job_id) for job_id in found])


def text(raw: bytes) -> str:
    """Read an id, of any bytes."""
    return raw.decode("utf-8", "surrogateescape")


def count(raw: bytes | int | None) -> int:
    """Read a counter; 0 if there is none or it was damaged."""
    if not raw:
        return 0
    try:
        number = int(raw)
    except ValueError:
        return 0
    return number if 0 <= number < LARGEST else 0


def _groups(found: Sequence[Any], size: int) -> Iterator[Any]:
    return zip(*(found[at::size] for at in range(size)), strict=True)
