"""What every store does, operation by operation: MemoryStore and RedisStore pass the same examples.

The examples are for reading; that both agree on everything else is the model test's part.
"""

import contextlib
import threading
import time
from collections.abc import Callable, Sequence

import pytest
from attrs import evolve

from gqueue.core.model import (
    AWAITED_MS,
    TICKET_MS,
    Admission,
    Ask,
    Beat,
    ClaimedJob,
    Left,
    Look,
    NewJob,
    Place,
    Reaped,
    Reason,
    Settlement,
    State,
    Ticket,
    WhenFull,
    WorkerCall,
)
from gqueue.errors import LeaseLost, NotLapsed, StaleCall, StoreUnavailable
from gqueue.store.base import Store
from tests.store.conftest import RULES

NOW = 1_000_000
LEASE = RULES.lease_ms


def job(job_id: str, priority: float = 0.0, delay_ms: int = 0, record: bytes = b"{}") -> NewJob:
    return NewJob(job_id, priority, delay_ms, record)


def put(store: Store, *jobs: NewJob | str, capacity: int = 100, now_ms: int = NOW, lane: str = "put") -> Admission:
    """Enqueue on a lane that nobody else uses."""
    put.calls += 1  # type: ignore[attr-defined]
    new = [job(j) if isinstance(j, str) else j for j in jobs]
    return store.enqueue(
        f"{lane}{put.calls}",  # type: ignore[attr-defined]
        1,
        new,
        when_full=WhenFull.REJECT,
        capacity=capacity,
        now_ms=now_ms,
    )


put.calls = 0  # type: ignore[attr-defined]


def wait_in_line(store: Store, ticket: Ticket, *jobs: NewJob, call: int = 1, capacity: int = 1, now_ms: int = NOW):
    return store.enqueue(
        f"lane of {ticket.name}", call, jobs, when_full=WhenFull.WAIT, capacity=capacity, ticket=ticket, now_ms=now_ms
    )


def claim(store: Store, limit: int = 10, worker: str = "w", call: int = 1, now_ms: int = NOW) -> list[str]:
    """Register a worker, if the call is its first, and claim."""
    if call == 1:
        store.register(worker, now_ms=now_ms)
    return [j.id for j in store.settle_and_claim(worker, call, [], [], limit, now_ms=now_ms).jobs]


def settle(store: Store, *settlements: Settlement, done: Sequence[str] = (), call: int = 2, now_ms: int = NOW):
    return store.settle_and_claim("w", call, done, settlements, 0, now_ms=now_ms)


def bury(job_id: str, reason: str = "failed", report: bytes = b'{"error":"no"}') -> Settlement:
    return Settlement(job_id, "bury", 0, reason, report, b'{"state":"dead"}', 60_000)


def state_of(store: Store, job_id: str, now_ms: int = NOW) -> State:
    return store.look([job_id], now_ms=now_ms)[0].state


# Enqueue.


def test_jobs_are_claimed_by_priority_then_in_order_of_arrival(store: Store):
    put(store, job("late", 1.0), job("first", -1.0), job("b", 0.5), job("c", 0.5))

    assert claim(store) == ["first", "b", "c", "late"]


def test_enqueue_says_how_many_wait_of_how_many(store: Store):
    assert put(store, "a", "b", capacity=5) == Admission(accepted=2, taken=(), depth=2, capacity=5)


def test_full_queue_admits_a_prefix_and_refuses_the_rest(store: Store):
    assert put(store, "a", "b", "c", capacity=2) == Admission(accepted=2, taken=(), depth=2, capacity=2)
    assert put(store, "d", capacity=2).accepted == 0


def test_running_jobs_leave_room(store: Store):
    put(store, "a", capacity=1)
    claim(store)

    assert put(store, "b", capacity=1).accepted == 1


def test_id_that_waits_runs_or_is_dead_is_taken_and_needs_no_room(store: Store):
    put(store, "dead", "running")
    claim(store)
    settle(store, bury("dead"))
    put(store, "waits", capacity=1)

    reply = put(store, "dead", "running", "waits", capacity=1)

    assert (reply.accepted, reply.taken, reply.depth) == (3, (0, 1, 2), 1)


def test_id_of_a_finished_job_is_free_and_its_old_outcome_goes(store: Store):
    put(store, "a")
    claim(store)
    settle(store, Settlement("a", "succeed", outcome=b'{"state":"succeeded","value":1}', ttl_ms=60_000))
    assert store.look(["a"], now_ms=NOW)[0].outcome

    put(store, "a")

    assert store.look(["a"], now_ms=NOW) == (Look(State.READY),)


def test_call_sent_again_is_answered_as_before_and_applied_once(store: Store):
    first = store.enqueue("lane", 1, [job("a")], when_full=WhenFull.REJECT, capacity=5, now_ms=NOW)
    claim(store)
    settle(store, done=["a"])

    assert store.enqueue("lane", 1, [job("a")], when_full=WhenFull.REJECT, capacity=5, now_ms=NOW) == first
    assert store.stats(now_ms=NOW).depth == 0


def test_call_that_was_overtaken_is_refused(store: Store):
    for number in (1, 2):
        store.enqueue("lane", number, [job(f"j{number}")], when_full=WhenFull.REJECT, capacity=5, now_ms=NOW)

    for number in (1, 4):
        with pytest.raises(StaleCall):
            store.enqueue("lane", number, [job("x")], when_full=WhenFull.REJECT, capacity=5, now_ms=NOW)


