"""What is wrong with a queue's keys: facts that were read in, findings out.

Decides which of a queue's contents may not stand beside which, and whether a repair can mend it. It leaves reading
to `store.audit`, which looks at one job, worker or ticket at one moment; a fact is judged by one walk only, so that
one flaw is one finding. A change of what a script writes may need a change here: the test of random operations tells.
"""

import math
import re
from collections.abc import Mapping, Sequence
from enum import Enum
from typing import NamedTuple

from attrs import frozen

from gqueue.core.model import LONGEST_LEASE_MS
from gqueue.core.order import member
from gqueue.core.retry import MAX_DELAY_MS

IMPOSSIBLE_SEQUENCE = 2**51
"""No queue has given so many: a record or a place whose number reaches it was damaged, and is no reason to count on."""

NAMELESS = "running:"
"""The jobs of a worker without a name: no key of a queue, but a script would derive it from such a one."""

_LARGEST = 2**53
_BEYOND = {"sequence": IMPOSSIBLE_SEQUENCE, "places": IMPOSSIBLE_SEQUENCE, "lease": LONGEST_LEASE_MS + 1}
_CLAIM = re.compile(r"\d+ \d+")
_WHOLE = re.compile(r"-?\d{1,16}")


class Flaw(Enum):
    """What is wrong."""

    NO_PLACE = "no_place"
    TWO_PLACES = "two_places"
    WRONG_RANK = "wrong_rank"
    NEVER_DUE = "never_due"
    BAD_RECORD = "bad_record"
    NO_RECORD = "no_record"
    WRONG_SEQUENCE = "wrong_sequence"
    BAD_CLAIM = "bad_claim"
    BAD_LETTER = "bad_letter"
    BAD_NUMBER = "bad_number"
    WRONG_TIME = "wrong_time"
    NO_LETTER = "no_letter"
    NO_INDEX = "no_index"
    WRONG_LIST = "wrong_list"
    NO_JOB = "no_job"
    BAD_COUNTER = "bad_counter"
    LOST_WORKER = "lost_worker"
    TWO_LEASES = "two_leases"
    LEASE_AHEAD = "lease_ahead"
    BAD_CALL = "bad_call"
    BAD_LEASE = "bad_lease"
    NO_WORKER = "no_worker"
    NO_TICKET = "no_ticket"
    NO_WAITER = "no_waiter"
    UNKNOWN_KEY = "unknown_key"
    WRONG_TYPE = "wrong_type"
    NO_TTL = "no_ttl"
    HAS_TTL = "has_ttl"
    BAD_SETTING = "bad_setting"
    BAD_TOTAL = "bad_total"
    SEQUENCE_BEHIND = "sequence_behind"
    PLACES_BEHIND = "places_behind"
    UNBALANCED = "unbalanced"


REPAIRS: Mapping[Flaw, str] = {
    Flaw.NO_PLACE: "back to ready, with its rank and sequence",
    Flaw.TWO_PLACES: "keep the one that goes on: running, else suspect, ready, scheduled, dead",
    Flaw.WRONG_RANK: "score it by the rank in its record",
    Flaw.NEVER_DUE: "make it due now",
    Flaw.BAD_RECORD: "to the dead letters, as bad_record",
    Flaw.NO_RECORD: "remove it: there is nothing to run",
    Flaw.WRONG_SEQUENCE: "remove it; the job keeps the place that its record names",
    Flaw.BAD_CLAIM: "write it anew, as claimed now",
    Flaw.BAD_LETTER: "keep what is there as a letter of reason bad_record",
    Flaw.BAD_NUMBER: "count it as 0, a time as now; the rest of the letter stays",
    Flaw.WRONG_TIME: "score it by the time in its letter",
    Flaw.NO_LETTER: "remove it: there is no letter",
    Flaw.NO_INDEX: "list it again",
    Flaw.WRONG_LIST: "list it where its reason belongs",
    Flaw.NO_JOB: "remove it: there is no job",
    Flaw.BAD_COUNTER: "remove it: it counts as 0",
    Flaw.LOST_WORKER: "fence it, so that its jobs are taken back",
    Flaw.TWO_LEASES: "fence it, so that its jobs are taken back",
    Flaw.LEASE_AHEAD: "end the lease in one lease's time",
    Flaw.BAD_CALL: "fence it, so that its jobs are taken back",
    Flaw.BAD_LEASE: "remove it: the worker counts on the lease in force",
    Flaw.NO_WORKER: "remove it: there is no worker",
    Flaw.NO_TICKET: "remove it: its producer stands in line again when it asks",
    Flaw.NO_WAITER: "remove it: its producer stands in line again when it asks",
    Flaw.NO_TTL: "give it one",
    Flaw.HAS_TTL: "take it away",
    Flaw.BAD_SETTING: "forget it: the next call brings it",
    Flaw.BAD_TOTAL: "count from 0 again",
    Flaw.SEQUENCE_BEHIND: "raise it to the largest in use",
    Flaw.PLACES_BEHIND: "raise it to the largest in use",
    Flaw.UNBALANCED: "book the difference as `lost` or `found`",
}
"""What a repair does about a flaw; what is not here it leaves to a person."""


