"""`gqueue.spawn`: hand the current job on to a greenlet of the task's own."""

from collections.abc import Callable
from contextvars import copy_context
from typing import ParamSpec, TypeVar

from gevent import Greenlet

P = ParamSpec("P")
R = TypeVar("R")


def spawn(function: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> "Greenlet[..., R]":
    """Start a greenlet in which `current_job()` is the job of whoever calls this.

    gevent's own greenlets inherit no context. The greenlet is not under the job's time limit: join it, or it outlives
    the attempt.
    """
    return Greenlet.spawn(copy_context().run, function, *args, **kwargs)