def test_delayed_job_waits_until_it_is_due_and_keeps_its_sequence(store: Store):
    put(store, job("delayed", delay_ms=500), job("other"))
    store.register("w", now_ms=NOW)
    first = store.settle_and_claim("w", 1, [], [], 0, now_ms=NOW + 499)
    second = store.settle_and_claim("w", 2, [], [], 5, now_ms=NOW + 500)

    assert (first.due_in_ms, first.left) == (1, Left.MORE)
    assert [j.id for j in second.jobs] == ["delayed", "other"]


def test_record_comes_back_byte_for_byte(store: Store):
    record = bytes(range(256)) * 3
    put(store, job("a", 0.1, record=record), job("b", 1e300, record=b""), job("c", -5e-324, record=b" {} "))
    store.register("w", now_ms=NOW)

    jobs = store.settle_and_claim("w", 1, [], [], 5, now_ms=NOW).jobs

    assert jobs == (
        ClaimedJob("c", b" {} ", 0, 0),
        ClaimedJob("a", record, 0, 0),
        ClaimedJob("b", b"", 0, 0),
    )


# Shed.


def test_shedding_newcomer_displaces_the_last_job_if_that_is_less_urgent(store: Store):
    put(store, job("good", 1.0), job("bad", 5.0), capacity=2)

    reply = store.enqueue("s", 1, [job("new", 2.0)], when_full=WhenFull.SHED, capacity=2, now_ms=NOW)

    assert reply == Admission(accepted=1, taken=(), depth=2, capacity=2)
    assert [(i.job_id, i.reason) for i in store.letters(shed=True)] == [("bad", Reason.SHED)]
    assert store.letters() == ()
    assert claim(store) == ["good", "new"]


def test_shedding_newcomer_that_is_not_more_urgent_is_refused(store: Store):
    put(store, job("a", 1.0), capacity=1)

    assert store.enqueue("s", 1, [job("b", 1.0)], when_full=WhenFull.SHED, capacity=1, now_ms=NOW).accepted == 0


def test_shed_letters_have_a_limit_of_their_own(store: Store):
    for number in range(4):
        put(store, job(f"v{number}", 9.0), capacity=1)
        store.enqueue(f"s{number}", 1, [job(f"n{number}")], when_full=WhenFull.SHED, capacity=1, now_ms=NOW + number)
        store.purge(10, now_ms=NOW)

    assert [letter.job_id for letter in store.letters(shed=True)] == ["v3", "v2"]


# The line.


def test_full_queue_gives_who_waits_a_place(store: Store):
    put(store, "a", capacity=1)

    first = wait_in_line(store, Ticket("p.1"), job("b", 2.0))
    second = wait_in_line(store, Ticket("p.2"), job("c", 1.0))

    assert (first.accepted, first.place, first.ahead) == (0, Place(2.0, 1), 0)
    assert (second.place, second.ahead) == (Place(1.0, 2), 0)
    assert wait_in_line(store, Ticket("p.1", first.place), job("b", 2.0), call=2).ahead == 1


def test_newcomer_does_not_overtake_who_waits(store: Store):
    put(store, "a", capacity=1)
    place = wait_in_line(store, Ticket("p.1"), job("b")).place
    claim(store)

    assert put(store, "newcomer", capacity=1).accepted == 0
    assert wait_in_line(store, Ticket("p.1", place), job("b"), call=2).accepted == 1


def test_more_urgent_newcomer_enters_before_who_waits(store: Store):
    put(store, "a", capacity=1)
    wait_in_line(store, Ticket("p.1"), job("b"))
    claim(store)

    assert put(store, job("urgent", -1.0), capacity=1).accepted == 1


def test_waiter_leaves_room_to_each_that_stands_before_it(store: Store):
    put(store, "a", "b", capacity=2)
    first = wait_in_line(store, Ticket("p.1"), job("c"), capacity=2).place
    second = wait_in_line(store, Ticket("p.2"), job("d"), capacity=2).place
    claim(store, limit=1)

    assert wait_in_line(store, Ticket("p.2", second), job("d"), call=2, capacity=2).accepted == 0
    assert wait_in_line(store, Ticket("p.1", first), job("c"), call=2, capacity=2).accepted == 1


def test_ticket_that_is_not_renewed_holds_nobody_up(store: Store):
    put(store, "a", capacity=1)
    wait_in_line(store, Ticket("p.1"), job("b"))
    claim(store)

    assert put(store, "c", capacity=1, now_ms=NOW + TICKET_MS).accepted == 1


def test_lapsed_ticket_returns_where_it_stood(store: Store):
    put(store, "a", capacity=1)
    place = wait_in_line(store, Ticket("p.1"), job("b")).place
    wait_in_line(store, Ticket("p.2"), job("c"), now_ms=NOW + TICKET_MS)
    later = NOW + TICKET_MS + 1

    again = wait_in_line(store, Ticket("p.1", place), job("b"), call=2, now_ms=later)

    assert (again.place, again.ahead) == (place, 0)


def test_renewing_keeps_live_tickets_and_names_the_lapsed(store: Store):
    put(store, "a", capacity=1)
    place = wait_in_line(store, Ticket("p.1"), job("b")).place
    assert place
    renewed = store.renew_tickets([Ticket("p.1", place), Ticket("p.9", Place(0.0, 77))], now_ms=NOW + TICKET_MS - 1)

    assert renewed == ("p.9",)
    assert store.stats(now_ms=NOW + 2 * TICKET_MS - 2).waiters == 1
    assert store.renew_tickets([Ticket("p.1", place)], now_ms=NOW + 2 * TICKET_MS) == ("p.1",)