@frozen
class Finding:
    """One thing that is wrong.

    Args:
        flaw: what.
        key: where: the kind of key (`store.keys`), with its owner: `ready`, `running:w1`.
        name: the element of it: member, field, or "" for the key as a whole.
        job, worker: whom it concerns, "" if nobody.
        seen: what was found, for people.
        repair: what a repair does about it; "": nothing can be done, or it mends by itself.
        repaired: whether that was done.
    """

    flaw: Flaw
    key: str
    name: str
    seen: str
    repair: str
    job: str = ""
    worker: str = ""
    repaired: bool = False


class Held(NamedTuple):
    """A claim as it stands in `running:WORKER`; *standing* is registered, lapsed or "" (neither)."""

    worker: str
    claim: str
    standing: str


class JobSeen(NamedTuple):
    """All that the queue's keys say of one job, at one moment.

    *walk* is the key in which it was met (`jobs`, `running:w1`), *name* the element of it, *present* whether that
    still stands. *record* is "" (none), ok or damaged (its head: `sequence` and `rank` are then 0). *letter* is
    None, its reason, or "" if it was damaged; *numbers* are its failures, crashes and when it died. Scores are None
    where it does not stand; `attempts` and `crashes` are as written. *now_ms* is that moment.
    """

    walk: str
    name: str
    job: str
    present: bool
    record: str = ""
    sequence: int = 0
    rank: float = 0.0
    ready: float | None = None
    suspects: float | None = None
    scheduled: float | None = None
    runs: tuple[Held, ...] = ()
    letter: str | None = None
    letter_sequence: int = 0
    dead: float | None = None
    shed: float | None = None
    attempts: str | None = None
    crashes: str | None = None
    numbers: tuple[float, ...] = ()
    now_ms: float = 0.0


class WorkerSeen(NamedTuple):
    """All that is kept of one worker; times in ms, None: not there. *lease* is what it brought, as written."""

    worker: str
    until_ms: float | None
    lapsed_ms: float | None
    call: str | None
    asked: str | None
    held: int
    lease: str | None = None


class PlaceSeen(NamedTuple):
    """One place in the line of waiting producers: as `waiters` and as `tickets` have it."""

    name: str
    rank: float | None
    until_ms: float | None


class KeySeen(NamedTuple):
    """One key: its type ("none": gone), milliseconds to live (-1: for ever), and what its kind demands.

    *wanted* is "" if a queue has no such key.
    """

    key: str
    type: str
    ttl_ms: int
    wanted: str
    expires: bool


class TotalsSeen(NamedTuple):
    """The settings and counters, how many records there are, and the largest numbers met on the way."""

    meta: Mapping[str, str]
    stats: Mapping[str, str]
    jobs: int
    sequence: int = 0
    places: int = 0


def places_of(seen: JobSeen) -> tuple[str, ...]:
    """Return where a job stands, the place to be kept first.

    A running job comes first: its worker would be refused its outcome, and the job would run twice. Then what runs
    sooner, with care before without: a suspect runs alone. A letter comes last, since its job may be had again.
    """
    places = [f"running:{run.worker}" for run in sorted(seen.runs, key=_preference)]
    places += [kind for kind in ("suspects", "ready", "scheduled") if getattr(seen, kind) is not None]
    return (*places, "dead:jobs") if seen.letter is not None else tuple(places)


