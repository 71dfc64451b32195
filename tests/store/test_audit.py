"""The audit on real keys: nothing is found in a queue that went through its life, all that is damaged, and mended."""

import itertools
import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st
from redis.exceptions import ResponseError

from gqueue.core.audit import Flaw, places_of
from gqueue.core.model import NewJob, Rules, Settlement, State, WhenFull
from gqueue.errors import BadSetting
from gqueue.store.audit import Audit, audit, is_readable
from gqueue.store.keys import KINDS, is_a_family
from gqueue.store.memory import MemoryStore
from gqueue.store.redis import RedisStore
from tests.conftest import wait_until
from tests.faults import aof
from tests.programs import READABLE, Life, programs
from tests.servers import Server
from tests.strategies import IDS, RULES

numbers = itertools.count(1)


@pytest.fixture
def open_store(server):
    """Return what opens a store of a queue of its own, and removes it at the end."""
    opened = []

    def open_one(rules=RULES):
        opened.append(RedisStore(server.url, f"audit-{next(numbers)}", rules))
        return opened[-1]

    yield open_one
    for store in opened:
        store.close()


@pytest.fixture(scope="module")
def raw(server):
    """Return what sends a command to a store's keys: `raw(store, "HSET", "jobs", ...)`."""
    client = server.client()

    def send(store, command, key, *arguments):
        return client.execute_command(command, f"{prefix(store)}{key}", *arguments)

    yield send
    client.close()


def prefix(store):
    return f"gq:{{{store.name}}}:"


def enqueue(store, *job_ids, record=READABLE, delay_ms=0, priority=0.0):
    jobs = [NewJob(job_id, priority, delay_ms, record) for job_id in job_ids]
    store.enqueue(f"l{next(numbers)}", 1, jobs, when_full=WhenFull.REJECT, capacity=10_000)


def found(store, **how):
    return [(finding.flaw, finding.key, finding.name) for finding in audit(store, **how)]


def everything(store, raw):
    """Return all keys of the queue with their values."""
    names = sorted(Audit(store).key_names())
    return {name: raw(store, "DUMP", name) for name in names}


@given(program=programs)
def test_queue_made_by_any_operations_has_no_finding(server, program):
    store = RedisStore(server.url, f"audit-{next(numbers)}", RULES)
    try:
        Life(store).go(program)

        assert audit(store) == []
    finally:
        flush(server, store)


def flush(server, store):
    store.close()
    with server.client() as client:
        client.flushdb()


# Each kind of damage by itself: what is done to a sound queue, what is found, and nothing is after the repair.

SEQ = "0000000000001"  # of job a
FIRST = "0000000000000"


LETTER = f"failed 1 0 1000\n{{}}\n{SEQ}0 {READABLE.decode()}"


