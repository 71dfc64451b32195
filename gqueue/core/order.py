"""The order of jobs: by rank, then by sequence.

Decides what a job's rank is and how entries are written into sorted sets, so that Redis sorts them as Python does.
A change must keep ties exact: the score is the rank alone, the sequence stands at the head of the member.
"""

from typing import NamedTuple


class Entry(NamedTuple):
    """A job as the queue keeps it: rank and sequence order it, the record is opaque."""

    rank: float
    sequence: int
    record: bytes


def rank_of(priority: float, aging_per_second: float, age_ms: int) -> float:
    """Return the rank of a job that is enqueued *age_ms* after the queue's epoch.

    Aging is static: all jobs age alike, so a later one is ranked worse once and nothing is scored anew.
    """
    if aging_per_second == 0:
        return priority
    return priority + aging_per_second * (age_ms / 1000)


def member(sequence: int, job_id: str) -> str:
    """Return the member of a sorted set: 13 hex digits, which sort as the numbers do, then the id."""
    return f"{sequence:013x}{job_id}"


def entry_size(entry: Entry) -> int:
    """Return how many bytes the entry takes in the `jobs` hash: sequence, rank, a space, the record."""
    return 13 + len(f"{entry.rank:.17g}") + 1 + len(entry.record)
