"""Scenarios 24 and 34: what Redis keeps for gqueue is forgotten, or damaged."""

import subprocess
import sys
from collections.abc import Callable

import redis
from attrs import evolve, frozen

from tests.faults.rig import Rig
from tests.faults.scenarios.scenario import BACKLOG_FULL, BACKLOG_SHORT, FULL, SHORT, scenario
from tests.processes import ROOT


@scenario(
    24,
    full=BACKLOG_FULL,
    short=BACKLOG_SHORT,
    inversions=0,
    duplicated=0,
    reached=("SCRIPT FLUSH", "reply settle_and_claim: NOSCRIPT", "reply enqueue: NOSCRIPT", "NOSCRIPT of Redis"),
)
def flush_scripts(rig: Rig) -> None:
    """Have Redis forget all scripts, every 100 ms.

    No job is lost and none is done twice: a script that is not known was not carried out, and is sent itself.
    """
    with rig.redis() as client:
        for _ in rig.every(0.1):
            rig.note("SCRIPT FLUSH")
            client.script_flush()
        told = client.info("errorstats").get("errorstat_NOSCRIPT", {})
    rig.reach("NOSCRIPT of Redis", int(told.get("count", 0)))


NUMBERS = ("nonsense", "-1", "1e300", "", str(2**52), "9" * 30, b"\xff")
"""What stands where a number belongs."""

IF_THERE = """
if redis.call('HEXISTS', KEYS[1], ARGV[1]) == 1 then
  return redis.call('HSET', KEYS[1], ARGV[1], ARGV[2]) + 1
end
return 0
"""
"""Set a field of a hash if it is there."""

INDEXES = ("ready", "suspects", "scheduled", "lapsed", "waiters", "tickets", "awaited", "dead", "shed")

Tamper = Callable[[Rig, "redis.Redis"], bool]
"""Damages one thing; returns whether there was any to damage."""
KEY = "gq:{faults}:"


@frozen
class Victim:
    """How a record is damaged; *readable*: the job is then done, else it is dead as bad_record."""

    damage: Callable[[bytes], bytes]
    readable: bool = False


def _with_record(change: Callable[[bytes], bytes]) -> Callable[[bytes], bytes]:
    def damage(entry: bytes) -> bytes:
        head, _, record = entry.partition(b" ")
        return head + b" " + change(record)

    return damage


def _with_argument(argument: bytes) -> Callable[[bytes], bytes]:
    return _with_record(lambda record: record.replace(b",0.01]", b"," + argument + b"]"))


VICTIMS: dict[str, Victim] = {
    "empty": Victim(lambda _: b""),
    "no record": Victim(_with_record(lambda _: b"")),
    "truncated": Victim(_with_record(lambda record: record[:-3])),
    "not UTF-8": Victim(_with_record(lambda record: record.replace(b"work", b"w\xffrk"))),
    "another shape": Victim(_with_record(lambda _: b'["work"]')),
    "a limit below 0": Victim(_with_record(lambda record: record[:-1] + b',"timeout":-5}')),
    "oversized": Victim(_with_argument(b'"' + b"x" * 3_000_000 + b'"')),
    "deeply nested": Victim(_with_argument(b"[" * 100_000 + b"]" * 100_000)),
    "nested beyond the limit": Victim(_with_argument(b"[" * 65 + b"]" * 65)),
    "never closed": Victim(_with_record(lambda _: b"[" * 200_000)),
    "an int of 100 digits": Victim(_with_argument(b"9" * 100)),
    "another number of arguments": Victim(_with_argument(b"0.01,1,2")),
    "a damaged head": Victim(lambda entry: b"z" * 13 + entry[13:], readable=True),
    "a rank that is none": Victim(lambda entry: entry[:13] + b"1e999" + entry[entry.index(b" ") :], readable=True),
}


def _numbers(rig: Rig, client: "redis.Redis") -> bool:
    meta = ("sequence", "places", "largest", "capacity", "capacity_set", "lease", "seen", "epoch")
    return client.hset(f"{KEY}meta", rig.chance.choice(meta), rig.chance.choice(NUMBERS)) is not None


def _totals(rig: Rig, client: "redis.Redis") -> bool:
    totals = ("enqueued", "claimed", "succeeded", "dead", "skipped")
    return client.hset(f"{KEY}stats", rig.chance.choice(totals), rig.chance.choice(NUMBERS)) is not None


def _index(rig: Rig, client: "redis.Redis") -> bool:
    kind = rig.chance.choice(INDEXES)
    name = rig.chance.choice(("", "x", b"\xff\xfe", "zzzzzzzzzzzzznobody", "0000000000000nobody", "n" * 5_000))
    score = rig.chance.choice((float("-inf"), 0.0, float("inf"), -1e300, 1.7e12))
    return client.zadd(f"{KEY}{kind}", {name: score}) is not None


def _hash(rig: Rig, client: "redis.Redis") -> bool:
    kind = rig.chance.choice(("dead:jobs", "attempts", "crashes", "cancels", "asked", "progress", "calls"))
    name = rig.chance.choice(("", "nobody", b"\xff"))
    return client.hset(f"{KEY}{kind}", name, rig.chance.choice(NUMBERS)) is not None


