"""What a run of the fault campaign leaves behind: how it is written, and how it is read.

A run is a folder: `history/*.jsonl`, one append-only file a process, each line one JSON object, on disk before the call
returns; `depth.jsonl`, samples of the queue's depth; `run.json`, what was run, expected and reached; the workers' logs.
The rig, its tasks and producers write through `Recorder`, `DepthRecorder` and `write_run`; the checker reads through
`events`, `depths` and `read_run`. Nobody else knows the form.

    recorder = Recorder(folder, "worker")        # the run's folder; history/worker-PID.jsonl is made at the first line
    with recorder.running("p2-17", attempt):     # start; and in a finally: end returned, raised or interrupted
        ...
        recorder.effect("p2-17", attempt)

A recorder survives a fork: the child writes into a file of its own. It is for threads and greenlets alike: a line is
one write to an O_APPEND descriptor, and nothing else is shared. Times are `time.monotonic_ns()`, one clock for all
processes of the machine. `job` is the producer's key, the same over all attempts; `id` is the queue's id of the job.

    event     of            fields
    attempt   producer      job, id (if chosen before), priority, delay, kept, doomed    before the call that enqueues
    ack       producer      job, id            it returned: the queue has promised to do the job
    refused   producer      job, why           certainly not in the queue
    unknown   producer      job, why           in or not; an attempt with none of the three means the same (killed)
    start     task          job, attempt, worker (pid of the worker process, as text)
    effect    task          job, attempt
    end       task          job, attempt, how, delay, backoff    of one that raised: before the next may start
    fault     rig           what, pid (of the worker that it hits; 0: it hits all), detail, ids
    heal      rig           what (the same text as of the fault)
    up        rig           pid                a worker process has registered: written when that is seen
    died      rig           pid, how           a worker process is gone, for whatever cause: written when that is seen
    dead      rig           job, id, reason    a dead letter that was there at the end
    result    rig           job, id, how       what the handle told at the end of a result that was to be kept
    waiting   rig           job, id            still in the queue when the deadline of the drain had passed
    capacity  rig           value              the capacity in force from now on

Without `died` the attempts of a process that ended by itself (a failpoint, exit 4) never end, and their jobs seem to
overlap. `ids` of a fault name jobs that it hits although no attempt is open in the history: claimed and not started, or
done and not settled (what `running:WORKER` held). Their recovery is measured too; a second hit starts the clock anew.
"""

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from heapq import merge
from operator import attrgetter
from pathlib import Path
from typing import Literal, TypeVar

import msgspec

Kind = Literal[
    "attempt", "ack", "refused", "unknown", "start", "effect", "end",
    "fault", "heal", "up", "died", "dead", "result", "waiting", "capacity",
]  # fmt: skip
T = TypeVar("T")
How = Literal["returned", "raised", "interrupted"]
Told = Literal["right", "wrong", "missing"]


class Event(msgspec.Struct, frozen=True, omit_defaults=True, forbid_unknown_fields=True, gc=False):
    """One line of a history; which fields it has depends on `e`, see the table of the module."""

    t: int
    """CLOCK_MONOTONIC, ns."""
    pid: int
    """The process that wrote the line; of `fault`, `up` and `died` the worker process that is meant, 0 if none is."""
    e: Kind
    job: str = ""
    id: str = ""
    attempt: int = 0
    worker: str = ""
    priority: float = 0.0
    how: str = ""
    why: str = ""
    what: str = ""
    detail: str = ""
    reason: str = ""
    value: int = 0
    ids: tuple[str, ...] = ()
    delay: float = 0.0
    """Seconds before the job may run; of an `end`: run again, as the task asked."""
    kept: float = 0.0
    """Seconds that its result is to be kept; 0: not at all."""
    backoff: float = 0.0
    """Seconds, of an `end`: it is to run again after a time that is uniform from 0 to this."""
    doomed: str = ""
    """The reason for which it is to be a dead letter in the end; "": it is to be done."""


class Depth(msgspec.Struct, frozen=True, gc=False):
    """A sample of the queue: jobs that wait, jobs that run, and the capacity in force."""

    t: int
    depth: int
    running: int
    capacity: int