DAMAGES = {
    "no place": ([("ZREM", "ready", SEQ + "a")], [(Flaw.NO_PLACE, "jobs", "a")]),
    "ready and scheduled": ([("ZADD", "scheduled", 5, "a")], [(Flaw.TWO_PLACES, "jobs", "a")]),
    "suspect and ready": ([("ZADD", "suspects", 0, SEQ + "a")], [(Flaw.TWO_PLACES, "jobs", "a")]),
    "waiting and running": ([("HSET", "running:w1", "a", "1 1")], [(Flaw.TWO_PLACES, "jobs", "a")]),
    "waiting and dead": (
        [("HSET", "dead:jobs", "a", LETTER), ("ZADD", "dead", 1000, "a")],
        [(Flaw.TWO_PLACES, "jobs", "a")],
    ),
    "running twice": ([("HSET", "running:w1", "r", "1 1")], [(Flaw.TWO_PLACES, "jobs", "r")]),
    "wrong rank": ([("ZADD", "ready", 7, SEQ + "a")], [(Flaw.WRONG_RANK, "jobs", "a")]),
    "never due": ([("ZADD", "scheduled", "+inf", "s")], [(Flaw.NEVER_DUE, "jobs", "s")]),
    "due in the year 287,000": ([("ZADD", "scheduled", 9 * 10**15, "s")], [(Flaw.NEVER_DUE, "jobs", "s")]),
    "due at 1e300": ([("ZADD", "scheduled", 1e300, "s")], [(Flaw.NEVER_DUE, "jobs", "s")]),
    "unreadable record": ([("HSET", "jobs", "a", SEQ + "0 {")], [(Flaw.BAD_RECORD, "jobs", "a")]),
    "sequence beyond all": (
        [("HSET", "jobs", "a", "fffffffffffff0 {}"), ("ZREM", "ready", SEQ + "a")],
        [(Flaw.BAD_RECORD, "jobs", "a")],
    ),
    "no id": (
        [
            *[("HSET", "jobs", "", SEQ + "0 " + READABLE.decode()), ("ZADD", "ready", 0, SEQ)],
            ("HINCRBY", "stats", "enqueued", 1),
        ],
        [(Flaw.BAD_RECORD, "jobs", "")],
    ),
    "id of a line and a colour": (
        [
            *[("HSET", "jobs", "x\n\x1b[31m", SEQ + "0 " + READABLE.decode())],
            *[("ZADD", "ready", 0, SEQ + "x\n\x1b[31m"), ("HINCRBY", "stats", "enqueued", 1)],
        ],
        [(Flaw.BAD_RECORD, "jobs", "x\n\x1b[31m")],
    ),
    "no record, ready": ([("ZADD", "ready", 0, SEQ + "z")], [(Flaw.NO_RECORD, "ready", SEQ + "z")]),
    "no record, suspect": ([("ZADD", "suspects", 0, SEQ + "z")], [(Flaw.NO_RECORD, "suspects", SEQ + "z")]),
    "no record, scheduled": ([("ZADD", "scheduled", 9, "z")], [(Flaw.NO_RECORD, "scheduled", "z")]),
    "no record, running": ([("HSET", "running:w1", "z", "1 1")], [(Flaw.NO_RECORD, "running:w1", "z")]),
    "stray member": (
        [("ZADD", "ready", 0, "0000000000077a")],
        [(Flaw.WRONG_SEQUENCE, "ready", "0000000000077a")],
    ),
    "claim": ([("HSET", "running:w2", "r", "x")], [(Flaw.BAD_CLAIM, "running:w2", "r")]),
    "letter of nobody": ([("ZADD", "dead", 5, "z")], [(Flaw.NO_LETTER, "dead", "z")]),
    "shed letter of nobody": ([("ZADD", "shed", 5, "z")], [(Flaw.NO_LETTER, "shed", "z")]),
    "letter not listed": ([("ZREM", "dead", "d")], [(Flaw.NO_INDEX, "dead:jobs", "d")]),
    "letter listed as shed": ([("ZADD", "shed", 1, "d"), ("ZREM", "dead", "d")], [(Flaw.WRONG_LIST, "dead:jobs", "d")]),
    "letter listed twice": ([("ZADD", "shed", 1, "d")], [(Flaw.WRONG_LIST, "dead:jobs", "d")]),
    "letter's head": ([("HSET", "dead:jobs", "d", "what?")], [(Flaw.BAD_LETTER, "dead:jobs", "d")]),
    "letter of the year 3,170,843": (
        [("HSET", "dead:jobs", "d", LETTER.replace("1000", "9" * 17)), ("ZADD", "dead", 1000, "d")],
        [(Flaw.BAD_NUMBER, "dead:jobs", "d")],
    ),
    "letter's count": (
        [("HSET", "dead:jobs", "d", LETTER.replace("1 0", "9" * 5000 + " 0")), ("ZADD", "dead", 1000, "d")],
        [(Flaw.BAD_NUMBER, "dead:jobs", "d")],
    ),
    "letter listed at another time": ([("ZADD", "dead", "inf", "d")], [(Flaw.WRONG_TIME, "dead:jobs", "d")]),
    "attempts of nobody": ([("HSET", "attempts", "z", 1)], [(Flaw.NO_JOB, "attempts", "z")]),
    "crashes of nobody": ([("HSET", "crashes", "z", 1)], [(Flaw.NO_JOB, "crashes", "z")]),
    "cancels of nobody": ([("HSET", "cancels", "z", 1)], [(Flaw.NO_JOB, "cancels", "z")]),
    "progress of nobody": ([("HSET", "progress", "z", 1)], [(Flaw.NO_JOB, "progress", "z")]),
    "attempts": ([("HSET", "attempts", "a", "many")], [(Flaw.BAD_COUNTER, "attempts", "a")]),
    "crashes": ([("HSET", "crashes", "a", -1)], [(Flaw.BAD_COUNTER, "crashes", "a")]),
    "lost worker": (
        [("ZREM", "workers", "w2"), ("HDEL", "calls", "w2"), ("HDEL", "leases", "w2")],
        [(Flaw.LOST_WORKER, "running:w2", "")],
    ),
    "worker fenced and registered": ([("ZADD", "lapsed", 1, "w2")], [(Flaw.TWO_LEASES, "workers", "w2")]),
    "lease for ever": ([("ZADD", "workers", 10**15, "w1")], [(Flaw.LEASE_AHEAD, "workers", "w1")]),
    "number of a call": ([("HSET", "calls", "w2", "x")], [(Flaw.BAD_CALL, "calls", "w2")]),
    "call of nobody": ([("HSET", "calls", "w9", 1)], [(Flaw.NO_WORKER, "calls", "w9")]),
    "lease of nobody": ([("HSET", "leases", "w9", 1000)], [(Flaw.NO_WORKER, "leases", "w9")]),
    "lease that was brought": ([("HSET", "leases", "w2", "x")], [(Flaw.BAD_LEASE, "leases", "w2")]),
    "lease of nothing": ([("HSET", "leases", "w2", 0)], [(Flaw.BAD_LEASE, "leases", "w2")]),
    "nobody is asked": ([("HSET", "asked", "w9", "quiet")], [(Flaw.NO_WORKER, "asked", "w9")]),
    "registered without a name": ([("ZADD", "workers", 1, "")], [(Flaw.NO_WORKER, "workers", "")]),
    "fenced without a name": ([("ZADD", "lapsed", 1, "")], [(Flaw.NO_WORKER, "lapsed", "")]),
    "jobs of a worker without a name": ([("HSET", "running:", "a", "1 1")], [(Flaw.UNKNOWN_KEY, "running:", "")]),
    "another type of a worker without a name": (
        [("SET", "running:", "x"), ("ZADD", "lapsed", 1, "")],
        [(Flaw.UNKNOWN_KEY, "running:", ""), (Flaw.NO_WORKER, "lapsed", "")],
    ),
    "place without a ticket": ([("ZADD", "waiters", 0, FIRST + "p.9")], [(Flaw.NO_TICKET, "waiters", FIRST + "p.9")]),
    "ticket without a place": (
        [("ZADD", "tickets", 10**15, FIRST + "p.9")],
        [(Flaw.NO_WAITER, "tickets", FIRST + "p.9")],
    ),
    "result for ever": ([("SET", "result:a", "{}")], [(Flaw.NO_TTL, "result:a", "")]),
    "room for ever": ([("RPUSH", "room:p", "p.1")], [(Flaw.NO_TTL, "room:p", "")]),
    "jobs that expire": ([("EXPIRE", "jobs", 1000)], [(Flaw.HAS_TTL, "jobs", "")]),
    "a lane of another type": ([("RPUSH", "call:x", "1")], [(Flaw.WRONG_TYPE, "call:x", "")]),
    "sequence": ([("HSET", "meta", "sequence", 1)], [(Flaw.SEQUENCE_BEHIND, "meta", "sequence")]),
    "sequence of no number": ([("HSET", "meta", "sequence", "x")], [(Flaw.BAD_SETTING, "meta", "sequence")]),
    "capacity": ([("HSET", "meta", "capacity", 0)], [(Flaw.BAD_SETTING, "meta", "capacity")]),
    "paused": ([("HSET", "meta", "paused", "maybe")], [(Flaw.BAD_SETTING, "meta", "paused")]),
    "lease": ([("HSET", "meta", "lease", "nan")], [(Flaw.BAD_SETTING, "meta", "lease")]),
    "places": (
        [("ZADD", "waiters", 0, SEQ + "p.9"), ("ZADD", "tickets", 10**15, SEQ + "p.9")],
        [(Flaw.PLACES_BEHIND, "meta", "places")],
    ),
    "total": ([("HSET", "stats", "claimed", "x")], [(Flaw.BAD_TOTAL, "stats", "claimed")]),
    "jobs went unrecorded": ([("HINCRBY", "stats", "enqueued", 2)], [(Flaw.UNBALANCED, "stats", "")]),
    "jobs came unrecorded": ([("HINCRBY", "stats", "purged", 2)], [(Flaw.UNBALANCED, "stats", "")]),
}