def _preference(run: Held) -> tuple[int, float, str]:
    standing = ("registered", "lapsed", "").index(run.standing)
    claimed_at = run.claim.rpartition(" ")[2]
    return standing, -float(claimed_at) if _CLAIM.fullmatch(run.claim) else 0.0, run.worker


def is_unreadable(seen: JobSeen, record_is_readable: bool) -> bool:
    """Return whether a worker could not run the job as it is recorded."""
    return seen.record == "damaged" or not record_is_readable or seen.sequence >= IMPOSSIBLE_SEQUENCE


def judge_job(seen: JobSeen, record_is_readable: bool = True) -> list[Finding]:
    """Return what is wrong with a job, as far as the walk on which it was met is to tell.

    *record_is_readable* matters on the walk of `jobs` alone.
    """
    if not seen.present:
        return []
    if seen.walk == "jobs":
        return _judge_record(seen, record_is_readable)
    if seen.walk in ("dead:jobs", "dead", "shed"):
        return _judge_letter(seen)
    worker = _walked_worker(seen)
    if not seen.record:
        waits = bool(worker) or seen.walk in ("ready", "suspects", "scheduled")
        return [_of_job(seen, Flaw.NO_RECORD if waits else Flaw.NO_JOB, "there is no record of the job")]
    if seen.walk in ("ready", "suspects") and seen.record == "ok":
        stands = member(seen.sequence, seen.job)
        if seen.name != stands:
            return [_of_job(seen, Flaw.WRONG_SEQUENCE, f"the record makes it {stands}")]
    for run in seen.runs:
        if run.worker == worker and not _CLAIM.fullmatch(run.claim):
            return [_of_job(seen, Flaw.BAD_CLAIM, f"{_short(run.claim)} is no claim")]
    if seen.walk in ("attempts", "crashes"):
        counter = getattr(seen, seen.walk)
        if not _is_counter(counter):
            return [_of_job(seen, Flaw.BAD_COUNTER, f"{_short(counter)} is no counter")]
    return []


def _judge_record(seen: JobSeen, record_is_readable: bool) -> list[Finding]:
    places = places_of(seen)
    if is_unreadable(seen, record_is_readable):
        by = next((run.worker for run in seen.runs if run.standing), "")
        text = "the record cannot be read"
        if by:  # it was handed out before or after the damage: either way its worker settles it
            return [Finding(Flaw.BAD_RECORD, "jobs", seen.name, f"{text}; {by} has the job in hand", "", seen.job, by)]
        return [_of_job(seen, Flaw.BAD_RECORD, text)]
    found = []
    if not [place for place in places if place != "dead:jobs"]:
        letter = " but as a dead letter" if places else ""
        found.append(_of_job(seen, Flaw.NO_PLACE, f"it stands nowhere{letter}"))
    elif len(places) > 1:
        found.append(_of_job(seen, Flaw.TWO_PLACES, f"it stands in {', '.join(places)}"))
    for kind in ("ready", "suspects"):
        score = getattr(seen, kind)
        if score is not None and score != seen.rank:
            text = f"its score in {kind} is {score!r}, its rank {seen.rank!r}"
            found.append(_of_job(seen, Flaw.WRONG_RANK, text))
    if seen.scheduled is not None and (seen.scheduled == -math.inf or _is_beyond(seen.scheduled, seen)):
        found.append(_of_job(seen, Flaw.NEVER_DUE, f"it is due at {seen.scheduled!r}"))
    return found


def _judge_letter(seen: JobSeen) -> list[Finding]:
    if seen.walk != "dead:jobs":
        if seen.letter is None:
            return [_of_job(seen, Flaw.NO_LETTER, "there is no letter of the job")]
        return []
    if not seen.letter:
        return [_of_job(seen, Flaw.BAD_LETTER, "its first lines cannot be read")]
    listed = tuple(kind for kind in ("dead", "shed") if getattr(seen, kind) is not None)
    belongs = ("shed",) if seen.letter == "shed" else ("dead",)
    if not listed:
        return [_of_job(seen, Flaw.NO_INDEX, "neither dead nor shed lists it")]
    if listed != belongs:
        return [_of_job(seen, Flaw.WRONG_LIST, f"died as {_short(seen.letter)}, listed in {', '.join(listed)}")]
    died_ms, listed_ms = seen.numbers[2], getattr(seen, belongs[0])
    if max(seen.numbers[:2]) >= _LARGEST or _is_beyond(died_ms, seen):
        return [_of_job(seen, Flaw.BAD_NUMBER, f"failures, crashes and time are {_numbers(seen.numbers)}")]
    if listed_ms != died_ms:
        return [_of_job(seen, Flaw.WRONG_TIME, f"died at {_numbers([died_ms])}, listed at {_numbers([listed_ms])}")]
    return []


