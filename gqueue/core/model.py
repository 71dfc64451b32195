"""The words of the queue as values: what goes into its operations and what comes out.

Decides what a valid job, policy or setting is; leaves what happens to them to the other modules of the core.
All times are int milliseconds since the Unix epoch, on the server's clock; all values are immutable. What the hot
path makes once a job is a NamedTuple, which costs half of a frozen attrs class; all else is attrs.
"""

import math
import re
from collections.abc import Sequence
from enum import Enum
from typing import NamedTuple, Protocol

from attrs import field, frozen

from gqueue.core.durability import Safety
from gqueue.errors import BadName, BadSetting

MAX_SEQUENCE = 2**52
"""Sequences fit 13 hex digits; 2**52 at 100,000 jobs/s last 1,400 years."""

MOVE_LIMIT = 1_000
"""Most elements that one call moves: keeps a script under some milliseconds, and `unpack` in Lua from overflowing."""

LONGEST_LEASE_MS = 86_400_000
"""A day: no queue has a longer lease, so one that is kept in Redis and is longer was damaged."""

MOVE_BYTES = 4 * 1024 * 1024
"""Most bytes of records that one call touches, unless a single one is larger."""

TICKET_MS = 2_000
"""How long a ticket lives without being renewed: a dead producer holds the others up for no longer."""

AWAITED_MS = 5_000
"""How long a note that someone waits for a job's outcome lives without being renewed."""

LANE_MS = 7_200_000
"""How long a producer lane's last reply is kept, for a call that is sent again: for minutes, as `core.producer` has it.

The rest is for a server's clock that is stepped an hour ahead, as by a wrong time zone: a call that is sent again then
must not be carried out twice. It costs some 200 bytes a lane, and there is one for each caller at a time.
"""

LONGEST_NAME = 100
NAME_RULE = f"1 to {LONGEST_NAME} characters of A-Z a-z 0-9 . _ - : / @ +"
_NAME = re.compile(rf"[A-Za-z0-9._:/@+-]{{1,{LONGEST_NAME}}}")


def check_name(kind: str, name: object) -> str:
    """Return *name* if it may name a queue, a task, a job or a worker; raise BadName, which tells the rule."""
    if isinstance(name, str) and _NAME.fullmatch(name):
        return name
    shown = repr(name) if len(repr(name)) <= 60 else repr(name)[:57] + "..."
    raise BadName(f"{shown} cannot name a {kind}: a name has {NAME_RULE}")


def check_priority(priority: object) -> float:
    """Return *priority* as a float (-0.0 as 0.0); raise BadSetting if it is not a finite number."""
    try:
        if isinstance(priority, bool) or not isinstance(priority, int | float) or not math.isfinite(priority):
            raise BadSetting(f"priority {priority!r} is not a finite number; lower runs first, 0 is usual")
    except OverflowError:  # not shown: an int may have more digits than Python would print
        raise BadSetting("priority is an int that is too large for a float; lower runs first, 0 is usual") from None
    return float(priority) + 0.0


class State(Enum):
    """Where a job is. A suspect, and an attempt that failed and will be repeated, count as ready and scheduled."""

    SCHEDULED = "scheduled"
    READY = "ready"
    RUNNING = "running"
    SUCCEEDED = "succeeded"
    DEAD = "dead"
    CANCELLED = "cancelled"
    UNKNOWN = "unknown"


class Reason(Enum):
    """Why a job is among the dead letters."""

    FAILED = "failed"
    TIMED_OUT = "timed_out"
    STUCK = "stuck"
    REJECTED = "rejected"
    WORKER_LOST = "worker_lost"
    UNKNOWN_TASK = "unknown_task"
    BAD_RECORD = "bad_record"
    BAD_SIGNATURE = "bad_signature"
    BAD_RESULT = "bad_result"
    SHED = "shed"


class WhenFull(Enum):
    """What a producer wants when the queue has no room for its job."""

    WAIT = "wait"
    REJECT = "reject"
    SHED = "shed"


class Left(Enum):
    """What a worker's claim left behind."""

    NOTHING = "nothing"
    MORE = "more"
    PAUSED = "paused"


class Ask(Enum):
    """What an operator may ask of a worker; its heartbeat learns of it."""

    QUIET = "quiet"
    STOP = "stop"


def _positive(_instance: object, attribute: "object", value: float) -> None:
    if not value > 0:
        raise BadSetting(f"{getattr(attribute, 'name', attribute)} must be above 0, not {value!r}")


class _Span(Protocol):
    """A timedelta; the core imports no datetime."""

    def total_seconds(self) -> float: ...


def _number(value: float | _Span) -> float:
    plain: object = value if isinstance(value, int | float) else getattr(value, "total_seconds", lambda: None)()
    try:
        if isinstance(plain, int | float) and not isinstance(plain, bool):
            return float(plain)
    except OverflowError:
        raise BadSetting("Backoff: an int that is too large for a float") from None
    raise BadSetting(f"Backoff: {value!r} is neither a number nor a timedelta")


@frozen
class Backoff:
    """How long to wait before the next attempt: full jitter over an exponential, `retry.backoff_ms`.

    Args:
        base: seconds (or a timedelta) before the second attempt at most, > 0.
        cap: seconds (or a timedelta) at most, >= base.
        factor: growth from one attempt to the next, >= 1.
    """

    base: float = field(default=1.0, validator=_positive, converter=_number)
    cap: float = field(default=600.0, validator=_positive, converter=_number)
    factor: float = field(default=2.0, converter=_number)

    def __attrs_post_init__(self) -> None:
        if not (math.isfinite(self.cap) and self.cap >= self.base):
            raise BadSetting(f"Backoff: cap ({self.cap!r} s) must be finite and at least base ({self.base!r} s)")
        if not (math.isfinite(self.factor) and self.factor >= 1):
            raise BadSetting(f"Backoff: factor must be at least 1, not {self.factor!r}")