def _hints(rig: Rig, client: "redis.Redis") -> bool:
    return client.rpush(f"{KEY}wake", *NUMBERS) > 0


def _lanes(rig: Rig, client: "redis.Redis") -> bool:
    damaged = 0
    for lane in client.scan_iter(match=f"{KEY}call:*", count=1000):
        damaged += bool(client.set(lane, rig.chance.choice(NUMBERS), xx=True, px=600_000))
    return damaged > 0


def _call(rig: Rig, client: "redis.Redis") -> bool:
    workers = client.zrange(f"{KEY}workers", 0, -1)
    if not workers or (rig.reached[CALL_DAMAGED] and rig.chance.random() > 0.3):  # it costs a worker its lease
        return False
    worker = rig.chance.choice(workers)
    rig.hit(CALL_DAMAGED, int(worker.split(b":")[-2]))
    damaged = client.hset(f"{KEY}calls", worker, rig.chance.choice(NUMBERS)) is not None
    rig.healed(CALL_DAMAGED)
    return damaged


def _claim(rig: Rig, client: "redis.Redis") -> bool:
    damaged = 0
    for key in client.scan_iter(match=f"{KEY}running:*", count=1000):
        damaged += client.hset(key, "nobody", "1 1")
        damaged += sum(client.eval(IF_THERE, 1, key, job, "x") for job in client.hkeys(key)[:2])
    return damaged > 0


TAMPERS: tuple[Tamper, ...] = (_numbers, _totals, _index, _hash, _hints, _lanes, _call, _claim)
STRUCK = tuple(f"tampered: {tamper.__name__.strip('_')}" for tamper in TAMPERS)
CALL_DAMAGED = "number of a call damaged"


@scenario(
    34,
    full=evolve(FULL, doomed=0.0),
    short=evolve(SHORT, doomed=0.0),
    dead={"bad_record": 1_000_000},  # which ones is looked at one by one
    overlapping=None,
    reached=("records damaged", "records told as bad", "fsck repaired", *STRUCK),
)
def tamper(rig: Rig) -> None:
    """Damage what Redis keeps while workers work: records of jobs, and indexes, counters, claims, leases, the line.

    No worker ends, and no job is lost whose record was not damaged. One whose record cannot be read any more is a dead
    letter of reason bad_record, and nothing else is. A worker whose number of a call is damaged loses its lease, so
    what it ran may be done twice. `gqueue fsck --repair` mends the rest while the queue works, and then finds nothing.
    """
    unreadable: dict[str, str] = {}
    either: set[str] = set()  # a worker runs them, and `fsck`, if it comes first, buries them
    with rig.redis() as client:
        for number in rig.every(0.1):
            what = list(VICTIMS)[number % len(VICTIMS)]
            job = rig.put("work", f"victim-{number}", 0.01, delay=1.0)
            damaged = VICTIMS[what].damage(client.hget(f"{KEY}jobs", job) or b"")
            rig.note("record damaged", f"{what}: {job}")
            if VICTIMS[what].readable:
                either.add(job)
            if client.eval(IF_THERE, 1, f"{KEY}jobs", job, damaged) and not VICTIMS[what].readable:
                unreadable[job] = what
            chosen = rig.chance.randrange(len(TAMPERS))
            rig.reach(STRUCK[chosen], TAMPERS[chosen](rig, client))
        rig.sleep(1.5)  # until no victim is due any more: what is damaged now comes first
        client.zadd(f"{KEY}scheduled", {"never": float("inf")})
        client.zadd(f"{KEY}lapsed", {"": float("-inf")})
        for number in range(20):
            rig.put("work", f"after-{number}", 0.05)
            rig.sleep(0.05)
    rig.reach("records damaged", len(unreadable))
    rig.wait(lambda: _mended(rig), 30, "fsck --repair did not come to an end")
    rig.wait(lambda: unreadable.keys() <= _dead(rig).keys(), 20, "damaged records did not all become dead letters")
    dead = _dead(rig)
    for job, what in unreadable.items():
        rig.reach("records told as bad", dead.get(job) == "bad_record")
        if dead.get(job) != "bad_record":
            rig.problems.append(f"job {job}, whose record was damaged ({what}), is {dead.get(job, 'no dead letter')}")
    for job in (dead.keys() & rig.keys().keys()) - unreadable.keys() - either:
        rig.problems.append(f"job {job}, whose record was not damaged, is dead as {dead[job]}")


def _dead(rig: Rig) -> dict[str, str]:
    return {letter.id: letter.reason for letter in rig.queue.dead.list(limit=1_000_000)}


def _mended(rig: Rig) -> bool:
    """Run `gqueue fsck --repair`; return whether it leaves nothing."""
    command = [sys.executable, "-m", "gqueue", "fsck", "faults", "--repair", "--redis", rig.server.url]
    told = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60)
    rig.reach("fsck repaired", told.stdout.count("; repaired: "))
    (rig.folder / "fsck.log").open("a").write(f"{told.stdout}{told.stderr}exit code {told.returncode}\n")
    return told.returncode == 0
