"""What running jobs report of their progress, on its way to the store.

Decides that it never costs a job anything: the task leaves its value here and goes on. One greenlet a queue sends, one
call at a time, the latest value of each job; what the store does not take is dropped, and one line of the log says so.
"""

import logging
from collections import deque
from collections.abc import Callable
from typing import Any

import gevent
from gevent import Greenlet, get_hub

from gqueue.errors import GqueueError
from gqueue.store.base import Store
from gqueue.worker.running import RunningJob

PAUSE_S = 0.1
"""Between two rounds, in each of which a job's latest value is sent: more often, nobody could read it."""

PAUSE_REFUSED_S = 1.0
"""After a round of which the store took nothing."""

_logger = logging.getLogger("gqueue.worker")


class Progress:
    """Of one queue's jobs. *runs* tells whether a job still does: values of an attempt that ended are not sent.

    `report` may come from any thread, and shares no lock with the sender: a value is left before `saying` is looked
    at, and fetched after it is taken back.
    """

    def __init__(self, queue: str, store: Store, runs: Callable[[RunningJob], bool]) -> None:
        self._queue, self._store, self._runs = queue, store, runs
        self._waiting: deque[RunningJob] = deque()
        self._loop: Any = get_hub().loop
        self._sender: Greenlet[[], None] | None = None
        self._called = self._refused = self._ended = False

    def report(self, job: RunningJob, data: bytes) -> None:
        """Have *data* sent, in place of what the job reported before and was not sent yet."""
        job.said = data
        if job.saying or self._ended:
            return
        job.saying = True
        self._waiting.append(job)
        if not self._called:
            self._called = True
            self._loop.run_callback_threadsafe(self._start)

    def end(self) -> None:
        """Send no more; in a forked child too, where there is no greenlet that would."""
        self._ended = True
        if self._sender is not None:
            self._sender.kill(block=False)

    def _start(self) -> None:
        if not self._ended:
            self._sender = gevent.spawn(self._send)

    def _send(self) -> None:
        while self._waiting:
            gevent.sleep(PAUSE_S if self._send_round() else PAUSE_REFUSED_S)
        self._called = False
        if self._waiting and not self._called:  # another thread may have left one in between
            self._called = True
            self._start()

    def _send_round(self) -> bool:
        """Send what waits now, in order; return False if something was refused."""
        taken = True
        for _ in range(len(self._waiting)):
            job = self._waiting.popleft()
            job.saying = False
            if self._runs(job):
                taken = self._send_one(job) and taken
        return taken

    def _send_one(self, job: RunningJob) -> bool:
        try:
            self._store.report_progress(job.worker_id, job.job_id, job.said)
        except Exception as error:  # whatever the store says, or gqueue does wrong, is not worth a job
            if not self._refused:
                self._refused = True
                _logger.warning(
                    "queue %s: what jobs report of their progress is dropped until the store takes it: %s: %s",
                    self._queue,
                    type(error).__name__,
                    error,
                    exc_info=None if isinstance(error, GqueueError) else error,
                )
            return False
        self._refused = False
        return True
