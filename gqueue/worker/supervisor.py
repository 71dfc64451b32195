"""`--processes N`: N fresh interpreters, each a worker of its own, kept going until they are asked to end.

Decides when a process that ended is started again (`after_end`, a pure function) and which exit code stands for all.
Leaves the work to the children; needs no gevent, and must not: a process that has a hub is never forked. A child
holds one end of a socket: its first byte tells that it came up, and the end of the supervisor, however it comes about,
closes the other, on which the child drains.
"""

import logging
import math
import os
import random
import selectors
import signal
import socket
import subprocess
import time
from collections import deque
from collections.abc import Callable, Iterable, Sequence

from attrs import define, field, frozen

from gqueue.worker.child import EXIT_STUCK, SAYS_REPLACED

BACKOFF_MS = 500
"""Before the first restart: long enough that a crash at the start does not fill a log, short enough to go unseen."""

BACKOFF_CAP_MS = 30_000
"""The default lease: by then others have taken the jobs of the process anyway."""

STEADY_MS = 60_000
"""A process that was up for so long was well; what ends it then is counted as its first failure."""

GIVE_UP_AFTER = 5
"""So many ends in a row before any process ever came up are no accident."""

AFTER_GRACE_S = 15.0
"""A process that is still there so long after its grace is killed: one that lives takes 10 s at most, in which it
interrupts what runs, gives back, and ends its heartbeat. One whose task holds the interpreter's lock hears nothing."""

AFTER_THIRD_S = 3.0
"""So long after the third TERM or INT: one that lives ends at that by itself, or is about to end anyway."""

PASSED_ON = (signal.SIGTERM, signal.SIGINT, signal.SIGTSTP, signal.SIGUSR1)

_logger = logging.getLogger("gqueue.supervisor")


@frozen
class End:
    """How a process ended: its exit code (128 + N for signal N), whether it had come up, how long it lived.

    *sent* are the signals that were passed on to it; *replaced*: it said that it drains, in order to be replaced.
    """

    code: int
    came_up: bool
    lived_ms: int
    sent: frozenset[int] = frozenset()
    replaced: bool = False


@frozen
class Restart:
    """Verdict: start it again in *delay_ms*; it has now failed *failures* times in a row."""

    delay_ms: int
    failures: int


@frozen
class Leave:
    """Verdict: it ended as it should."""


@frozen
class GiveUp:
    """Verdict: it will not come up; stop the others and exit with *code*."""

    code: int


def after_end(
    end: End, failures: int, *, ending: bool, burst: bool, any_came_up: bool, jitter: float
) -> Restart | Leave | GiveUp:
    """Decide what follows from the *end* of a process that had failed *failures* times in a row before.

    One that made way for a fresh one has not failed, and the fresh one comes at once, in a burst too. So does that of
    a process whose slots or hub were held by stuck jobs: it took these as long as their limits, and they are gone.

    Args:
        ending: the processes were asked to drain or to be quiet; nothing is started any more.
        burst: the workers end by themselves when nothing is left.
        any_came_up: some process came up once, this one or another: then settings and app are sound, and what
            fails now may pass, as an outage of Redis does.
        jitter: a uniform draw from [0, 1), made by the caller.
    """
    if ending:
        return Leave()
    if (end.replaced and end.code == 0) or (end.came_up and end.code == EXIT_STUCK):
        return Restart(0, 0)
    if burst and end.code == 0:
        return Leave()
    steady = end.came_up and end.lived_ms >= STEADY_MS
    failures = 1 if steady else failures + 1
    if not any_came_up and (end.code in (2, 3) or failures >= GIVE_UP_AFTER):
        return GiveUp(end.code)
    # Half of it fixed, half drawn: full jitter would allow no pause at all.
    most = min(BACKOFF_CAP_MS, BACKOFF_MS * 2 ** min(failures - 1, 16))
    return Restart(round(most * (0.5 + 0.5 * jitter)), failures)


def passed_on(number: int, *, came_up: bool) -> int | None:
    """Return what to send to a process when the signal *number* came; None: nothing.

    INT would show a traceback of an interpreter that only starts, and end it with any code; TERM asks for the same.
    USR1 would kill it, and it has no jobs to tell of.
    """
    if number == signal.SIGUSR1 and not came_up:
        return None
    return signal.SIGTERM if number == signal.SIGINT and not came_up else number


