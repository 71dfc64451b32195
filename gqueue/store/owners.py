"""Whose sockets, and whose events, something is; and when an owner is gone.

Under gevent's patching they belong to the hub of the native thread that made them, and another thread may not wait on
them; else all threads of a process share everything. gevent itself is not imported: a patched socket tells. An owner
is a number that is never given out again, as the id of a thread is by the kernel.
"""

import _thread
import itertools
import socket
import sys
import threading
import weakref
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext, suppress
from functools import partial
from typing import Any, Protocol

ALL = 0
"""The owner where all threads share."""


class Keeper(Protocol):
    """Who keeps something for each owner."""

    def clear_out(self, owner: int) -> None:
        """Let go of what was *owner*'s, whose thread ends now, and its hub did: take no lock, and ask no `owner`."""
        ...


class _Owner:
    """Lives as long as its native thread."""


_monkey = sys.modules.get("gevent.monkey")
_OfNativeThreads: Any = _monkey.get_original("_thread", "_local") if _monkey else _thread._local
_numbers = itertools.count(ALL + 1)
_keepers: "weakref.WeakSet[Keeper]" = weakref.WeakSet()


def _clear_out(number: int) -> None:
    while True:
        try:
            keepers = list(_keepers)
        except RuntimeError:  # another thread made one meanwhile
            continue
        break
    for keeper in keepers:
        with suppress(OSError):  # somebody else closed a descriptor; the other keepers must let go of theirs
            keeper.clear_out(number)


class _Here(_OfNativeThreads):  # type: ignore[misc]  # gevent's own would have attributes for each greenlet
    """Has the number of each native thread, from when it first asks for it."""

    def __init__(self) -> None:
        self.owner, self.number = _Owner(), next(_numbers)
        weakref.finalize(self.owner, _clear_out, self.number).atexit = False


_native_thread = partial(getattr, _Here(), "number")


def patched() -> bool:
    """Return whether sockets are gevent's."""
    return socket.socket.__module__.startswith("gevent")


def half_patched() -> bool:
    """Return whether sockets are gevent's and locks are not: who waits for a lock then stops all greenlets."""
    return patched() and not threading.Lock.__module__.startswith("gevent")


def telling() -> Callable[[], int]:
    """Return what tells the owner; for who asks often, and was made after the patching."""
    return _native_thread if patched() else _all


def owner() -> int:
    """Return the current owner."""
    return telling()()


def tell_of_ends(keeper: Keeper) -> None:
    """Have *keeper* clear out each owner that is gone from now on, for as long as somebody else keeps it."""
    _keepers.add(keeper)


def rests() -> bool:
    """Return whether the owner's greenlets stand still between calls.

    The hub of a native thread beside the main one, of a thread pool say, runs only while a call there waits.
    """
    return patched() and threading.get_native_id() != threading.main_thread().native_id


def guard() -> AbstractContextManager[Any]:
    """Return what guards things of one owner, for statements that neither wait nor log.

    Greenlets do not change places there, so under gevent it is nothing: gevent's lock is taken in Python, and who is
    hit there, by a signal's handler that raises, leaves it taken for ever.
    """
    return nullcontext() if patched() else threading.Lock()


def _all() -> int:
    return ALL
