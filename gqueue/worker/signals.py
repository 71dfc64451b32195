"""What signals do to a worker process.

Decides which signal is handled where. TERM, INT and TSTP become greenlets of the hub. USR1 and the watchdog's are for a
hub that hangs, so they are Python's own handlers, which run between two bytecodes of whatever is running. A task may
have put its own in their place, or have blocked them: `mend` takes them back. A change must keep this: once the end is
decided, no TERM or INT reaches a handler, or none, that would spoil the exit code.
"""

import signal
from collections.abc import Callable
from types import FrameType
from typing import Any

import gevent

from gqueue.worker import watchdog

Handler = Callable[[int, FrameType | None], Any]


class Signals:
    """The handlers of a worker, from `install` to `restore` or `ignore_all`; on the main thread only."""

    def __init__(self, *, drain: Callable[[], None], quiet: Callable[[], None], dump: Handler, blow: Handler) -> None:
        self._soft: dict[int, Callable[[], None]]
        self._soft = {signal.SIGTERM: drain, signal.SIGINT: drain, signal.SIGTSTP: quiet}
        self._hard: dict[int, Handler] = {signal.SIGUSR1: dump, watchdog.SIGNAL: blow}
        self._loop: Any = gevent.get_hub().loop
        # Below libev's own, for what only the interpreter hears of: `_thread.interrupt_main`, PyErr_SetInterrupt.
        self._ours: dict[int, Handler] = {**dict.fromkeys(self._soft, self._hear), **self._hard}
        self._watchers: dict[int, Any] = {}
        self._before: dict[int, Any] = {}
        self._ignoring = False

    def install(self) -> None:
        """Take the signals over."""
        self._loop.install_sigchld()  # else with the first fork, and a child that ends before is never heard of
        for number in self._ours:
            self._before[number] = signal.getsignal(number)
            self._take(number)

    def mend(self) -> list[str]:
        """Take back what somebody took from us, and return which; let through what somebody blocked."""
        if self._ignoring or not self._before:
            return []
        taken = [number for number, handler in self._ours.items() if signal.getsignal(number) != handler]
        for number in taken:
            signal.pthread_sigmask(signal.SIG_BLOCK, [number])  # libev puts the default back for a moment
            if number in self._watchers:
                self._watchers.pop(number).cancel()
            self._take(number)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, self._ours)
        return [signal.Signals(number).name for number in taken]

    def _take(self, number: int) -> None:
        signal.signal(number, self._ours[number])
        if number in self._soft:
            self._watchers[number] = gevent.signal_handler(number, self._soft[number])

    def _hear(self, number: int, _frame: FrameType | None) -> None:
        self._loop.run_callback_threadsafe(gevent.spawn, self._soft[number])

    def ignore_ends(self) -> None:
        """Take no more TERM and INT: the end is decided.

        The watchers stay: stopped, libev puts the default back, which a signal at that moment would meet.
        """
        self._ignoring = True
        if self._before:
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
            signal.signal(signal.SIGINT, signal.SIG_IGN)

    def ignore_all(self) -> None:
        """Ignore all of them until the process is gone.

        An interpreter that ends puts the defaults back, but only in place of handlers.
        """
        self._ignoring = True
        for number in self._before:
            signal.signal(number, signal.SIG_IGN)

    def restore(self) -> None:
        """Give them back to whoever had them."""
        for watcher in self._watchers.values():
            watcher.cancel()
        self._watchers = {}
        for number, before in self._before.items():
            signal.signal(number, before if before is not None else signal.SIG_DFL)
        self._before = {}

    def forget(self) -> None:
        """In a forked child: let signals do what they do to any process; touch nothing of the parent's loop."""
        for number in (*self._soft, *self._hard):
            try:
                signal.signal(number, signal.SIG_DFL)
            except ValueError:  # forked by a thread that is not the main one
                return
