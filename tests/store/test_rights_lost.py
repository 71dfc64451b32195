"""Rights that are taken away: Redis refuses a script in its middle, and rolls nothing back.

Each operation is called by a user who lacks one of the commands that its script uses, or the keys of one kind that it
derives, or the channel; then, with all rights, sent again.
"""

from collections.abc import Iterator
from typing import Any

import pytest
import redis

from gqueue.core.audit import Flaw
from gqueue.core.model import NewJob, Settlement, State, Ticket, WhenFull
from gqueue.errors import CallRefused
from gqueue.store.audit import audit
from gqueue.store.keys import KINDS, is_a_family
from gqueue.store.redis import RedisStore
from tests.servers import Server
from tests.store.conftest import RULES
from tests.store.test_fuzz_scripts import KEYS, NOW, SCRIPTS, Bench

EVERY = ("+@all", "~*", "&*")
CHANNELS = "channels"
HARM = {
    *(
        Flaw.NO_PLACE,
        Flaw.TWO_PLACES,
        Flaw.WRONG_RANK,
        Flaw.NO_INDEX,
        Flaw.NO_LETTER,
        Flaw.BAD_LETTER,
        Flaw.BAD_COUNTER,
    ),
    *(Flaw.LOST_WORKER, Flaw.TWO_LEASES),
}
WRITERS = sorted(
    {"enqueue", "settle_and_claim", "fence", "reap", "leave", "register", "heartbeat", "cancel", "set_priority"}
    | {"redrive", "delete_letters", "purge", "leave_line", "renew_tickets"}
)


class SoundBench(Bench):
    """The queue as it is before anybody damages it."""

    def _damage(self) -> None:
        (suspect,) = self.client.zrange(KEYS("suspects"), 0, -1)
        self.client.zadd(KEYS("suspects"), {suspect: 5.0})  # as its record says


@pytest.fixture(scope="module")
def bench(each_server: str) -> Iterator[SoundBench]:
    with Server(program=each_server) as running:
        yield SoundBench(running)


@pytest.fixture
def admin(bench: SoundBench) -> Iterator[RedisStore]:
    store = RedisStore(bench.server.url, "fuzz", RULES)
    yield store
    store.close()


@pytest.fixture
def store(bench: SoundBench) -> Iterator[RedisStore]:
    """Return the store of the user whose rights are taken away; its queue is empty."""
    bench.client.flushdb()
    allow(bench)
    store = RedisStore(f"unix://u:pass@{bench.server.socket}", "fuzz", RULES)
    yield store
    store.close()


def allow(bench: SoundBench, *but: str) -> None:
    """Give the user all rights but these: `-set`, `result:ID`, `channels`."""
    rules = list(EVERY)
    for each in but:
        if each == CHANNELS:
            rules[rules.index("&*")] = "resetchannels"
        elif each in KINDS:
            rules.remove("~*")
            rules += [f"~{KEYS(kind, '*' if is_a_family(kind) else '').decode()}" for kind in KINDS if kind != each]
        else:
            rules.append(each)
    bench.client.execute_command("ACL", "SETUSER", "u", "reset", "on", ">pass", "resetchannels", *rules)


def rights_of(name: str) -> list[str]:
    """Return what a script needs: of the keys those that it derives, for Redis looks at the others before it begins."""
    script = SCRIPTS[name]
    commands = [f"-{command.lower()}" for command in sorted(script.commands)]
    return [*commands, *script.derived, *([CHANNELS] if "PUBLISH" in script.commands else [])]


MAY_DIFFER = {
    "enqueue": ("line", "meta"),  # a place in line that nobody knows of lapses, and its number is not given again
    "settle_and_claim": ("ready", "suspects", "running", "calls"),  # what was settled stays; it may claim nothing
}


def seen(store: RedisStore, *but: str) -> dict[str, Any]:
    """Return the content but for totals, which are upkeep, and the replies kept for lanes, which tell of depths."""
    return {name: value for name, value in store.snapshot().items() if name not in ("counters", "lanes", *but)}


def empty_call_after(parts: list[Any]) -> list[Any]:
    """Return the settle_and_claim that comes next, and settles and claims nothing: what is due is promoted."""
    now, worker, call, _, *settings = parts[1 + parts[0] :][:9]
    return [*parts[: 1 + parts[0]], now, worker, call + 1, 0, *settings, 0]