def test_who_leaves_the_line_makes_way(store: Store):
    put(store, "a", capacity=1)
    place = wait_in_line(store, Ticket("p.1"), job("b")).place
    claim(store)
    for _ in range(2):
        store.leave_line(Ticket("p.1", place), now_ms=NOW)

    assert put(store, "c", capacity=1).accepted == 1


def test_batch_with_more_to_bring_goes_behind_its_equals(store: Store):
    put(store, "a", capacity=1)
    first = wait_in_line(store, Ticket("p.1"), job("b"), job("c")).place
    wait_in_line(store, Ticket("p.2"), job("d"))
    claim(store)

    reply = wait_in_line(store, Ticket("p.1", first), job("b"), job("c"), call=2)

    assert (reply.accepted, reply.ahead) == (1, 1)


# Claim and settle.


def test_worker_claims_only_while_it_has_a_lease(store: Store):
    put(store, "a")
    with pytest.raises(LeaseLost):
        store.settle_and_claim("stranger", 1, [], [], 1, now_ms=NOW)


def test_claim_lets_its_caller_do_something_meanwhile(store: Store):
    put(store, "a")
    store.register("w", now_ms=NOW)
    store.settle_and_claim("w", 1, [], [], 0, now_ms=NOW)  # a call whose script is not known yet is sent twice
    done = []

    claimed = store.settle_and_claim("w", 2, [], [], 1, meanwhile=lambda: done.append(True), now_ms=NOW)

    assert [j.id for j in claimed.jobs] == ["a"]
    assert done == [True]


def test_claim_sent_again_is_answered_with_the_same_jobs(store: Store):
    put(store, "a", "b", "c")
    store.register("w", now_ms=NOW)
    first = store.settle_and_claim("w", 1, [], [], 2, now_ms=NOW)
    again = store.settle_and_claim("w", 1, [], [], 2, now_ms=NOW)

    assert first == again
    assert [j.id for j in first.jobs] == ["a", "b"]
    assert store.stats(now_ms=NOW).running == 2


def test_claim_before_the_last_is_answered_again_and_settles_nothing_twice(store: Store):
    put(store, "a", "b", "c", "d")
    store.register("w", now_ms=NOW)
    store.settle_and_claim("w", 1, [], [], 1, now_ms=NOW)
    second = store.settle_and_claim("w", 2, ["a"], [], 2, now_ms=NOW)
    third = store.settle_and_claim("w", 3, [], [], 1, now_ms=NOW)

    assert store.settle_and_claim("w", 2, ["a"], [], 2, now_ms=NOW).jobs == second.jobs
    assert store.settle_and_claim("w", 3, [], [], 1, now_ms=NOW) == third
    assert [j.id for j in (*second.jobs, *third.jobs)] == ["b", "c", "d"]
    stats = store.stats(now_ms=NOW)
    assert (stats.running, stats.counters["claimed"], stats.counters["succeeded"]) == (3, 4, 1)


def test_claim_that_may_be_sent_behind_another_is_made_in_its_turn(store: Store):
    put(store, "a", "b", "c")
    store.register("w", now_ms=NOW)
    store.settle_and_claim("w", 1, [], [], 1, now_ms=NOW)
    behind = WorkerCall(["a"], [], 1)

    second = store.settle_and_claim("w", 2, [], [], 1, meanwhile=lambda: behind, now_ms=NOW)
    third = store.settle_and_claim("w", 3, *behind, now_ms=NOW)

    assert [j.id for j in (*second.jobs, *third.jobs)] == ["b", "c"]
    assert (second.skipped, third.skipped) == ((), ())
    assert store.stats(now_ms=NOW).counters == {"enqueued": 3, "claimed": 3, "succeeded": 1}


def test_claim_that_was_overtaken_is_refused(store: Store):
    claim(store)
    settle(store)
    store.settle_and_claim("w", 3, [], [], 0, now_ms=NOW)

    for number in (1, 5):
        with pytest.raises(StaleCall):
            store.settle_and_claim("w", number, [], [], 1, now_ms=NOW)


def test_success_without_a_result_leaves_nothing(store: Store):
    put(store, "a")
    claim(store)
    settle(store, done=["a"])

    assert state_of(store, "a") is State.UNKNOWN
    assert store.stats(now_ms=NOW).running == 0
    assert store.stats(now_ms=NOW).counters["succeeded"] == 1


def test_result_is_kept(store: Store):
    put(store, "a")
    claim(store)
    settle(store, Settlement("a", "succeed", outcome=b'{"state":"succeeded","value":55}', ttl_ms=60_000))

    assert store.look(["a"], now_ms=NOW) == (Look(State.SUCCEEDED, b'{"state":"succeeded","value":55}'),)


def test_result_is_gone_after_its_ttl(store: Store, eventually: Callable[[Callable[[], bool]], None]):
    now_ms = int(time.time() * 1000)
    put(store, "a", now_ms=now_ms)
    claim(store, now_ms=now_ms)
    outcome = b'{"state":"succeeded","value":55}'
    settle(store, Settlement("a", "succeed", outcome=outcome, ttl_ms=50), now_ms=now_ms)

    eventually(lambda: store.look(["a"])[0].state is State.UNKNOWN)


