"""The queue as a value: laws that hold after any program of calls, then one example for each rule.

That Redis does the same is shown by tests/store/test_model.py.
"""

import pytest
from attrs import evolve
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from gqueue.core import scheduling
from gqueue.core.lifecycle import Move
from gqueue.core.model import TICKET_MS, Left, NewJob, Place, Reason, Rules, Settlement, State, Ticket, WhenFull
from gqueue.core.scheduling import QueueState
from gqueue.core.scheduling.state import where
from gqueue.errors import LeaseLost, NotLapsed, StaleCall
from tests.strategies import IDS, LEASE_MS, RULES, WORKERS, batches, ids, priorities, settlements, steps_ms, ttls_ms

LAWS = evolve(RULES, max_crashes=2)


class Laws(RuleBasedStateMachine):
    """Any program of calls, in any order, by workers dead or alive."""

    def __init__(self):
        super().__init__()
        self.state, self.now_ms, self.calls, self.tickets = QueueState(), 1_000_000, 0, {}

    def do(self, operation, *arguments, **named):
        try:
            self.state, reply = operation(self.state, *arguments, **named)
        except (LeaseLost, StaleCall, NotLapsed) as refused:
            return refused
        return reply

    @rule(jobs=batches, when_full=st.sampled_from(WhenFull), capacity=st.integers(1, 4), producer=st.sampled_from("pq"))
    def enqueue(self, jobs, when_full, capacity, producer):
        name = f"{producer}.1"
        ticket = self.tickets.pop(name, Ticket(name)) if when_full is WhenFull.WAIT else None
        before, self.calls = self.state, self.calls + 1
        reply = self.do(
            scheduling.enqueue,
            LAWS,
            f"lane-{producer}",
            self.state.lanes[f"lane-{producer}"].call + 1 if f"lane-{producer}" in self.state.lanes else 1,
            jobs,
            when_full=when_full,
            capacity=capacity,
            ticket=ticket,
            now_ms=self.now_ms,
        )
        new = [job for i, job in enumerate(jobs[: reply.accepted]) if i not in reply.taken]
        assert self.state.depth <= max(capacity, before.depth), "admission passed the capacity"
        if ticket is None or ticket.place is None:
            self.nobody_was_overtaken(before, new)
        if reply.place is not None:
            self.tickets[name] = Ticket(name, reply.place)

    def nobody_was_overtaken(self, before, new):
        lives = range(self.now_ms + 1, self.now_ms + TICKET_MS + 1)  # beyond: from before the clock was stepped back
        live = [waiter.rank for waiter in before.line.values() if waiter.until_ms in lives]
        for job in new:
            assert all(rank > job.priority for rank in live), "a newcomer overtook a waiting producer"

    @rule(worker=st.sampled_from(WORKERS))
    def register(self, worker):
        if worker not in self.state.lapsed:
            self.do(scheduling.register, LAWS, worker, now_ms=self.now_ms)

    @rule(
        worker=st.sampled_from(WORKERS),
        ahead=st.sampled_from([1, 1, 1, 0, 2]),
        done=st.lists(ids, max_size=2),
        outcomes=st.lists(settlements, max_size=3),
        limit=st.integers(0, 3),
    )
    def settle_and_claim(self, worker, ahead, done, outcomes, limit):
        before = self.state
        call = before.calls.get(worker, 0) + ahead
        reply = self.do(scheduling.settle_and_claim, LAWS, worker, call, done, outcomes, limit, now_ms=self.now_ms)
        if isinstance(reply, Exception):
            assert self.state == before, "a refused call changed something"
            return
        assert len(reply.jobs) <= limit or ahead == 0
        claimed = [self.state.jobs[job.id] for job in reply.jobs]
        assert [(e.rank, e.sequence) for e in claimed] == sorted((e.rank, e.sequence) for e in claimed)
        if ahead and claimed:
            waiting = [self.state.jobs[i] for i in self.state.ready]
            ready_claimed = [self.state.jobs[j.id] for j in reply.jobs if j.crashes < LAWS.max_crashes - 1]
            assert all(c[:2] < w[:2] for c in ready_claimed for w in waiting), "a better job was left waiting"
        held = self.state.running.get(worker, {})
        assert sum(self.state.crashes.get(i, 0) >= LAWS.max_crashes - 1 for i in held) <= 1, "two suspects at once"

    @rule(worker=st.sampled_from(WORKERS))
    def heartbeat(self, worker):
        self.do(scheduling.heartbeat, LAWS, worker, now_ms=self.now_ms)
        for job_id in self.state.running.get(worker, {}):
            self.do(scheduling.report_progress, worker, job_id, b"1")

    @rule(jobs=batches, producer=st.sampled_from("pq"))
    def enqueue_into_little_room(self, jobs, producer):
        self.enqueue(jobs, WhenFull.WAIT, max(1, self.state.depth), producer)

    @rule(jobs=batches, victim=st.sampled_from(WORKERS), limit=st.integers(1, 4), dies=st.booleans())
    def a_worker_takes_all_and_may_die(self, jobs, victim, limit, dies):
        self.enqueue(jobs, WhenFull.REJECT, 4, "r")
        self.register(victim)
        call = self.state.calls.get(victim, 0) + 1
        self.do(scheduling.settle_and_claim, LAWS, victim, call, [], [], limit, now_ms=self.now_ms)
        for _ in range(4 if dies else 0):
            self.now_ms += LEASE_MS // 3
            for other in WORKERS:
                if other != victim:
                    self.heartbeat(other)
            self.fence_and_reap()

    @rule(
        worker=st.sampled_from(WORKERS), outcomes=st.lists(settlements, min_size=1, max_size=3), pick=st.integers(0, 3)
    )
    def settle_what_it_holds(self, worker, outcomes, pick):
        held = sorted(self.state.running.get(worker, ()))
        outcomes = [o._replace(job_id=held[(pick + i) % len(held)]) for i, o in enumerate(outcomes) if held]
        self.settle_and_claim(worker, 1, [], outcomes, 1)

    @rule()
    def fence_and_reap(self):
        for worker in self.do(scheduling.fence, LAWS, now_ms=self.now_ms):
            self.do(scheduling.reap, LAWS, worker, 2, now_ms=self.now_ms)

    @rule(worker=st.sampled_from(WORKERS), limit=st.integers(1, 2))
    def leave(self, worker, limit):
        self.do(scheduling.leave, LAWS, worker, limit, now_ms=self.now_ms)

    @rule(job_id=ids, ttl_ms=ttls_ms)
    def cancel(self, job_id, ttl_ms):
        self.do(scheduling.cancel, job_id, ttl_ms, now_ms=self.now_ms)

    @rule(job_id=ids, priority=priorities)
    def set_priority(self, job_id, priority):
        self.do(scheduling.set_priority, LAWS, job_id, priority, now_ms=self.now_ms)

    @rule(job_ids=st.lists(ids, max_size=2), force=st.booleans())
    def redrive(self, job_ids, force):
        self.do(scheduling.redrive, job_ids, force=force, now_ms=self.now_ms)

    @rule(limit=st.integers(1, 2))
    def purge(self, limit):
        self.do(scheduling.purge, limit)

    @rule(step_ms=steps_ms)
    def time_passes(self, step_ms):
        self.now_ms += step_ms

    @rule(step_ms=st.sampled_from([-1, -150, -151, -10_000, 3_600_000]))
    def the_clock_is_stepped(self, step_ms):
        self.now_ms += step_ms

    @invariant()
    def every_job_is_in_exactly_one_place(self):
        state = self.state
        places = [*state.ready, *state.suspects, *state.scheduled]
        for runs in state.running.values():
            places += runs
        assert sorted(places) == sorted(state.jobs), "a job is lost, or is in two places"
        assert not state.jobs.keys() & state.letters.keys()

    @invariant()
    def nothing_is_kept_of_a_job_that_is_gone(self):
        state = self.state
        for kept in (state.attempts, state.crashes, state.cancels, state.progress):
            assert kept.keys() <= state.jobs.keys()

    @invariant()
    def only_registered_or_lapsed_workers_hold_jobs(self):
        assert self.state.running.keys() <= self.state.workers.keys() | self.state.lapsed.keys()

    @invariant()
    def what_came_in_went_out_or_is_here(self):
        totals = self.state.counters
        out = sum(totals.get(name, 0) for name in ("succeeded", "cancelled", "dead", "shed", "purged"))
        assert totals.get("enqueued", 0) + totals.get("redriven", 0) == out + len(self.state.jobs)

    @invariant()
    def dead_letters_are_bounded(self):
        shed = sum(death.reason is Reason.SHED for death in self.state.letters.values())
        assert shed <= LAWS.shed_max
        assert len(self.state.letters) - shed <= LAWS.letters_max