def patience_s(asked: int, grace_s: float) -> float:
    """Return how long a process may take to end after it was asked to, by TERM or INT, for the *asked*-th time (>= 1).

    The first lets it take its grace, the second has it give back at once, the third end as it is.
    """
    return AFTER_THIRD_S if asked > 2 else AFTER_GRACE_S + (grace_s if asked == 1 else 0.0)


def code_left(end: End, verdict: Restart | Leave | GiveUp) -> int:
    """Return the exit code that the *end* of a process leaves behind.

    What is started again is no end yet: if all are to end before it is, it has failed nobody. And an interpreter that
    only starts has no handlers yet, and no jobs: the signal that we passed on ended it as it should.
    """
    if isinstance(verdict, Restart) or (not end.came_up and end.code - 128 in end.sent):
        return 0
    return end.code


def exit_code(codes: Iterable[int]) -> int:
    """Return the worst exit code: the highest that a process left behind, 0 if there is none."""
    return max(codes, default=0)


@define
class Child:
    """One of the N processes, over all its incarnations."""

    index: int
    process: "subprocess.Popen[bytes] | None" = None
    line: socket.socket | None = None
    came_up: bool = False
    replaced: bool = False
    started: float = 0.0
    start_at: float | None = 0.0
    failures: int = 0
    code: int = 0
    sent: set[int] = field(factory=set)