def harm(store: RedisStore) -> list[str]:
    """Return what an audit finds, but for names without a record, which who claims drops, and totals."""
    return [str(finding) for finding in audit(store) if finding.flaw in HARM]


def is_refused(user: "redis.Redis", name: str, parts: list[Any]) -> bool:
    try:
        user.execute_command("EVAL", SCRIPTS[name].text, *parts)
    except redis.ResponseError:
        return True
    return False


@pytest.mark.parametrize("name", WRITERS)
def test_call_that_is_refused_anywhere_loses_no_job_and_is_carried_out_when_it_is_sent_again(
    bench: SoundBench, admin: RedisStore, name: str
):
    allow(bench)
    refused, may_differ = 0, MAY_DIFFER.get(name, ())
    with redis.Redis(unix_socket_path=str(bench.server.socket), username="u", password="pass", protocol=2) as user:
        for parts in bench.calls[name]:
            bench.refill()
            assert not harm(admin)
            after = [empty_call_after(parts)] if name == "settle_and_claim" else []
            for each in (parts, *after):
                bench.client.execute_command("EVAL", SCRIPTS[name].text, *each)
            expected = seen(admin)
            for right in rights_of(name):
                bench.refill()
                allow(bench, right)
                but: tuple[str, ...] = ()
                if is_refused(user, name, parts):
                    refused += 1
                    assert not harm(admin), right
                    allow(bench)
                    user.execute_command("EVAL", SCRIPTS[name].text, *parts)
                    assert not harm(admin), right
                    but = may_differ
                for each in after:
                    bench.client.execute_command("EVAL", SCRIPTS[name].text, *each)
                assert seen(admin, *but) == {part: expected[part] for part in expected if part not in but}, right
    assert refused


def put(store: RedisStore, *job_ids: str, lane: str = "lane", delay_ms: int = 0) -> tuple[int, ...]:
    """Enqueue on a lane of its own; return the indexes of those that were in before."""
    jobs = [NewJob(job_id, 0.0, delay_ms, b'{"task":"t"}') for job_id in job_ids]
    return store.enqueue(lane, 1, jobs, when_full=WhenFull.REJECT, capacity=100, now_ms=NOW).taken


def state_of(store: RedisStore, job_id: str) -> State:
    return store.look((job_id,), now_ms=NOW)[0].state


@pytest.mark.parametrize("right", ["-zadd", "-unlink", "-hset", "-set", "-zrem", "-hdel", "result:ID"])
@pytest.mark.parametrize("delay_ms", [0, 1_000])
def test_enqueue_that_is_refused_leaves_nothing_behind(
    bench: SoundBench, store: RedisStore, admin: RedisStore, right: str, delay_ms: int
):
    allow(bench, right)
    with pytest.raises(CallRefused):
        put(store, "invoice-7", "invoice-8", delay_ms=delay_ms)
    content = admin.snapshot()
    assert [content[where] for where in ("jobs", "ready", "scheduled")] == [{}, [], []]

    allow(bench)
    assert put(store, "invoice-7", "invoice-8", lane="other", delay_ms=delay_ms) == ()
    assert state_of(admin, "invoice-7") is (State.SCHEDULED if delay_ms else State.READY)
    assert audit(admin) == []


@pytest.mark.parametrize("right", ["-zadd", "-unlink"])
def test_enqueue_whose_rights_go_while_its_lane_is_in_use_leaves_no_job_that_never_runs(
    bench: SoundBench, store: RedisStore, admin: RedisStore, right: str
):
    put(store, "before")
    allow(bench, right)
    job = NewJob("invoice-7", 0.0, 0, b"{}")
    with pytest.raises(CallRefused, match=right.replace("-", r"\+")):
        store.enqueue("lane", 2, [job], when_full=WhenFull.REJECT, capacity=100, now_ms=NOW)
    assert state_of(admin, "invoice-7") is State.UNKNOWN
    assert audit(admin) == []