TestLaws = Laws.TestCase
TestLaws.settings = settings(max_examples=3 * settings().max_examples)


# Examples.


def job(job_id, priority=0.0, delay_ms=0):
    return NewJob(job_id, priority, delay_ms, b"{}")


class Queue:
    """A queue value with a clock, to write examples in a line."""

    def __init__(self, rules=RULES):
        self.state, self.rules, self.now_ms, self.call = QueueState(), rules, 10_000, 0

    def enqueue(self, *jobs, capacity=100, when_full=WhenFull.REJECT, ticket=None, lane=None):
        self.call += 1
        self.state, reply = scheduling.enqueue(
            self.state,
            self.rules,
            lane or f"lane-{self.call}",
            1,
            jobs,
            when_full=when_full,
            capacity=capacity,
            ticket=ticket,
            now_ms=self.now_ms,
        )
        return reply

    def register(self, worker="w"):
        self.state, _ = scheduling.register(self.state, self.rules, worker, now_ms=self.now_ms)

    def turn(self, worker="w", done=(), settlements=(), limit=10, call=None):
        call = self.state.calls.get(worker, 0) + 1 if call is None else call
        self.state, claim = scheduling.settle_and_claim(
            self.state, self.rules, worker, call, done, settlements, limit, now_ms=self.now_ms
        )
        return claim

    def claim(self, worker="w", **named):
        return [job.id for job in self.turn(worker, **named).jobs]

    def crash(self, worker):
        """Let *worker* fall silent and be reaped, while the others beat on."""
        others = [w for w in self.state.workers if w != worker]
        deadline = self.state.workers[worker]
        while self.now_ms <= deadline:
            self.now_ms += LEASE_MS // 3
            for other in others:
                self.state, _ = scheduling.heartbeat(self.state, self.rules, other, now_ms=self.now_ms)
            self.state, lapsed = scheduling.fence(self.state, self.rules, now_ms=self.now_ms)
        assert worker in lapsed
        self.state, reaped = scheduling.reap(self.state, self.rules, worker, 1_000, now_ms=self.now_ms)
        return reaped

    def where(self, job_id):
        return where(self.state, job_id, self.now_ms)


