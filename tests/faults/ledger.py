"""What became of each job of a run: the history folded, event by event, into one entry a job.

Nothing is judged here, see checker.py. Events come in the order of time, off by milliseconds where threads wrote. What
is kept grows with the jobs, not with the events.
"""

from attrs import define, field

from tests.faults.history import Event
from tests.faults.order import Order

FATAL = "kill -9"
"""A fault of this name with a pid ends all that its process runs."""
LAST_WORDS_NS = 1_000_000_000
"""A killed process may still write for so long after the line of the fault: that line comes first."""

EARLY_NS = 5_000_000
"""Two clocks, and one of whole milliseconds: a job that starts so much too early does not."""
A_WHILE_NS = 100_000_000
"""What hit all for so long kept jobs from being recovered meanwhile; what was over at once did not."""
FORGETFUL = ("kill -9 redis", "kill -9 master", "failover")
"""While these last Redis may forget what an attempt asked for."""
LEARNT_NS = 3_000_000_000
"""A worker may learn so much later that it did, or that another Redis is the master."""


@define(eq=False)
class Attempt:
    """An attempt of a job: its process, its number, and when it started, had its effect and ended (ns, 0: never)."""

    pid: int
    number: int
    started_at: int
    effect_at: int = 0
    ended_at: int = 0


@define
class Entry:
    """One job: how often each thing happened to it, and the times that findings tell as evidence (ns, 0: never)."""

    job: str
    id: str = ""
    priority: float = 0.0
    attempts: int = 0
    attempted_at: int = 0
    """When the first call that enqueues it began."""
    refused: int = 0
    unknown: int = 0
    acknowledged_at: int = 0
    refused_why: str = ""
    starts: int = 0
    started_at: int = 0
    claimed: bool = False
    """A worker that a fault hit held it before it had ever started: it keeps its place, and may come late."""
    again: "Again | None" = None
    """It was given back, and has not started since."""
    effects: int = 0
    done: list[Attempt] = field(factory=list)
    """The attempts that had an effect."""
    latest: Attempt | None = None
    overlap: tuple[int, int, int] = (0, 0, 0)
    """Of the first two attempts that ran at one time: when the second started, in which process, beside which."""
    dead: str = ""
    doomed: str = ""
    """The reason for which it was to be dead in the end."""
    delay: float = 0.0
    early: tuple[int, int] = (0, 0)
    """When it first started too early, and from when on it might have."""
    tardy: tuple[int, int] = (0, 0)
    """The start that came longest after its time, and when that was."""
    kept: float = 0.0
    result: str = ""
    result_at: int = 0
    waiting: bool = False
    last: str = ""
    last_at: int = 0
    last_pid: int = 0

    @property
    def was_refused(self) -> bool:
        """Return whether the job is certainly not in the queue: every call with it was refused."""
        return not self.acknowledged_at and not self.unknown and 0 < self.attempts <= self.refused

    @property
    def is_indeterminate(self) -> bool:
        """Return whether the job may be in the queue, or not."""
        return self.attempts > 0 and not self.acknowledged_at and not self.was_refused


@define
class Again:
    """A job that was given back: it waits once more, where it stood."""

    job: str
    priority: float
    attempted_at: int
    acknowledged_at: int
    started_at: int = 0
    claimed: bool = False


@define(eq=False)
class Fault:
    """A fault: when it began and when it ended, which is the same moment if nothing healed it."""

    what: str
    pid: int
    began: int
    ended: int
    ids: tuple[str, ...] = ()
    """The jobs that Redis held for the process: claimed and not started, running, or done and not settled."""


@define
class Recovery:
    """A job that a fault hit started again: so long after the hit, or after the end of what hit all meanwhile."""

    job: str
    fault: str
    from_at: int
    started_at: int

    @property
    def seconds(self) -> float:
        """Return how long it took."""
        return (self.started_at - self.from_at) / 1e9