def sound_queue(store):
    """Make a queue with a job in every place: a ready, s scheduled, r running with w2, d dead; w1 is idle."""
    enqueue(store, "a", priority=1.0)
    enqueue(store, "s", delay_ms=1_000_000)
    enqueue(store, "d")
    store.register("w1")
    store.register("w2")
    store.settle_and_claim("w1", 1, [], [], 1)
    store.settle_and_claim("w1", 2, [], [Settlement("d", "bury", 0, "failed", b"{}")], 0)
    enqueue(store, "r")
    store.settle_and_claim("w2", 1, [], [], 1)
    store.set_priority("a", 0.0)


@pytest.mark.parametrize(("commands", "expected"), DAMAGES.values(), ids=DAMAGES)
def test_each_kind_of_damage_is_found_exactly_and_mended(open_store, raw, commands, expected):
    store = open_store(Rules(lease_ms=60_000))
    sound_queue(store)
    assert audit(store) == []
    for command in commands:
        raw(store, *command)
    damaged = everything(store, raw)

    assert found(store) == expected
    assert everything(store, raw) == damaged, "looking changed something"

    mended = audit(store, repair=True)
    assert [(f.flaw, f.key, f.name) for f in mended] == expected
    assert all(finding.repaired for finding in mended)
    assert audit(store) == []