def test_jobs_run_by_priority_then_in_order_of_arrival():
    queue = Queue()
    queue.enqueue(job("a", 1), job("b", 0), job("c", 1), job("d", -1))
    queue.register()
    assert queue.claim() == ["d", "b", "a", "c"]


def test_a_call_sent_again_is_answered_as_before_and_applied_once():
    queue = Queue()
    first = queue.enqueue(job("a"), lane="lane")
    again = queue.enqueue(job("b"), lane="lane")
    assert again == first
    assert "b" not in queue.state.jobs


def test_a_lost_reply_of_an_enqueue_doubles_nothing_even_when_the_job_has_run_and_gone():
    queue = Queue()
    queue.enqueue(job("a"), lane="lane")
    queue.register()
    queue.claim()
    queue.turn(done=["a"])
    queue.enqueue(job("a"), lane="lane")
    assert queue.where("a") is State.UNKNOWN


def test_a_worker_that_asks_again_gets_the_same_jobs_and_nothing_is_applied():
    queue = Queue()
    queue.enqueue(job("a"), job("b"), job("c"))
    queue.register()
    first = queue.turn(limit=2)
    again = queue.turn(limit=2, done=["a"], call=1)
    assert again.jobs == first.jobs
    assert queue.where("a") is State.RUNNING


def test_a_request_that_arrives_after_its_sender_gave_up_strands_nothing():
    queue = Queue()
    queue.enqueue(job("a"))
    queue.register()
    for _ in range(3):
        queue.turn(limit=0)
    assert queue.turn(limit=1, call=2).jobs == ()
    with pytest.raises(StaleCall):
        queue.turn(limit=1, call=1)
    assert queue.where("a") is State.READY


def test_a_taken_id_changes_nothing_and_a_finished_one_is_free():
    queue = Queue()
    queue.register()
    assert queue.enqueue(job("a")).taken == ()
    assert queue.enqueue(job("a")).taken == (0,)
    queue.claim()
    assert queue.enqueue(job("a")).taken == (0,)
    queue.turn(settlements=[Settlement("a", Move.SUCCEED.value, outcome=b"x", ttl_ms=1_000)])
    assert queue.where("a") is State.SUCCEEDED
    assert queue.enqueue(job("a")).taken == ()
    assert queue.where("a") is State.READY
    assert not queue.state.results


