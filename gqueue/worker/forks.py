"""A task that forks: in the child there is the task, and no worker.

Decides what becomes of the copies of slots, pumps, signals and the hub. Were the hub to go on in the child, the other
slots' tasks would run there a second time. Connections are the store's to close, and it does.
"""

import os
import weakref
from collections.abc import Callable
from typing import Any

import gevent
from gevent import _hub_local as hubs

_workers: "weakref.WeakSet[Any]" = weakref.WeakSet()


def watch(worker: Any) -> None:
    """Have `worker.forking()` called before each fork, and after it `forked()` in the child, else `fork_done()`."""
    _workers.add(worker)


def forget(worker: Any) -> None:
    """Undo `watch`."""
    _workers.discard(worker)


def leave_hub(hub: Any) -> None:
    """In a child, on the thread of *hub*: begin with a hub of its own, and let nothing of the old one run again.

    The old loop is destroyed: its callbacks never run, its copy of the epoll set is closed. Its threads did not come
    along, so they are not waited for.
    """
    local: Any = hubs
    if local.get_hub_if_exists() is not hub:
        return
    hub._threadpool = hub._resolver = None
    hub.loop.destroy()
    local.set_loop(None)
    local.set_hub(None)
    fresh = gevent.get_hub()
    top = gevent.getcurrent()
    while top.parent is not None:
        top = top.parent
    fresh.parent = top
    gevent.getcurrent().parent = fresh


def _before() -> None:
    for worker in list(_workers):
        worker.forking()


def _in_parent() -> None:
    for worker in list(_workers):
        worker.fork_done()


def _in_child() -> None:
    for worker in list(_workers):
        worker.forked()
    _workers.clear()


def _register(at_fork: Callable[..., None] = os.register_at_fork) -> None:
    at_fork(before=_before, after_in_parent=_in_parent, after_in_child=_in_child)


_register()
