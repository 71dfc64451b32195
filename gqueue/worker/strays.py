"""Errors of greenlets, threads and futures that are no jobs, but that tasks started: what of them is written.

Decides whose messages are withheld: of what a job of a sensitive task started, directly or through others. gevent's
own printing shows the arguments of each greenlet, and these never are. A greenlet is known by a mark that it gets when
it is started, since by its end the slot may have gone on to another job. What has no such start, as a callback of the
loop, a native thread or a future that nobody awaited, is withheld where any task of the worker is sensitive.
"""

import logging
import threading
import time
from collections.abc import Callable
from typing import Any

from gevent import Greenlet, getcurrent

from gqueue.job import current
from gqueue.worker import attempt, stacks

_MARK = "_gqueue_sensitive"

_TELLERS = ("asyncio", "concurrent.futures")
"""Loggers on which the standard library tells of what failed and was awaited by nobody, whenever it is collected."""


class Strays:
    """Stand between a hub and its printing, from `install` to `restore`. *any_sensitive*: some task is."""

    def __init__(self, hub: Any, any_sensitive: Callable[[], bool]) -> None:
        self._hub, self._any_sensitive = hub, any_sensitive
        self._print: Callable[..., None] = hub.print_exception
        self._thread_hook = threading.excepthook

    def install(self) -> None:
        """Mark what is started from now on; write errors as is decided here."""
        Greenlet.add_spawn_callback(_mark)
        self._hub.print_exception = self.write
        self._thread_hook, threading.excepthook = threading.excepthook, self.write_of_thread
        for name in _TELLERS:
            logging.getLogger(name).addFilter(self.withhold)

    def restore(self) -> None:
        """Leave both to gevent and Python again.

        Futures of a sensitive task may be collected later than that, with the interpreter at the latest.
        """
        if not self._any_sensitive():
            for name in _TELLERS:
                logging.getLogger(name).removeFilter(self.withhold)
        Greenlet.remove_spawn_callback(_mark)
        vars(self._hub).pop("print_exception", None)
        if threading.excepthook == self.write_of_thread:
            threading.excepthook = self._thread_hook

    def write(self, context: Any, kind: Any, error: Any, trace: Any) -> None:
        """Write an error that the hub was told of, in the place of `Hub.print_exception`. Never raises."""
        told = context is None or isinstance(context, Greenlet)
        if _is_marked(context) or (not told and self._any_sensitive()):
            _write_withheld(type(context).__name__, kind, error, trace)
            return
        try:
            shown = None if context is None else stacks.without_arguments(self._hub.format_context(context))
        except BaseException:  # noqa: BLE001 - arguments show themselves, by code of their own
            shown = f"a {type(context).__name__}"
        try:
            self._print(shown, kind, error, trace)
        except Exception:  # noqa: BLE001 - so does the error; on the hub nobody else would hear of it
            _write_withheld(type(context).__name__, kind, error, trace, "its message fails")

    def withhold(self, record: logging.LogRecord) -> bool:
        """Leave of a record of `_TELLERS` where it failed, if it may come from a sensitive task; let all pass.

        A filter of the logger, so that no handler has more: arguments of callbacks and results are in the message.
        """
        if self._any_sensitive():
            error = record.exc_info[1] if record.exc_info else None
            record.msg = f"{attempt.WITHHELD}\n{attempt.bare_trace_of(error)}".rstrip()
            record.args, record.exc_info, record.exc_text, record.stack_info = (), None, None, None
        return True

    def write_of_thread(self, args: Any) -> None:
        """Write an error that ended a thread, in the place of `threading.excepthook`."""
        if _is_marked(getcurrent()):
            _write_withheld("thread", args.exc_type, args.exc_value, args.exc_traceback)
        else:
            self._thread_hook(args)


def _mark(greenlet: Any) -> None:
    """Mark *greenlet*, which starts, if a sensitive job starts it, or what such a one started."""
    job: Any = current.get()
    if (job is not None and job.sensitive) or _is_marked(getcurrent()):
        setattr(greenlet, _MARK, True)


def _is_marked(greenlet: object) -> bool:
    return getattr(greenlet, _MARK, False) is True


def _write_withheld(what: str, kind: Any, error: Any, trace: Any, why: str = "a sensitive task started it") -> None:
    if isinstance(error, BaseException):
        if error.__traceback__ is None and trace is not None:
            error = error.with_traceback(trace)
        told = attempt.bare_trace_of(error)
    else:
        told = f"{attempt.class_shown(kind)}: {attempt.WITHHELD}\n"
    now = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    stacks.write(f"{told}{now} a {what} that is no job failed; {why}\n\n")