def _is_beyond(time_ms: float, seen: JobSeen) -> bool:
    """Return whether *time_ms* is further ahead than gqueue takes any: nothing is due, or has died, there."""
    return time_ms > seen.now_ms + MAX_DELAY_MS


def judge_worker(seen: WorkerSeen, *, now_ms: float, lease_ms: float | None) -> list[Finding]:
    """Return what is wrong with a worker; *lease_ms* is the lease in force, None if unknown."""
    worker, registered = seen.worker, seen.until_ms is not None

    def found(flaw: Flaw, key: str, text: str) -> Finding:
        name = "" if key.startswith("running:") else worker
        return Finding(flaw, key, name, text, REPAIRS[flaw], worker=worker)

    if not worker:
        kept = {"workers": seen.until_ms, "lapsed": seen.lapsed_ms, "calls": seen.call, "asked": seen.asked}
        said = "no worker is without a name"
        return [found(Flaw.NO_WORKER, key, said) for key, value in kept.items() if value is not None]
    if registered and seen.lapsed_ms is not None:
        return [found(Flaw.TWO_LEASES, "workers", "it is registered and fenced")]
    findings = []
    if registered and not (seen.call is None or _is_counter(seen.call)):
        findings.append(found(Flaw.BAD_CALL, "calls", f"{_short(seen.call)} is no number of a call"))
    if seen.until_ms is not None and lease_ms is not None and seen.until_ms > now_ms + 2 * lease_ms:
        ahead = (seen.until_ms - now_ms) / 1000
        findings.append(
            found(Flaw.LEASE_AHEAD, "workers", f"its lease of {lease_ms / 1000:g} s ends in {ahead:,.0f} s")
        )
    if registered and seen.lease is not None and not _is_lease(seen.lease):
        findings.append(found(Flaw.BAD_LEASE, "leases", f"{_short(seen.lease)} is no lease"))
    if not registered:
        for key, value in (("calls", seen.call), ("asked", seen.asked), ("leases", seen.lease)):
            if value is not None:
                findings.append(found(Flaw.NO_WORKER, key, "no such worker is registered"))
        if seen.held and seen.lapsed_ms is None:
            text = f"{seen.held:,} jobs of a worker that is neither registered nor fenced"
            findings.append(found(Flaw.LOST_WORKER, f"running:{worker}", text))
    return findings


def judge_place(seen: PlaceSeen) -> list[Finding]:
    """Return what is wrong with a producer's place in the line."""
    if seen.until_ms is None and seen.rank is not None:
        text = "it stands in line without a ticket, and would hold up all who come"
        return [Finding(Flaw.NO_TICKET, "waiters", seen.name, text, REPAIRS[Flaw.NO_TICKET])]
    if seen.rank is None and seen.until_ms is not None:
        text = "a ticket that stands nowhere in the line"
        return [Finding(Flaw.NO_WAITER, "tickets", seen.name, text, REPAIRS[Flaw.NO_WAITER])]
    return []


def judge_key(seen: KeySeen) -> list[Finding]:
    """Return what is wrong with a key as a whole."""
    if seen.type == "none":
        return []
    if seen.key == NAMELESS:
        text = f"a {seen.type}: no worker is without a name, so nobody could settle what it holds"
        return [Finding(Flaw.UNKNOWN_KEY, seen.key, "", text, "delete it: its jobs go back to ready")]
    if not seen.wanted:
        return [Finding(Flaw.UNKNOWN_KEY, seen.key, "", f"a {seen.type}: no key that this version of gqueue knows", "")]
    if seen.type != seen.wanted:
        repair = "delete it: it holds no job" if seen.expires else ""
        return [Finding(Flaw.WRONG_TYPE, seen.key, "", f"a {seen.type}, not a {seen.wanted}", repair)]
    if seen.expires and seen.ttl_ms == -1:
        return [Finding(Flaw.NO_TTL, seen.key, "", "it would stay for ever", REPAIRS[Flaw.NO_TTL])]
    if not seen.expires and seen.ttl_ms >= 0:
        text = f"it will be gone in {seen.ttl_ms / 1000:,.0f} s"
        return [Finding(Flaw.HAS_TTL, seen.key, "", text, REPAIRS[Flaw.HAS_TTL])]
    return []


