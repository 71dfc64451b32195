"""The worker process: from the first registration to the exit code.

Decides nothing of its own about jobs: it feeds `core.dispatch` with what happens, and is the one place where its
commands are carried out. All of it runs on the main thread's hub; `tell` is never entered twice, since nothing that
carries a command out waits.
"""

import gc
import logging
import os
import random
import sys
import time
from collections.abc import Callable, Sequence
from types import FrameType
from typing import TYPE_CHECKING, cast

import gevent
from gevent import Greenlet, get_hub, getcurrent, monkey
from gevent.event import AsyncResult

from gqueue.config import WorkerOptions, name_shown
from gqueue.core import dispatch
from gqueue.core.dispatch import Alarm, Cause, Command, Exit, Interrupt, Phase, Replace, Step, Wait, Why
from gqueue.core.model import Ask, Settlement
from gqueue.core.retry import Outcome
from gqueue.core.sharing import Doing
from gqueue.errors import BadSetting, GqueueError, StoreTooOld, StoreUnavailable
from gqueue.worker import burst, forks, heartbeat, lines, memory, stacks
from gqueue.worker.child import EXIT_STUCK
from gqueue.worker.deadman import Deadman
from gqueue.worker.heartbeat import Heartbeat
from gqueue.worker.pump import Pump
from gqueue.worker.running import RunningJob
from gqueue.worker.signals import Signals
from gqueue.worker.slots import Slots
from gqueue.worker.strays import Strays
from gqueue.worker.watchdog import Watchdog

if TYPE_CHECKING:
    from gqueue.queue import Queue

CLEAN_UP_S = 2.0
"""How long interrupted jobs get to end, after the grace."""

GIVE_UP_S = 5.0
"""How long the store gets to take everything back at the end; then the leases lapse."""

LOOK_AFTER_S = 1.0
"""How often it is seen to that tasks have not bent what the worker stands on, and have not too much memory."""

GC_FIRST = 50_000
"""Objects made before the collector looks at the young ones: with thousands of greenlets each look is dear."""

EXIT_FAILURE, EXIT_UNREACHABLE = 1, 3

_logger = logging.getLogger("gqueue.worker")
_monotonic = time.monotonic  # a task may put another in its place
_main_ident = monkey.get_original("_thread", "get_ident")