def test_damages_show_every_flaw_that_can_be_mended():
    shown = {flaw for _, expected in DAMAGES.values() for flaw, _, _ in expected}

    assert shown | {Flaw.UNKNOWN_KEY} == set(Flaw)


def test_key_that_nobody_knows_is_told_and_left(open_store, raw):
    store = open_store()
    enqueue(store, "a")
    raw(store, "SET", "other", "x")

    (finding,) = audit(store, repair=True)

    assert (finding.flaw, finding.key, finding.repair, finding.repaired) == (Flaw.UNKNOWN_KEY, "other", "", False)
    assert raw(store, "GET", "other") == b"x"


def test_key_of_jobs_of_another_type_is_told_and_ends_the_audit(open_store, raw):
    store = open_store()
    enqueue(store, "a")
    raw(store, "DEL", "ready")
    raw(store, "SET", "ready", "x")
    one = Audit(store, repair=True)

    (finding,) = one.findings()

    assert (finding.flaw, finding.key, finding.repaired) == (Flaw.WRONG_TYPE, "ready", False)
    assert one.stopped


def test_unreadable_record_in_hand_is_left_to_its_worker(open_store, raw):
    store = open_store(Rules(lease_ms=60_000))
    sound_queue(store)
    raw(store, "HSET", "jobs", "r", "x")

    (finding,) = audit(store, repair=True)

    assert (finding.flaw, finding.job, finding.worker, finding.repair) == (Flaw.BAD_RECORD, "r", "w2", "")
    store.settle_and_claim("w2", 2, ["r"], [], 0)
    assert audit(store) == []


def test_repair_buries_an_unreadable_record_as_it_is(open_store, raw):
    store = open_store()
    enqueue(store, "a")
    raw(store, "HSET", "jobs", "a", b"x\xff\n")

    audit(store, repair=True)

    (letter,) = store.letters()
    assert (letter.job_id, letter.reason.value) == ("a", "bad_record")
    assert raw(store, "HGET", "dead:jobs", "a").split(b"\n", 2)[2] == b"x\xff\n"
    assert store.stats().counters["dead"] == 1


def test_repair_keeps_a_readable_letter_before_an_unreadable_record(open_store, raw):
    store = open_store()
    enqueue(store, "a")
    raw(store, "HSET", "jobs", "a", "x")
    raw(store, "HSET", "dead:jobs", "a", LETTER)
    raw(store, "ZADD", "dead", 1000, "a")

    audit(store, repair=True)

    assert [(letter.job_id, letter.record) for letter in store.letters()] == [("a", READABLE)]
    assert store.stats().depth == 0


def test_jobs_of_a_lost_worker_run_again_after_the_repair(open_store, raw):
    store = open_store(Rules(lease_ms=60_000))
    sound_queue(store)
    raw(store, "DEL", "workers", "calls")

    audit(store, repair=True)
    assert store.fence() == ("w2",)
    assert store.reap("w2", 10).ready == 1
    assert audit(store) == []


