"""What an error of a server means, and what a process does while the server is away.

Decides which errors pass by themselves and lets one caller at a time try whether they have, with full jitter, so
that a thousand blocked callers do not knock at once. All stores of a process at one URL share the gate, however many
queues it has; the heartbeat thread, which must share no lock with greenlets, has another. Says so in one log line when
the server goes and one when it is back.
"""

import logging
import random
import re
import threading
import time
import weakref
from collections.abc import Callable
from enum import Enum

from redis import exceptions

from gqueue.store.parking import Parking

log = logging.getLogger("gqueue.store")

BASE_S, CAP_S = 0.05, 2.0
"""Pause before the n-th try: uniform over [0, min(CAP_S, BASE_S * 2**n)]. A server that restarts is back within 2 s."""

AWAY = (
    "Redis at %s is away: %s; trying again until it is back. An enqueue without a wait_timeout waits as long, for ever "
    "if need be: give wait_timeout to be told instead"
)
"""The first to find out says it, at once, and for all: each may wait for ever from then on."""


class Fault(Enum):
    """What to do about an error."""

    AWAY = "drop the connections and try again"
    FULL = "Redis is at its maxmemory"
    NO_SCRIPT = "send the script itself"
    MOVED = "ask the node that the error names"
    CROWDED = "the server takes no more connections: do with those there are"
    UNTRUSTED = "the certificates, or TLS itself, do not fit"
    REFUSED = "who we are, or the password, is refused"
    FATAL = "trying again would not help"


class UnknownService(exceptions.RedisError):
    """Every sentinel was asked, and none watches a master of this name."""


_CLASSES: tuple[tuple[type[Exception], Fault], ...] = (
    (exceptions.AuthenticationError, Fault.REFUSED),
    (UnknownService, Fault.REFUSED),
    (exceptions.ConnectionError, Fault.AWAY),
    (exceptions.TimeoutError, Fault.AWAY),
    (exceptions.ReadOnlyError, Fault.AWAY),
    (exceptions.ClusterDownError, Fault.AWAY),
    (exceptions.TryAgainError, Fault.AWAY),
    (exceptions.MovedError, Fault.MOVED),
    (exceptions.AskError, Fault.AWAY),
    (exceptions.OutOfMemoryError, Fault.FULL),
    (exceptions.NoScriptError, Fault.NO_SCRIPT),
    (exceptions.InvalidResponse, Fault.AWAY),
)

_CODES = {
    "READONLY": Fault.AWAY,
    "UNBLOCKED": Fault.AWAY,
    "LOADING": Fault.AWAY,
    "BUSY": Fault.AWAY,
    "MASTERDOWN": Fault.AWAY,
    "CLUSTERDOWN": Fault.AWAY,
    "MISCONF": Fault.AWAY,
    "NOREPLICAS": Fault.AWAY,
    "TRYAGAIN": Fault.AWAY,
    "ASK": Fault.AWAY,
    "MOVED": Fault.MOVED,
    "OOM": Fault.FULL,
    "NOSCRIPT": Fault.NO_SCRIPT,
}
"""For errors that redis-py has no class for, and for those that Redis 6.2 wraps into the error of a script."""

_OF_A_SLOT = ("CLUSTERDOWN", "TRYAGAIN", "ASK", "MOVED")
_CROWDED = "max number of clients"
"""Redis's own code for it is ERR, and redis-py makes a ConnectionError of it, of a class of its own from 6.0 on."""

_UNTRUSTED = re.compile(
    r"CERTIFICATE_VERIFY_FAILED|ALERT_CERTIFICATE_REQUIRED|ALERT_UNKNOWN_CA|WRONG_VERSION_NUMBER|HOSTNAME_MISMATCH"
    r"|ALERT_BAD_CERTIFICATE|record layer failure",
    re.IGNORECASE,
)
"""What OpenSSL says when trying again would not help; redis-py makes ConnectionErrors of it all."""

_CODE = re.compile(r"(?:^|@user_script: ?\d+: -)([A-Z]{3,}) ")


def fault_of(error: Exception) -> Fault:
    """Return what to do about an error of redis-py."""
    if _CROWDED in str(error):
        return Fault.CROWDED
    if _UNTRUSTED.search(str(error)):
        return Fault.UNTRUSTED
    for kind, fault in _CLASSES:
        if isinstance(error, kind):
            return fault
    code = _CODE.search(str(error))
    return _CODES.get(code[1], Fault.FATAL) if code else Fault.FATAL


def of_a_slot(error: Exception) -> bool:
    """Return whether an error concerns a part of a cluster, where other queues may be well."""
    kinds = (exceptions.ClusterDownError, exceptions.TryAgainError, exceptions.MovedError, exceptions.AskError)
    code = _CODE.search(str(error))
    return isinstance(error, kinds) or bool(code and code[1] in _OF_A_SLOT)


