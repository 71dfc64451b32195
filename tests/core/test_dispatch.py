"""Laws: slots are never overcommitted, and those that are lost never come back; nothing is claimed unless running;
order and weights of queues hold; a process is replaced once, as soon as there is a cause, and not when it was asked to
end; no rest without a reason: whenever no call is under way, either no slot is free, or every queue is empty and
listened to.
"""

from collections import Counter
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from gqueue.core import dispatch
from gqueue.core.dispatch import (
    POLL_MS,
    Adopt,
    Alarm,
    Cause,
    Claim,
    Command,
    Exit,
    Interrupt,
    Leave,
    MiscountedJobs,
    Phase,
    Register,
    Replace,
    Settle,
    Step,
    Wait,
    Why,
    WorkerState,
)
from gqueue.core.model import MOVE_LIMIT, Left
from gqueue.core.sharing import Doing

QUEUES = st.integers(0, 2)
booleans = st.booleans()


class Flight:
    """A pump's work under way, as the shell sees it."""

    def __init__(self, command: Command, sent: int) -> None:
        self.command, self.sent, self.failed, self.doomed = command, sent, False, False
        self.behind: Flight | None = None
        self.limit = command.limit if isinstance(command, Claim) else 0


class Shell(RuleBasedStateMachine):
    """Carries the commands out against queues of its own, and checks each of them as it comes."""

    @initialize(
        slots=st.integers(1, 6),
        weights=st.lists(st.integers(1, 3), min_size=1, max_size=3),
        strict=booleans,
        share=st.sampled_from([0.25, 0.5, 1.0]),
        max_jobs=st.none() | st.integers(1, 12),
    )
    def begin(self, slots: int, weights: list[int], strict: bool, share: float, max_jobs: int | None) -> None:
        count = len(weights)
        self.began_with, self.share, self.max_jobs = slots, share, max_jobs
        self.lost_slots = self.ended_jobs = 0
        self.grown = False
        self.replaced: Cause | None = None
        self.slots, self.count, self.strict = slots, count, strict
        self.phase = Phase.RUNNING
        self.stored = [0] * count  # claimable jobs in the store
        self.running = [0] * count
        self.outcomes = [0] * count  # known here, not yet acknowledged by the store
        self.empty = [False] * count
        self.hinted = [False] * count
        self.hints = [False] * count  # a hint lies in the store
        self.lost = [False] * count
        self.left = [False] * count
        self.listening: set[int] = set()
        self.alarms: set[int] = set()
        self.flights: dict[int, Flight] = {}
        self.sending_behind = False
        self.exited = False
        self.take(dispatch.start(slots, tuple(weights), strict=strict, stuck_share=share, max_jobs=max_jobs))

    # Commands.

    def take(self, step: Step) -> None:
        self.worker, commands = step
        for command in commands:
            self.carry_out(command)

    def carry_out(self, command: Command) -> None:
        assert not self.exited
        match command:
            case Claim(queue, limit):
                assert self.phase is Phase.RUNNING
                assert 1 <= limit <= MOVE_LIMIT
                assert sum(self.running) + self.kept() + limit <= self.slots
                self.check_order(queue)
                self.launch(queue, command)
            case Settle(queue):
                assert self.outcomes[queue] or self.hinted[queue], "a call that is of no use"
                self.launch(queue, command)
            case Adopt(queue) | Register(queue):
                assert self.phase in (Phase.RUNNING, Phase.QUIET) or isinstance(command, Adopt)
                self.launch(queue, command)
            case Leave(queue):
                assert self.phase is Phase.STOPPED or (self.phase is Phase.DRAINING and not self.running[queue])
                assert not self.outcomes[queue]
                self.launch(queue, command)
            case Wait(queue, ms):
                assert self.phase is Phase.RUNNING
                assert queue not in self.listening
                assert self.empty[queue]
                assert ms <= POLL_MS
                self.listening.add(queue)
            case Alarm(queue, ms):
                assert 1 <= ms < POLL_MS
                self.alarms.add(queue)
            case Interrupt(queue, why):
                assert self.running[queue]
                assert why is Why.LEASE_LOST or self.phase in (Phase.DRAINING, Phase.STOPPED)
            case Replace(cause):
                assert self.phase is Phase.RUNNING
                assert self.replaced is None
                assert cause in self.causes()
                self.replaced = cause
                self.enter(Phase.DRAINING)
            case Exit(cause):
                assert cause is self.replaced
                assert all(self.left)
                assert self.phase is Phase.STOPPED or not sum(self.running)
                self.exited = True

    def causes(self) -> set[Cause]:
        causes = {Cause.STUCK} if self.lost_slots >= self.began_with * self.share else set()
        if self.max_jobs is not None and self.ended_jobs >= self.max_jobs:
            causes.add(Cause.MAX_JOBS)
        return causes | ({Cause.MAX_RSS} if self.grown else set())

    def kept(self) -> int:
        kept = [flight for flight in self.flights.values() if not (flight.failed or flight.doomed)]
        return sum(flight.limit + (flight.behind.limit if flight.behind else 0) for flight in kept)

    def launch(self, queue: int, command: Command) -> None:
        if self.sending_behind:
            first = self.flights[queue]
            assert isinstance(command, Claim)
            assert first.behind is None
            first.behind = Flight(command, self.outcomes[queue] - first.sent)
            assert first.behind.sent >= min((self.slots + 1) // 2, dispatch.ENOUGH)
            self.hinted[queue] = False
            return
        assert queue not in self.flights
        assert not self.left[queue]
        assert not self.lost[queue] or isinstance(command, Register)
        if isinstance(command, Claim | Settle):
            self.hinted[queue] = False
        self.flights[queue] = Flight(command, self.outcomes[queue])

    def check_order(self, queue: int) -> None:
        if not self.strict:
            return
        for urgent in range(queue):
            flight = self.flights.get(urgent)
            away = self.lost[urgent] or (flight is not None and (flight.failed or isinstance(flight.command, Register)))
            assert away or (self.empty[urgent] and not self.hinted[urgent])

    # Events.

    @rule(queue=QUEUES, count=st.integers(1, 5), hint=st.booleans())
    def enqueue(self, queue: int, count: int, hint: bool) -> None:
        if queue < self.count:
            self.stored[queue] += count
            self.hints[queue] |= hint  # if not, the hint is lost

    @rule(
        queue=QUEUES,
        most=st.integers(0, 4),
        settle=st.integers(0, 4),
        paused=st.booleans(),
        due=st.none() | st.integers(0, 2 * POLL_MS),
    )
    def answer(self, queue: int, most: int, settle: int, paused: bool, due: int | None) -> None:
        flight = self.flights.get(queue)
        if flight is None or not isinstance(flight.command, Claim | Settle):
            return
        del self.flights[queue]
        if flight.doomed:
            self.refuse(queue)
            return
        if flight.behind:
            self.flights[queue] = flight.behind
        claimed = 0 if paused else min(most, self.stored[queue], flight.limit)
        settled = min(flight.sent, max(settle, 1))  # one call may not carry all
        self.stored[queue] -= claimed
        self.running[queue] += claimed
        self.outcomes[queue] -= settled
        left = Left.PAUSED if paused else Left.MORE if self.stored[queue] else Left.NOTHING
        self.empty[queue] = left is not Left.MORE
        self.take(dispatch.answered(self.worker, queue, settled=settled, claimed=claimed, left=left, due_in_ms=due))

    def refuse(self, queue: int) -> None:
        self.lost[queue], self.outcomes[queue] = True, 0
        self.left[queue] |= self.phase in (Phase.DRAINING, Phase.STOPPED)
        self.take(dispatch.call_refused(self.worker, queue))

    @rule(queue=QUEUES)
    def send(self, queue: int) -> None:
        flight = self.flights.get(queue)
        if flight and isinstance(flight.command, Claim | Settle):
            self.sending_behind = True
            self.take(dispatch.call_sent(self.worker, queue, settling=flight.sent))
            self.sending_behind = False

    @rule(queue=QUEUES)
    def fail_call(self, queue: int) -> None:
        flight = self.flights.get(queue)
        if flight and isinstance(flight.command, Claim | Settle):
            flight.failed = True
            self.take(dispatch.call_failed(self.worker, queue))

    @rule(queue=QUEUES, count=st.integers(1, 3), interrupted=st.integers(0, 1))
    def finish(self, queue: int, count: int, interrupted: int) -> None:
        if queue >= self.count or self.exited or not (ended := min(count, self.running[queue])):
            return
        outcomes = 0 if self.lost[queue] or self.left[queue] else ended - min(interrupted, ended)
        if self.is_leaving(queue):
            outcomes = 0
        self.running[queue] -= ended
        self.ended_jobs += ended
        self.outcomes[queue] += outcomes
        self.take(dispatch.finished(self.worker, queue, ended, outcomes))

    @rule(queue=QUEUES, nothing=booleans)
    def lose_slot(self, queue: int, nothing: bool) -> None:
        if queue >= self.count or self.exited or not self.running[queue] or not self.slots:
            return
        dropped = nothing or self.lost[queue] or self.left[queue] or self.is_leaving(queue)
        self.slots -= 1
        self.lost_slots += 1
        self.running[queue] -= 1
        self.ended_jobs += 1
        self.outcomes[queue] += not dropped
        self.take(dispatch.slot_lost(self.worker, queue, int(not dropped)))

    @precondition(lambda self: not self.exited)
    @rule()
    def grow(self) -> None:
        self.grown = True
        self.take(dispatch.memory_grown(self.worker))

    def is_leaving(self, queue: int) -> bool:
        flight = self.flights.get(queue)
        return flight is not None and isinstance(flight.command, Leave | Register)

    @rule(queue=QUEUES)
    def hint(self, queue: int) -> None:
        if queue in self.listening and self.hints[queue] and not self.exited:
            self.listening.remove(queue)
            self.hints[queue] = False
            self.hinted[queue] = True
            self.take(dispatch.hint_taken(self.worker, queue))

    @rule(queue=QUEUES)
    def end_wait(self, queue: int) -> None:
        if queue in self.listening and not self.exited:
            self.listening.remove(queue)
            self.take(dispatch.wait_ended(self.worker, queue))

    @rule(queue=QUEUES)
    def ring(self, queue: int) -> None:
        if queue in self.alarms and not self.exited:
            self.alarms.remove(queue)
            self.take(dispatch.alarm_rang(self.worker, queue))

    @rule(queue=QUEUES)
    def lose_lease(self, queue: int) -> None:
        if queue >= self.count or self.exited or self.lost[queue] or self.left[queue] or self.is_leaving(queue):
            return
        if queue in self.flights:
            self.flights[queue].doomed = True
        self.lost[queue] = True
        self.outcomes[queue] = 0
        gone = queue not in self.flights and self.phase in (Phase.DRAINING, Phase.STOPPED)
        self.left[queue] |= gone
        self.take(dispatch.lease_lost(self.worker, queue))

    @rule(queue=QUEUES, count=st.integers(0, 2))
    def end_other_work(self, queue: int, count: int) -> None:
        flight = self.flights.get(queue)
        if flight is None or isinstance(flight.command, Claim | Settle):
            return
        del self.flights[queue]
        if flight.doomed:
            self.refuse(queue)
            return
        match flight.command:
            case Register():
                self.lost[queue] = self.empty[queue] = False
                self.take(dispatch.registered(self.worker, queue))
            case Adopt():
                self.running[queue] += count
                self.take(dispatch.adopted(self.worker, queue, count))
            case _:
                self.left[queue] = True
                self.take(dispatch.left(self.worker, queue))

    @rule(queue=QUEUES)
    def hold_more(self, queue: int) -> None:
        if queue < self.count and not self.exited:
            self.take(dispatch.held_more(self.worker, queue))

    @precondition(lambda self: self.phase is Phase.RUNNING)
    @rule()
    def be_quiet(self) -> None:
        self.phase = Phase.QUIET
        self.take(dispatch.quiet_asked(self.worker))

    @precondition(lambda self: self.phase in (Phase.RUNNING, Phase.QUIET))
    @rule()
    def drain(self) -> None:
        self.enter(Phase.DRAINING)
        self.take(dispatch.drain_asked(self.worker))

    @precondition(lambda self: self.phase is Phase.DRAINING and not self.exited)
    @rule()
    def end_grace(self) -> None:
        self.take(dispatch.grace_ended(self.worker))

    @precondition(lambda self: self.phase is not Phase.STOPPED and not self.exited)
    @rule()
    def stop(self) -> None:
        self.enter(Phase.STOPPED)
        self.take(dispatch.stop_asked(self.worker))

    def enter(self, phase: Phase) -> None:
        self.phase = phase
        for queue in range(self.count):
            self.left[queue] |= self.lost[queue] and queue not in self.flights

    # What holds at all times.

    @invariant()
    def counts_agree(self) -> None:
        assert [queue.running for queue in self.worker.queues] == self.running
        assert [queue.doing is Doing.LEFT for queue in self.worker.queues] == self.left
        assert [queue.unsettled for queue in self.worker.queues] == self.outcomes
        assert (self.worker.limit, self.worker.lost) == (self.slots, self.lost_slots)
        assert self.worker.phase is self.phase or self.exited
        assert self.phase is not Phase.RUNNING or not self.causes()
        at_rest = (Doing.NOTHING, Doing.LEFT)
        assert {n for n, queue in enumerate(self.worker.queues) if queue.doing not in at_rest} == set(self.flights)

    @invariant()
    def no_rest_without_a_reason(self) -> None:
        if self.flights or self.exited:
            return
        assert not any(self.outcomes)
        match self.phase:
            case Phase.RUNNING if sum(self.running) < self.slots:
                assert all(self.empty)
                assert self.listening == set(range(self.count))
            case Phase.RUNNING:
                assert all(self.empty[queue] <= (queue in self.listening) for queue in range(self.count))
            case Phase.DRAINING:
                assert sum(self.running)
            case Phase.STOPPED:
                pytest.fail("stopped, and neither gone nor going")

    def teardown(self) -> None:
        """End it: whatever came before, a drain comes to its end when calls are answered and jobs end."""
        if not hasattr(self, "worker") or self.exited:
            return
        if self.phase in (Phase.RUNNING, Phase.QUIET):
            self.drain()
        for _ in range(60):
            for queue in range(self.count):
                self.answer(queue, most=4, settle=4, paused=False, due=None)
                self.end_other_work(queue, count=0)
                self.finish(queue, count=4, interrupted=0)
        assert self.exited


TestShell = Shell.TestCase
TestShell.settings = settings(max_examples=100, stateful_step_count=40, deadline=None)


class Calls:
    """The calls of a worker of one queue that has work, with no more of them under way than one and one behind it."""

    def __init__(self, slots: int, stored: int) -> None:
        self.slots, self.stored, self.running, self.unsettled = slots, stored, 0, 0
        self.under_way: list[tuple[int, int]] = []  # limit, and how many it settles
        self.most = 0
        self.take(dispatch.start(slots, (1,), strict=True))

    def take(self, step: Step) -> None:
        self.worker, commands = step
        for command in commands:
            if isinstance(command, Claim | Settle):
                limit = command.limit if isinstance(command, Claim) else 0
                self.under_way.append((limit, self.unsettled - sum(settles for _, settles in self.under_way)))
        (queue,) = self.worker.queues
        kept = sum(limit for limit, _ in self.under_way)
        assert self.running + kept <= self.slots
        assert (queue.requested, queue.running, queue.unsettled) == (kept, self.running, self.unsettled)
        assert (queue.doing is Doing.CALLING) == bool(self.under_way)
        assert len(self.under_way) <= 2
        self.most = max(self.most, len(self.under_way))

    def finish(self, most: int) -> None:
        ended = min(most, self.running)
        self.running -= ended
        self.unsettled += ended
        self.take(dispatch.finished(self.worker, 0, ended, ended))

    def send(self) -> None:
        if self.under_way:
            self.take(dispatch.call_sent(self.worker, 0, settling=self.under_way[0][1]))

    def answer(self, most: int) -> None:
        if self.under_way:
            limit, settled = self.under_way.pop(0)
            claimed = min(most, limit, self.stored)
            self.stored -= claimed
            self.running += claimed
            self.unsettled -= settled
            left = Left.MORE if self.stored else Left.NOTHING
            self.take(dispatch.answered(self.worker, 0, settled=settled, claimed=claimed, left=left))


@given(
    st.integers(1, 8),
    st.integers(0, 40),
    st.lists(st.tuples(st.sampled_from(["finish", "finish", "send", "send", "answer"]), st.integers(0, 8))),
)
def test_two_calls_under_way_overcommit_no_slot_and_forget_no_job(
    slots: int, stored: int, steps: list[tuple[str, int]]
) -> None:
    calls = Calls(slots, stored)
    for name, number in steps:
        calls.send() if name == "send" else getattr(calls, name)(number)
    for _ in range(2 * stored + 2):
        calls.answer(slots)
        calls.finish(slots)

    assert (calls.stored, calls.running, calls.unsettled, calls.under_way) == (0, 0, 0, [])


def test_slots_that_end_in_halves_keep_two_calls_under_way_all_the_time() -> None:
    calls = Calls(8, 1_000)
    calls.answer(8)
    calls.finish(4)
    for _ in range(20):
        calls.finish(4)
        calls.send()
        assert len(calls.under_way) == 2
        calls.answer(8)


def running(worker: WorkerState, *counts: int, left: Left = Left.MORE) -> WorkerState:
    """Answer the first claims of *worker* with so many jobs."""
    for queue, count in enumerate(counts):
        worker, _ = dispatch.answered(worker, queue, settled=0, claimed=count, left=left)
    return worker


@given(
    st.integers(1, 40), st.lists(st.integers(1, 9), min_size=2, max_size=4), st.lists(st.integers(1, 40), max_size=60)
)
def test_weights_are_kept_within_one_job_while_no_queue_is_empty(
    slots: int, weights: list[int], batches: list[int]
) -> None:
    worker, commands = dispatch.start(slots, tuple(weights), strict=False)
    claimed: Counter[int] = Counter()
    for batch in batches:
        for command in commands:
            assert isinstance(command, Claim)
            claimed[command.queue] += command.limit
            worker, more = dispatch.answered(worker, command.queue, settled=0, claimed=command.limit, left=Left.MORE)
            assert not more
        total = claimed.total()
        for queue, weight in enumerate(weights):
            assert abs(claimed[queue] - total * weight / sum(weights)) <= 1
        commands, free = (), min(batch, slots)
        for queue in range(len(weights)):
            ended = min(free, worker.queues[queue].running)
            free -= ended
            worker, new = dispatch.finished(worker, queue, ended, 0)
            commands += new
            # Claims come as soon as a slot is free: only what is asked for at once can be shared at once.
            if new:
                break


def test_queue_that_comes_back_after_being_empty_has_saved_up_no_turns() -> None:
    worker, _ = dispatch.start(1, (1, 1), strict=False)
    worker, commands = dispatch.answered(worker, 0, settled=0, claimed=0, left=Left.NOTHING)
    for _ in range(10):
        assert Claim(1, 1) in commands
        worker, _ = dispatch.answered(worker, 1, settled=0, claimed=1, left=Left.MORE)
        worker, commands = dispatch.finished(worker, 1, 1, 0)
    worker, commands = dispatch.hint_taken(worker, 0)
    assert commands == (Settle(0),)
    worker, _ = dispatch.answered(worker, 0, settled=0, claimed=0, left=Left.MORE)
    order = []
    for _ in range(4):
        (queue,) = [number for number, each in enumerate(worker.queues) if each.doing is Doing.CALLING]
        order.append(queue)
        worker, _ = dispatch.answered(worker, queue, settled=0, claimed=1, left=Left.MORE)
        worker, _ = dispatch.finished(worker, queue, 1, 0)
    assert sorted(order) == [0, 0, 1, 1]


def test_turns_that_found_nothing_to_claim_are_given_back() -> None:
    worker, _ = dispatch.start(4, (1, 1), strict=False)
    worker, _ = dispatch.answered(worker, 0, settled=0, claimed=0, left=Left.MORE)  # a record of 5 MiB, say
    worker, _ = dispatch.answered(worker, 1, settled=0, claimed=2, left=Left.MORE)

    assert sum(queue.credit for queue in worker.queues) == 0
    assert worker.queues[0].requested == 2
    assert worker.queues[0].credit == worker.queues[1].credit


def test_queue_that_was_alone_claims_no_refund_once_it_is_not() -> None:
    worker, _ = dispatch.start(50, (1, 1), strict=False)
    worker, _ = dispatch.answered(worker, 0, settled=0, claimed=0, left=Left.NOTHING)
    worker, _ = dispatch.answered(worker, 1, settled=0, claimed=25, left=Left.MORE)
    worker, _ = dispatch.hint_taken(worker, 0)
    worker, _ = dispatch.answered(worker, 1, settled=0, claimed=1, left=Left.MORE)

    assert max(abs(queue.credit) for queue in worker.queues) <= 1


def test_jobs_that_end_are_settled_and_replaced_in_one_call() -> None:
    worker = running(dispatch.start(4, (1,), strict=True)[0], 4)

    worker, commands = dispatch.finished(worker, 0, 3, 3)

    assert commands == (Claim(0, 3),)


def test_jobs_that_end_while_a_call_is_in_flight_wait_for_the_next() -> None:
    worker = running(dispatch.start(4, (1,), strict=True)[0], 4)
    worker, _ = dispatch.finished(worker, 0, 1, 1)

    worker, commands = dispatch.finished(worker, 0, 2, 2)
    assert commands == ()

    worker, commands = dispatch.answered(worker, 0, settled=1, claimed=1, left=Left.MORE)
    assert commands == (Claim(0, 2),)


def test_half_of_the_slots_that_ends_while_a_call_is_on_its_way_is_settled_and_replaced_right_behind_it() -> None:
    worker = running(dispatch.start(4, (1,), strict=True)[0], 4)
    worker, _ = dispatch.finished(worker, 0, 2, 2)
    worker, _ = dispatch.finished(worker, 0, 1, 1)
    assert dispatch.call_sent(worker, 0, settling=2) == (worker, ())

    worker, _ = dispatch.finished(worker, 0, 1, 1)
    worker, commands = dispatch.call_sent(worker, 0, settling=2)
    assert commands == (Claim(0, 2),)
    assert dispatch.call_sent(worker, 0, settling=2) == (worker, ())  # no third

    worker, commands = dispatch.answered(worker, 0, settled=2, claimed=2, left=Left.MORE)
    assert commands == ()
    worker, _ = dispatch.finished(worker, 0, 2, 2)
    worker, commands = dispatch.call_sent(worker, 0, settling=2)
    assert commands == (Claim(0, 2),)  # the other two slots are kept for the answer to the second
    worker, commands = dispatch.answered(worker, 0, settled=2, claimed=1, left=Left.MORE)
    assert commands == ()
    worker, commands = dispatch.answered(worker, 0, settled=2, claimed=2, left=Left.MORE)
    assert commands == (Claim(0, 1),)


def test_of_ten_thousand_slots_some_are_enough_for_a_call_behind_another() -> None:
    worker = dispatch.start(10_000, (1,), strict=True)[0]
    for _ in range(10):
        worker, _ = dispatch.answered(worker, 0, settled=0, claimed=1_000, left=Left.MORE)
    worker, _ = dispatch.finished(worker, 0, 1, 1)
    worker, _ = dispatch.finished(worker, 0, dispatch.ENOUGH - 1, dispatch.ENOUGH - 1)
    assert dispatch.call_sent(worker, 0, settling=1)[1] == ()

    worker, _ = dispatch.finished(worker, 0, 1, 1)
    assert dispatch.call_sent(worker, 0, settling=1)[1] == (Claim(0, dispatch.ENOUGH),)


def test_call_is_sent_behind_another_when_the_other_queues_are_empty() -> None:
    worker, _ = dispatch.start(4, (1, 1), strict=True)
    worker, _ = dispatch.answered(worker, 0, settled=0, claimed=0, left=Left.NOTHING)
    worker, _ = dispatch.answered(worker, 1, settled=0, claimed=4, left=Left.MORE)
    worker, _ = dispatch.finished(worker, 1, 2, 2)
    worker, _ = dispatch.finished(worker, 1, 2, 2)
    assert dispatch.call_sent(worker, 1, settling=2)[1] == (Claim(1, 2),)

    worker, commands = dispatch.hint_taken(worker, 0)
    assert commands == (Claim(0, 2),)
    assert dispatch.call_sent(worker, 1, settling=2)[1] == ()


@pytest.mark.parametrize(
    "event", ["quiet", "drain", "stop", "lease", "failure", "empty", "adopt", "no slot", "two queues"]
)
def test_no_call_is_sent_behind_another_when_what_follows_depends_on_its_answer(event: str) -> None:
    worker = dispatch.start(4, (1, 1) if event == "two queues" else (1,), strict=True)[0]
    worker, _ = dispatch.answered(worker, 0, settled=0, claimed=4, left=Left.NOTHING if event == "empty" else Left.MORE)
    worker, _ = dispatch.finished(worker, 0, 1, 1)
    worker, _ = dispatch.finished(worker, 0, 3, 3)
    assert worker.queues[0].doing is Doing.CALLING
    match event:
        case "quiet":
            worker, _ = dispatch.quiet_asked(worker)
        case "drain":
            worker, _ = dispatch.drain_asked(worker)
        case "stop":
            worker, _ = dispatch.stop_asked(worker)
        case "no slot":
            worker = worker._replace(limit=1)
        case "lease":
            worker, _ = dispatch.lease_lost(worker, 0)
        case "failure":
            worker, _ = dispatch.call_failed(worker, 0)
        case "adopt":
            worker, _ = dispatch.held_more(worker, 0)

    assert dispatch.call_sent(worker, 0, settling=1) == (worker, ())


def test_refused_call_takes_the_one_behind_it_along() -> None:
    worker = running(dispatch.start(4, (1,), strict=True)[0], 4)
    worker, _ = dispatch.finished(worker, 0, 2, 2)
    worker, _ = dispatch.finished(worker, 0, 2, 2)
    worker, _ = dispatch.call_sent(worker, 0, settling=2)

    worker, commands = dispatch.call_refused(worker, 0)
    assert commands == (Register(0),)
    worker, commands = dispatch.registered(worker, 0)
    assert commands == (Claim(0, 4),)


def test_empty_queue_is_listened_to_and_asked_again_when_no_hint_comes() -> None:
    worker, commands = dispatch.start(2, (1,), strict=True)
    worker, commands = dispatch.answered(worker, 0, settled=0, claimed=0, left=Left.NOTHING)
    assert commands == (Wait(0, POLL_MS),)

    for event in (dispatch.wait_ended, dispatch.hint_taken):
        worker, commands = event(worker, 0)
        assert commands == (Claim(0, 2),)
        worker, commands = dispatch.answered(worker, 0, settled=0, claimed=0, left=Left.NOTHING)
        assert commands == (Wait(0, POLL_MS),)


def test_full_worker_that_takes_a_hint_calls_at_once_so_that_the_hint_is_passed_on() -> None:
    worker = running(dispatch.start(2, (1,), strict=True)[0], 2, left=Left.NOTHING)

    worker, commands = dispatch.hint_taken(worker, 0)
    assert commands == (Settle(0),)

    worker, commands = dispatch.answered(worker, 0, settled=0, claimed=0, left=Left.MORE)
    assert commands == ()
    assert dispatch.finished(worker, 0, 1, 1)[1] == (Claim(0, 1),)


@pytest.mark.parametrize("asked", [dispatch.quiet_asked, dispatch.drain_asked])
def test_hint_taken_while_quiet_or_draining_is_passed_on(asked: Any) -> None:
    worker = running(dispatch.start(2, (1,), strict=True)[0], 1, left=Left.NOTHING)
    worker, _ = asked(worker)

    assert dispatch.hint_taken(worker, 0)[1] == (Settle(0),)


def test_full_worker_listens_all_the_same_while_its_queue_is_empty() -> None:
    _, commands = dispatch.answered(dispatch.start(2, (1,), strict=True)[0], 0, settled=0, claimed=2, left=Left.NOTHING)

    assert commands == (Wait(0, POLL_MS),)


def test_paused_queue_is_listened_to_like_an_empty_one() -> None:
    _, commands = dispatch.answered(dispatch.start(2, (1,), strict=True)[0], 0, settled=0, claimed=0, left=Left.PAUSED)

    assert commands == (Wait(0, POLL_MS),)


@pytest.mark.parametrize(("due_in_ms", "alarm"), [(300, 300), (0, 1), (POLL_MS, None), (None, None)])
def test_scheduled_job_that_is_due_before_the_poll_sets_an_alarm(due_in_ms: int | None, alarm: int | None) -> None:
    worker, _ = dispatch.start(2, (1,), strict=True)
    worker, commands = dispatch.answered(worker, 0, settled=0, claimed=0, left=Left.NOTHING, due_in_ms=due_in_ms)
    assert [command.ms for command in commands if isinstance(command, Alarm)] == ([] if alarm is None else [alarm])

    if alarm:
        assert dispatch.alarm_rang(worker, 0)[1] == (Claim(0, 2),)


def test_strict_order_asks_the_second_queue_only_after_the_first_said_it_is_empty() -> None:
    worker, commands = dispatch.start(4, (1, 1), strict=True)
    assert commands == (Claim(0, 4),)

    worker, commands = dispatch.answered(worker, 0, settled=0, claimed=1, left=Left.NOTHING)
    assert commands == (Wait(0, POLL_MS), Claim(1, 3))

    worker, commands = dispatch.hint_taken(worker, 0)
    assert commands == (Settle(0),)
    worker, commands = dispatch.answered(worker, 0, settled=0, claimed=0, left=Left.MORE)
    worker, commands = dispatch.answered(worker, 1, settled=0, claimed=1, left=Left.MORE)
    assert commands == (Claim(0, 2),)


def test_queue_whose_store_is_away_keeps_no_slots_from_the_others() -> None:
    worker, _ = dispatch.start(4, (1, 1), strict=True)

    worker, commands = dispatch.call_failed(worker, 0)
    assert commands == (Claim(1, 4),)

    worker, commands = dispatch.answered(worker, 1, settled=0, claimed=4, left=Left.MORE)
    worker, commands = dispatch.answered(worker, 0, settled=0, claimed=4, left=Left.MORE)
    assert worker.running == 8
    assert dispatch.finished(worker, 1, 4, 4)[1] == (Settle(1),)


def test_lost_lease_interrupts_forgets_outcomes_and_registers_anew() -> None:
    worker = running(dispatch.start(4, (1,), strict=True)[0], 4)
    worker, _ = dispatch.finished(worker, 0, 2, 2)

    worker, commands = dispatch.lease_lost(worker, 0)
    assert commands == (Interrupt(0, Why.LEASE_LOST),)
    worker, commands = dispatch.call_refused(worker, 0)
    assert commands == (Register(0),)
    worker, commands = dispatch.registered(worker, 0)
    assert commands == (Claim(0, 2),)
    worker, commands = dispatch.finished(worker, 0, 2, 0)
    assert commands == ()


def test_lease_lost_while_draining_leaves_nothing_to_give_back() -> None:
    worker = running(dispatch.start(2, (1,), strict=True)[0], 1, left=Left.NOTHING)
    worker, _ = dispatch.drain_asked(worker)

    worker, commands = dispatch.lease_lost(worker, 0)
    assert commands == (Interrupt(0, Why.LEASE_LOST),)
    assert dispatch.finished(worker, 0, 1, 0)[1] == (Exit(),)


def test_drain_settles_then_leaves_then_exits() -> None:
    worker = running(dispatch.start(2, (1,), strict=True)[0], 2)
    worker, commands = dispatch.drain_asked(worker)
    assert commands == ()

    worker, commands = dispatch.finished(worker, 0, 2, 2)
    assert commands == (Settle(0),)
    worker, commands = dispatch.answered(worker, 0, settled=2, claimed=0, left=Left.MORE)
    assert commands == (Leave(0),)
    worker, commands = dispatch.left(worker, 0)
    assert commands == (Exit(),)


def test_end_of_the_grace_interrupts_and_a_stop_leaves_with_jobs_still_on_slots() -> None:
    worker = running(dispatch.start(2, (1,), strict=True)[0], 2)
    worker, _ = dispatch.drain_asked(worker)

    worker, commands = dispatch.grace_ended(worker)
    assert commands == (Interrupt(0, Why.GRACE_OVER),)
    worker, commands = dispatch.stop_asked(worker)
    assert commands == (Interrupt(0, Why.GRACE_OVER), Leave(0))
    assert dispatch.left(worker, 0)[1] == (Exit(),)


@given(st.integers(1, 200), st.floats(0, 1, exclude_min=True))
def test_processes_are_replaced_with_the_fewest_lost_slots_that_are_their_share_and_never_for_none(
    slots: int, share: float
) -> None:
    bearable = dispatch.bearable_losses(slots, share)

    assert 1 <= bearable <= slots
    assert bearable >= slots * share - 1e-6
    assert bearable == 1 or bearable - 1 < slots * share


@pytest.mark.parametrize(
    ("slots", "share", "bearable"),
    [(1, 0.25, 1), (3, 0.25, 1), (4, 0.25, 1), (5, 0.25, 2), (50, 0.25, 13), (10, 0.1, 1), (30, 0.1, 3), (7, 1.0, 7)],
)
def test_share_of_the_slots_is_rounded_up(slots: int, share: float, bearable: int) -> None:
    assert dispatch.bearable_losses(slots, share) == bearable


@pytest.mark.parametrize("share", [0.0, -1.0, 1.01, float("nan")])
def test_share_that_is_none_is_refused(share: float) -> None:
    with pytest.raises(ValueError, match="outside"):
        dispatch.bearable_losses(4, share)


@given(st.integers(1, 10**9), st.floats(0, 1, exclude_max=True))
def test_spread_takes_off_a_tenth_at_most_and_leaves_one_job(max_jobs: int, jitter: float) -> None:
    assert max(1, max_jobs * 0.9 - 1) <= dispatch.spread(max_jobs, jitter) <= max_jobs


def test_lost_slot_is_settled_for_and_not_claimed_for_again() -> None:
    worker = running(dispatch.start(8, (1,), strict=True)[0], 8)
    worker, commands = dispatch.slot_lost(worker, 0, 1)
    assert commands == (Settle(0),)

    worker, commands = dispatch.answered(worker, 0, settled=1, claimed=0, left=Left.MORE)
    assert commands == ()
    worker, commands = dispatch.finished(worker, 0, 7, 7)
    assert commands == (Claim(0, 7),)


def test_share_of_lost_slots_drains_and_ends_the_process_for_that_cause() -> None:
    worker = running(dispatch.start(5, (1,), strict=True)[0], 5)
    worker, _ = dispatch.slot_lost(worker, 0, 1)
    worker, _ = dispatch.answered(worker, 0, settled=1, claimed=0, left=Left.MORE)

    worker, commands = dispatch.slot_lost(worker, 0, 1)
    assert commands == (Replace(Cause.STUCK), Settle(0))
    worker, commands = dispatch.answered(worker, 0, settled=1, claimed=0, left=Left.MORE)
    worker, commands = dispatch.finished(worker, 0, 3, 0)
    assert commands == (Leave(0),)
    assert dispatch.left(worker, 0)[1] == (Exit(Cause.STUCK),)


@pytest.mark.parametrize("asked", [dispatch.quiet_asked, dispatch.drain_asked, dispatch.stop_asked])
def test_process_that_was_asked_to_claim_no_more_is_not_replaced(asked: Any) -> None:
    worker = running(dispatch.start(2, (1,), strict=True, max_jobs=1)[0], 2)
    worker, _ = asked(worker)

    for after, commands in (dispatch.slot_lost(worker, 0, 0), dispatch.memory_grown(worker)):
        assert after.replaced is None
        assert not [command for command in commands if isinstance(command, Replace)]


def test_process_is_replaced_when_as_many_jobs_ended_as_it_is_to_run() -> None:
    worker = running(dispatch.start(4, (1,), strict=True, max_jobs=5)[0], 4)
    worker, commands = dispatch.finished(worker, 0, 4, 4)
    assert commands == (Claim(0, 4),)
    worker, _ = dispatch.answered(worker, 0, settled=4, claimed=4, left=Left.MORE)

    worker, commands = dispatch.finished(worker, 0, 1, 1)
    assert commands == (Replace(Cause.MAX_JOBS), Settle(0))


def test_adopted_jobs_may_exceed_the_slots_and_nothing_is_claimed_until_they_do_not() -> None:
    worker = running(dispatch.start(2, (1,), strict=True)[0], 2)
    worker, commands = dispatch.held_more(worker, 0)
    assert commands == (Adopt(0),)
    worker, commands = dispatch.adopted(worker, 0, 3)

    worker, commands = dispatch.finished(worker, 0, 3, 3)
    assert commands == (Settle(0),)
    worker, commands = dispatch.answered(worker, 0, settled=3, claimed=0, left=Left.MORE)
    assert dispatch.finished(worker, 0, 1, 1)[1] == (Claim(0, 1),)


def test_more_slots_than_one_call_may_fill_are_filled_by_several() -> None:
    worker, commands = dispatch.start(2_500, (1,), strict=True)
    asked = []
    while commands:
        (claim,) = commands
        assert isinstance(claim, Claim)
        asked.append(claim.limit)
        worker, commands = dispatch.answered(worker, 0, settled=0, claimed=claim.limit, left=Left.MORE)
    assert asked == [1_000, 1_000, 500]


def test_shell_that_reports_a_job_twice_is_told() -> None:
    worker = running(dispatch.start(2, (1,), strict=True)[0], 1)

    with pytest.raises(MiscountedJobs):
        dispatch.finished(worker, 0, 2, 2)
    with pytest.raises(MiscountedJobs):
        dispatch.slot_lost(worker, 0, 2)
    with pytest.raises(MiscountedJobs):
        dispatch.slot_lost(dispatch.finished(worker, 0, 1, 1)[0], 0, 0)
    with pytest.raises(MiscountedJobs):
        dispatch.answered(worker, 0, settled=0, claimed=5, left=Left.MORE)
    with pytest.raises(MiscountedJobs):
        dispatch.answered(worker, 0, settled=1, claimed=0, left=Left.MORE)


@pytest.mark.parametrize(("limit", "weights"), [(0, (1,)), (1, ()), (1, (1, 0))])
def test_start_refuses_a_worker_that_could_do_nothing(limit: int, weights: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="at least 1"):
        dispatch.start(limit, weights, strict=True)