def test_a_taken_id_needs_no_room():
    queue = Queue()
    queue.enqueue(job("a"), capacity=1)
    assert queue.enqueue(job("a"), capacity=1).accepted == 1
    assert queue.enqueue(job("b"), capacity=1).accepted == 0


def test_a_batch_enters_as_far_as_there_is_room():
    queue = Queue()
    assert queue.enqueue(job("a"), job("b"), job("c"), capacity=2).accepted == 2


def test_scheduled_jobs_take_room():
    queue = Queue()
    queue.enqueue(job("a", delay_ms=1_000), capacity=1)
    assert queue.enqueue(job("b"), capacity=1).accepted == 0


def test_waiting_producers_are_served_most_urgent_first_then_in_order():
    queue = Queue()
    queue.enqueue(job("x"), capacity=1)
    wait = {"capacity": 1, "when_full": WhenFull.WAIT}
    first = queue.enqueue(job("a", 1), ticket=Ticket("p.1"), **wait)
    second = queue.enqueue(job("b", 1), ticket=Ticket("p.2"), **wait)
    urgent = queue.enqueue(job("c", 0), ticket=Ticket("p.3"), **wait)
    assert (first.ahead, second.ahead, urgent.ahead) == (0, 1, 0)
    queue.register()
    queue.claim()
    assert scheduling.hinted(queue.state) == ["p.3"]
    assert queue.enqueue(job("a", 1), ticket=Ticket("p.1", first.place), **wait).accepted == 0
    assert queue.enqueue(job("c", 0), ticket=Ticket("p.3", urgent.place), **wait).accepted == 1


def test_a_newcomer_waits_behind_its_equals_though_there_is_room():
    queue = Queue()
    queue.enqueue(job("x"), capacity=1)
    queue.enqueue(job("a"), capacity=1, when_full=WhenFull.WAIT, ticket=Ticket("p.1"))
    queue.register()
    queue.claim()
    assert queue.enqueue(job("b"), capacity=1).accepted == 0
    assert queue.enqueue(job("c", -1), capacity=1).accepted == 1


def test_a_ticket_that_lapsed_returns_where_it_stood():
    queue = Queue()
    queue.enqueue(job("x"), capacity=1)
    wait = {"capacity": 1, "when_full": WhenFull.WAIT}
    first = queue.enqueue(job("a"), ticket=Ticket("p.1"), **wait)
    queue.now_ms += 3_000
    later = queue.enqueue(job("b"), ticket=Ticket("q.1"), **wait)
    assert later.ahead == 0
    back = queue.enqueue(job("a"), ticket=Ticket("p.1", first.place), **wait)
    assert (back.place, back.ahead) == (first.place, 0)


def test_a_dead_producer_holds_nobody_up():
    queue = Queue()
    queue.enqueue(job("x"), capacity=1)
    queue.enqueue(job("a"), capacity=1, when_full=WhenFull.WAIT, ticket=Ticket("p.1"))
    queue.register()
    queue.claim()
    queue.now_ms += 2_000
    assert queue.enqueue(job("b"), capacity=1).accepted == 1


def test_a_clock_that_goes_back_lets_no_dead_producer_hold_the_line():
    queue = Queue()
    queue.now_ms = 4_000_000
    queue.enqueue(job("x"), capacity=1)
    dead = queue.enqueue(job("a"), capacity=1, when_full=WhenFull.WAIT, ticket=Ticket("p.1"))
    queue.register()
    queue.claim()
    queue.now_ms -= 3_600_000
    assert queue.enqueue(job("b"), capacity=1).accepted == 1
    back = queue.enqueue(job("a"), capacity=1, when_full=WhenFull.WAIT, ticket=Ticket("p.1", dead.place))
    assert back.place == dead.place


def test_a_batch_with_more_to_bring_goes_behind_its_equals():
    queue = Queue()
    queue.enqueue(job("x"), capacity=1)
    wait = {"capacity": 1, "when_full": WhenFull.WAIT}
    batch = queue.enqueue(job("a"), job("b"), ticket=Ticket("p.1"), **wait)
    queue.enqueue(job("c"), ticket=Ticket("q.1"), **wait)
    queue.register()
    queue.claim()
    more = queue.enqueue(job("a"), job("b"), ticket=Ticket("p.1", batch.place), **wait)
    assert (more.accepted, more.ahead) == (1, 1)