NUMBERS = ("sequence", "places", "largest", "capacity", "capacity_set", "lease", "seen", "epoch")
"""The fields of `meta` with which the scripts reckon."""

IN, OUT = ("enqueued", "redriven", "found"), ("succeeded", "cancelled", "dead", "shed", "purged", "lost")
"""The counters of all ways into `jobs` and out of it. `found` and `lost` are what a repair booked."""


def judge_totals(seen: TotalsSeen) -> list[Finding]:
    """Return what is wrong with settings and counters."""
    found = []
    for name in NUMBERS:
        text, least = seen.meta.get(name), 1 if name in ("capacity", "capacity_set", "lease") else 0
        most = _BEYOND.get(name, _LARGEST)
        if text is not None and not (_WHOLE.fullmatch(text) and least <= int(text) < most):
            found.append(
                Finding(Flaw.BAD_SETTING, "meta", name, f"{_short(text)} cannot be", REPAIRS[Flaw.BAD_SETTING])
            )
    if (text := seen.meta.get("paused", "1")) not in ("0", "1"):
        said = f"{_short(text)} is neither 1 nor 0, and counts as 0"
        found.append(Finding(Flaw.BAD_SETTING, "meta", "paused", said, "forget it: the queue is not paused"))
    flawed = {finding.name for finding in found}
    for name, flaw in (("sequence", Flaw.SEQUENCE_BEHIND), ("places", Flaw.PLACES_BEHIND)):
        last, largest = seen.meta.get(name, "0"), getattr(seen, name)
        if name not in flawed and int(last) < largest:
            text = f"{last} were given, but {largest} is in use: what comes would go first"
            found.append(Finding(flaw, "meta", name, text, REPAIRS[flaw]))
    bad = [name for name, total in seen.stats.items() if not _is_counter(total)]
    for name in sorted(bad):
        text = f"{_short(seen.stats[name])} is no total"
        found.append(Finding(Flaw.BAD_TOTAL, "stats", name, text, REPAIRS[Flaw.BAD_TOTAL]))
    if not bad and (surplus := balance(seen.stats, seen.jobs)):
        entered, left = (_sum(seen.stats, names) for names in (IN, OUT))
        text = f"{entered:,} came in and {left:,} went out, but {seen.jobs:,} are there: " + (
            f"{surplus:,} lost" if surplus > 0 else f"{-surplus:,} from nowhere"
        )
        found.append(Finding(Flaw.UNBALANCED, "stats", "", text, REPAIRS[Flaw.UNBALANCED]))
    return found


def balance(stats: Mapping[str, str], jobs: int) -> int:
    """Return how many jobs more came into the queue than went out and are there: above 0, these were lost."""
    return _sum(stats, IN) - _sum(stats, OUT) - jobs


def _sum(stats: Mapping[str, str], names: Sequence[str]) -> int:
    return sum(int(stats.get(name, "0")) for name in names)


def _of_job(seen: JobSeen, flaw: Flaw, text: str) -> Finding:
    return Finding(flaw, seen.walk, seen.name, text, REPAIRS[flaw], seen.job, _walked_worker(seen))


def _walked_worker(seen: JobSeen) -> str:
    return seen.walk.removeprefix("running:") if seen.walk.startswith("running:") else ""


def _is_counter(text: str | None) -> bool:
    return text is not None and bool(_WHOLE.fullmatch(text)) and 0 <= int(text) < _LARGEST


def _numbers(values: Sequence[float]) -> str:
    return ", ".join(f"{value:.16g}" for value in values)


def _is_lease(text: str) -> bool:
    return bool(_WHOLE.fullmatch(text)) and 1 <= int(text) <= LONGEST_LEASE_MS


def _short(value: object) -> str:
    shown = repr(value)
    return shown if len(shown) <= 60 else shown[:57] + "..."