def test_failed_job_comes_back_after_its_delay_with_one_failure_and_its_place(store: Store):
    put(store, "a", "b")
    claim(store, limit=1)
    settle(store, Settlement("a", "retry", delay_ms=100))

    assert state_of(store, "a") is State.SCHEDULED
    jobs = store.settle_and_claim("w", 3, [], [], 2, now_ms=NOW + 100).jobs
    assert jobs == (ClaimedJob("a", b"{}", 1, 0), ClaimedJob("b", b"{}", 0, 0))


def test_retry_passes_the_capacity(store: Store):
    put(store, "a", capacity=1)
    claim(store)
    put(store, "b", capacity=1)
    settle(store, Settlement("a", "retry", delay_ms=100))

    assert store.stats(now_ms=NOW).depth == 2
    assert put(store, "c", capacity=1).accepted == 0


def test_buried_job_is_a_letter_with_its_record_and_reason(store: Store):
    put(store, job("a", record=b'{"task":"t"}'))
    claim(store)
    settle(store, bury("a", "timed_out", b'{"error":"slow"}'))

    (letter,) = store.letters()
    assert (letter.job_id, letter.reason, letter.died_at_ms) == ("a", Reason.TIMED_OUT, NOW)
    assert (letter.failures, letter.crashes) == (1, 0)
    assert (letter.report, letter.record) == (b'{"error":"slow"}', b'{"task":"t"}')
    look = Look(State.DEAD, b'{"state":"dead"}', 1, 0, Reason.TIMED_OUT, b'{"error":"slow"}')
    assert store.look(["a"], now_ms=NOW) == (look,)


def test_oldest_letters_are_forgotten_beyond_the_limit_and_the_age(store: Store):
    put(store, *"abcdef")
    claim(store)
    settle(store, bury("a"))
    for call, job_id in enumerate("bcde", 3):
        settle(store, bury(job_id), call=call, now_ms=NOW + call)
    assert [letter.job_id for letter in store.letters()] == ["e", "d", "c"]

    settle(store, bury("f"), call=7, now_ms=NOW + RULES.letters_ms + 5)

    assert [letter.job_id for letter in store.letters()] == ["f", "e"]


def test_settled_job_that_the_worker_does_not_hold_is_skipped_and_named(store: Store):
    put(store, "a", "b")
    claim(store)

    reply = settle(store, Settlement("x", "succeed"), bury("b"), Settlement("b", "retry"), done=["a", "y"])

    assert reply.skipped == ("y", "x", "b")
    assert state_of(store, "b") is State.DEAD


@pytest.mark.parametrize("move", ["retry", "bury", "cancel"])
def test_job_that_failed_when_asked_to_be_cancelled_is_cancelled(store: Store, move: str):
    put(store, "a")
    claim(store)
    assert store.cancel("a", 60_000, now_ms=NOW) is State.RUNNING
    settle(store, Settlement("a", move, reason="failed", ttl_ms=60_000))

    assert state_of(store, "a") is State.CANCELLED


def test_success_stands_though_the_job_was_asked_to_be_cancelled(store: Store):
    put(store, "a")
    claim(store)
    store.cancel("a", 60_000, now_ms=NOW)
    settle(store, Settlement("a", "succeed", outcome=b'{"state":"succeeded"}', ttl_ms=60_000))

    assert state_of(store, "a") is State.SUCCEEDED


def test_claim_says_whether_more_is_left(store: Store):
    put(store, "a", "b")
    store.register("w", now_ms=NOW)

    assert store.settle_and_claim("w", 1, [], [], 1, now_ms=NOW).left is Left.MORE
    assert store.settle_and_claim("w", 2, [], [], 1, now_ms=NOW).left is Left.NOTHING
    store.pause()
    assert store.settle_and_claim("w", 3, [], [], 1, now_ms=NOW).left is Left.PAUSED


def test_claim_stops_at_four_megabytes_and_says_that_more_is_left(store: Store):
    record = b"x" * 1_500_000
    for job_id in "abcd":
        put(store, job(job_id, record=record))
    store.register("w", now_ms=NOW)

    reply = store.settle_and_claim("w", 1, [], [], 10, now_ms=NOW)

    assert ([j.id for j in reply.jobs], reply.left) == (["a", "b"], Left.MORE)


def test_held_tells_what_the_worker_holds_best_first(store: Store):
    put(store, job("b", 2.0), job("a", 1.0))
    claim(store)

    assert store.held("w", 1, now_ms=NOW) == (ClaimedJob("a", b"{}", 0, 0), ClaimedJob("b", b"{}", 0, 0))
    with pytest.raises(LeaseLost):
        store.held("stranger", 1, now_ms=NOW)


@pytest.mark.parametrize("call", [0, 2])
def test_worker_of_whose_calls_the_store_knows_another_number_is_told_so(store: Store, call: int):
    put(store, "a")
    claim(store)

    with pytest.raises(StaleCall):
        store.held("w", call, now_ms=NOW)


# Leases.