def test_a_worse_job_of_a_batch_does_not_overtake_who_waits_in_between():
    queue = Queue()
    queue.enqueue(job("x"), capacity=1)
    queue.enqueue(job("a", 5), capacity=1, when_full=WhenFull.WAIT, ticket=Ticket("p.1"))
    assert queue.enqueue(job("b", 1), job("c", 9), capacity=3).accepted == 1


def test_shedding_displaces_the_least_urgent_job_if_it_is_less_urgent():
    queue = Queue()
    queue.enqueue(job("a", 0), job("b", 2), capacity=2)
    assert queue.enqueue(job("c", 2), capacity=2, when_full=WhenFull.SHED).accepted == 0
    assert queue.enqueue(job("d", 1), capacity=2, when_full=WhenFull.SHED).accepted == 1
    assert queue.where("b") is State.DEAD
    assert queue.state.letters["b"].reason is Reason.SHED


def test_retries_come_back_without_asking_for_room():
    queue = Queue()
    queue.register()
    queue.enqueue(job("a"), capacity=1)
    queue.claim()
    queue.enqueue(job("b"), capacity=1)
    queue.turn(settlements=[Settlement("a", Move.RETRY.value, delay_ms=1_000)], limit=0)
    assert queue.state.depth == 2


def test_a_retry_keeps_its_place_and_counts_the_attempt():
    queue = Queue()
    queue.register()
    queue.enqueue(job("a"), job("b"))
    queue.claim(limit=1)
    claim = queue.turn(settlements=[Settlement("a", Move.RETRY.value, delay_ms=0)], limit=1)
    assert [(j.id, j.failures) for j in claim.jobs] == [("a", 1)]


def test_a_worker_that_lost_its_lease_cannot_settle():
    queue = Queue()
    queue.register("w")
    queue.register("other")
    queue.enqueue(job("a"))
    queue.claim("w")
    queue.crash("w")
    with pytest.raises(LeaseLost):
        queue.turn("w", done=["a"])
    assert queue.where("a") is State.READY


def test_a_reaped_job_runs_again_in_its_place():
    queue = Queue()
    queue.register("w")
    queue.register("other")
    queue.enqueue(job("a"))
    queue.claim("w")
    queue.enqueue(job("b"))
    assert queue.crash("w").ready == 1
    claim = queue.turn("other")
    assert [(j.id, j.crashes, j.failures) for j in claim.jobs] == [("a", 1, 0), ("b", 0, 0)]


def test_of_jobs_claimed_together_the_poison_one_alone_dies():
    queue = Queue(evolve(RULES, letters_max=50))
    queue.register("other")
    queue.enqueue(*(job(i) for i in IDS))
    alive = set(IDS)
    for round_ in range(10):
        worker = f"victim-{round_}"
        queue.register(worker)
        claimed = queue.claim(worker)
        if "c" in claimed:  # the poison: whoever runs it dies before settling anything
            queue.crash(worker)
        else:
            queue.turn(worker, done=claimed, limit=0)
            alive -= set(claimed)
    assert alive == {"c"}
    assert queue.where("c") is State.DEAD
    assert queue.state.letters["c"].reason is Reason.WORKER_LOST
    assert queue.state.letters["c"].crashes == RULES.max_crashes


def test_with_one_crash_allowed_nothing_is_a_suspect():
    queue = Queue(Rules(lease_ms=LEASE_MS, max_crashes=1))
    queue.register("w")
    queue.register("other")
    queue.enqueue(job("a"), job("b"))
    queue.claim("w")
    assert queue.crash("w").buried == ("a", "b")


def test_after_a_silence_of_all_the_gap_is_granted_before_anyone_is_fenced():
    queue = Queue()
    queue.register("w")
    queue.turn("w")
    queue.now_ms += 10 * LEASE_MS
    queue.state, lapsed = scheduling.fence(queue.state, RULES, now_ms=queue.now_ms)
    assert lapsed == ()
    queue.now_ms += LEASE_MS // 3
    queue.state, lapsed = scheduling.fence(queue.state, RULES, now_ms=queue.now_ms)
    assert lapsed == ("w",)