def test_repaired_job_stands_where_it_stood(open_store, raw):
    store = open_store()
    enqueue(store, "b", "c")
    enqueue(store, "d", priority=1.5)
    enqueue(store, "a", priority=-1.0)
    raw(store, "DEL", "ready")

    assert len(audit(store, repair=True)) == 4

    assert audit(store) == []
    store.register("w1")
    assert [job.id for job in store.settle_and_claim("w1", 1, [], [], 4).jobs] == ["a", "b", "c", "d"]


def test_repair_wakes_a_worker_that_waits(open_store, raw):
    store = open_store()
    enqueue(store, "a")
    raw(store, "DEL", "ready")
    raw(store, "DEL", "wake")

    audit(store, repair=True)

    assert store.wait_hint(1.0)


def test_places_of_the_model_and_the_repair_agree(open_store, raw):
    for places in itertools.chain.from_iterable(itertools.combinations(PLACES, n) for n in (2, 3)):
        store = open_store(Rules(lease_ms=60_000))
        store.register("w1")
        store.register("w2")
        store.register("w3")
        raw(store, "ZREM", "workers", "w2", "w3")
        raw(store, "ZADD", "lapsed", 1, "w2")
        enqueue(store, "a")
        raw(store, "DEL", "ready")
        for place in places:
            raw(store, *PLACES[place])
        one = Audit(store)
        one._lost = ["w3"]
        (seen,) = one._look("jobs", ["a"])
        one._mend_jobs([finding for finding in audit(store) if finding.job == "a"])
        (after,) = one._look("jobs", ["a"])

        assert places_of(after) == places_of(seen)[:1], places


PLACES = {
    "registered": ("HSET", "running:w1", "a", "1 5"),
    "lapsed": ("HSET", "running:w2", "a", "1 9"),
    "lost": ("HSET", "running:w3", "a", "1 9"),
    "suspects": ("ZADD", "suspects", 0, SEQ + "a"),
    "ready": ("ZADD", "ready", 0, SEQ + "a"),
    "scheduled": ("ZADD", "scheduled", 5, "a"),
}


def test_queue_in_memory_is_refused():
    with pytest.raises(BadSetting, match="memory of its process"):
        audit(MemoryStore("q", RULES))


# Any damage at once.

_numbers = st.sampled_from(["0", "7", "-1", "x", "inf", "1e15"])
_scores = st.sampled_from([0, 1, -0.5, 7, "inf", 10**15])
_sequences = st.integers(0, 5).map("{:013x}".format)
_members = st.builds("{}{}".format, _sequences, st.sampled_from((*IDS, "z")))
_jobs = st.sampled_from((*IDS, "z"))
_workers = st.sampled_from(["w1", "w2", "w3", "w9"])
_entries = st.sampled_from(
    ["", "x", SEQ + "0 {", SEQ + "0 {}", SEQ + "nan {}", "fffffffffffff0 {}", SEQ + '1 {"task":"u"}']
)
_letters = st.sampled_from(["", "x", LETTER, LETTER.replace("failed", "shed")])
COUNTED = ("enqueued", "dead", "claimed", "lost")
DELETED = (
    *("ready", "suspects", "scheduled", "dead", "shed", "workers"),
    *("stats", "meta", "tickets", "waiters", "calls"),
)
damages = st.lists(
    st.one_of(
        st.tuples(
            st.just("DEL"),
            st.sampled_from(
                [
                    "ready",
                    "suspects",
                    "scheduled",
                    "dead",
                    "shed",
                    "workers",
                    "stats",
                    "meta",
                    "tickets",
                    "waiters",
                    "calls",
                ]
            ),
        ),
        st.tuples(st.just("DEL"), _workers.map("running:{}".format)),
        st.tuples(st.just("HDEL"), st.sampled_from(["jobs", "dead:jobs"]), _jobs),
        st.tuples(st.just("HSET"), st.just("jobs"), _jobs, _entries),
        st.tuples(
            st.just("HSET"),
            st.just("dead:jobs"),
            _jobs,
            _letters,
        ),
        st.tuples(st.just("ZADD"), st.sampled_from(["ready", "suspects"]), _scores, _members),
        st.tuples(st.just("ZADD"), st.sampled_from(["scheduled", "dead", "shed"]), _scores, _jobs),
        st.tuples(st.just("ZREM"), st.sampled_from(["ready", "suspects"]), _members),
        st.tuples(st.just("ZREM"), st.sampled_from(["scheduled", "dead", "shed"]), _jobs),
        st.tuples(st.just("HSET"), _workers.map("running:{}".format), _jobs, st.sampled_from(["1 1", "2 9", "x", ""])),
        st.tuples(st.just("HSET"), st.sampled_from(["attempts", "crashes", "cancels", "progress"]), _jobs, _numbers),
        st.tuples(st.just("ZADD"), st.sampled_from(["workers", "lapsed"]), _scores, _workers),
        st.tuples(st.just("HSET"), st.sampled_from(["calls", "asked", "leases"]), _workers, _numbers),
        st.tuples(st.just("ZADD"), st.sampled_from(["waiters", "tickets"]), _scores, _members),
        st.tuples(
            st.just("HSET"),
            st.just("meta"),
            st.sampled_from(["sequence", "places", "lease", "capacity", "seen", "epoch", "largest"]),
            _numbers,
        ),
        st.tuples(st.just("HSET"), st.just("stats"), st.sampled_from(COUNTED), _numbers),
        st.tuples(st.just("EXPIRE"), st.sampled_from(["jobs", "ready", "meta"]), st.just(1000)),
        st.tuples(st.just("SET"), st.sampled_from(["result:z", "call:z"]), st.just("1 x")),
    ),
    min_size=1,
    max_size=6,
)