class Worker:
    """A worker process for *queues*, which share its slots; strictly in this order, or by `options.weights`.

    Args:
        busy: asked by a burst beside the queues: what else is waited for, in words; None: nothing.
        replaced: called when the worker begins to drain in order to be replaced by a fresh process.

    Raises:
        GqueueError: gevent has not patched the standard library; it must, before anything else is imported.
        BadSetting: no queue, one of them twice, as many weights as there are no queues, or `max_rss_bytes` below
            what the process has already.
    """

    def __init__(
        self,
        queues: Sequence["Queue"],
        options: WorkerOptions,
        *,
        busy: Callable[[], str | None] | None = None,
        replaced: Callable[[], object] = lambda: None,
    ) -> None:
        if not (monkey.is_module_patched("socket") and monkey.is_module_patched("threading")):
            raise GqueueError(
                "a worker needs gevent's patches: call gevent.monkey.patch_all() before any other import, "
                "or start it with `python -m gqueue`"
            )
        places = {(queue.url, queue.name) for queue in queues}
        if not queues or len(places) != len(queues):
            raise BadSetting("a worker needs at least one queue, and each of them once")
        weights = options.weights or (1,) * len(queues)
        if len(weights) != len(queues) or min(weights) < 1:
            raise BadSetting(f"weights {weights}: give one of at least 1 for each of the {len(queues)} queues")
        if options.max_rss_bytes is not None and (has := memory.resident_bytes()) >= options.max_rss_bytes:
            raise BadSetting(
                f"max_rss {memory.in_words(options.max_rss_bytes)}: the process has {memory.in_words(has)} before its "
                "first job, and would be replaced for ever"
            )
        self._queues, self._options, self._busy, self._weights = tuple(queues), options, busy, weights
        self._replaced = replaced
        self._places = places
        self.state: dispatch.WorkerState = dispatch.WorkerState(options.slots, ())
        self.stopped = False
        self.slots = Slots(options.slots, self._wrote_off)
        self._watchdog = Watchdog(self.slots, options.stuck_after_ms / 1000, _main_ident())
        self._deadman = Deadman(self.slots, self._limits, options.stuck_after_ms / 1000)
        self._pumps: list[Pump] = []
        self._heartbeat: Heartbeat | None = None
        self._hub = get_hub()
        self._strays = Strays(self._hub, self._any_sensitive)
        self._gathering = self._started = False
        self._asked: list[str] = []
        self._ends_heard = 0
        self._gc_before = gc.get_threshold()
        self._switch_s = sys.getswitchinterval()
        self._keeper: Greenlet[..., None] | None = None
        self._ending: AsyncResult[int] = AsyncResult()
        self._signals = Signals(
            drain=lambda: self._guarded(self._end_signal),
            quiet=lambda: self._guarded(self.quiet),
            dump=self._dump,
            blow=self._watchdog.handle,
        )

    # What others may ask.

    def run(self, *, last: bool = False) -> int:
        """Work until the end; return the exit code. Call it on the main greenlet of the main thread.

        Args:
            last: nothing but the end of the process follows, so its signals stay ignored; else those that had
                handlers before get them back.
        """
        self._signals.install()  # first: once registered, an end without leaving would cost others a lease
        try:
            self._open()
        except (StoreTooOld, StoreUnavailable) as error:
            self._release_signals(last)
            _logger.error("%s", error)
            if isinstance(error, StoreTooOld):
                return EXIT_FAILURE
            return 0 if "drain" in self._asked else EXIT_UNREACHABLE
        forks.watch(self)
        self._strays.install()
        awake = self._hub.loop.async_()
        awake.start(lambda: None)  # a loop with nothing to wait for would end (LoopExit)
        try:
            self._start()
            code = self._await_end()
        finally:
            awake.stop()
            awake.close()
            if self.slots.forked:
                os._exit(EXIT_FAILURE)
            self._close(last)
        if (given_back := self.slots.running()) or self.slots.lost():
            if given_back:
                ids = ", ".join(name_shown(job.job_id) for job in given_back)
                _logger.warning("ending with jobs that would not end; they are given back: %s", ids)
            logging.shutdown()
            sys.stdout.flush()
            os._exit(code)
        _logger.info("ended")
        return code

    def _await_end(self) -> int:
        """Return the exit code.

        What ends a program the hub throws into this greenlet, whoever raised it: a greenlet of a task's that calls
        sys.exit, say. The jobs of others are at stake.
        """
        while True:
            try:
                return cast(int, self._ending.get())
            except (SystemExit, KeyboardInterrupt, SystemError) as stray:
                if self.slots.forked:
                    raise
                said = "a greenlet that is no job raised %s; the worker goes on"
                gevent.spawn(_logger.error, said, type(stray).__name__)

    def drain(self) -> None:
        """Claim nothing more, finish what runs within the grace, give back the rest, end. May come before `run`."""
        self._asked.append("drain")
        self._follow()

    def quiet(self) -> None:
        """Claim nothing more; go on with what runs."""
        self._asked.append("quiet")
        self._follow()

    def serves(self, url: str, queue_name: str) -> bool:
        """Return whether this process serves that queue."""
        return (url, queue_name) in self._places

    def _any_sensitive(self) -> bool:
        return any(task.sensitive for queue in self._queues for task in queue.tasks.values())

    def spawn(self, duty: Callable[..., object], *args: object) -> "Greenlet[..., None]":
        """Carry *duty* out on a greenlet of its own; if it fails, so does the process: see `give_up`."""
        return Greenlet.spawn(self._guarded, duty, *args)

    def _guarded(self, duty: Callable[..., object], *args: object) -> None:
        try:
            duty(*args)
        except gevent.GreenletExit as killed:
            if not self._ending.ready() and not self.slots.forked:  # a stranger's kill
                self.give_up(killed)
        except BaseException as error:  # noqa: BLE001 - without it the worker would only look alive
            self.give_up(error)

    # The dispatch.

    def tell(self, step: Step) -> None:
        """Take the new state, carry the commands out in order."""
        self.state, commands = step
        for command in commands:
            self._carry_out(command)

    def _carry_out(self, command: Command) -> None:
        match command:
            case Exit(cause):
                self._end(EXIT_STUCK if cause is Cause.STUCK else 0)
            case Replace(cause):
                self.spawn(self._make_way, cause)
            case Wait(queue, ms):
                self._pumps[queue].listen(ms)
            case Alarm(queue, ms):
                self._pumps[queue].set_alarm(ms)
            case Interrupt(queue, why):
                pump = self._pumps[queue]
                if why is Why.LEASE_LOST:
                    pump.lose(pump.worker_id)
                self.slots.condemn(pump, why)
                self.slots.strike()
                pump.forget_waiting()
            case _:
                self._pumps[command.queue].obey(command)

    def gather_soon(self) -> None:
        """Have the hub report what ended to the dispatch."""
        if not self._gathering:
            self._gathering = True
            self._hub.loop.run_callback(self._gather)

    def _gather(self) -> None:
        self._gathering = False
        try:
            for pump in self._pumps:
                pump.report_ended()
        except BaseException as error:  # noqa: BLE001 - on the hub nobody else would hear of it
            self.give_up(error)

    def give_up(self, error: BaseException) -> None:
        """End the process: it cannot go on. Its jobs go on elsewhere when the lease lapses."""
        if isinstance(error, GqueueError):  # it says itself what is wrong and what to do
            gevent.spawn(_logger.critical, "the worker cannot go on, and ends: %s", error)
        else:
            gevent.spawn(_logger.critical, "gqueue is at fault, and ends: %r", error, exc_info=error)
        self._end(EXIT_FAILURE)

    def _end(self, code: int) -> None:
        if not self._ending.ready():
            self._signals.ignore_ends()
            self._ending.set(code)

    # Beginning.

    def _open(self) -> None:
        options = self._options
        for number, queue in enumerate(self._queues):
            pump = Pump(self, number, queue, alone=len(self._queues) == 1, log_jobs=options.log_jobs)
            self._pumps.append(pump)
        for pump in self._pumps:
            pump.open()

    def _start(self) -> None:
        options = self._options
        lines.started(options, self._pumps, self._weights)
        self._heartbeat = Heartbeat(self._pumps, self.slots, self._watchdog, self._deadman, self._read_news)
        self._heartbeat.start()
        for pump in self._pumps:
            pump.start()
        gc.collect()
        gc.freeze()
        gc.set_threshold(max(GC_FIRST, 50 * options.slots), 20, 100)
        self.tell(
            dispatch.start(
                options.slots,
                self._weights,
                strict=options.weights is None,
                stuck_share=options.stuck_share,
                max_jobs=options.max_jobs and dispatch.spread(options.max_jobs, random.random()),
            )
        )
        self._started = True
        self._follow()
        if options.burst:
            self.spawn(self._burst)
        self._keeper = self.spawn(self._look_after)

    # Ending.

    def _follow(self) -> None:
        """Do what was asked, once there is somebody to do it."""
        while self._started and self._asked:
            asked = self._asked.pop(0)
            if asked == "quiet" and self.state.phase is Phase.RUNNING:
                _logger.info("quiet: no more jobs are claimed, %d run on", self.state.running)
                self.tell(dispatch.quiet_asked(self.state))
            elif asked == "drain" and self.state.phase in (Phase.RUNNING, Phase.QUIET):
                grace_s = self._options.grace_ms / 1000
                _logger.info("draining: %d jobs get %g s to finish", self.state.running, grace_s)
                self.tell(dispatch.drain_asked(self.state))
                self.spawn(self._end_grace, grace_s)
            elif asked == "stop":
                self.spawn(self._stop)

    def _end_signal(self) -> None:
        """Take a TERM or INT: the first drains, the second gives back at once, a third ends the process as it is.

        They are counted as they come: an idle worker has drained, and is about to end, when the second is there.
        """
        if self._ending.ready():  # it was on its way when the end was decided
            return
        self._ends_heard += 1
        if self._ends_heard == 1:
            self.drain()
        elif self._ends_heard == 2:
            _logger.warning("asked a second time: giving %d jobs back at once", self.state.running)
            self._asked.append("stop")
            self._follow()
        else:
            _logger.error("asked a third time: ending as it is; when the lease is over, others run the jobs")
            os._exit(EXIT_FAILURE)

    def _make_way(self, cause: Cause) -> None:
        """Drain, in order to be replaced; the dispatch has begun it."""
        self._replaced()
        grace_s, jobs = self._options.grace_ms / 1000, self.state.running
        how = f"the process drains, {jobs} jobs get {grace_s:g} s to finish; then a fresh one is to take over"
        match cause:
            case Cause.STUCK:
                lost = self.state.lost
                _logger.error("%d of %d slots are lost to stuck jobs: %s (exit code 4)", lost, self.slots.limit, how)
            case Cause.MAX_JOBS:
                _logger.info("recycling after about %d jobs (max_jobs): %s", self._options.max_jobs or 0, how)
            case Cause.MAX_RSS:
                has, most = memory.resident_bytes(), self._options.max_rss_bytes or 0
                said = "recycling with %s of memory (max_rss %s): %s"
                _logger.info(said, memory.in_words(has), memory.in_words(most), how)
        self._end_grace(grace_s)

    def _look_after(self) -> None:
        most = self._options.max_rss_bytes
        while True:
            gevent.sleep(LOOK_AFTER_S)
            if sys.getswitchinterval() > self._switch_s:  # the heartbeat's thread would get no turn
                sys.setswitchinterval(self._switch_s)
                _logger.warning("a task made the switch interval of threads longer; it is %g s again", self._switch_s)
            if taken := self._signals.mend():
                _logger.warning("a task took %s from the worker, which has taken it back", ", ".join(taken))
            if most is not None and memory.resident_bytes() >= most:
                most = None
                self.tell(dispatch.memory_grown(self.state))

    def _end_grace(self, grace_s: float) -> None:
        gevent.sleep(grace_s)
        if self.state.phase is not Phase.DRAINING:
            return
        if self.state.running:
            _logger.warning("the grace is over: interrupting %d jobs", self.state.running)
            self.tell(dispatch.grace_ended(self.state))
            until = _monotonic() + CLEAN_UP_S
            while self.state.running and _monotonic() < until:
                gevent.sleep(0.01)
        self._stop()

    def _stop(self) -> None:
        self.stopped = True
        self.tell(dispatch.stop_asked(self.state))
        gevent.sleep(GIVE_UP_S)
        held = [pump.queue.name for pump in self._pumps if not pump.left]
        if held:
            _logger.error("the store does not answer; when the lease is over, others run the jobs of %s", held)
            self._end(EXIT_FAILURE)

    def _burst(self) -> None:
        burst.wait(self._pumps, self._is_idle, self._busy)
        _logger.info("burst: nothing is left")
        self.drain()

    def _is_idle(self) -> bool:
        queues = self.state.queues
        return not any(queue.running or queue.unsettled or queue.doing is Doing.CALLING for queue in queues)

    def _close(self, last: bool) -> None:
        self._deadman.end()
        forks.forget(self)
        self._strays.restore()
        if self._heartbeat is not None:
            self._heartbeat.stop()
            self._heartbeat.join(timeout=3.0)
        if self._keeper is not None:
            self._keeper.kill(block=False)
        for pump in self._pumps:
            pump.end()
        self._release_signals(last)
        self.slots.close()
        gc.unfreeze()
        gc.set_threshold(*self._gc_before)
        gevent.sleep(0)

    def _release_signals(self, last: bool) -> None:
        self._signals.ignore_all() if last else self._signals.restore()

    # News.

    def _read_news(self) -> None:
        # Called by the hub, where nothing may wait: logging may.
        self.spawn(self._take_news)

    def _take_news(self) -> None:
        assert self._heartbeat is not None
        news = self._heartbeat.news
        while news:
            self._take(news.popleft())

    def _take(self, news: heartbeat.News) -> None:
        match news:
            case heartbeat.Condemned():
                self.slots.strike()
            case heartbeat.Lost(pump, worker_id):
                if worker_id == pump.worker_id and not pump.lost:
                    _logger.warning("queue %s: the lease of %s is lost", pump.queue.name, worker_id)
                    pump.lose(worker_id)
                    self.tell(dispatch.lease_lost(self.state, pump.number))
                    self.slots.strike()
            case heartbeat.HeldMore(pump):
                self.tell(dispatch.held_more(self.state, pump.number))
            case heartbeat.Asked(what):
                _logger.info("an operator asks this worker to be %s", what.value)
                self.quiet() if what is Ask.QUIET else self.drain()
            case heartbeat.TookBack(queue, worker_id, jobs, buried):
                lines.took_back(queue, worker_id, jobs, buried)
            case heartbeat.Endangered(warning):
                _logger.warning("%s", warning)
            case heartbeat.Silent(queue, error):  # the store's own connections tell of an outage, too
                _logger.debug("queue %s: the heartbeat is %s", queue, f"not answered: {error}" if error else "answered")
            case heartbeat.Fault(fault):
                self.give_up(fault)

    def _wrote_off(self, job: RunningJob, outcome: Outcome | None, settlement: Settlement | None) -> None:
        # On the hub, where nothing may wait: logging may.
        (pump,) = (pump for pump in self._pumps if pump is job.home)
        lost = self.state.lost + 1
        gevent.spawn(lines.stuck, job, outcome, lost, self.slots.limit)
        if settlement is not None:
            gevent.spawn(pump.tell, job, outcome, settlement, "")
        try:
            pump.slot_lost(settlement)
        except BaseException as error:  # noqa: BLE001 - on the hub nobody else would hear of it
            self.give_up(error)

    def _dump(self, _signal: int, _frame: FrameType | None) -> None:
        state = self.state
        stacks.dump(
            self.slots.all, f"process {os.getpid()} is {state.phase.value}, {state.running} jobs; {getcurrent()}"
        )

    def _limits(self) -> list[float]:
        return [task.timeout_ms / 1000 for queue in self._queues for task in list(queue.tasks.values())]

    def allow(self, limit_s: float) -> None:
        """Note that a job starts that may take *limit_s*, which its task does not say."""
        self._deadman.allow(limit_s)

    def forking(self) -> None:
        """Before a fork: see `Deadman`."""
        self._deadman.hold()

    def fork_done(self) -> None:
        """After a fork, in the parent."""
        self._deadman.go_on()

    def forked(self) -> None:
        """In a child that a task forked: nothing of the worker goes on here."""
        self.slots.forked = True
        for pump in self._pumps:
            pump.progress.end()
        self._signals.forget()
        forks.leave_hub(self._hub)