def moved_to(error: Exception) -> tuple[str, int]:
    """Return the node that an error of fault MOVED names; an empty host is the one that was asked."""
    host, _, port = str(error).split(" ")[-1].rpartition(":")
    return host, int(port)


def why(error: BaseException) -> str:
    """Return an error in one line, with its class, and what was noted of it."""
    return f"{type(error).__name__}: {error}{noted(error)}"


def noted(error: BaseException) -> str:
    """Return what was noted of an error, to be put behind it: see `connection.connect`."""
    return "".join(f"; {note}" for note in getattr(error, "__notes__", ()))


TURN_S = 20.0
"""For so long the others wait for who tries, or sleeps for all; if it was hit meanwhile, and could not tell, another
has its turn. A try takes two time-outs of 5 s, and seldom more."""


class Gate:
    """Open while the server answers. Shut, it lets one caller at a time through, to try.

    *shown* is the server's URL for people; *speaks*: whether to log (a native thread beside greenlets must not).
    """

    def __init__(self, shown: str, *, speaks: bool = True) -> None:
        self.shown, self._speaks = shown, speaks
        self.error: Exception | None = None
        self._since = 0.0
        self._tries = 0
        self._next_at = 0.0
        self.longest_s = CAP_S
        self._tries_until = self._sleeps_until = 0.0
        self._lock = threading.Lock()
        self._parking = Parking()

    def hurry(self, longest_s: float) -> None:
        """Pause no longer than *longest_s* between two tries, for one that has to be back sooner than others."""
        self.longest_s = min(self.longest_s, longest_s)

    def shut(self, error: Exception) -> None:
        """Note that the server is away."""
        with self._lock:
            first = self.error is None
            if first:
                self._since, self._tries = time.monotonic(), 0
                self._plan()
            self.error = error
        if first and self._speaks:
            log.warning(AWAY, self.shown, why(error))

    def enter(self, deadline: float, closed: Callable[[], bool] = lambda: False) -> bool:
        """Wait until the server is back, or *closed*: False; or until it is this caller's turn to try: True.

        Who gets True tells `tried` what came of it, in any case. Raises TimeoutError at *deadline*, but not before
        it has tried if nobody else does: with a deadline of now, too, one notices that the server is back.
        """

        def passes() -> bool:
            return self.error is None or closed()

        while True:
            with self._lock:
                if passes():
                    return False
                now = time.monotonic()
                trying = now < self._tries_until
                if not trying and now >= self._next_at:
                    self._tries_until = now + TURN_S
                    return True
                # One sleeps for all: a thousand that slept until the same moment would wake in a herd.
                sleeps = now < deadline and not trying and now >= self._sleeps_until
                if sleeps:
                    self._sleeps_until = max(now, self._next_at) + TURN_S
            if now >= deadline:
                self._parking.wake_one()  # the turn may have come to us as we give up
                raise TimeoutError
            if not sleeps:
                turn_at = max(self._tries_until, self._sleeps_until)
                self._parking.wait(lambda: passes() or not self._awaited(), min(deadline, turn_at) - now)
                continue
            try:
                self._parking.wait(passes, min(deadline, self._next_at) - now)
            finally:
                self._sleeps_until = 0.0
                self._parking.wake_one()

    def _awaited(self) -> bool:
        """Return whether somebody tries, or sleeps until the next may."""
        return time.monotonic() < max(self._tries_until, self._sleeps_until)

    def tried(self, back: bool) -> None:
        """Say whether the server answered; if not, the next caller tries after a pause."""
        with self._lock:
            self._tries_until = 0.0
            was_away, back = self.error is not None, back or self.error is None
            if back:
                self.error = None
            else:
                self._tries += 1
                self._plan()
        if not back:
            self._parking.wake_one()
            return
        self._parking.wake_all()
        if was_away and self._speaks:
            log.warning("Redis at %s is back after %.1f s", self.shown, time.monotonic() - self._since)

    def wake(self) -> None:
        """Have everyone look again: a store was closed."""
        self._parking.wake_all()

    def _plan(self) -> None:
        self._next_at = time.monotonic() + random.random() * min(self.longest_s, BASE_S * 2 ** min(self._tries, 10))


_gates: "weakref.WeakValueDictionary[tuple[str, bool], Gate]" = weakref.WeakValueDictionary()


def gate_to(shown: str, *, speaks: bool) -> Gate:
    """Return the gate that this process's stores at the URL *shown* share; clones (not *speaks*) have another."""
    return _gates.setdefault((shown, speaks), Gate(shown, speaks=speaks))


def forget_gates() -> None:
    """In a forked child: make new ones; a thread that is no more may hold the locks of the old."""
    _gates.clear()