def readable_records(store, raw):
    """Return the readable records of live jobs and of letters, by job."""
    live = {job: entry for job, entry in raw(store, "HGETALL", "jobs").items() if is_readable(entry)}
    letters = {
        job: letter.split(b"\n", 2)[2]
        for job, letter in raw(store, "HGETALL", "dead:jobs").items()
        if letter.count(b"\n") >= 2
    }
    return {**{job: entry for job, entry in letters.items() if is_readable(entry)}, **live}


@given(program=programs, commands=damages)
def test_any_damage_is_mended_and_no_readable_job_is_gone(server, raw, program, commands):
    store = RedisStore(server.url, f"audit-{next(numbers)}", RULES)
    try:
        Life(store).go(program)
        for command in commands:
            raw(store, *command)
        before = readable_records(store, raw)

        mended = audit(store, repair=True)

        assert all(finding.repaired for finding in mended if finding.repair)
        after = readable_records(store, raw)
        assert {job: after.get(job) for job in before} == before
        left = [finding for finding in audit(store) if finding.repair]
        assert not left
        content = everything(store, raw)
        audit(store, repair=True)
        assert everything(store, raw) == content, "a second repair changed something"
    finally:
        flush(server, store)


# What no gqueue of any version can have written: it may be beyond repair, and is told all the same.

_odd_names = st.one_of(
    st.sampled_from([b"", b"a", b"r", b"d", b"w1", b"w2", f"{SEQ}a".encode(), SEQ.encode(), b"sequence", b"lease"]),
    st.sampled_from([b"\xff\xfe\x00", b"x\ny\x1b[31m", b":", b"{}", b"9" * 5_000, b"\xc3" * 70_000]),
    st.binary(max_size=20),
)
_odd_values = st.one_of(
    _odd_names,
    st.sampled_from([b"-1", b"1e400", b"nan", b"9" * 400, b"1 " + b"9" * 400, b"failed 9 9 " + b"9" * 400 + b"\n\n"]),
)
_odd_scores = st.sampled_from(["-inf", "inf", "1e300", "-1e300", "9e15", "0.5", "1e-300"])
_WRITES = {
    "string": st.tuples(st.just("SET"), _odd_values),
    "hash": st.tuples(st.just("HSET"), _odd_names, _odd_values),
    "zset": st.tuples(st.just("ZADD"), _odd_scores, _odd_names),
    "list": st.tuples(st.just("RPUSH"), _odd_values),
    "set": st.tuples(st.just("SADD"), _odd_names),
    "stream": st.tuples(st.just("XADD"), st.just("*"), _odd_names, _odd_values),
}


def _odd_write(kind):
    owners = _odd_names.map(b":".__add__) if is_a_family(kind) else st.just(b"")
    fitting = _WRITES[KINDS[kind]]
    write = st.one_of(fitting, fitting, fitting, fitting, fitting, *_WRITES.values())
    return st.tuples(owners.map(kind.partition(":")[0].encode().__add__), write)


