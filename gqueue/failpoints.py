"""Named places where a test may kill, stop, slow down or break a process: how the fault campaign hits a moment exactly.

`config.failpoints` reads GQUEUE_FAILPOINTS; here it is carried out. Off, which is the default, a place is a call of a
function that does nothing, once a call of the store, however many jobs go with it. On, a process warns of it when it
first opens a store.
Works on threads and under gevent, which it never imports.
"""

import logging
import os
import random
import signal
import time
from collections.abc import Callable, Iterable, Sequence
from typing import NoReturn

from gqueue.config import Failpoint
from gqueue.errors import GqueueError


class FailpointReached(GqueueError):
    """GQUEUE_FAILPOINTS asks for this error at this place; nothing else is wrong."""


_logger = logging.getLogger("gqueue.failpoints")
_announced: set[int] = set()


def announce(rules: Sequence[Failpoint]) -> None:
    """Warn of *rules*, once a process; when there are none, do nothing."""
    if rules and os.getpid() not in _announced:
        _announced.add(os.getpid())
        _logger.warning(
            "this process is to go wrong on purpose: GQUEUE_FAILPOINTS is set (%s); unset it, unless this is a test",
            ", ".join(map(str, rules)),
        )


def _pass() -> None:
    """Do nothing: the place is not asked for."""


def at(place: str, rules: Iterable[Failpoint]) -> Callable[[], None]:
    """Return what to call each time *place* is reached. The times are counted by who asked for it, from 1.

    Raises FailpointReached when called, if *rules* say so.
    """
    own = [rule for rule in rules if rule.place == place]
    return _Place(own).reached if own else _pass


class _Place:
    def __init__(self, rules: list[Failpoint]) -> None:
        self._rules = rules
        self._times = 0

    def reached(self) -> None:
        self._times += 1
        for rule in self._rules:
            if rule.time in (0, self._times) and (rule.share == 1.0 or random.random() < rule.share):
                _carry_out(rule)


def _carry_out(rule: Failpoint) -> None:
    # By os.write: buffers would die with the process, and a thread beside greenlets must not log.
    os.write(2, f"failpoint {rule.place}={rule.action} pid={os.getpid()} t={time.monotonic_ns()}\n".encode())
    match rule.action:
        case "kill":
            _kill()
        case "exit":
            os._exit(int(rule.argument))
        case "sleep":
            time.sleep(rule.argument)
        case "raise":
            raise FailpointReached(f"GQUEUE_FAILPOINTS asks for an error at {rule.place}")
        case _:
            raise ValueError(f"no failpoint can {rule.action}")


def _kill() -> NoReturn:
    while True:  # the signal may be delivered to another thread, a moment later
        os.kill(os.getpid(), signal.SIGKILL)