def test_worker_without_channels_settles_all_the_same(bench: SoundBench, store: RedisStore, admin: RedisStore):
    put(admin, "awaited", "fails", "goes wrong", "bad")
    admin.await_done(("awaited", "bad"), now_ms=NOW)
    allow(bench, CHANNELS)
    store.register("w", now_ms=NOW)
    claimed = store.settle_and_claim("w", 1, (), (), 4, now_ms=NOW)
    assert len(claimed.jobs) == 4
    ended = (
        Settlement("fails", "retry", delay_ms=10, ttl_ms=1_000),
        Settlement("bad", "bury", reason="failed", report=b"{}", outcome=b'{"state":"dead"}', ttl_ms=60_000),
    )
    answer = store.settle_and_claim("w", 2, ("awaited", "goes wrong"), ended, 0, now_ms=NOW)
    assert answer.skipped == ()
    assert [state_of(admin, job_id) for job_id in ("awaited", "fails", "bad")] == [
        State.UNKNOWN,
        State.SCHEDULED,
        State.DEAD,
    ]
    assert audit(admin) == []


@pytest.mark.parametrize("right", ["-set", "result:ID", "-hexists"])
def test_outcomes_that_are_refused_are_recorded_once_when_the_call_is_sent_again(
    bench: SoundBench, store: RedisStore, admin: RedisStore, right: str
):
    put(admin, "plain", "fails", "bad", "result")
    admin.await_done(("result",), now_ms=NOW)
    store.register("w", now_ms=NOW)
    store.settle_and_claim("w", 1, (), (), 4, now_ms=NOW)
    ended = (
        Settlement("fails", "retry", delay_ms=10, ttl_ms=1_000),
        Settlement("bad", "bury", reason="failed", report=b"{}", outcome=b'{"state":"dead"}', ttl_ms=60_000),
        Settlement("result", "succeed", outcome=b'{"state":"succeeded"}', ttl_ms=60_000),
    )
    allow(bench, right)
    for _ in range(3):
        with pytest.raises(CallRefused):
            store.settle_and_claim("w", 2, ("plain",), ended, 0, now_ms=NOW)
    assert admin.heartbeat("w", now_ms=NOW).held == 4
    assert audit(admin) == []

    allow(bench)
    assert store.settle_and_claim("w", 2, ("plain",), ended, 0, now_ms=NOW).skipped == ()
    looks = admin.look(("result", "fails", "bad", "plain"), now_ms=NOW)
    assert [look.state for look in looks] == [State.SUCCEEDED, State.SCHEDULED, State.DEAD, State.UNKNOWN]
    assert admin.snapshot()["attempts"] == {"fails": 1}
    assert admin.stats(now_ms=NOW).counters["succeeded"] == 2
    assert audit(admin) == []


def test_worker_that_may_not_be_fenced_stays_registered(bench: SoundBench, store: RedisStore, admin: RedisStore):
    put(admin, "a")
    admin.register("w", now_ms=NOW)
    admin.settle_and_claim("w", 1, (), (), 1, now_ms=NOW)
    for later_ms in (1_000, 2_000, 2_500):  # not in one leap, which would look as if Redis had been away
        admin.fence(now_ms=NOW + later_ms)
    allow(bench, "-zadd")
    with pytest.raises(CallRefused):
        store.fence(now_ms=NOW + RULES.lease_ms)
    assert not harm(admin)
    assert admin.fence(now_ms=NOW + RULES.lease_ms) == ("w",)
    assert admin.reap("w", 10, now_ms=NOW + RULES.lease_ms).ready == 1


def test_key_whose_type_was_changed_loses_no_job_of_the_batch_that_meets_it(
    bench: SoundBench, store: RedisStore, admin: RedisStore
):
    put(admin, "plain", "fails")
    store.register("w", now_ms=NOW)
    store.settle_and_claim("w", 1, (), (), 2, now_ms=NOW)
    bench.client.set(KEYS("attempts"), "no hash")
    ended = (Settlement("fails", "retry", delay_ms=10, ttl_ms=1_000),)
    with pytest.raises(CallRefused, match="WRONGTYPE"):
        store.settle_and_claim("w", 2, ("plain",), ended, 0, now_ms=NOW)
    assert admin.heartbeat("w", now_ms=NOW).held == 2

    bench.client.delete(KEYS("attempts"))
    assert store.settle_and_claim("w", 2, ("plain",), ended, 0, now_ms=NOW).skipped == ()
    assert [state_of(admin, job_id) for job_id in ("plain", "fails")] == [State.UNKNOWN, State.SCHEDULED]
    assert audit(admin) == []


def one_that_fails(store: RedisStore, admin: RedisStore) -> tuple[Settlement, ...]:
    """Have the worker hold a job, and return that its attempt failed and is to be repeated."""
    put(admin, "fails")
    store.register("w", now_ms=NOW)
    store.settle_and_claim("w", 1, (), (), 1, now_ms=NOW)
    return (Settlement("fails", "retry", delay_ms=10, ttl_ms=1_000),)