odd_writes = st.lists(st.sampled_from(sorted(KINDS)).flatmap(_odd_write), min_size=1, max_size=12)


@given(writes=odd_writes)
def test_audit_ends_whatever_stands_in_the_keys(server, writes):
    store = RedisStore(server.url, f"audit-{next(numbers)}", RULES)
    try:
        sound_queue(store)
        with server.client() as client:
            for name, (command, *arguments) in writes:
                key = prefix(store).encode() + name
                try:
                    client.execute_command(command, key, *arguments)
                except ResponseError:  # of another type: then the key is of this one
                    client.execute_command("DEL", key)
                    client.execute_command(command, key, *arguments)

        audit(store)
        audit(store, repair=True)
        assert [f for f in audit(store, repair=True) if f.repair and not f.repaired] == []
    finally:
        flush(server, store)


# While the queue works.


def test_nothing_is_found_and_nothing_changed_while_a_queue_works(open_store):
    store = open_store(Rules(lease_ms=60_000))
    clients = [store.clone() for _ in range(3)]
    ended, handled = threading.Event(), []

    def produce(client):
        for number in itertools.count():
            if ended.is_set():
                return
            enqueue(client, *(f"{number}-{i}" for i in range(5)), delay_ms=0 if number % 3 else 1)

    def work(client, worker):
        client.register(worker)
        held, call = [], 0
        while not ended.is_set():
            call += 1
            done, retried = held[::2], [Settlement(job, "retry", 1) for job in held[1::2]]
            held = [job.id for job in client.settle_and_claim(worker, call, done, retried, 20).jobs]
            handled.extend(done)

    threads = [
        threading.Thread(target=produce, args=(clients[0],)),
        *(threading.Thread(target=work, args=(client, f"w{n}")) for n, client in enumerate(clients[1:])),
    ]
    for thread in threads:
        thread.start()
    try:
        wait_until(lambda: len(handled) > 50)
        for _ in range(15):
            assert audit(store, repair=True) == []
    finally:
        ended.set()
        for thread in threads:
            thread.join()
        for client in clients:
            client.close()
    assert handled


def test_audit_tells_how_far_it_is_and_takes_small_steps(open_store, server):
    store = open_store()
    for number in range(5):
        enqueue(store, *(f"{number}-{i}" for i in range(400)))
    told = []
    with server.client() as client:
        client.config_set("slowlog-log-slower-than", 100_000)
        client.slowlog_reset()
        one = Audit(store, tell=lambda what, done, total: told.append((what, done, total)))

        assert list(one.findings()) == []
        assert not client.slowlog_get()
    jobs = [(done, total) for what, done, total in told if what == "jobs"]
    assert jobs[-1] == (2000, 2000)
    assert jobs == sorted(jobs)
    assert len(jobs) >= 4
    assert one.looked_at >= 4000


@pytest.mark.slow
@pytest.mark.parametrize("call", ["enqueue", "settle and claim"])
def test_half_a_call_that_a_second_restart_carries_out_is_mended(call, queue_name):
    # Redis cuts its file off behind the last whole command, be that one inside MULTI; the next script's MULTI then
    # stands inside that transaction, and its EXEC carries out both. Valkey mended it.
    mended = 0
    with Server(appendonly=True, **aof.SETTINGS) as server:

        def restarted():
            server.start()
            return RedisStore(server.url, queue_name, RULES)

        store = restarted()
        enqueue(store, "a", "b")
        store.register("w")
        store.settle_and_claim("w", 1, (), (), 1)
        length = aof.size(server.folder)
        if call == "enqueue":
            enqueue(store, "torn")
        else:
            store.settle_and_claim("w", 2, ("a",), (), 1)
        server.kill()
        store.close()
        file = aof.growing(server.folder)
        whole = file.read_bytes()
        for end in [end for end in aof.ends(whole) if end > length]:
            file.write_bytes(whole[: end - 3])
            store = restarted()
            enqueue(store, "after")
            server.kill()
            store.close()
            store = restarted()

            mended += any(finding.repaired for finding in audit(store, repair=True))

            assert audit(store) == []
            assert {look.state for look in store.look(["b", "after"])} <= {State.READY, State.RUNNING}
            server.kill()
            store.close()
    assert mended
