"""Redis against the model: both are driven with the same calls, every reply and the whole content are compared."""

import itertools

from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, invariant, rule

from gqueue.core.model import Ask, State, Ticket, WhenFull
from gqueue.errors import GqueueError
from gqueue.store import open_store
from gqueue.store.memory import MemoryStore
from tests.strategies import RULES, batches, ids, priorities, settlements, steps_ms, ttls_ms

MINUTE_MS = 60_000
names = (f"model-{number}" for number in itertools.count())


def reply_or_error(store, call, **arguments):
    try:
        return getattr(store, call)(**arguments)
    except GqueueError as refused:
        return type(refused), str(refused)


def machine(url, rules):
    """Return the state machine for the server at *url*."""

    class RedisMatchesModel(RuleBasedStateMachine):
        workers = Bundle("workers")
        standing = Bundle("standing")

        def __init__(self):
            super().__init__()
            name = next(names)
            self.redis, self.model = open_store(url, name, rules), MemoryStore(name, rules)
            self.now_ms, self.registered, self.calls = 1_000_000, 0, {}

        def teardown(self):
            self.redis.close()

        def both(self, call, *, timed=True, **arguments):
            """Make the call on both, expect equal replies or equal refusals, and return the reply."""
            clock = {"now_ms": self.now_ms} if timed else {}
            expected, actual = (
                reply_or_error(store, call, **arguments, **clock) for store in (self.model, self.redis)
            )
            assert expected == actual, f"{call}: the model says {expected}, Redis {actual}"
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
            reply = self.both(
                "enqueue", lane=lane, call=call, jobs=jobs, when_full=when_full, capacity=capacity, ticket=ticket
            )
            if isinstance(reply, tuple):
                return ticket or Ticket("p.9")
            self.calls[lane] = call
            return Ticket(ticket.name if ticket else "p.9", reply.place)

        @rule(tickets=st.lists(standing, max_size=3))
        def renew_tickets(self, tickets):
            placed = [ticket for ticket in tickets if ticket.place]
            if placed:
                self.both("renew_tickets", tickets=placed)

        @rule(ticket=standing)
        def leave_line(self, ticket):
            if ticket.place:
                self.both("leave_line", ticket=ticket)

        # Workers; a fenced worker's id never comes back.

        @rule(target=workers)
        def register(self):
            self.registered += 1
            self.both("register", worker=f"w{self.registered}")
            return f"w{self.registered}"

        @rule(
            worker=workers,
            ahead=st.sampled_from([1, 1, 1, 1, 0, 2]),
            done=st.lists(ids, max_size=2),
            outcomes=st.lists(settlements, max_size=3),
            limit=st.integers(0, 3),
        )
        def settle_and_claim(self, worker, ahead, done, outcomes, limit):
            call = self.calls.get(worker, 0) + ahead
            reply = self.both(
                "settle_and_claim", worker=worker, call=call, done=done, settlements=outcomes, limit=limit
            )
            if not isinstance(reply, tuple):
                self.calls[worker] = call

        @rule(worker=workers)
        def held(self, worker):
            self.both("held", worker=worker)

        @rule(worker=workers)
        def heartbeat(self, worker):
            self.both("heartbeat", worker=worker)

        @rule()
        def fence(self):
            self.both("fence")

        @rule(worker=workers, limit=st.integers(1, 3))
        def reap(self, worker, limit):
            self.both("reap", worker=worker, limit=limit)

        @rule(worker=workers, limit=st.integers(1, 3))
        def leave(self, worker, limit):
            self.both("leave", worker=worker, limit=limit)

        @rule(worker=workers, job_id=ids)
        def report_progress(self, worker, job_id):
            self.both("report_progress", worker=worker, job_id=job_id, progress=b"[1]")

        # Handles and operators.

        @rule(job_ids=st.lists(ids, min_size=1, max_size=4))
        def look(self, job_ids):
            self.both("look", job_ids=job_ids)

        @rule(job_ids=st.lists(ids, min_size=1, max_size=2))
        def await_done(self, job_ids):
            self.both("await_done", job_ids=job_ids)

        @rule(job_id=ids, ttl_ms=ttls_ms)
        def cancel(self, job_id, ttl_ms):
            self.both("cancel", job_id=job_id, ttl_ms=ttl_ms)

        @rule(job_id=ids, priority=priorities)
        def set_priority(self, job_id, priority):
            self.both("set_priority", job_id=job_id, priority=priority)

        @rule(job_ids=st.lists(ids, min_size=1, max_size=3), force=st.booleans())
        def redrive(self, job_ids, force):
            self.both("redrive", job_ids=job_ids, force=force)

        @rule(job_ids=st.lists(ids, min_size=1, max_size=2))
        def delete_letters(self, job_ids):
            self.both("delete_letters", timed=False, job_ids=job_ids)

        @rule(shed=st.booleans(), offset=st.integers(0, 2), limit=st.integers(0, 3))
        def letters(self, shed, offset, limit):
            self.both("letters", timed=False, shed=shed, offset=offset, limit=limit)

        @rule(limit=st.integers(1, 2))
        def purge(self, limit):
            self.both("purge", limit=limit)

        @rule(
            state=st.sampled_from([State.READY, State.SCHEDULED]), offset=st.integers(0, 2), limit=st.integers(0, 3)
        )
        def inspect(self, state, offset, limit):
            self.both("inspect", timed=False, state=state, offset=offset, limit=limit)

        @rule(pause=st.booleans())
        def pause_or_resume(self, pause):
            self.both("pause" if pause else "resume", timed=False)

        @rule(capacity=st.sampled_from([None, 1, 3]))
        def set_capacity(self, capacity):
            self.both("set_capacity", capacity=capacity)

        @rule(worker=workers, what=st.sampled_from(Ask))
        def ask(self, worker, what):
            self.both("ask", timed=False, worker=worker, what=what)

        @rule()
        def list_workers(self):
            self.both("workers")

        # Time.

        @rule(step_ms=steps_ms)
        def time_passes(self, step_ms):
            self.now_ms += step_ms

        @rule(step_ms=st.sampled_from([-1, -150, -151, -10_000]))
        def the_clock_is_stepped_back(self, step_ms):
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


def test_redis_does_what_the_model_does(server):
    from hypothesis.stateful import run_state_machine_as_test

    run_state_machine_as_test(machine(server.url, RULES))


def test_redis_does_what_the_model_does_under_aging(server):
    from attrs import evolve
    from hypothesis.stateful import run_state_machine_as_test

    run_state_machine_as_test(machine(server.url, evolve(RULES, aging_per_second=0.3)))