@pytest.mark.parametrize("right", ["-hdel", "-hset", "-zadd", "-zrem"])
def test_attempt_that_cannot_be_recorded_is_counted_once(
    bench: SoundBench, store: RedisStore, admin: RedisStore, right: str
):
    ended = one_that_fails(store, admin)
    allow(bench, right)
    for _ in range(3):
        try:
            store.settle_and_claim("w", 2, (), ended, 0, now_ms=NOW)
        except CallRefused:
            continue
    allow(bench)
    store.settle_and_claim("w", 2, (), ended, 0, now_ms=NOW)

    assert admin.snapshot()["attempts"] == {"fails": 1}
    assert state_of(admin, "fails") is State.SCHEDULED
    assert audit(admin) == []


@pytest.mark.parametrize("kind", ["scheduled", "progress"])
def test_attempt_is_counted_once_whatever_type_a_key_was_given(
    bench: SoundBench, store: RedisStore, admin: RedisStore, kind: str
):
    ended = one_that_fails(store, admin)
    bench.client.set(KEYS(kind), "another type")
    for _ in range(3):
        with pytest.raises(CallRefused, match="WRONGTYPE"):
            store.settle_and_claim("w", 2, (), ended, 0, now_ms=NOW)
    bench.client.delete(KEYS(kind))
    store.settle_and_claim("w", 2, (), ended, 0, now_ms=NOW)

    assert admin.snapshot()["attempts"] == {"fails": 1}
    assert audit(admin) == []


def test_claim_that_cannot_be_noted_takes_no_job_from_where_it_waits(
    bench: SoundBench, store: RedisStore, admin: RedisStore
):
    put(admin, "x", "y")
    store.register("w", now_ms=NOW)
    store.settle_and_claim("w", 1, (), (), 0, now_ms=NOW)
    bench.client.set(KEYS("running:WORKER", "w"), "another type")
    with pytest.raises(CallRefused, match="WRONGTYPE"):
        store.settle_and_claim("w", 2, (), (), 2, now_ms=NOW)
    bench.client.delete(KEYS("running:WORKER", "w"))

    assert audit(admin) == []
    assert [job.id for job in store.settle_and_claim("w", 2, (), (), 2, now_ms=NOW).jobs] == ["x", "y"]


@pytest.mark.parametrize("kind", ["awaited", "leases"])
def test_take_over_does_not_hang_on_what_is_kept_beside_it(bench: SoundBench, store: RedisStore, kind: str):
    store.register("w", now_ms=NOW)
    for later_ms in (1_000, 2_000, 2_500):  # not in one leap, which would look as if Redis had been away
        store.fence(now_ms=NOW + later_ms)
    bench.client.delete(KEYS(kind))
    bench.client.set(KEYS(kind), "another type")

    assert store.fence(now_ms=NOW + RULES.lease_ms) == ("w",)


def test_settlement_does_not_hang_on_who_waits_for_it(bench: SoundBench, store: RedisStore, admin: RedisStore):
    put(admin, "a")
    store.register("w", now_ms=NOW)
    store.settle_and_claim("w", 1, (), (), 1, now_ms=NOW)
    bench.client.set(KEYS("awaited"), "another type")

    assert store.settle_and_claim("w", 2, ("a",), (), 0, now_ms=NOW).skipped == ()
    assert state_of(admin, "a") is State.UNKNOWN


@pytest.mark.parametrize("right", rights_of("enqueue"))
@pytest.mark.parametrize("when_full", list(WhenFull))
def test_enqueue_that_is_refused_at_the_first_call_of_its_lane_has_let_nobody_in(
    bench: SoundBench, store: RedisStore, admin: RedisStore, right: str, when_full: WhenFull
):
    allow(bench, right)
    ticket = Ticket("p.1") if when_full is WhenFull.WAIT else None
    jobs = [NewJob(job_id, 0.0, 0, b'{"task":"t"}') for job_id in ("a", "b")]
    try:
        store.enqueue("lane", 1, jobs, when_full=when_full, capacity=1, ticket=ticket, now_ms=NOW)
    except CallRefused:
        assert (admin.snapshot()["jobs"], harm(admin)) == ({}, [])