@define
class Supervisor:
    """Run *processes* children until all have ended.

    *command* makes the arguments of the child with this index and this file descriptor of its end of the line.
    *grace_s* is what the children give their jobs to finish; who does not end after it is killed.
    """

    command: Callable[[int, int], Sequence[str]]
    processes: int
    burst: bool = False
    grace_s: float = 30.0
    _ending: bool = False
    _asked: int = 0
    _kill_at: float = math.inf
    _any_came_up: bool = False
    _given_up: int | None = None
    _signals: "deque[int]" = field(factory=deque)
    _children: list[Child] = field(factory=list)

    def run(self, *, last: bool = False) -> int:
        """Supervise until the last process has ended; return the exit code. Must run in the main thread.

        *last*: nothing but the end of this process follows, so what was passed on stays ignored; else those that had
        handlers before get them back.
        """
        self._children = [Child(index) for index in range(self.processes)]
        near, far = socket.socketpair()
        near.setblocking(False)
        far.setblocking(False)
        before = {number: signal.signal(number, self._note) for number in (*PASSED_ON, signal.SIGCHLD)}
        # The wake-up descriptor, and not the handler, ends the select: PEP 475 would go on with it.
        woken = signal.set_wakeup_fd(far.fileno(), warn_on_full_buffer=False)
        try:
            while self._turn(near):
                pass
            worst = exit_code(child.code for child in self._children)
            return worst if self._given_up is None else self._given_up
        finally:
            signal.set_wakeup_fd(woken)
            for number, handler in before.items():
                signal.signal(number, signal.SIG_IGN if last and number in PASSED_ON else handler)
            for child in self._children:
                self._hang_up(child)
            near.close()
            far.close()

    def _note(self, number: int, _frame: object) -> None:
        self._signals.append(number)

    def _turn(self, wake: socket.socket) -> bool:
        """Do what is due, then wait for the next thing to happen; return False when all have ended."""
        while self._signals:
            self._pass_on(self._signals.popleft())
        for child in self._children:
            self._look_after(child)
        if all(child.process is None and child.start_at is None for child in self._children):
            return False
        self._wait(wake)
        return True

    def _pass_on(self, number: int) -> None:
        if number == signal.SIGCHLD:
            return
        if number != signal.SIGUSR1:
            if not self._ending:
                what = "quiet" if number == signal.SIGTSTP else "draining"
                _logger.info("%s: %d processes", what, sum(child.process is not None for child in self._children))
            self._ending = True
        if number in (signal.SIGTERM, signal.SIGINT):
            self._asked += 1
            self._kill_at = min(self._kill_at, time.monotonic() + patience_s(self._asked, self.grace_s))
        for child in self._children:
            if child.process is not None:
                self._hear(child)
                sent = passed_on(number, came_up=child.came_up)
                if sent is None:
                    said = "process %d only starts: %s is not passed on to it"
                    _logger.info(said, child.index, signal.Signals(number).name)
                    continue
                child.sent.add(sent)
                child.process.send_signal(sent)

    def _look_after(self, child: Child) -> None:
        if child.process is not None and (status := child.process.poll()) is not None:
            self._ended(child, status if status >= 0 else 128 - status)
        if child.process is not None and self._kill_at <= time.monotonic():
            self._kill(child)
        if child.start_at is not None and self._ending:
            child.start_at = None
        if child.process is None and child.start_at is not None and child.start_at <= time.monotonic():
            self._start(child)

    def _kill(self, child: Child) -> None:
        if child.process is not None and signal.SIGKILL not in child.sent:
            said = "process %d does not end, and is killed; when the lease is over, others run its jobs"
            _logger.error(said, child.index)
            child.sent.add(signal.SIGKILL)
            child.process.kill()

    def _start(self, child: Child) -> None:
        here, there = socket.socketpair()
        here.setblocking(False)
        child.line, child.started, child.start_at = here, time.monotonic(), None
        child.came_up = child.replaced = False
        child.sent.clear()
        with there:
            try:
                child.process = subprocess.Popen(
                    self.command(child.index, there.fileno()),
                    pass_fds=(there.fileno(),),
                    start_new_session=True,
                    stdin=subprocess.DEVNULL,
                )
            except OSError as error:
                _logger.error("process %d cannot be started: %s", child.index, error)
                self._ended(child, 1)
                return
        _logger.debug("process %d started, pid %d", child.index, child.process.pid)

    def _ended(self, child: Child, code: int) -> None:
        self._hear(child)
        self._hang_up(child)
        lived_ms = round((time.monotonic() - child.started) * 1000)
        end = End(code, child.came_up, lived_ms, frozenset(child.sent), child.replaced)
        child.process = None
        verdict = after_end(
            end,
            child.failures,
            ending=self._ending,
            burst=self.burst,
            any_came_up=self._any_came_up,
            jitter=random.random(),
        )
        child.code = code_left(end, verdict)
        if isinstance(verdict, Restart):
            child.failures, child.start_at = verdict.failures, time.monotonic() + verdict.delay_ms / 1000
            if code == 0 and not verdict.failures:
                _logger.info("process %d ended as it should; a fresh one takes over", child.index)
            else:
                said = "process %d ended (%s); it is started again in %.1f s"
                _logger.warning(said, child.index, _in_words(code), verdict.delay_ms / 1000)
        elif isinstance(verdict, GiveUp):
            _logger.error("process %d does not come up (%s); giving up", child.index, _in_words(code))
            self._given_up = verdict.code
            self._pass_on(signal.SIGTERM)
        else:
            _logger.debug("process %d ended (%s)", child.index, _in_words(code))

    def _hear(self, child: Child) -> None:
        if child.line is None:
            return
        try:
            said = child.line.recv(16)
        except OSError:
            return
        if said:
            child.came_up = self._any_came_up = True
            child.replaced = child.replaced or SAYS_REPLACED in said
        else:
            self._hang_up(child)  # its end is near; poll() tells

    def _hang_up(self, child: Child) -> None:
        if child.line is not None:
            child.line.close()
            child.line = None

    def _wait(self, wake: socket.socket) -> None:
        now = time.monotonic()
        due = [child.start_at - now for child in self._children if child.start_at is not None]
        if now < self._kill_at:
            due.append(self._kill_at - now)
        with selectors.DefaultSelector() as selector:
            selector.register(wake, selectors.EVENT_READ)
            for child in self._children:
                if child.line is not None:
                    selector.register(child.line, selectors.EVENT_READ, child)
            # The second's poll is for a SIGCHLD that somebody else's handler took.
            for key, _ in selector.select(max(0.0, min([*due, 1.0]))):
                if key.data is None:
                    os.read(wake.fileno(), 4096)
                else:
                    self._hear(key.data)


def _in_words(code: int) -> str:
    if code > 128:
        try:
            return f"killed by {signal.Signals(code - 128).name}"
        except ValueError:
            pass
    return f"exit {code}"
