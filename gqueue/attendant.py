"""A daemon thread that does the same thing again and again for as long as somebody waits for it, and a little longer.

Decides when the thread starts, ends and pauses; what a turn does is its owner's. `threading` is looked up when it is
used: in a process that gevent has patched the thread is a greenlet. Locks are held for some statements only, never
while anything is sent or logged, so that one made before the patching can do no harm.
"""

import logging
import random
import threading
import time
from collections.abc import Callable

from gqueue.errors import StoreUnavailable

LINGER_S = 5.0
"""How long a thread outlasts its last waiter: a producer in a loop waits again at once."""

PAUSE_S = 1.0
"""The longest pause after a turn that failed, drawn uniformly; the store has backed off by itself before."""

_logger = logging.getLogger("gqueue.producer")


class Attendant:
    """The thread and whether it is there."""

    def __init__(
        self, name: str, turn: Callable[[], None], needed: Callable[[], bool], ended: Callable[[], None] | None = None
    ) -> None:
        self._name, self._turn, self._needed, self._ended = name, turn, needed, ended
        self._lock = threading.Lock()
        self._on = self.closed = False

    def ensure(self) -> None:
        """Have the thread run; call it after what makes *needed* true. Raises RuntimeError if none can be started."""
        with self._lock:
            if self._on or self.closed:
                return
            self._on = True
        try:
            threading.Thread(target=self._run, name=self._name, daemon=True).start()
        except Exception:
            with self._lock:
                self._on = False
            raise

    def close(self) -> None:
        """Let the thread end after its turn."""
        self.closed = True

    def _run(self) -> None:
        needed_at = time.monotonic()
        while True:
            try:
                self._turn()
            except StoreUnavailable:  # told by the store; who waits goes on waiting, or times out
                time.sleep(random.uniform(0, PAUSE_S))
            except Exception:  # the thread must outlive any fault, else those who wait would wait in vain
                if not self.closed:
                    _logger.exception("%s: a turn failed; trying again", self._name)
                time.sleep(random.uniform(0, PAUSE_S))
            if self._needed():
                needed_at = time.monotonic()
            if not self.closed and time.monotonic() - needed_at < LINGER_S:
                continue
            with self._lock:
                if self.closed or not self._needed():
                    self._on = False
                    if self._ended is not None:
                        self._ended()
                    return
