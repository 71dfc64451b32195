"""The heartbeat: a native thread that keeps the leases while a job hogs the hub, and takes back what others lost.

Decides when to beat, and what the beats mean for running jobs. It has a hub and connections of its own and shares no
lock with the greenlets of the main thread: no logging, no queues. What it finds it leaves in a deque, and has the main
hub look; what cannot wait for that hub (whom to interrupt) it marks on the jobs themselves, for the watchdog.
"""

import random
import signal
import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any, Protocol

import gevent
from attrs import frozen
from gevent import Greenlet, monkey

from gqueue import failpoints
from gqueue.core.dispatch import Why
from gqueue.core.model import MOVE_LIMIT, Ask, Reaped
from gqueue.errors import GqueueError, LeaseLost, NotLapsed, StoreUnavailable
from gqueue.store.base import Store
from gqueue.worker.deadman import Deadman
from gqueue.worker.pump import Pump
from gqueue.worker.slots import Slots
from gqueue.worker.watchdog import Watchdog

BEATS_A_LEASE = 3.3
"""A little more than 3: a lapsed worker is to be found within lease + lease/3, the time of the calls included."""

MORE_BEATS = 2
"""The store holds more jobs than are known here in so many beats in a row: then a reply was lost, not just late."""

PAUSE_OF_A_PERIOD = 4
"""After a failed beat it pauses for a quarter of a period at most: after an outage there is a third of the lease."""

_monotonic = time.monotonic  # a task may put another in its place
_start_thread = monkey.get_original("_thread", "start_new_thread")
_allocate_lock = monkey.get_original("_thread", "allocate_lock")


# What is delivered to the main thread.


@frozen
class Asked:
    """An operator asks this worker for something."""

    what: Ask


@frozen
class Condemned:
    """Jobs were marked to be interrupted."""


@frozen
class Lost:
    """The lease of *worker_id* is over."""

    pump: Pump
    worker_id: str


@frozen
class HeldMore:
    """The store holds jobs that nobody here knows."""

    pump: Pump


@frozen
class TookBack:
    """Jobs of a lapsed worker were taken back; *buried* are the ids of those that are dead."""

    queue: str
    worker_id: str
    jobs: int
    buried: tuple[str, ...]


@frozen
class Endangered:
    """The store's settings endanger jobs, by now."""

    warning: str


@frozen
class Silent:
    """The store does not answer the heartbeat; or, without *error*, it does again."""

    queue: str
    error: str


@frozen
class Fault:
    """The watchdog failed, or a greenlet that beats: a fault of gqueue."""

    error: BaseException


News = Asked | Condemned | Lost | HeldMore | TookBack | Endangered | Silent | Fault


class Reader(Protocol):
    """What takes the news, on the main hub."""

    def __call__(self) -> None:
        """Read what is in `Heartbeat.news`."""
        ...


