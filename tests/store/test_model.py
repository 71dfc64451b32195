"""Redis against the model: both are driven with the same calls, every reply and the whole content are compared."""

import itertools

import pytest
from attrs import evolve
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test

from gqueue.core.model import Ask, State, Ticket, WhenFull
from gqueue.core.scheduling.state import without
from gqueue.errors import GqueueError
from gqueue.store import open_store
from gqueue.store.memory import MemoryStore
from tests.strategies import LEASE_MS, RULES, batches, ids, priorities, settlements, steps_ms, ttls_ms

MINUTE_MS = 60_000
picks = st.integers(0, 3)
names = (f"model-{number}" for number in itertools.count())


def reply_or_error(store, operation, **arguments):
    try:
        return getattr(store, operation)(**arguments)
    except GqueueError as refused:
        return type(refused), str(refused)


def machine(server, rules):
    """Return the state machine for *server*, which it flushes."""

    class RedisMatchesModel(RuleBasedStateMachine):
        workers = Bundle("workers")
        standing = Bundle("standing")

        def __init__(self):
            super().__init__()
            name = next(names)
            self.redis, self.model = open_store(server.url, name, rules), MemoryStore(name, rules)
            self.now_ms, self.registered, self.calls, self.senders = 1_000_000, 0, {}, {}

        def teardown(self):
            self.redis.close()
            with server.client() as client:
                client.flushdb()  # else the snapshots of later programs scan the keys of all earlier ones

        def both(self, operation, *, timed=True, **arguments):
            """Make the call on both, expect equal replies or equal refusals, and return the reply."""
            clock = {"now_ms": self.now_ms} if timed else {}
            expected, actual = (
                reply_or_error(store, operation, **arguments, **clock) for store in (self.model, self.redis)
            )
            assert expected == actual, f"{operation}: the model says {expected}, Redis {actual}"
            return actual

        # Producers.

        @rule(
            target=standing,
            jobs=batches,
            when_full=st.sampled_from(WhenFull),
            capacity=st.integers(1, 4),
            lane=st.sampled_from(["l1", "l2"]),
            ahead=st.sampled_from([1, 1, 1, 1, 0, 2]),
            ticket=st.sampled_from(["p.1", "p.2", "q.1"]),
        )
        def enqueue(self, jobs, when_full, capacity, lane, ahead, ticket):
            newcomer = Ticket(ticket) if when_full is WhenFull.WAIT else None
            return self.send(lane, ahead, jobs, when_full, capacity, newcomer)

        @rule(jobs=batches)
        def enqueue_plainly(self, jobs):
            self.send("l3", 1, jobs, WhenFull.REJECT, 4, None)

        @rule(
            target=standing,
            ticket=standing,
            jobs=batches,
            capacity=st.integers(1, 4),
            lane=st.sampled_from(["l1", "l2"]),
            when_full=st.sampled_from([WhenFull.WAIT, WhenFull.WAIT, WhenFull.REJECT, WhenFull.SHED]),
        )
        def enqueue_from_the_line(self, ticket, jobs, capacity, lane, when_full):
            return self.send(lane, 1, jobs, when_full, capacity, ticket)

        def send(self, lane, ahead, jobs, when_full, capacity, ticket):
            call = self.calls.get(lane, 0) + ahead
            last, _ = self.model.snapshot()["lanes"].get(lane, (None, None))
            reply = self.both(
                "enqueue", lane=lane, call=call, jobs=jobs, when_full=when_full, capacity=capacity, ticket=ticket
            )
            if isinstance(reply, tuple):
                return ticket or Ticket("p.9")
            self.calls[lane] = call
            # Sent again, a call gets its first reply, and the place in it is that ticket's: no two stand at one.
            if call != last:
                self.senders[lane] = ticket.name if ticket else "p.9"
            return Ticket(self.senders[lane], reply.place)

        @rule(tickets=st.lists(standing, max_size=3), leaves=st.booleans())
        def renew_tickets_or_leave(self, tickets, leaves):
            placed = [ticket for ticket in tickets if ticket.place]
            if placed and leaves:
                self.both("leave_line", ticket=placed[0])
            elif placed:
                self.both("renew_tickets", tickets=placed)

        # Workers; a fenced worker's id never comes back.

        @initialize(target=workers)
        def register_first(self):
            return self.register()

        @rule(target=workers)
        def register(self):
            self.registered += 1
            self.both("register", worker=f"w{self.registered}")
            return f"w{self.registered}"

        @rule(target=workers, lease_ms=st.sampled_from([LEASE_MS // 2, 2 * LEASE_MS, 10 * LEASE_MS]))
        def register_with_another_lease(self, lease_ms):
            own = self.redis.rules, self.model.rules
            self.redis.rules = self.model.rules = evolve(rules, lease_ms=lease_ms)
            worker = self.register()
            self.redis.rules, self.model.rules = own
            return worker

        @rule(pick=picks)
        def a_worker_is_of_a_version_that_noted_no_lease(self, pick):
            worker, cell = self.live(pick), self.model._cell
            cell.state = evolve(cell.state, leases=without(cell.state.leases, worker))
            with server.client() as client:
                client.hdel(f"gq:{{{self.redis.name}}}:leases", worker)

        @rule(
            worker=workers,
            ahead=st.sampled_from([1, 1, 1, 1, 1, 0, -1, -2, 2]),
            done=st.lists(ids, max_size=2),
            outcomes=st.lists(settlements, max_size=3),
            limit=st.integers(0, 3),
        )
        def settle_and_claim(self, worker, ahead, done, outcomes, limit):
            call = max(0, self.calls.get(worker, 0) + ahead)
            reply = self.both(
                "settle_and_claim", worker=worker, call=call, done=done, settlements=outcomes, limit=limit
            )
            if not isinstance(reply, tuple):
                self.calls[worker] = max(call, self.calls.get(worker, 0))

        def live(self, pick):
            """Return one of the workers that have a lease, as far as there is one."""
            registered = sorted(self.model.snapshot()["workers"])
            return registered[pick % len(registered)] if registered else self.register()

        @rule(pick=picks, jobs=batches, dies=st.booleans())
        def a_worker_takes_all_and_may_die(self, pick, jobs, dies):
            self.enqueue_plainly(jobs)
            survivor, victim = self.live(pick), self.register()
            self.claim(worker=victim, limit=4)
            if dies:
                self.all_but_one_fall_silent(survivor)

        @rule(pick=picks, chosen=st.lists(picks, min_size=1, max_size=3), outcome=settlements)
        def settle_what_it_holds(self, pick, chosen, outcome):
            worker = self.live(pick)
            held = sorted(self.model.snapshot()["running"].get(worker, ()))
            outcomes = [outcome._replace(job_id=held[number % len(held)]) for number in chosen if held]
            self.settle_and_claim(worker=worker, ahead=1, done=[], outcomes=outcomes, limit=1)

        @rule(pick=picks, limit=st.integers(1, 3))
        def claim_live(self, pick, limit):
            self.claim(self.live(pick), limit)

        def claim(self, worker, limit):
            self.settle_and_claim(worker=worker, ahead=1, done=[], outcomes=[], limit=limit)

        @rule(worker=workers, limit=st.integers(1, 3))
        def fence_and_reap(self, worker, limit):
            self.both("fence")
            self.both("reap", worker=worker, limit=limit)

        def all_but_one_fall_silent(self, survivor):
            for _ in range(4):
                self.now_ms += LEASE_MS // 3
                self.both("heartbeat", worker=survivor)
                lapsed = self.both("fence")
            for worker in lapsed:
                self.both("reap", worker=worker, limit=3)

        @rule(pick=picks, silences=st.integers(2, 5), step_ms=st.sampled_from([451, 451, 2_001, -151]))
        def one_is_heard_between_silences(self, pick, silences, step_ms):
            heard = self.live(pick)
            for _ in range(silences):
                self.now_ms += step_ms
                self.both("heartbeat", worker=heard)
                self.both("workers")
                self.both("fence")

        @rule(worker=workers, limit=st.integers(1, 3))
        def leave(self, worker, limit):
            self.both("leave", worker=worker, limit=limit)

        @rule(
            worker=workers,
            job_id=ids,
            what=st.sampled_from(Ask),
            call=st.integers(0, 5),
            ahead=st.sampled_from([0, 0, 0, 1, -1]),
        )
        def a_worker_is_talked_to(self, worker, job_id, what, call, ahead):
            if call <= 2:
                self.both("heartbeat", worker=worker)
            elif call == 3:
                self.both("held", worker=worker, call=max(0, self.calls.get(worker, 0) + ahead))
            elif call == 4:
                self.both("report_progress", worker=worker, job_id=job_id, progress=b"[1]")
            else:
                self.both("ask", timed=False, worker=worker, what=what)

        # Handles and operators.

        @rule(job_id=ids, ttl_ms=ttls_ms)
        def cancel(self, job_id, ttl_ms):
            self.both("cancel", job_id=job_id, ttl_ms=ttl_ms)

        @rule(job_id=ids, priority=priorities)
        def set_priority(self, job_id, priority):
            self.both("set_priority", job_id=job_id, priority=priority)

        @rule(job_ids=st.lists(ids, min_size=1, max_size=3), force=st.booleans(), delete=st.sampled_from([0, 0, 1]))
        def redrive_or_delete(self, job_ids, force, delete):
            if delete:
                self.both("delete_letters", timed=False, job_ids=job_ids)
            else:
                self.both("redrive", job_ids=job_ids, force=force)

        @rule(change=st.sampled_from(["pause", "resume", "resume", "capacity", "purge"]), number=st.integers(0, 3))
        def the_queue_is_changed(self, change, number):
            if change == "purge":
                self.both("purge", limit=number + 1)
            elif change == "capacity":
                self.both("set_capacity", capacity=number or None)
            else:
                self.both(change, timed=False)

        @rule(job_ids=st.lists(ids, min_size=1, max_size=4), offset=st.integers(0, 2), limit=st.integers(0, 3))
        def all_is_looked_at(self, job_ids, offset, limit):
            self.both("look", job_ids=job_ids)
            self.both("await_done", job_ids=job_ids)
            self.both("workers")
            for shed in (False, True):
                self.both("letters", timed=False, shed=shed, offset=offset, limit=limit)
            for state in (State.READY, State.SCHEDULED):
                self.both("inspect", timed=False, state=state, offset=offset, limit=limit)

        @rule(step_ms=st.one_of(steps_ms, st.sampled_from([-1, -150, -151, -10_000])))
        def time_passes_or_is_stepped_back(self, step_ms):
            self.now_ms += step_ms

        @invariant()
        def same_content(self):
            model, redis = comparable(self.model.snapshot()), comparable(self.redis.snapshot())
            for part in model.keys() | redis.keys():
                assert model.get(part) == redis.get(part), f"{part} differs"

        @invariant()
        def same_counts(self):
            self.both("stats")

    return RedisMatchesModel


def comparable(snapshot):
    """Round the TTLs, which Redis counts down in real time: those asked for are whole minutes."""
    results = {i: (outcome, -(-ttl_ms // MINUTE_MS)) for i, (outcome, ttl_ms) in snapshot["results"].items()}
    return {**snapshot, "results": results}


@pytest.mark.parametrize(
    "rules",
    [
        pytest.param(RULES, id="plain"),
        pytest.param(evolve(RULES, max_crashes=2), id="suspects", marks=pytest.mark.slow),
        pytest.param(evolve(RULES, max_crashes=2, aging_per_second=0.3), id="aging", marks=pytest.mark.slow),
    ],
)
def test_redis_does_what_the_model_does(server, rules):
    run_state_machine_as_test(machine(server, rules))