@frozen
class Rules:
    """The numbers that the queue's operations depend on; every process brings its own with each call.

    Args:
        lease_ms: how long a worker may be silent before its jobs run elsewhere. The longest that a registered
            worker brought is in force, so processes of different settings cannot fence each other early.
        max_crashes: a job that lost so many workers is buried; one fewer makes it a suspect. At least 1.
        letters_max, letters_ms, shed_max: dead letters kept: how many, how long, and how many shed ones.
        result_ttl_ms: how long an outcome that no worker recorded (reap, shed) is kept.
        aging_per_second: added to the rank for each second after the queue's epoch; 0 is off.
    """

    lease_ms: int = field(default=30_000, validator=_positive)
    max_crashes: int = field(default=3, validator=_positive)
    letters_max: int = field(default=10_000, validator=_positive)
    letters_ms: int = field(default=30 * 86_400_000, validator=_positive)
    shed_max: int = field(default=1_000, validator=_positive)
    result_ttl_ms: int = 300_000
    aging_per_second: float = 0.0


class NewJob(NamedTuple):
    """A job on its way into the queue. *record* is opaque to the queue, and not shown; *delay_ms* > 0 schedules it."""

    id: str
    priority: float
    delay_ms: int
    record: bytes

    def __repr__(self) -> str:
        return f"NewJob({self.id!r}, {self.priority!r}, {self.delay_ms!r}, <{len(self.record)} bytes>)"


class ClaimedJob(NamedTuple):
    """A job in a worker's hands, with its failed attempts and the workers that it lost so far."""

    id: str
    record: bytes
    failures: int
    crashes: int

    def __repr__(self) -> str:
        return f"ClaimedJob({self.id!r}, <{len(self.record)} bytes>, {self.failures!r}, {self.crashes!r})"


class Place(NamedTuple):
    """A producer's place in the line for room: by rank of its job, then by number (order of arrival)."""

    rank: float
    number: int


@frozen
class Ticket:
    """A producer in line: its name is `PRODUCER.N`; *place* is None until the first reply gave it one."""

    name: str
    place: Place | None = None


@frozen
class Admission:
    """The reply to an enqueue.

    *accepted* jobs, a prefix of the batch, are in (those at the indexes *taken* had been before, under the same id).
    If some are not, *place* tells where the producer now stands in line (*ahead*: waiters before it), or is None:
    refused. *depth* and *capacity* are those after the call. *safety* is what had the accepted ones, if that was asked.
    """

    accepted: int
    taken: tuple[int, ...]
    depth: int
    capacity: int
    place: Place | None = None
    ahead: int = 0
    safety: Safety | None = None


class Settlement(NamedTuple):
    """What a worker records of a job that ended otherwise than well and without a result; made by `retry.settle`.

    *move* is one of succeed, retry, bury, cancel (lifecycle.Move values). *delay_ms* is for retry, *reason* and
    *report* (JSON: error and traceback) for bury. *outcome* is what the job's handle will read, kept *ttl_ms*
    (0: not at all); of a retry only *ttl_ms* matters, in case the job was cancelled meanwhile.
    """

    job_id: str
    move: str
    delay_ms: int = 0
    reason: str = ""
    report: bytes = b""
    outcome: bytes = b""
    ttl_ms: int = 0


class WorkerCall(NamedTuple):
    """What a worker's call brings: ids of jobs that succeeded and leave no result, all others that ended, a limit."""

    done: Sequence[str]
    settlements: Sequence[Settlement]
    limit: int


@frozen
class Claim:
    """The reply to settle_and_claim.

    *jobs*, best first. *skipped*: settled ids that this worker did not hold; nothing was recorded of them.
    *left* tells whether another claim now would find jobs; *due_in_ms* when the next scheduled one is due (None: none).
    """

    jobs: tuple[ClaimedJob, ...]
    skipped: tuple[str, ...]
    left: Left
    due_in_ms: int | None


@frozen
class Beat:
    """The reply to a heartbeat: running jobs of this worker to be cancelled, what is asked of it, how many it holds.

    *warning*: what an operator should be told of the store, once.
    """

    cancels: tuple[str, ...]
    asked: Ask | None
    held: int
    warning: str = ""


@frozen
class Reaped:
    """How many jobs of a lapsed worker went where, which are dead, and how many are left for the next call."""

    ready: int
    suspect: int
    buried: tuple[str, ...]
    cancelled: int
    left: int


@frozen
class Letter:
    """A dead letter: the job's record, why it died and after what."""

    job_id: str
    reason: Reason
    died_at_ms: int
    failures: int
    crashes: int
    report: bytes
    record: bytes = field(repr=False)


@frozen
class Look:
    """What the queue knows of a job: its state, and, once it is done, the outcome as recorded (b"": not kept).

    Of a dead letter also why it died: *reason* and *report*, which are there for as long as the letter is.
    """

    state: State
    outcome: bytes = b""
    failures: int = 0
    crashes: int = 0
    reason: Reason | None = None
    report: bytes = b""


@frozen
class Stats:
    """The queue in numbers. *counters* are totals since the queue's epoch, by name; see `scheduling.COUNTERS`."""

    ready: int
    suspects: int
    scheduled: int
    running: int
    dead: int
    shed: int
    waiters: int
    workers: int
    lapsed: int
    capacity: int
    paused: bool
    counters: dict[str, int]

    @property
    def depth(self) -> int:
        """Return how many jobs wait: ready, suspect and scheduled. This is what the capacity bounds."""
        return self.ready + self.suspects + self.scheduled