def test_silent_worker_is_fenced_and_may_record_nothing(store: Store):
    put(store, "a")
    claim(store)
    store.register("other", now_ms=NOW)
    for step in (1, 2, 3):
        store.heartbeat("other", now_ms=NOW + step * LEASE // 3)

    assert store.fence(now_ms=NOW + LEASE) == ("w",)
    for refused in (
        lambda: settle(store, done=["a"], now_ms=NOW + LEASE),
        lambda: store.heartbeat("w", now_ms=NOW + LEASE),
        lambda: store.held("w", 1, now_ms=NOW + LEASE),
        lambda: store.leave("w", 10, now_ms=NOW + LEASE),
    ):
        with pytest.raises(LeaseLost):
            refused()
    assert state_of(store, "a") is State.RUNNING


def fence_w(store: Store, at_ms: int = NOW + LEASE) -> None:
    """Let worker w be fenced while another beats."""
    store.register("other", now_ms=at_ms - LEASE)
    for step in (1, 2, 3):
        store.heartbeat("other", now_ms=at_ms - LEASE + step * LEASE // 3)
    assert store.fence(now_ms=at_ms) == ("w",)


def test_jobs_of_a_fenced_worker_come_back_in_their_place_with_one_crash(store: Store):
    put(store, "a", "b", "c")
    claim(store, limit=2)
    fence_w(store)
    later = NOW + LEASE

    assert store.reap("w", 1, now_ms=later) == Reaped(ready=1, suspect=0, buried=(), cancelled=0, left=1)
    assert store.reap("w", 10, now_ms=later) == Reaped(ready=1, suspect=0, buried=(), cancelled=0, left=0)
    with pytest.raises(NotLapsed):
        store.reap("w", 10, now_ms=later)
    jobs = store.settle_and_claim("other", 1, [], [], 3, now_ms=later).jobs
    assert jobs == (ClaimedJob("a", b"{}", 0, 1), ClaimedJob("b", b"{}", 0, 1), ClaimedJob("c", b"{}", 0, 0))


def test_worker_that_lives_cannot_be_reaped(store: Store):
    store.register("w", now_ms=NOW)
    with pytest.raises(NotLapsed):
        store.reap("w", 10, now_ms=NOW)


def lose(store: Store, times: int, *jobs: str) -> int:
    """Let workers claim *jobs* and die, one after another; return the time after."""
    now_ms = NOW
    put(store, *jobs)
    for _ in range(times):
        claim(store, now_ms=now_ms)
        now_ms += LEASE
        fence_w(store, now_ms)
        store.reap("w", 100, now_ms=now_ms)
        store.leave("other", 100, now_ms=now_ms)
    return now_ms


def test_job_that_lost_two_workers_is_a_suspect_and_a_worker_holds_one_at_a_time(store: Store):
    now_ms = lose(store, 2, "a", "b")
    assert store.stats(now_ms=now_ms).suspects == 2
    put(store, "new", now_ms=now_ms)

    assert claim(store, worker="w2", now_ms=now_ms) == ["a", "new"]
    assert state_of(store, "b", now_ms) is State.READY
    assert claim(store, worker="w3", now_ms=now_ms) == ["b"]


def test_job_that_lost_three_workers_is_buried(store: Store):
    now_ms = lose(store, 2, "a")
    claim(store, now_ms=now_ms)
    now_ms += LEASE
    fence_w(store, now_ms)

    assert store.reap("w", 100, now_ms=now_ms) == Reaped(ready=0, suspect=0, buried=("a",), cancelled=0, left=0)

    (letter,) = store.letters()
    assert (letter.job_id, letter.reason, letter.crashes, letter.failures) == ("a", Reason.WORKER_LOST, 3, 0)
    assert state_of(store, "a", now_ms) is State.DEAD


def test_lost_job_that_was_to_be_cancelled_is_cancelled(store: Store):
    put(store, "a")
    claim(store)
    store.cancel("a", 60_000, now_ms=NOW)
    fence_w(store)

    assert store.reap("w", 10, now_ms=NOW + LEASE).cancelled == 1
    assert state_of(store, "a", NOW + LEASE) is State.CANCELLED


def test_after_a_long_silence_of_all_nobody_is_fenced_at_once(store: Store):
    store.register("w", now_ms=NOW)
    store.heartbeat("w", now_ms=NOW)

    assert store.fence(now_ms=NOW + 10 * LEASE) == ()
    store.heartbeat("w", now_ms=NOW + 10 * LEASE + LEASE // 3 - 1)


def test_silence_again_and_again_saves_a_worker_only_if_it_is_heard_in_between(store: Store):
    for worker in ("dead", "late", "w"):
        store.register(worker, now_ms=NOW)
        store.heartbeat(worker, now_ms=NOW)
    now_ms = NOW
    for _ in range(3):
        now_ms += LEASE
        store.heartbeat("w", now_ms=now_ms)
        assert store.fence(now_ms=now_ms) == ()
        assert store.workers(now_ms=now_ms)["dead"] == LEASE // 3
    store.heartbeat("late", now_ms=now_ms)
    now_ms += LEASE
    store.heartbeat("w", now_ms=now_ms)

    assert store.fence(now_ms=now_ms) == ("dead",)
    assert store.workers(now_ms=now_ms) == {"late": LEASE // 3, "w": LEASE}


def test_who_no_longer_waits_for_an_outcome_is_forgotten_by_the_next_fence(store: Store):
    store.register("w", now_ms=NOW)
    store.await_done(["a"], now_ms=NOW)
    store.await_done(["b"], now_ms=NOW + 1)

    store.fence(now_ms=NOW + AWAITED_MS)
    assert store.snapshot()["awaited"] == {"b": NOW + 1 + AWAITED_MS}
    store.fence(now_ms=NOW + 1 + AWAITED_MS)
    assert store.snapshot()["awaited"] == {}


@pytest.mark.parametrize("how", ["leaves", "is fenced"])
def test_lease_in_force_is_the_longest_of_the_workers_that_are_left(store: Store, how: str):
    for worker, lease_ms in (("long", 8 * LEASE), ("middle", 2 * LEASE), ("dead", LEASE), ("w", LEASE)):
        other = store.clone()
        other.rules = evolve(RULES, lease_ms=lease_ms)  # type: ignore[misc]
        other.register(worker, now_ms=NOW)
        other.close()
    now_ms = NOW
    store.heartbeat("w", now_ms=now_ms)
    assert store.workers(now_ms=now_ms) == {"long": 8 * LEASE, "middle": 8 * LEASE, "dead": 8 * LEASE, "w": 8 * LEASE}

    if how == "leaves":
        assert store.leave("long", 10, now_ms=now_ms) == 0
    else:
        for now_ms in range(NOW, NOW + 8 * LEASE + 1, LEASE):
            for worker in ("middle", "dead", "w"):
                store.heartbeat(worker, now_ms=now_ms)
            lapsed = store.fence(now_ms=now_ms)
        assert lapsed == ("long",)

    assert store.workers(now_ms=now_ms) == {"middle": 2 * LEASE, "dead": 2 * LEASE, "w": 2 * LEASE}
    store.leave("middle", 10, now_ms=now_ms)
    assert store.workers(now_ms=now_ms) == {"dead": LEASE, "w": LEASE}
    store.register("new", now_ms=now_ms)
    assert store.workers(now_ms=now_ms)["new"] == LEASE


def test_heartbeat_tells_cancels_what_is_asked_and_how_many_jobs_are_held(store: Store):
    put(store, "a", "b")
    claim(store)
    store.cancel("b", 0, now_ms=NOW)
    assert store.ask("w", Ask.QUIET)

    assert store.heartbeat("w", now_ms=NOW) == Beat(("b",), Ask.QUIET, 2)
    assert store.heartbeat("w", now_ms=NOW) == Beat(("b",), Ask.QUIET, 2), "a reply may have been lost"
    assert not store.ask("stranger", Ask.STOP)


def test_leaving_gives_back_with_the_place_kept_and_no_attempt_used(store: Store):
    put(store, "a", "b", "c")
    claim(store, limit=2)

    assert store.leave("w", 1, now_ms=NOW) == 1
    assert store.leave("w", 5, now_ms=NOW) == 0
    assert store.leave("w", 5, now_ms=NOW) == 0
    assert store.workers(now_ms=NOW) == {}
    store.register("w2", now_ms=NOW)
    jobs = store.settle_and_claim("w2", 1, [], [], 5, now_ms=NOW).jobs
    assert jobs == (ClaimedJob("a", b"{}", 0, 0), ClaimedJob("b", b"{}", 0, 0), ClaimedJob("c", b"{}", 0, 0))


def test_workers_are_listed_with_what_is_left_of_their_lease(store: Store):
    store.register("w", now_ms=NOW)
    store.register("v", now_ms=NOW + 10)

    assert store.workers(now_ms=NOW + 20) == {"w": LEASE - 20, "v": LEASE - 10}


# Handles.


def test_look_tells_the_state_of_each_job_in_order(store: Store):
    put(store, "run", "ready", job("later", delay_ms=10))
    claim(store, limit=1)

    states = [look.state for look in store.look(["later", "nobody", "run", "ready"], now_ms=NOW)]
    assert states == [State.SCHEDULED, State.UNKNOWN, State.RUNNING, State.READY]


def test_progress_is_kept_while_the_job_runs(store: Store):
    put(store, "a")
    claim(store)
    assert store.progress("a") is None

    assert store.report_progress("w", "a", b'{"at":1}', now_ms=NOW)
    assert store.progress("a") == b'{"at":1}'
    assert not store.report_progress("w", "b", b"1", now_ms=NOW)
    assert not store.report_progress("v", "a", b"1", now_ms=NOW)
    settle(store, done=["a"])
    assert store.progress("a") is None


@pytest.mark.parametrize("delay_ms", [0, 500])
def test_job_that_waits_is_cancelled_at_once(store: Store, delay_ms: int):
    put(store, job("a", delay_ms=delay_ms), capacity=1)

    assert store.cancel("a", 60_000, now_ms=NOW) is State.CANCELLED
    assert state_of(store, "a") is State.CANCELLED
    assert put(store, "b", capacity=1).accepted == 1
    assert store.cancel("nobody", 60_000, now_ms=NOW) is State.UNKNOWN


def test_finished_and_dead_jobs_cannot_be_cancelled(store: Store):
    put(store, "a", "b")
    claim(store)
    settle(store, bury("b"), Settlement("a", "succeed", outcome=b'{"state":"succeeded"}', ttl_ms=60_000))

    assert store.cancel("a", 60_000, now_ms=NOW) is State.SUCCEEDED
    assert store.cancel("b", 60_000, now_ms=NOW) is State.DEAD


def test_priority_of_a_waiting_job_can_be_changed(store: Store):
    put(store, "a", "b", job("later", delay_ms=10))

    assert store.set_priority("b", -1.0, now_ms=NOW) is State.READY
    assert store.set_priority("later", -2.0, now_ms=NOW) is State.SCHEDULED
    assert store.set_priority("nobody", -1.0, now_ms=NOW) is State.UNKNOWN
    assert claim(store, now_ms=NOW + 10) == ["later", "b", "a"]
    assert store.set_priority("a", -1.0, now_ms=NOW) is State.RUNNING


# Operators.


def test_stats_count_everything(store: Store):
    put(store, "run", "die", "a", "b", job("later", delay_ms=500), capacity=5)
    claim(store, limit=2)
    settle(store, bury("die"))
    put(store, "c", "d", capacity=5)
    wait_in_line(store, Ticket("p.1"), job("e"), capacity=5)

    stats = store.stats(now_ms=NOW)

    assert (stats.ready, stats.suspects, stats.scheduled, stats.running) == (4, 0, 1, 1)
    assert (stats.dead, stats.shed, stats.waiters, stats.workers, stats.lapsed) == (1, 0, 1, 1, 0)
    assert (stats.capacity, stats.paused, stats.depth) == (5, False, 5)
    assert stats.counters == {"enqueued": 7, "claimed": 2, "dead": 1}


def test_paused_queue_hands_nothing_out(store: Store):
    put(store, "a")
    store.pause()
    assert claim(store) == []
    assert store.stats(now_ms=NOW).paused
    put(store, "b")

    store.resume()

    assert claim(store, worker="v") == ["a", "b"]


def test_capacity_of_an_operator_overrules_what_producers_bring(store: Store):
    store.set_capacity(1, now_ms=NOW)
    assert put(store, "a", "b", capacity=50) == Admission(accepted=1, taken=(), depth=1, capacity=1)

    store.set_capacity(None, now_ms=NOW)

    assert put(store, "b", capacity=50).capacity == 50


def test_letters_are_read_newest_first_in_pages(store: Store):
    put(store, *"abc")
    claim(store)
    for call, job_id in enumerate("abc", 2):
        settle(store, bury(job_id), call=call, now_ms=NOW + call)

    assert [letter.job_id for letter in store.letters(limit=2)] == ["c", "b"]
    assert [letter.job_id for letter in store.letters(offset=2)] == ["a"]


def test_redriven_jobs_are_new_again_but_for_their_place(store: Store):
    put(store, *"abc")
    claim(store)
    settle(store, bury("a"), bury("b"))

    assert store.redrive(["nobody", "b", "a"], now_ms=NOW) == ("b", "a")
    assert store.letters() == ()
    jobs = store.settle_and_claim("w", 3, [], [], 5, now_ms=NOW).jobs
    assert jobs == (ClaimedJob("a", b"{}", 0, 0), ClaimedJob("b", b"{}", 0, 0))


def test_redrive_stops_at_the_capacity_unless_forced(store: Store):
    put(store, "a", "b", capacity=2)
    claim(store)
    settle(store, bury("a"), bury("b"))
    put(store, "c", capacity=2)

    assert store.redrive(["a", "b"], now_ms=NOW) == ("a",)
    assert store.redrive(["a", "b"], force=True, now_ms=NOW) == ("b",)


def test_deleted_letters_are_gone_and_their_ids_free(store: Store):
    put(store, "a", "b")
    claim(store)
    settle(store, bury("a"), bury("b"))

    assert store.delete_letters(["a", "nobody"]) == 1
    assert [letter.job_id for letter in store.letters()] == ["b"]
    assert put(store, "a").taken == ()


def test_purge_drops_waiting_jobs_worst_first_and_leaves_running_ones(store: Store):
    put(store, "run", job("a", 1.0), job("b", 2.0), job("later", 0.0, 500))
    claim(store, limit=1)

    assert store.purge(1, now_ms=NOW) == 2
    assert state_of(store, "b") is State.UNKNOWN
    assert store.purge(10, now_ms=NOW) == 0
    assert [look.state for look in store.look(["run", "a", "later"], now_ms=NOW)] == [
        State.RUNNING,
        State.UNKNOWN,
        State.UNKNOWN,
    ]


def test_inspect_reads_waiting_jobs_in_order(store: Store):
    put(store, job("b", 2.0, record=b'"B"'), job("a", 1.0, record=b'"A"'), job("later", 0.0, 500, b'"L"'))

    assert store.inspect(State.READY) == (("a", 1.0, b'"A"'), ("b", 2.0, b'"B"'))
    assert store.inspect(State.READY, offset=1, limit=1) == (("b", 2.0, b'"B"'),)
    assert store.inspect(State.SCHEDULED) == (("later", float(NOW + 500), b'"L"'),)


# Waiting. `meanwhile` runs something on another thread while this one blocks.


@pytest.fixture
def meanwhile():
    threads = []

    def start(action: Callable[[], object], after: float = 0.05) -> None:
        threads.append(threading.Timer(after, action))
        threads[-1].start()

    yield start
    for thread in threads:
        thread.join(10)


def test_worker_that_waits_is_woken_by_a_job(store: Store, meanwhile):
    meanwhile(lambda: put(store, "a"))

    assert store.wait_hint(10)


def test_wait_for_work_ends_at_its_time_out(store: Store):
    started = time.monotonic()

    assert not store.wait_hint(0.1)
    assert 0.09 < time.monotonic() - started < 5
    assert not store.wait_hint(0)


def test_hint_that_was_left_before_is_found_without_waiting(store: Store):
    put(store, "a")

    assert store.wait_hint(0)
    assert not store.wait_hint(0)


def test_call_that_leaves_work_passes_the_hint_on(store: Store):
    put(store, "a", "b")
    store.register("w", now_ms=NOW)
    assert store.wait_hint(0)
    store.settle_and_claim("w", 1, [], [], 1, now_ms=NOW)

    assert store.wait_hint(0)
    store.settle_and_claim("w", 2, [], [], 1, now_ms=NOW)
    assert not store.wait_hint(0)


def test_paused_queue_wakes_nobody_until_it_is_resumed(store: Store):
    store.pause()
    put(store, "a")
    assert not store.wait_hint(0)

    store.resume()

    assert store.wait_hint(0)


def test_producer_that_waits_is_told_of_room(store: Store, meanwhile):
    put(store, "a", capacity=1)
    wait_in_line(store, Ticket("p.7"), job("b"))
    meanwhile(lambda: claim(store))

    assert store.wait_room("p", 10) == ("p.7",)


def test_room_is_told_to_the_first_in_line_only(store: Store):
    put(store, "a", capacity=1)
    wait_in_line(store, Ticket("p.1"), job("b", 5.0))
    wait_in_line(store, Ticket("q.1"), job("c", 1.0))
    claim(store)

    assert store.wait_room("q", 0) == ("q.1",)
    assert store.wait_room("p", 0) == ()


def test_all_hints_of_room_are_taken_at_once(store: Store):
    put(store, "a", "b", "c", capacity=3)
    for number in range(3):
        wait_in_line(store, Ticket(f"p.{number}"), job(f"w{number}"), capacity=3)
    claim(store, 3)

    assert set(store.wait_room("p", 0)) == {"p.0", "p.1", "p.2"}
    assert store.wait_room("p", 0) == ()


def test_who_was_told_of_room_is_not_told_again_before_asking(store: Store):
    put(store, "a", "b", capacity=2)
    ticket = Ticket("p.1")
    place = wait_in_line(store, ticket, job("c"), capacity=2).place
    claim(store, 1)
    assert store.wait_room("p", 0) == ("p.1",)

    claim(store, 1, call=2)

    assert store.wait_room("p", 0) == ()
    reply = wait_in_line(store, Ticket("p.1", place), job("c"), job("d"), job("e"), call=2, capacity=2)
    assert reply.accepted == 2
    claim(store, 1, call=3)
    assert store.wait_room("p", 0) == ("p.1",)


def test_who_leaves_the_line_passes_the_room_on(store: Store):
    put(store, "a", capacity=1)
    place = wait_in_line(store, Ticket("p.1"), job("b")).place
    wait_in_line(store, Ticket("q.1"), job("c"))
    claim(store)
    assert store.wait_room("q", 0) == ()

    store.leave_line(Ticket("p.1", place), now_ms=NOW)

    assert store.wait_room("q", 0) == ("q.1",)


@pytest.mark.parametrize("way", ["done", "succeed", "bury", "cancel", "cancel at once"])
def test_who_waits_for_an_outcome_is_told_when_the_job_is_done(store: Store, meanwhile, way: str):
    assert store.wait_done(0) == ()
    put(store, "a", "b")
    assert store.await_done(["a", "gone"], now_ms=NOW) == ("gone",)
    if way == "cancel at once":
        meanwhile(lambda: store.cancel("a", 60_000, now_ms=NOW))
    else:
        claim(store)
        done = ["a", "b"] if way == "done" else ["b"]
        settlements = [] if way == "done" else [Settlement("a", way, reason="failed", ttl_ms=60_000)]
        meanwhile(lambda: settle(store, *settlements, done=done))

    assert store.wait_done(10) == ("a",)
    assert store.wait_done(0) == ()


def test_note_that_someone_waits_lapses(store: Store):
    store.wait_done(0)
    put(store, "a", "b")
    store.await_done(["a"], now_ms=NOW)
    store.await_done(["b"], now_ms=NOW + AWAITED_MS)

    assert store.snapshot()["awaited"] == {"b": NOW + 2 * AWAITED_MS}


def test_several_outcomes_come_at_once(store: Store, eventually):
    store.wait_done(0)
    put(store, *"abc")
    store.await_done([*"abc"], now_ms=NOW)
    claim(store)
    settle(store, done=["a", "b", "c"])
    told: list[str] = []

    eventually(lambda: told.extend(store.wait_done(0.5)) or len(told) == 3)
    assert sorted(told) == ["a", "b", "c"]


def test_who_stopped_waiting_for_outcomes_hears_only_what_ends_after_it_listens_anew(store: Store, meanwhile):
    store.wait_done(0)
    put(store, *"ab")
    store.await_done([*"ab"], now_ms=NOW)
    store.stop_waiting("done")
    store.stop_waiting("done")
    store.cancel("a", 0, now_ms=NOW)

    assert store.wait_done(0) == ()
    meanwhile(lambda: store.cancel("b", 0, now_ms=NOW))
    assert store.wait_done(10) == ("b",)


@pytest.mark.parametrize("wait", ["wait_hint", "wait_room", "wait_done"])
def test_closing_ends_every_wait(store: Store, meanwhile, wait: str):
    store.stats()
    meanwhile(store.close, after=0.2)
    started = time.monotonic()
    with contextlib.suppress(StoreUnavailable):
        {"wait_hint": store.wait_hint, "wait_done": store.wait_done}.get(wait, lambda t: store.wait_room("p", t))(8)

    assert time.monotonic() - started < 4
    store.close()


def test_clone_sees_the_same_queue(store: Store):
    put(store, "a")
    twin = store.clone()
    store.close()

    assert twin.stats(now_ms=NOW).ready == 1
    twin.close()
