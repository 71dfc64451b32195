"""Whatever is sent to a script, and whatever it finds in its keys: where it answers with an error, nothing was written.

Each script is called as the store calls it, but for what Hypothesis replaces: arguments, and values that the queue's
keys hold. Scripts are atomic, but never rolled back: one that fails between two writes leaves half of itself behind.
"""

import functools
import itertools
from collections.abc import Iterator
from typing import Any

import pytest
import redis
from hypothesis import given
from hypothesis import strategies as st

from gqueue.core.model import Admission, Ask, NewJob, Settlement, State, Ticket, WhenFull
from gqueue.errors import GqueueError
from gqueue.store import scripts
from gqueue.store.audit import audit
from gqueue.store.client import Client
from gqueue.store.keys import KINDS, Keys
from gqueue.store.redis import RedisStore
from tests.servers import Server
from tests.store.conftest import RULES

NOW = 1_000_000
KEYS = Keys("fuzz")
SCRIPTS = scripts.load()
every_script = pytest.mark.parametrize("name", sorted(SCRIPTS))

NUMBERS = "0,1,2,-1,00,1.5,1e3,1e999,-1e999,nan,inf,-inf,0x10,9007199254740992,9007199254740993,1e300"
WORDS = "wait,reject,shed,dead,ready,scheduled,quiet,stop,succeed,retry,bury,cancel,a,b,w1,p.1"
words = st.sampled_from(f"{NUMBERS},{WORDS}".encode().split(b","))
oddities = st.sampled_from([b"", b" 1", b"1 ", b"1\n", b"\n", b"a\nb", b"\xff", b"\x00", b"x" * 600])
odd = words | oddities | st.binary(max_size=8)


def fill(store: RedisStore, client: "redis.Redis") -> Ticket:
    """Make a queue with something in every kind of key; return a ticket that stands in its line."""
    numbers = itertools.count(1)

    def enqueue(*job_ids: str, delay_ms: int = 0, capacity: int = 100, **options: Any) -> Admission:
        jobs = [NewJob(job_id, float(number), delay_ms, b'{"task":"t"}') for number, job_id in enumerate(job_ids)]
        options = {"when_full": WhenFull.REJECT, "now_ms": NOW} | options
        return store.enqueue("lane", next(numbers), jobs, capacity=capacity, **options)

    store.register("gone", now_ms=NOW - 10_000)
    enqueue("lost", "poison", now_ms=NOW - 10_000)
    store.settle_and_claim("gone", 1, (), (), 2, now_ms=NOW - 10_000)
    client.hset(KEYS("crashes"), "poison", "2")
    for age_ms in range(9_000, -1, -1_000):  # not in one leap, which would look as if Redis had been away
        store.fence(now_ms=NOW - age_ms)
    store.register("w1", now_ms=NOW)
    store.ask("w1", Ask.QUIET)
    enqueue("dead", "held", "retried", "done", "a", "b", "shed")
    store.settle_and_claim("w1", 1, (), (), 4, now_ms=NOW)
    bury = Settlement("dead", "bury", reason="failed", report=b"{}", outcome=b'{"state":"dead"}', ttl_ms=60_000)
    retry = Settlement("retried", "retry", delay_ms=50_000, ttl_ms=60_000)
    ended = Settlement("done", "succeed", outcome=b'{"state":"succeeded"}', ttl_ms=60_000)
    store.settle_and_claim("w1", 2, (), (bury, retry, ended), 0, now_ms=NOW)
    store.report_progress("w1", "held", b"1")
    store.cancel("held", 1_000, now_ms=NOW)
    store.await_done(("held", "a", "b", "later"), now_ms=NOW)
    enqueue("later", delay_ms=10)
    enqueue("more", capacity=1, when_full=WhenFull.SHED)
    enqueue("waits", capacity=1, when_full=WhenFull.WAIT, ticket=Ticket("q.1"))
    place = enqueue("waits too", capacity=1, when_full=WhenFull.WAIT, ticket=Ticket("p.1")).place
    client.hset(KEYS("crashes"), "b", "2")
    member = next(member for member in client.zrange(KEYS("ready"), 0, -1) if member.endswith(b"b"))
    client.zrem(KEYS("ready"), member)
    client.zadd(KEYS("suspects"), {member: 1.0})
    client.rpush(KEYS("room:PRODUCER", "q"), "q.1")
    return Ticket("p.1", place)