class Expect(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a scenario must hold to; None: measured, and not bounded."""

    lost: int | None = 0
    lost_within_s: float | None = None
    """A lost job must have been acknowledged at most so long before a fault, and asked for before that one ended."""
    lost_after_s: float = 0.0
    """Or so long after it had ended: until everybody heard of it."""
    never_lost: str = ""
    """Jobs whose keys begin so must not be lost, whatever *lost* says; "": none in particular."""
    phantom: int = 0
    duplicated: int | None = None
    """Jobs with more than one effect. At least once is what is promised: bounded only where a scenario can."""
    unexplained: int | None = 0
    """Jobs of which more than one effect has no fault as its reason: one that hit its worker, or one of these:"""
    doubled_by: tuple[str, ...] = ()
    """Faults that hit all, and take from workers what they run, or from Redis what was recorded."""
    doubled_within_s: float = 0.0
    """How long before such a fault an outcome may have been recorded that it took."""
    overlapping: int | None = 0
    """Jobs of which two attempts ran at one time: None where a worker is stopped or hung beyond its lease, else 0."""
    missing: int | None = 0
    """Results that were to be kept, of jobs that succeeded, and were not there at the end."""
    early: int | None = 0
    """Jobs that started before their delay was over, or that which their last attempt asked for: None where the
    server's clock does not go as the others do."""
    tardy_s: float | None = None
    """How long after its time a job may start, where nothing keeps it: no backlog, and no fault."""
    dead: dict[str, int] = {}
    """Reason of a dead letter -> how many of it there may be, beside the jobs that were to end so. A reason that is not
    here is a finding."""
    recovery_s: float | None = None
    """How soon a job starts again that a fault hit. A run without any recovery shows nothing of it: a finding."""
    depth_over: int | None = None
    """How far above the capacity the depth may go: what was running. A run without samples of it is a finding."""
    inversions: int | None = None
    reached: tuple[str, ...] = ()
    """Names in the run's `reached` that must be above 0: else the fault was not met, and the run proves nothing."""


class Run(msgspec.Struct, frozen=True, kw_only=True, rename={"gqueue_commit": "gqueue commit"}):
    """What was run, with what, and what it met: `run.json`."""

    scenario: str
    """NN-slug of tests/faults/scenarios/names.py, or `soak`."""
    seed: int
    short: bool
    lease_s: float
    capacity: int
    slots: int
    workers: int
    started: str
    """ISO 8601."""
    python: str
    redis: str
    gqueue_commit: str
    seconds: float
    expect: Expect
    reached: dict[str, int] = {}
    counters: dict[str, int] = {}
    """`queue.stats()` at the end."""
    fsck: list[str] | None = None
    """Findings of the audit of the queue's keys after the drain; None: there was none, a finding of gqueue's own."""
    problems: list[str] = []
    """What did not go as it must, by the run's own word."""
    system: str = "gqueue"
    """The queue that was tested; another one's name and version in the comparison."""
    settings: str = ""
    """Its settings, where they are not its defaults."""
    compared: bool = False
    """A run of the comparison, in its form: not of gqueue's own campaign."""
    promise: str = ""
    """What the queue's documentation promises, and where; of the comparison."""
    drain_s: float = 0.0
    """For how long the run waited, at most, for the queue to be empty; of the comparison."""
    machine: str = ""
    """Processor, cores, kernel."""
    command: str = ""
    """What to type to run this again."""


class HistoryDamaged(ValueError):
    """A line of a history is no event: the rig wrote something else than it should."""


class Recorder:
    """Append events to this process's file of a run's history, each on disk before the call returns.

    Args:
        folder: the run's folder, not its `history/`.
        role: begins the file's name: "worker", "producer", "rig".
    """

    def __init__(self, folder: Path | str, role: str) -> None:
        self._folder = Path(folder) / "history"
        self._role = role
        self._file = (0, -1)

    def attempt(
        self,
        job: str,
        priority: float = 0.0,
        id: str = "",
        delay: float = 0.0,
        kept: float = 0.0,
        doomed: str = "",
    ) -> None:
        """Record that the call that enqueues *job* comes next, to run after *delay*, its result *kept* (seconds)."""
        self._write("attempt", job=job, id=id, priority=priority, delay=delay, kept=kept, doomed=doomed)

    def ack(self, job: str, id: str) -> None:
        """Record that the queue has promised to do *job*."""
        self._write("ack", job=job, id=id)

    def refused(self, job: str, why: str) -> None:
        """Record that *job* is certainly not in the queue."""
        self._write("refused", job=job, why=why)

    def unknown(self, job: str, why: str) -> None:
        """Record that *job* may be in the queue, or not."""
        self._write("unknown", job=job, why=why)

    def start(self, job: str, attempt: int, worker: str = "") -> None:
        """Record the first statement of an attempt; *worker* is this process unless given."""
        self._write("start", job=job, attempt=attempt, worker=worker or str(os.getpid()))

    def effect(self, job: str, attempt: int) -> None:
        """Record that *job* is done, as far as the world outside sees."""
        self._write("effect", job=job, attempt=attempt)

    def end(self, job: str, attempt: int, how: How, delay: float = 0.0, backoff: float = 0.0) -> None:
        """Record that an attempt is over, and when the next may start: after *delay*, or a part of *backoff*."""
        self._write("end", job=job, attempt=attempt, how=how, delay=delay, backoff=backoff)

    @contextmanager
    def running(
        self, job: str, attempt: int, worker: str = "", delay: float = 0.0, backoff: float = 0.0
    ) -> Iterator[None]:
        """Record an attempt's start, and its end however it comes: interrupted is by what is not an Exception.

        *delay* or *backoff* is recorded if it raises.
        """
        self.start(job, attempt, worker)
        how: How = "interrupted"
        try:
            yield
            how = "returned"
        except Exception:
            how = "raised"
            raise
        finally:
            raised = how == "raised"
            self.end(job, attempt, how, delay if raised else 0.0, backoff if raised else 0.0)

    def fault(self, what: str, pid: int | None = None, detail: str = "", ids: tuple[str, ...] = ()) -> None:
        """Record a fault, just before it is injected; *pid* is the worker process that it hits, None: it hits all."""
        self._write("fault", pid=pid or 0, what=what, detail=detail, ids=ids)

    def heal(self, what: str) -> None:
        """Record that the fault *what* is over."""
        self._write("heal", what=what)

    def up(self, pid: int) -> None:
        """Record that the worker process *pid* has registered."""
        self._write("up", pid=pid)

    def died(self, pid: int, how: str = "") -> None:
        """Record that the worker process *pid* is gone, for whatever cause."""
        self._write("died", pid=pid, how=how)

    def dead(self, job: str, id: str, reason: str) -> None:
        """Record a dead letter that is there at the end."""
        self._write("dead", job=job, id=id, reason=reason)

    def result(self, job: str, id: str, how: Told) -> None:
        """Record what was told at the end of a result that was to be kept."""
        self._write("result", job=job, id=id, how=how)

    def waiting(self, job: str, id: str = "") -> None:
        """Record that *job* is still in the queue although the drain's deadline has passed."""
        self._write("waiting", job=job, id=id)

    def capacity(self, value: int) -> None:
        """Record the capacity that is in force from now on."""
        self._write("capacity", value=value)

    def _write(
        self,
        e: Kind,
        *,
        pid: int | None = None,
        job: str = "",
        id: str = "",
        attempt: int = 0,
        worker: str = "",
        priority: float = 0.0,
        how: str = "",
        why: str = "",
        what: str = "",
        detail: str = "",
        reason: str = "",
        value: int = 0,
        ids: tuple[str, ...] = (),
        delay: float = 0.0,
        kept: float = 0.0,
        backoff: float = 0.0,
        doomed: str = "",
    ) -> None:
        here = os.getpid()
        owner, file = self._file
        if owner != here:  # the first line of this process: a child of a fork must not write into its parent's file
            file = _open(self._folder / f"{self._role}-{here}.jsonl")
            self._file = (here, file)
        event = Event(
            time.monotonic_ns(), here if pid is None else pid, e, job, id, attempt, worker, priority,
            how, why, what, detail, reason, value, ids, delay, kept, backoff, doomed,
        )  # fmt: skip
        _append(file, event)


class DepthRecorder:
    """Append samples to a run's `depth.jsonl`; they are informative, so they are not synced."""

    def __init__(self, folder: Path | str) -> None:
        self._file = _open(Path(folder) / "depth.jsonl")

    def sample(self, depth: int, running: int, capacity: int) -> None:
        """Record what the queue holds now."""
        os.write(self._file, _ENCODER.encode(Depth(time.monotonic_ns(), depth, running, capacity)) + b"\n")


def write_run(folder: Path | str, run: Run) -> None:
    """Write *run* to `run.json`, whole or not at all."""
    path = Path(folder) / "run.json"
    draft = path.with_suffix(".draft")
    draft.write_bytes(msgspec.json.format(msgspec.json.encode(run), indent=2) + b"\n")
    draft.replace(path)


def read_run(folder: Path | str) -> Run:
    """Read `run.json`."""
    return msgspec.json.decode((Path(folder) / "run.json").read_bytes(), type=Run)


def events(folder: Path | str) -> Iterator[Event]:
    """Yield all events of a run, in the order of time, holding one line of each file at once.

    A file that several threads wrote may be out of order by milliseconds: what a thread sleeps between looking at the
    clock and writing. Who reads must not hang on the order of two lines of one moment.

    Raises:
        HistoryDamaged: a line is no event. A last line without its end is what a kill leaves, and is passed over.
    """
    files = sorted((Path(folder) / "history").glob("*.jsonl"))
    return merge(*(_lines(file, _EVENTS) for file in files), key=attrgetter("t"))


def depths(folder: Path | str) -> Iterator[Depth]:
    """Yield the samples of the queue's depth, in the order of time; none if none was taken."""
    path = Path(folder) / "depth.jsonl"
    return _lines(path, _DEPTHS) if path.exists() else iter(())


_ENCODER = msgspec.json.Encoder()
_EVENTS = msgspec.json.Decoder(Event)
_DEPTHS = msgspec.json.Decoder(Depth)


def _open(path: Path) -> int:
    path.parent.mkdir(parents=True, exist_ok=True)
    return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o644)


def _append(file: int, event: Event) -> None:
    line = _ENCODER.encode(event) + b"\n"
    written = os.write(file, line)
    if written < len(line):  # a regular file takes a line whole, or the disk is full
        raise OSError(f"only {written} of the {len(line)} bytes of a line were written: is the disk full?")
    os.fsync(file)


def _lines(path: Path, decoder: msgspec.json.Decoder[T]) -> Iterator[T]:
    with path.open("rb") as file:
        for number, line in enumerate(file, start=1):
            try:
                yield decoder.decode(line)
            except msgspec.DecodeError as error:
                if not line.endswith(b"\n"):
                    return
                raise HistoryDamaged(f"{path}, line {number}: {error}: {line[:200]!r}") from error
