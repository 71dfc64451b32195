"""Whose sockets, and whose events, something is.

Under gevent's patching they belong to the hub of the native thread that made them, and another thread may not wait on
them; else all threads of a process share everything. gevent itself is not imported: a patched socket tells.
"""

import socket
import threading
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any

ALL = 0
"""The owner where all threads share."""


def patched() -> bool:
    """Return whether sockets are gevent's."""
    return socket.socket.__module__.startswith("gevent")


def half_patched() -> bool:
    """Return whether sockets are gevent's and locks are not: who waits for a lock then stops all greenlets."""
    return patched() and not threading.Lock.__module__.startswith("gevent")


def telling() -> Callable[[], int]:
    """Return what tells the owner; for who asks often, and was made after the patching."""
    return threading.get_native_id if patched() else _all


def owner() -> int:
    """Return the current owner."""
    return telling()()


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