class Heartbeat:
    """Made, started and joined on the main thread."""

    def __init__(
        self, pumps: Sequence[Pump], slots: Slots, watchdog: Watchdog, deadman: Deadman, reader: Reader
    ) -> None:
        self.news: deque[News] = deque()
        self._pumps, self._slots, self._watchdog, self._deadman, self._reader = pumps, slots, watchdog, deadman, reader
        self._stores = [pump.store.clone() for pump in pumps]
        self._wake: Any = slots.loop.run_callback_threadsafe
        self._stopping = False
        self._asked: Ask | None = None
        self._ended = _allocate_lock()

    def start(self) -> None:
        """Start the thread."""
        self._ended.acquire()
        _start_thread(self._run, ())

    def stop(self) -> None:
        """Have the thread end."""
        self._stopping = True

    def join(self, timeout: float) -> bool:
        """Wait for the thread's end, letting greenlets run; return whether it came."""
        until = _monotonic() + timeout
        while not self._ended.acquire(False):
            if _monotonic() > until:
                return False
            gevent.sleep(0.005)
        self._ended.release()
        return True

    def _run(self) -> None:
        # On the thread, from here on. Signals are for the main thread, which may have to be interrupted by them.
        signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
        hub = gevent.get_hub()
        try:
            pairs = zip(self._pumps, self._stores, strict=True)
            beats = [gevent.spawn(self._beat_for_ever, pump, store) for pump, store in pairs]
            for beat in beats:
                beat.link(self._beats_no_more)
            while not self._stopping:
                gevent.sleep(self._look())
            gevent.killall(beats, timeout=1.0)
            for store in self._stores:
                store.close()
        finally:
            hub.destroy(destroy_loop=True)
            self._ended.release()

    def _beats_no_more(self, beat: "Greenlet[..., None]") -> None:
        if not self._stopping:  # a lease that nobody keeps is over when nobody looks
            self._tell(Fault(beat.exception or RuntimeError("a greenlet that beats was killed")))

    def _look(self) -> float:
        try:
            now = _monotonic()
            self._deadman.look(now)
            return self._watchdog.look(now)
        except Exception as error:  # noqa: BLE001 - the leases are more important than the watchdog
            self._tell(Fault(error))
            return 1.0

    def _beat_for_ever(self, pump: Pump, store: Store) -> None:
        period = store.rules.lease_ms / 1000 / BEATS_A_LEASE
        next_at = _monotonic()
        more = failures = 0
        lost = ""
        at_beat, at_reap = (failpoints.at(place, pump.queue.settings.failpoints) for place in ("beat", "reap"))
        while True:
            worker_id = pump.worker_id
            self._watchdog.probe()
            try:
                at_beat()
                if worker_id != lost and not pump.left:
                    more = self._beat(pump, store, worker_id, more)
                self._take_back(store, pump.queue.name, at_reap)
            except LeaseLost:
                lost = worker_id
                if not pump.leaving:  # else it left between two calls of ours
                    self._lose(pump, worker_id)
                continue
            except Exception as error:  # noqa: BLE001 - whatever the server says, the next beat may pass
                failures += 1
                if failures == 1:
                    self._tell(Silent(pump.queue.name, f"{type(error).__name__}: {error}"))
                gevent.sleep(random.uniform(0, min(period / PAUSE_OF_A_PERIOD, 0.1 * 2 ** min(failures, 10))))
                continue
            if failures:
                failures = 0
                self._tell(Silent(pump.queue.name, ""))
            next_at = max(next_at + period, _monotonic())
            gevent.sleep(min(period, max(0.0, next_at - _monotonic())))  # whatever a clock that is tampered with says

    def _beat(self, pump: Pump, store: Store, worker_id: str, more: int) -> int:
        beat = store.heartbeat(worker_id)
        if beat.cancels:
            self._slots.condemn(pump, None, frozenset(beat.cancels))
            self._tell(Condemned())
        if beat.asked is not None and beat.asked is not self._asked:  # it is told at every beat
            self._asked = beat.asked
            self._tell(Asked(beat.asked))
        if beat.warning:
            self._tell(Endangered(beat.warning))
        more = more + 1 if beat.held > pump.held else 0
        if more >= MORE_BEATS:
            self._tell(HeldMore(pump))
            return 0
        return more

    def _take_back(self, store: Store, queue_name: str, at_reap: Callable[[], None]) -> None:
        refused: GqueueError | None = None
        for lapsed in store.fence():
            try:
                self._take_back_of(lapsed, store, queue_name, at_reap)
            except StoreUnavailable:
                raise
            except GqueueError as error:  # a key of a wrong type, say: the jobs of the others must not wait for that
                refused = error
        if refused is not None:
            raise refused

    def _take_back_of(self, lapsed: str, store: Store, queue_name: str, at_reap: Callable[[], None]) -> None:
        total = Reaped(0, 0, (), 0, 1)
        while total.left:
            at_reap()
            try:
                some = store.reap(lapsed, MOVE_LIMIT)
            except NotLapsed:  # another worker was faster
                break
            total = Reaped(
                total.ready + some.ready,
                total.suspect + some.suspect,
                total.buried + some.buried,
                total.cancelled + some.cancelled,
                some.left,
            )
        jobs = total.ready + total.suspect + len(total.buried) + total.cancelled
        self._tell(TookBack(queue_name, lapsed, jobs, total.buried))

    def _lose(self, pump: Pump, worker_id: str) -> None:
        self._slots.condemn(pump, Why.LEASE_LOST, worker_id=worker_id)
        self._tell(Lost(pump, worker_id))

    def _tell(self, news: News) -> None:
        self.news.append(news)
        self._wake(self._reader)