def calls(store: RedisStore, place: Ticket) -> dict[str, list[Any]]:
    """Return calls of every operation, each of which finds something to do in a queue that `fill` made."""
    f, later = functools.partial, NOW + 20
    ended = (
        Settlement("held", "retry", delay_ms=5, ttl_ms=1_000),
        Settlement("a", "bury", reason="failed", report=b"{}", outcome=b'{"state":"dead"}', ttl_ms=1_000),
    )
    new = [NewJob("new", 0.0, 0, b"{}"), NewJob("later still", 1.5, 1_000, b"{}"), NewJob("dead", 1.0, 0, b"{}")]
    assert place.place
    ways = (
        (WhenFull.REJECT, 100, None),
        (WhenFull.SHED, 2, None),
        (WhenFull.WAIT, 7, Ticket("p.2")),
        (WhenFull.WAIT, 9, place),
    )
    return {
        "enqueue": [
            f(store.enqueue, "lane-2", 1, new, when_full=how, capacity=room, ticket=ticket, now_ms=later)
            for how, room, ticket in ways
        ],
        "settle_and_claim": [
            f(store.settle_and_claim, "w1", 3, ["held"], (), 5, now_ms=later),
            f(store.settle_and_claim, "w1", 3, (), ended, 2, now_ms=NOW + 60_000),
            f(store.settle_and_claim, "w1", 2, (), (), 2, now_ms=later),
        ],
        "renew_tickets": [f(store.renew_tickets, [place, Ticket("r.1", place.place)], now_ms=later)],
        "leave_line": [f(store.leave_line, place, now_ms=later)],
        "register": [f(store.register, "w2", now_ms=later)],
        "held": [f(store.held, "w1", 2)],
        "heartbeat": [f(store.heartbeat, "w1", now_ms=NOW + 2_000)],
        "fence": [f(store.fence, now_ms=NOW + 3_001)],
        "reap": [f(store.reap, "gone", 10, now_ms=later), f(store.reap, "gone", 1, now_ms=later)],
        "leave": [f(store.leave, "w1", 10)],
        "report_progress": [f(store.report_progress, "w1", "held", b"2")],
        "look": [f(store.look, ("held", "a", "dead", "done", "later", "nobody"))],
        "await_done": [f(store.await_done, ("held", "nobody"), now_ms=later)],
        "cancel": [f(store.cancel, job_id, 1_000, now_ms=later) for job_id in ("a", "later", "held", "dead", "done")],
        "set_priority": [f(store.set_priority, job_id, 5.0, now_ms=later) for job_id in ("a", "later", "held")],
        "stats": [f(store.stats, now_ms=later)],
        "pause": [store.pause],
        "resume": [store.resume],
        "set_capacity": [f(store.set_capacity, 50, now_ms=later), f(store.set_capacity, None, now_ms=later)],
        "ask": [f(store.ask, "w1", Ask.STOP)],
        "workers": [f(store.workers, now_ms=later)],
        "letters": [f(store.letters, limit=5)],
        "redrive": [f(store.redrive, ["dead", "shed"], force=True)],
        "delete_letters": [f(store.delete_letters, ["dead", "shed"])],
        "purge": [f(store.purge, 5, now_ms=later)],
        "inspect": [f(store.inspect, State.READY), f(store.inspect, State.SCHEDULED)],
    }


def calls_of_a_repair(store: RedisStore) -> dict[str, list[list[Any]]]:
    """Return what a repair of the queue sends, by script."""
    sent: dict[str, list[list[Any]]] = {}
    original = Client.call

    def keep(self: Client, operation: str, parts: Any, opening: Any = None, *rest: Any, **more: Any) -> Any:
        if opening is not None:
            sent.setdefault(opening.script.name, []).append([len(opening.keys), *opening.keys, *parts])
        return original(self, operation, parts, opening, *rest, **more)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Client, "call", keep)
        audit(store, repair=True)
    return sent


class Bench:
    """A server with the same queue again and again, and what to call of it."""

    def __init__(self, server: Server) -> None:
        self.server, self.client = server, server.client()
        store = RedisStore(server.url, "fuzz", RULES)
        place = fill(store, self.client)
        self.calls = {name: [parts_of(call) for call in several] for name, several in calls(store, place).items()}
        self._damage()
        self._saved = content(self.client, hints=True)
        self.calls |= calls_of_a_repair(store)
        store.close()

    def _damage(self) -> None:
        """Leave something behind that each script of the audit is for."""
        client = self.client
        client.hset(KEYS("calls"), "w9", "1")
        client.set(KEYS("result:ID", "x"), "{}")
        client.zadd(KEYS("waiters"), {"0000000000001s.1": 0})
        client.hset(KEYS("running:WORKER", "w9"), "b", "1 1")
        client.hset(KEYS("stats"), "enqueued", "many")

    def refill(self) -> None:
        """Put everything back as it was."""
        pipe = self.client.pipeline(transaction=False)
        pipe.flushdb()
        for key, dump in self._saved.items():
            pipe.restore(key, 0, dump)
        pipe.execute()

    def send(self, name: str, parts: list[Any]) -> str:
        """Call the script; check that an error left everything as it was. Return the error, "" if it was answered."""
        before = content(self.client)
        try:
            self.client.execute_command("EVAL", SCRIPTS[name].text, *parts)
        except redis.ResponseError as refused:
            error = str(refused)
        else:
            return ""
        assert content(self.client) == before, error
        return error

    def damage(self, key: bytes, data: Any) -> None:
        """Put something in place of, or beside, what *key* holds; of the type that it has."""
        client, value = self.client, data.draw(odd)
        kind = client.type(key)
        if kind == b"string":
            client.set(key, value)
        elif kind == b"hash":
            client.hset(key, data.draw(st.sampled_from(sorted(client.hkeys(key))) | odd), value)
        elif kind == b"zset":
            score = data.draw(st.sampled_from([0.0, -1.0, 0.5, NOW, 2.0**53, 1e300, float("inf"), float("-inf")]))
            client.zadd(key, {data.draw(st.sampled_from(sorted(client.zrange(key, 0, -1))) | odd): score})
        elif kind == b"list":
            client.rpush(key, value)