@define
class _Hit:
    """A fault struck a running attempt of a job, or one that its worker held."""

    fault: Fault
    at: int
    claimed: bool = False
    """The process held the job and had not started it: if it does so yet, that is no recovery."""


@define
class Ledger:
    """The entries of a run, its faults and its recoveries; `add` every event, in order."""

    jobs: dict[str, Entry] = field(factory=dict)
    faults: list[Fault] = field(factory=list)
    deaths: list[Fault] = field(factory=list)
    """Processes that ended, for whatever cause."""
    recoveries: list[Recovery] = field(factory=list)
    order: Order = field(factory=Order)
    backoffs: int = 0
    """Attempts that started after one that raised and left the wait to chance."""
    hasty: int = 0
    """Of these, so many waited for less than half of what it may be at most: half of them, if it is uniform."""
    lease_ns: int = 0
    """Of the run's workers; 0: not to be looked at."""
    began: int = 0
    _up: set[int] = field(factory=set)
    """Processes that have registered, or started a job, and have not ended."""
    _up_again_at: int = 0
    """When the first of them came after nobody had been up."""
    _forgot_at: int = 0
    _healed_at: int = 0
    """When the last fault ended that hit all for a while."""
    _raised: dict[str, Event] = field(factory=dict)
    """Job -> the end of its last attempt, which raised."""
    _by_id: dict[str, str] = field(factory=dict)
    _open: dict[str, list[Attempt]] = field(factory=dict)
    """Job -> its attempts that run."""
    _running: dict[int, set[str]] = field(factory=dict)
    """Process -> jobs that it runs."""
    _killed: dict[int, int] = field(factory=dict)
    _hits: dict[str, _Hit] = field(factory=dict)
    _unhealed: dict[str, list[Fault]] = field(factory=dict)

    def add(self, event: Event) -> None:
        """Enter *event*."""
        self.began = self.began or event.t
        self.order.until(event.t)
        if event.job:
            entry = self.jobs.get(event.job)
            if entry is None:
                entry = self.jobs[event.job] = Entry(event.job)
            if event.id and not entry.id:
                entry.id = event.id
                self._by_id[event.id] = event.job
            entry.last, entry.last_at, entry.last_pid = event.e, event.t, event.pid
            _OF_JOBS[event.e](self, event, entry)
        elif event.e in _OF_ALL:
            _OF_ALL[event.e](self, event)

    def _attempt(self, event: Event, entry: Entry) -> None:
        entry.attempts += 1
        entry.attempted_at = entry.attempted_at or event.t
        entry.priority, entry.delay, entry.kept, entry.doomed = event.priority, event.delay, event.kept, event.doomed

    def _ack(self, event: Event, entry: Entry) -> None:
        if not entry.acknowledged_at:
            entry.acknowledged_at = event.t
            self.order.admit(entry, event.t + int(entry.delay * 1e9))

    def _refused(self, event: Event, entry: Entry) -> None:
        entry.refused += 1
        entry.refused_why = event.why

    def _unknown(self, event: Event, entry: Entry) -> None:
        entry.unknown += 1

    def _start(self, event: Event, entry: Entry) -> None:
        entry.starts += 1
        self._look_at_its_time(event, entry)
        self._come_up(event)
        if not entry.started_at:
            entry.started_at = event.t
            self.order.start(entry)
        if entry.again is not None:
            entry.again.started_at, entry.again = event.t, None
        self._look_for_recovery(event)
        beside = self._open.get(entry.job, [])
        if beside and not entry.overlap[0]:
            entry.overlap = (event.t, event.pid, beside[-1].pid)
        entry.latest = attempt = Attempt(event.pid, event.attempt, event.t)
        killed_at = self._killed.get(event.pid)
        if killed_at is not None and event.t - killed_at < LAST_WORDS_NS:
            self._strike(entry.job, Fault(FATAL, event.pid, killed_at, killed_at), event.t)
            return
        self._open[entry.job] = [*beside, attempt]
        self._running.setdefault(event.pid, set()).add(entry.job)

    def _is_recorded(self, fault: Fault, end: Event) -> bool:
        """Return whether the outcome of an attempt that *fault* had hit was recorded, as far as one can tell.

        It is not while the fault of its process goes on. One that hits all may not let it pass either; but then the
        next attempt of a job that raised is no recovery.
        """
        goes_on = fault.what == FATAL or fault in self._unhealed.get(fault.what, ())
        return not goes_on or (not fault.pid and end.how == "raised")

    def _look_for_recovery(self, event: Event) -> None:
        """Note that a job that was hit starts again; its process may start what it had claimed: that is nothing yet."""
        hit = self._hits.get(event.job)
        if hit is not None and hit.claimed and hit.fault.pid == event.pid:
            return
        if hit is not None:
            del self._hits[event.job]
            # Who comes when nobody was up takes jobs back after 2/3 of a lease, not after 4/3 of it.
            up_again_at = self._up_again_at - 2 * self.lease_ns // 3 if self.lease_ns else 0
            from_at = max(hit.at, self._healed_at, up_again_at)
            self.recoveries.append(Recovery(event.job, hit.fault.what, from_at, event.t))

    def _come_up(self, event: Event) -> None:
        if not self._up:
            self._up_again_at = event.t
        self._up.add(event.pid)

    def _look_at_its_time(self, event: Event, entry: Entry) -> None:
        """Note a start before the job's time, or after it: that of its enqueue, or what its last attempt asked for."""
        raised = self._raised.pop(entry.job, None)
        late_from = 0
        if raised is None:
            due_at = 0 if entry.started_at else entry.attempted_at + int(entry.delay * 1e9)
            late_from = due_at and max(due_at, entry.acknowledged_at)
        elif self._forgot_at and raised.t < self._forgot_at + LEARNT_NS:
            return
        else:
            due_at = raised.t + int(raised.delay * 1e9)
            self.backoffs += raised.backoff > 0
            self.hasty += event.t - raised.t < int(raised.backoff * 1e9) // 2
            late_from = due_at + int(raised.backoff * 1e9)
        if event.t < due_at - EARLY_NS and not entry.early[0]:
            entry.early = event.t, due_at
        if late_from and event.t - late_from > entry.tardy[0] - entry.tardy[1]:
            entry.tardy = event.t, late_from

    def _effect(self, event: Event, entry: Entry) -> None:
        entry.effects += 1
        running = [each for each in self._open.get(entry.job, ()) if _is(each, event)]
        attempt = running[-1] if running else Attempt(event.pid, event.attempt, event.t)
        attempt.effect_at = event.t
        entry.done.append(attempt)

    def _end(self, event: Event, entry: Entry) -> None:
        ended = self._close(event)
        if ended is not None and ended is entry.latest and not self._may_be_refused(ended):
            if event.how == "raised":
                self._raised[entry.job] = event
            elif event.how == "interrupted" and not any(self._unhealed.values()):  # else its lease may be lost
                entry.again = Again(entry.job, entry.priority, entry.attempted_at, entry.acknowledged_at)
                self.order.admit(entry.again, event.t)
        hit = self._hits.get(entry.job)
        if hit is not None and event.how != "interrupted" and hit.at < event.t and self._is_recorded(hit.fault, event):
            del self._hits[entry.job]  # the fault did not end the attempt: if the job starts again, that is no recovery

    def _may_be_refused(self, attempt: Attempt) -> bool:
        """Return whether the process was hit while it ran *attempt*, or held its job: it may have lost it."""
        return any(
            fault.pid == attempt.pid and attempt.started_at <= fault.ended + LAST_WORDS_NS for fault in self.faults
        )

    def _dead(self, event: Event, entry: Entry) -> None:
        entry.dead = event.reason

    def _result(self, event: Event, entry: Entry) -> None:
        entry.result, entry.result_at = event.how, event.t

    def _waiting(self, event: Event, entry: Entry) -> None:
        entry.waiting = True

    def _fault(self, event: Event) -> None:
        fault = Fault(event.what, event.pid, event.t, event.t, event.ids)
        self.faults.append(fault)
        self._unhealed.setdefault(event.what, []).append(fault)
        if event.what in FORGETFUL:
            self._forgot_at = event.t
        struck = self._running.get(event.pid, ()) if event.pid else [job for job, open_ in self._open.items() if open_]
        for job in list(struck):
            self._strike(job, fault, event.t)
        held = [job for job in (self._by_id.get(id, id) for id in event.ids) if job not in struck]
        for job in held:
            latest = self.jobs[job].latest if job in self.jobs else None
            self._strike(job, fault, event.t, claimed=latest is None or latest.pid != event.pid)
        for job in held:
            if job in self.jobs and not self.jobs[job].started_at:
                self.jobs[job].claimed = True
        if event.pid and event.what.startswith(FATAL):
            self._killed[event.pid] = event.t
            self._end_of_process(event.pid)

    def _heal(self, event: Event) -> None:
        """End the faults of this name; if it hit all, the clock of its jobs runs from here: none ran before."""
        healed = set(self._unhealed.pop(event.what, ()))
        for fault in healed:
            fault.ended = event.t
            if fault.what in FORGETFUL:
                self._forgot_at = event.t
            if not fault.pid and fault.ended - fault.began > A_WHILE_NS:
                self._healed_at = event.t
        for hit in self._hits.values():
            if not hit.fault.pid and hit.fault in healed:
                hit.at = event.t

    def _died(self, event: Event) -> None:
        fault = Fault("died", event.pid, event.t, event.t)
        self.deaths.append(fault)
        for job in self._running.get(event.pid, ()):
            self._strike(job, fault, event.t)
        self._end_of_process(event.pid)
        self._killed.pop(event.pid, None)  # the pid may be another process's from now on

    def _strike(self, job: str, fault: Fault, at: int, *, claimed: bool = False) -> None:
        """Start the clock of *job*, unless the same goes on: what is repeated every 100 ms would start it for ever."""
        old = self._hits.get(job)
        goes_on = old is not None and old.fault.ended == old.fault.began and old.fault.pid == fault.pid
        if old is None or not goes_on or old.fault.what != fault.what:
            self._hits[job] = _Hit(fault, at, claimed)

    def _end_of_process(self, pid: int) -> None:
        self._up.discard(pid)
        for job in self._running.pop(pid, ()):
            left = [attempt for attempt in self._open.get(job, ()) if attempt.pid != pid]
            self._keep(job, left)

    def _close(self, event: Event) -> Attempt | None:
        """End the attempt that *event* tells the end of, and return it; None: none runs."""
        beside = self._open.get(event.job, [])
        attempt = next((each for each in beside if _is(each, event)), None)
        if attempt is None:
            return None
        attempt.ended_at = event.t
        beside.remove(attempt)
        self._keep(event.job, beside)
        if not any(other.pid == event.pid for other in beside):
            self._running[event.pid].discard(event.job)
        return attempt

    def _keep(self, job: str, attempts: list[Attempt]) -> None:
        if attempts:
            self._open[job] = attempts
        else:
            self._open.pop(job, None)


def _is(attempt: Attempt, event: Event) -> bool:
    return (attempt.pid, attempt.number) == (event.pid, event.attempt)


_OF_JOBS = {
    "attempt": Ledger._attempt,
    "ack": Ledger._ack,
    "refused": Ledger._refused,
    "unknown": Ledger._unknown,
    "start": Ledger._start,
    "effect": Ledger._effect,
    "end": Ledger._end,
    "dead": Ledger._dead,
    "result": Ledger._result,
    "waiting": Ledger._waiting,
}
_OF_ALL = {"fault": Ledger._fault, "heal": Ledger._heal, "up": Ledger._come_up, "died": Ledger._died}
