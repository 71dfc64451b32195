"""A daemon thread that does the same thing again and again for as long as somebody waits for it, and a little longer.

Decides when the thread starts, ends and pauses; what a turn does is its owner's. `threading` is looked up when it is
used: in a process that gevent has patched the thread is a greenlet. An exception may be thrown into any line of who
calls `ensure`, and a greenlet may be killed by anyone: neither may leave waiters without a thread.
"""

import logging
import math
import random
import threading
import time
from collections.abc import Callable

from gqueue.errors import CallRefused, StoreUnavailable
from gqueue.store.owners import guard

LINGER_S = 5.0
"""How long a thread outlasts its last waiter: a producer in a loop waits again at once."""

PAUSE_S = 1.0
"""The longest pause after a turn that failed, drawn uniformly; the store has backed off by itself before."""

END_S = 1.0
"""The longest wait for the end of a thread that nobody needs."""

START_S = 1.0
"""A thread that was asked for and does not run after so long was never started; it is asked for again."""

_logger = logging.getLogger("gqueue.producer")


class Attendant:
    """The thread and whether it is there.

    Args:
        turn: what it does; may block some seconds.
        needed: whether somebody waits.
        ended: called when the thread ends, under a guard that `ensure` needs: it must not wait.
        refused: called with the error if Redis refuses a turn: trying again would not help who waits.
        lingers: whether it outlasts its last waiter; not where greenlets stand still between calls.
    """

    def __init__(
        self,
        name: str,
        turn: Callable[[], None],
        needed: Callable[[], bool],
        ended: Callable[[], None] | None = None,
        refused: Callable[[CallRefused], None] | None = None,
        *,
        lingers: bool = True,
    ) -> None:
        self._name, self._turn, self._needed, self._ended, self._lingers = name, turn, needed, ended, lingers
        self._refused = refused
        self._lock = guard()
        self._running = self.closed = self._told = False
        self._asked_at = -math.inf

    def ensure(self) -> None:
        """Have the thread run; call it after what makes *needed* true, and again in a long wait.

        Raises RuntimeError if no thread can be started.
        """
        with self._lock:
            now = time.monotonic()
            if self._running or self.closed or now - self._asked_at < START_S:
                return
            self._asked_at = now
        try:
            threading.Thread(target=self._run, name=self._name, daemon=True).start()
        except RuntimeError:
            self._asked_at = -math.inf
            raise

    def wait_for_end(self) -> None:
        """Let the thread come to its end; after what makes its turn short. Waits END_S at most."""
        until = time.monotonic() + END_S
        while self._running and time.monotonic() < until:
            time.sleep(0.001)

    def close(self) -> None:
        """Let the thread end after its turn. Takes no lock: in a forked child it may be held for ever."""
        self.closed = True

    def _run(self) -> None:
        with self._lock:
            if self._running:
                return
            self._running = True
        try:
            needed_at = time.monotonic()
            while True:
                self._take_turn()
                if self._needed():
                    needed_at = time.monotonic()
                if not self.closed and time.monotonic() - needed_at < (LINGER_S if self._lingers else 0.0):
                    continue
                with self._lock:
                    if self.closed or not self._needed():
                        self._end()
                        return
        except BaseException:  # a greenlet may be killed; who waits then asks for another
            with self._lock:
                self._end()
            raise

    def _end(self) -> None:
        self._running, self._asked_at = False, -math.inf
        if self._ended is not None:
            self._ended()

    def _take_turn(self) -> None:
        try:
            self._turn()
        except StoreUnavailable:  # told by the store; who waits goes on waiting, or times out
            time.sleep(random.uniform(0, PAUSE_S))
        except CallRefused as error:
            if not (self._told or self.closed):
                self._told = True
                _logger.warning("%s: %s", self._name, error)
            if self._refused is not None:
                self._refused(error)
            time.sleep(random.uniform(0, PAUSE_S))
        except Exception:  # the thread must outlive any fault, else those who wait would wait in vain
            if not self.closed:
                _logger.exception("%s: a turn failed; trying again", self._name)
            time.sleep(random.uniform(0, PAUSE_S))
        else:
            self._told = False