@pytest.fixture(scope="module")
def bench() -> Iterator[Bench]:
    with Server() as running:
        yield Bench(running)


def content(client: "redis.Redis", *, hints: bool = False) -> dict[bytes, Any]:
    """Return everything that the server holds, but hints, which may be lost or doubled."""
    pipe = client.pipeline(transaction=False)
    keys = sorted(key for key in client.keys("*") if hints or (key != KEYS("wake") and b":room:" not in key))
    for key in keys:
        pipe.dump(key)
    return dict(zip(keys, pipe.execute(), strict=True))


def parts_of(call: Any) -> list[Any]:
    """Return what *call* of a store would send."""
    sent: list[Any] = []

    def keep(self: Client, operation: str, parts: Any, opening: Any, *rest: Any, **more: Any) -> Any:
        sent.extend([len(opening.keys), *opening.keys, *parts])
        raise LookupError

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Client, "call", keep)
        with pytest.raises(LookupError):
            call()
    return sent


def test_queue_has_every_kind_of_key_and_every_call_is_answered(bench: Bench):
    bench.refill()
    assert {KEYS.kind_of(key)[0] for key in bench.client.keys("*")} == set(KINDS)
    assert set(bench.calls) == set(SCRIPTS)
    for name, several in bench.calls.items():
        for parts in several:
            bench.refill()
            assert bench.send(name, parts) == ""


@every_script
@given(data=st.data())
def test_wrong_arguments_write_nothing_if_they_are_refused(bench: Bench, name: str, data: Any):
    parts = list(data.draw(st.sampled_from(bench.calls[name])))
    first = 1 + parts[0]
    for _ in range(data.draw(st.integers(1, 2))):
        how = data.draw(st.sampled_from(["replace", "replace", "replace", "drop", "add"]))
        at = data.draw(st.integers(first, max(first, len(parts) - 1)))
        if how == "replace" and at < len(parts):
            parts[at] = data.draw(odd)
        elif how == "drop":
            del parts[at:]
        else:
            parts.insert(at, data.draw(odd))
    bench.refill()

    bench.send(name, parts)


@every_script
@given(data=st.data())
def test_damaged_values_stop_no_script(bench: Bench, name: str, data: Any):
    bench.refill()
    parts = data.draw(st.sampled_from(bench.calls[name]))
    keys = [key for key in parts[1 : 1 + parts[0]] if bench.client.exists(key)]
    for _ in range(data.draw(st.integers(1, 3))):
        if keys:
            bench.damage(data.draw(st.sampled_from(keys)), data)

    assert bench.send(name, parts) == ""


BEARS = {"fence": {"leases", "awaited"}, "leave": {"leases"}}
"""Script -> the keys that it bears of any type: a take-over must not hang on them."""


@every_script
def test_key_of_a_wrong_type_is_refused_before_anything_is_written(bench: Bench, name: str):
    script, client = SCRIPTS[name], bench.client
    if any(" " in kind for kind in script.derived):
        pytest.skip("it is there for keys of a wrong type")
    for call in bench.calls[name]:
        for at, kind in enumerate(script.keys, 1):
            bench.refill()
            parts = list(call)
            if "call" in script.arguments:  # looked at in the first call of a caller alone
                client.delete(KEYS("calls"), KEYS("call:LANE", "lane-2"))
                parts[parts[0] + 1 + script.arguments.index("call")] = 1
            client.delete(parts[at])
            client.rpush(parts[at], "x") if KINDS[kind] == "string" else client.set(parts[at], "x")

            assert (
                bench.send(name, parts) == "" if kind in BEARS.get(name, ()) else "WRONGTYPE" in bench.send(name, parts)
            )


@pytest.mark.parametrize("name", [name for name, script in SCRIPTS.items() if script.open_ended])
def test_call_with_more_than_a_script_moves_is_refused(bench: Bench, name: str):
    bench.refill()
    for parts in bench.calls[name]:
        assert "BADARG" in bench.send(name, parts + [b"1"] * 100_000)


def test_refusal_names_the_argument_and_the_operation(server: Server, queue_name: str):
    store = RedisStore(server.url, queue_name, RULES)
    with pytest.raises(GqueueError, match="refused set_capacity: BADARG brings"):
        store.set_capacity(0)
    store.close()