def beat(queue, worker):
    queue.state, _ = scheduling.heartbeat(queue.state, RULES, worker, now_ms=queue.now_ms)
    queue.state, lapsed = scheduling.fence(queue.state, RULES, now_ms=queue.now_ms)
    return lapsed


gaps_ms = st.sampled_from([1, 150, 299, 300, 301, 449, 450, 451, 451, 451, 599, 600, 601, 899, 900, 901, 5_001])


@given(gaps=st.lists(gaps_ms, min_size=1, max_size=40))
def test_whatever_the_silences_of_the_others_a_dead_worker_is_fenced_by_the_end_of_the_fourth(gaps):
    queue = Queue()
    queue.register("dead")
    queue.register("survivor")
    beat(queue, "survivor")
    silences, until_ms = 0, queue.now_ms + LEASE_MS
    for gap in gaps:
        queue.now_ms += gap
        silent = 2 * gap > LEASE_MS
        fenced = beat(queue, "survivor") == ("dead",)
        silences += silent
        if silent and silences <= 3:
            until_ms = max(until_ms, queue.now_ms + LEASE_MS // 3)
        assert fenced or (queue.now_ms < until_ms and silences <= 3)
        assert "survivor" in queue.state.workers
        if fenced:
            assert queue.now_ms >= until_ms
            return


@given(
    silences=st.lists(
        st.tuples(st.sampled_from([451, 600, 901, 5_001, 3_600_000]), st.sampled_from([0, 1, 150, 299]), st.booleans()),
        max_size=20,
    )
)
def test_a_worker_that_is_heard_by_the_third_of_silences_in_a_row_keeps_its_lease(silences):
    queue = Queue()
    queue.register("slow")
    queue.register("other")
    beat(queue, "other")
    missed = 0
    for gap, later, comes in silences:
        queue.now_ms += gap
        assert beat(queue, "other") == ()
        queue.now_ms += later
        assert beat(queue, "other") == ()
        missed = 0 if comes or missed == 2 else missed + 1
        if not missed:
            assert beat(queue, "slow") == ()


def test_a_clock_that_goes_back_again_and_again_keeps_no_lapsed_lease():
    queue = Queue()
    queue.register("dead")
    queue.register("other")
    beat(queue, "other")
    for _ in range(3):
        queue.now_ms += LEASE_MS // 2 + 1
        assert beat(queue, "other") == ()
    queue.now_ms -= LEASE_MS // 6 + 1
    assert beat(queue, "other") == ()
    queue.now_ms += LEASE_MS // 2 + 1
    assert beat(queue, "other") == ("dead",)


def test_a_clock_that_goes_back_leaves_no_lease_longer_than_one():
    queue = Queue()
    queue.register("w")
    queue.turn("w")
    queue.now_ms -= 3_600_000
    queue.register("other")
    queue.turn("other")
    assert queue.state.workers["w"] <= queue.now_ms + LEASE_MS


def test_the_longest_lease_of_the_registered_workers_is_in_force():
    queue = Queue()
    queue.register("short")
    queue.state, _ = scheduling.register(queue.state, Rules(lease_ms=9_000), "long", now_ms=queue.now_ms)
    queue.state, _ = scheduling.heartbeat(queue.state, RULES, "short", now_ms=queue.now_ms)
    assert queue.state.workers["short"] == queue.now_ms + 9_000


leases_ms = st.sampled_from([None, LEASE_MS, 2 * LEASE_MS, 10 * LEASE_MS])


@given(program=st.lists(st.tuples(st.sampled_from("abc"), leases_ms, st.sampled_from([0, 1, 400])), max_size=30))
def test_the_lease_in_force_is_the_longest_that_those_who_are_registered_brought(program):
    queue, brought = Queue(), {}
    for worker, lease_ms, later_ms in program:
        queue.now_ms += later_ms
        if lease_ms is not None:
            brought[worker] = lease_ms
            queue.state, _ = scheduling.register(queue.state, Rules(lease_ms=lease_ms), worker, now_ms=queue.now_ms)
        elif worker in brought:
            del brought[worker]
            queue.state, _ = scheduling.leave(queue.state, RULES, worker, 1_000, now_ms=queue.now_ms)
        queue.state, _ = scheduling.fence(queue.state, RULES, now_ms=queue.now_ms)
        brought = {worker: lease for worker, lease in brought.items() if worker in queue.state.workers}
        assert not brought or queue.state.lease_ms == max(brought.values())
        assert all(until <= queue.now_ms + queue.state.lease_ms for until in queue.state.workers.values())


def test_the_lease_never_gets_shorter_than_a_worker_counts_on_that_did_not_say_what_it_brought():
    queue = Queue()
    queue.state, _ = scheduling.register(queue.state, Rules(lease_ms=9_000), "earlier version", now_ms=queue.now_ms)
    queue.state = evolve(queue.state, leases={})
    queue.register("short")
    queue.state, _ = scheduling.leave(queue.state, RULES, "short", 1_000, now_ms=queue.now_ms)
    assert queue.state.lease_ms == 9_000
    queue.register("short")
    queue.state, _ = scheduling.leave(queue.state, RULES, "earlier version", 1_000, now_ms=queue.now_ms)
    assert queue.state.lease_ms == LEASE_MS


def test_leaving_gives_back_without_using_an_attempt():
    queue = Queue()
    queue.register()
    queue.enqueue(job("a"), job("b"))
    queue.claim(limit=1)
    queue.state, left = scheduling.leave(queue.state, RULES, "w", 1_000, now_ms=queue.now_ms)
    queue.register("next")
    claim = queue.turn("next")
    assert left == 0
    assert [(j.id, j.failures, j.crashes) for j in claim.jobs] == [("a", 0, 0), ("b", 0, 0)]


def test_a_running_job_that_was_cancelled_may_still_succeed_but_does_nothing_else():
    for move, expected in (
        (Move.SUCCEED, State.SUCCEEDED),
        (Move.RETRY, State.CANCELLED),
        (Move.BURY, State.CANCELLED),
    ):
        queue = Queue()
        queue.register()
        queue.enqueue(job("a"))
        queue.claim()
        queue.state, state = scheduling.cancel(queue.state, "a", 1_000, now_ms=queue.now_ms)
        assert state is State.RUNNING
        queue.state, beat = scheduling.heartbeat(queue.state, RULES, "w", now_ms=queue.now_ms)
        assert beat.cancels == ("a",)
        queue.turn(settlements=[Settlement("a", move.value, reason="failed", outcome=b"x", ttl_ms=1_000)])
        assert queue.where("a") is expected


def test_a_paused_queue_settles_and_hands_out_nothing():
    queue = Queue()
    queue.register()
    queue.enqueue(job("a"), job("b"))
    queue.claim(limit=1)
    queue.state = evolve(queue.state, paused=True)
    claim = queue.turn(done=["a"])
    assert (claim.jobs, claim.left) == ((), Left.PAUSED)
    assert queue.where("a") is State.UNKNOWN


def test_a_job_settled_twice_is_skipped_and_named():
    queue = Queue()
    queue.register()
    queue.enqueue(job("a"))
    queue.claim()
    assert queue.turn(done=["a", "a", "never"]).skipped == ("a", "never")
    assert queue.state.counters["succeeded"] == 1


def test_a_claim_tells_when_the_next_scheduled_job_is_due():
    queue = Queue()
    queue.register()
    queue.enqueue(job("a", delay_ms=500))
    assert queue.turn().due_in_ms == 500
    queue.now_ms += 500
    assert queue.claim() == ["a"]


def test_a_redrive_passes_the_capacity_only_by_force():
    queue = Queue()
    queue.register()
    queue.enqueue(job("a"), capacity=1)
    queue.claim()
    queue.turn(settlements=[Settlement("a", Move.BURY.value, reason="failed")], limit=0)
    queue.enqueue(job("b"), capacity=1)
    queue.state, went = scheduling.redrive(queue.state, ["a"], force=False, now_ms=queue.now_ms)
    assert went == ()
    queue.state, went = scheduling.redrive(queue.state, ["a"], force=True, now_ms=queue.now_ms)
    assert went == ("a",)
    assert queue.where("a") is State.READY


def test_records_beyond_the_byte_limit_wait_for_the_next_call():
    queue = Queue()
    queue.register()
    big = b"x" * (3 * 1024 * 1024)
    queue.enqueue(*(NewJob(i, 0.0, 0, big) for i in "abc"))
    claim = queue.turn()
    assert [j.id for j in claim.jobs] == ["a"]
    assert claim.left is Left.MORE


def test_a_place_orders_by_rank_then_by_arrival():
    assert Place(0.0, 9) < Place(1.0, 1) < Place(1.0, 2)
