"""The audit of a queue's keys in Redis, in bounded steps while the queue works, and the repair of what it finds.

Reads pages of names by SCAN and lets a script look at each page at one moment; `core.audit` judges what it saw. What
looks wrong is looked at again, with its record read anew, and only what is wrong twice is a finding. A repair is a
script that looks again itself, so that it mends what is wrong then, or does nothing.
"""

import hashlib
import itertools
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

from attrs import evolve

from gqueue.core.audit import (
    IMPOSSIBLE_SEQUENCE,
    NAMELESS,
    Finding,
    Flaw,
    Held,
    JobSeen,
    KeySeen,
    PlaceSeen,
    TotalsSeen,
    WorkerSeen,
    judge_job,
    judge_key,
    judge_place,
    judge_totals,
    judge_worker,
)
from gqueue.core.model import LANE_MS, MOVE_BYTES
from gqueue.errors import BadSetting
from gqueue.store import replies, scripts
from gqueue.store.base import Store
from gqueue.store.codec import TEXT_LIMIT, BadRecord, decode_record
from gqueue.store.connection import Argument, Opening
from gqueue.store.keys import EXPIRING, KINDS
from gqueue.store.records import check_id
from gqueue.store.redis import RedisStore

PAGE = 500
"""Elements of one step: a script looks at so many in some 5 ms."""

MOST_LOST = 1_000
"""Workers without registration that one audit takes into account; more are left to the next."""

_HEAD = re.compile(rb"[0-9A-Fa-f]{13}[-+.0-9eE]+ ")
_LETTER_BYTES = 4 * TEXT_LIMIT
_TTLS_MS = {"call:LANE": LANE_MS, "room:PRODUCER": 10_000}
_RESULT_TTL_MS = 300_000

Tell = Callable[[str, int, int], None]


def audit(store: Store, *, repair: bool = False) -> list[Finding]:
    """Return what is wrong with the queue's keys; *repair*: mend what can be mended, which the findings then say.

    Raises:
        BadSetting: the store is no Redis.
        StoreUnavailable: and the other errors of any call.
    """
    return list(Audit(store, repair=repair).findings())


class Audit:
    """One audit of one queue.

    Args:
        store: in Redis; it may be in use.
        repair: mend what can be mended.
        tell: called after each step with what is being read, how much of it was, and of how much about.

    *looked_at* counts the elements read so far. *stopped*: a key has a type with which no script can work, and what
    comes after the keys was not looked at.

    Raises BadSetting: the store is no Redis.
    """

    def __init__(self, store: Store, *, repair: bool = False, tell: Tell = lambda what, done, total: None) -> None:
        if not isinstance(store, RedisStore):
            raise BadSetting(f"queue {store.name!r} is in the memory of its process: there are no keys to look at")
        self.looked_at, self.stopped = 0, False
        self._client, self._keys = store.parts()
        self._rules, self._repair, self._tell = store.rules, repair, tell
        self._lost: list[str] = []
        self._sequence = self._places = 0
        self._largest = 0

    def findings(self) -> Iterator[Finding]:
        """Yield what is wrong, as it is met; memory is that of one step."""
        yield from self._walk_keys()
        if self.stopped:
            return
        yield from self._look_at_totals(first=True)
        largest = replies.count(self._ask(b"HGET", "meta", "", b"largest"))
        self._largest = max(largest, 256)
        yield from self._walk_workers()
        yield from self._walk("jobs")
        for worker in sorted({*self._names("workers"), *self._names("lapsed"), *self._lost} - {""}):
            yield from self._walk("running:WORKER", worker)
        for kind in ("ready", "suspects", "scheduled", "dead:jobs", "dead", "shed"):
            yield from self._walk(kind)
        for kind in ("attempts", "crashes", "cancels", "progress"):
            yield from self._walk(kind)
        yield from self._walk_line("waiters")
        yield from self._walk_line("tickets")
        yield from self._look_at_totals(first=False)

    # Keys.

    def key_names(self) -> Iterator[str]:
        """Yield the queue's keys, without what all of them begin with; a key may come twice."""
        for names in self._key_pages():
            yield from names

    def _key_pages(self) -> Iterator[list[str]]:
        cursor, total, done = b"0", int(self._client.call("fsck", (b"DBSIZE",))), 0
        begin = self._keys.prefix
        while True:
            cursor, found = self._client.call("fsck", (b"SCAN", cursor, b"MATCH", begin + b"*", b"COUNT", PAGE))
            names = [replies.text(key[len(begin) :]) for key in found]
            done += PAGE
            self._count("keys", names, done, total)
            yield names
            if cursor == b"0":
                return

    def _walk_keys(self) -> Iterator[Finding]:
        owners: set[str] = set()
        for names in self._key_pages():
            running = (name.partition(":")[2] for name in names if name.startswith("running:"))
            owners.update(itertools.islice(running, MOST_LOST - len(owners)))
            yield from self._page(names, self._judge_keys, self._mend_key)
        if not self.stopped:
            self._lost = sorted(owners - {*self._names("workers"), *self._names("lapsed"), ""})

    def _judge_keys(self, names: Sequence[str]) -> list[Finding]:
        seen = self._run("audit_keys", [*names])
        found = []
        for name, (kind_of_value, ttl_ms) in zip(names, seen, strict=True):
            kind = self._kind_of(name)
            wanted = KINDS.get(kind, "")
            found += judge_key(KeySeen(name, replies.text(kind_of_value), int(ttl_ms), wanted, kind in EXPIRING))
        return found

    def _mend_key(self, findings: Sequence[Finding]) -> None:
        for finding in findings:
            if finding.key == NAMELESS:
                self._run("repair_key", [NAMELESS, "none", 0])
                continue
            kind = self._kind_of(finding.key)
            ttl_ms: Argument = b""
            if kind in EXPIRING:
                ttl_ms = _TTLS_MS.get(kind, self._rules.result_ttl_ms or _RESULT_TTL_MS)
            self._run("repair_key", [finding.key, KINDS[kind], ttl_ms])

    def _kind_of(self, name: str) -> str:
        try:
            return self._keys.kind_of(self._keys.prefix + name.encode("utf-8", "surrogateescape"))[0]
        except KeyError:
            return ""

    # Jobs.

    def _walk(self, kind: str, owner: str = "") -> Iterator[Finding]:
        walk = kind if not owner else f"running:{owner}"

        def judge(names: Sequence[str]) -> list[Finding]:
            readable = dict.fromkeys(names, True)
            if kind == "jobs":
                readable = {name: can_run(name, self._ask(b"HGET", "jobs", "", name) or b"") for name in names}
            return [f for seen in self._look(walk, names) for f in judge_job(seen, readable[seen.name])]

        for names, values in self._pages(kind, owner):
            readable = dict.fromkeys(names, True)
            if kind == "jobs":
                readable = {name: can_run(name, entry) for name, entry in zip(names, values, strict=True)}
            seen = self._look(walk, names)
            self._note_sequences(seen)
            doubtful = [one.name for one in seen if judge_job(one, readable[one.name])]
            if doubtful:
                yield from self._page(doubtful, judge, self._mend_jobs)

    def _look(self, walk: str, names: Sequence[str]) -> list[JobSeen]:
        seen: list[JobSeen] = []
        while len(seen) < len(names):
            left = names[len(seen) :]
            now_ms, *rows = self._run("audit_jobs", [b"", walk, len(self._lost), *self._lost, *left])
            seen += [_job_seen(walk, name, row, float(now_ms)) for name, row in zip(left, rows, strict=False)]
        return seen

    def _note_sequences(self, seen: Iterable[JobSeen]) -> None:
        for one in seen:
            for number in (one.sequence, one.letter_sequence):
                if self._sequence < number < IMPOSSIBLE_SEQUENCE:
                    self._sequence = number

    def _mend_jobs(self, findings: Sequence[Finding]) -> None:
        strays: dict[str, list[str]] = {}
        for finding in findings:
            members = strays.setdefault(finding.job, [])
            if finding.key in ("ready", "suspects"):
                members.append(finding.name)
        rules = self._rules
        for job, members in strays.items():
            entry = self._ask(b"HGET", "jobs", "", job)
            sha = b"" if entry is None or can_run(job, entry) else _sha1(entry)
            arguments: list[Argument] = [b"", job, sha, rules.max_crashes, rules.result_ttl_ms, len(self._lost)]
            self._run("repair_job", [*arguments, *self._lost, *members])

    # Workers, producers, totals.

    def _walk_workers(self) -> Iterator[Finding]:
        names = {*self._lost}
        for kind in ("workers", "lapsed", "calls", "asked", "leases"):
            names.update(self._names(kind))
        workers = sorted(names)
        for at in range(0, len(workers), PAGE):
            self._count("workers", workers[at : at + PAGE], at, len(workers))
            yield from self._page(workers[at : at + PAGE], self._judge_workers, self._mend_workers)

    def _judge_workers(self, names: Sequence[str]) -> list[Finding]:
        now_ms, lease, *rows = self._run("audit_workers", [b"", *names])
        lease_ms = replies.count(lease) or None
        found = []
        for name, (until, lapsed, call, asked, held, brought) in zip(names, rows, strict=True):
            seen = WorkerSeen(name, _score(until), _score(lapsed), _text(call), _text(asked), held, _text(brought))
            found += judge_worker(seen, now_ms=float(now_ms), lease_ms=lease_ms)
        return found

    def _mend_workers(self, findings: Sequence[Finding]) -> None:
        for worker in dict.fromkeys(finding.worker for finding in findings):
            self._run("repair_worker", [b"", worker])

    def _walk_line(self, kind: str) -> Iterator[Finding]:
        def judge(names: Sequence[str]) -> list[Finding]:
            rows = self._run("audit_line", [*names])
            seen = [PlaceSeen(name, *map(_score, row)) for name, row in zip(names, rows, strict=True)]
            return [finding for one in seen for finding in judge_place(one) if finding.key == kind]

        def mend(findings: Sequence[Finding]) -> None:
            for finding in findings:
                self._run("repair_line", [b"", finding.name])

        for names, _ in self._pages(kind):
            for name in names:
                number = int(name[:13], 16) if re.fullmatch("[0-9a-f]{13}", name[:13]) else 0
                if self._places < number < IMPOSSIBLE_SEQUENCE:
                    self._places = number
            yield from self._page(names, judge, mend)

    def _look_at_totals(self, *, first: bool) -> Iterator[Finding]:
        """Look at settings and counters: *first* at those with which no script can reckon, before scripts repair.

        Numbers that were given come last, when the largest in use is known: producers are refused until then.
        """
        read: list[TotalsSeen] = []

        def is_first(finding: Finding) -> bool:
            number = finding.name in ("sequence", "places")
            return finding.flaw is Flaw.BAD_TOTAL or (finding.flaw is Flaw.BAD_SETTING and not number)

        def judge(_names: Sequence[str]) -> list[Finding]:
            meta, stats, jobs = self._run("audit_totals", [])
            read.append(TotalsSeen(_fields(meta), _fields(stats), jobs, self._sequence, self._places))
            return [finding for finding in judge_totals(read[-1]) if is_first(finding) is first]

        def mend(findings: Sequence[Finding]) -> None:
            seen = read[-1]
            settings = [f.name for f in findings if f.flaw is Flaw.BAD_SETTING]
            totals = [f.name for f in findings if f.flaw is Flaw.BAD_TOTAL]
            arguments: list[Argument] = [self._sequence, self._places, len(settings)]
            for name in settings:
                arguments += (name, seen.meta[name])
            for name in totals:
                arguments += (name, seen.stats[name])
            self._run("repair_totals", arguments)

        yield from self._page(["totals"], judge, mend)

    # Steps.

    def _page(
        self,
        names: Sequence[str],
        judge: Callable[[Sequence[str]], list[Finding]],
        mend: Callable[[Sequence[Finding]], None],
    ) -> Iterator[Finding]:
        """Yield what *judge* finds wrong with *names* twice; after *mend*, if that is to be."""
        if not names or not judge(names):
            return
        findings = judge(names)
        if self._repair and (mendable := [finding for finding in findings if finding.repair]):
            mend(mendable)
            left = {_identity(finding) for finding in judge(names)}
            findings = [evolve(f, repaired=bool(f.repair) and _identity(f) not in left) for f in findings]
        for finding in findings:
            if finding.flaw is Flaw.WRONG_TYPE and not finding.repaired and not finding.repair:
                self.stopped = True
            yield finding

    def _pages(self, kind: str, owner: str = "") -> Iterator[tuple[list[str], list[bytes]]]:
        """Yield the elements of a key, with their values or scores; some may come twice."""
        is_hash, what = KINDS[kind] == "hash", kind if not owner else f"running:{owner}"
        total, cursor, done = int(self._ask(b"HLEN" if is_hash else b"ZCARD", kind, owner)), b"0", 0
        bytes_each = {"jobs": self._largest, "dead:jobs": self._largest + _LETTER_BYTES, "progress": TEXT_LIMIT}
        count = min(PAGE, max(1, MOVE_BYTES // bytes_each.get(kind, 1)))
        while total:
            cursor, found = self._ask(b"HSCAN" if is_hash else b"ZSCAN", kind, owner, cursor, b"COUNT", count)
            for at in range(0, len(found), 2 * PAGE):
                some = found[at : at + 2 * PAGE]
                names = [replies.text(name) for name in some[::2]]
                done += len(names)
                self._count(what, names, done, total)
                yield names, some[1::2]
            if cursor == b"0":
                return

    def _names(self, kind: str) -> list[str]:
        return [name for names, _ in self._pages(kind) for name in names]

    def _count(self, what: str, names: Sequence[str], done: int, total: int) -> None:
        self.looked_at += len(names)
        self._tell(what, min(done, total), total)

    def _ask(self, command: bytes, kind: str, owner: str = "", *arguments: Argument) -> Any:
        return self._client.call("fsck", (command, self._keys(kind, owner), *arguments))

    def _run(self, name: str, arguments: Sequence[Argument]) -> Any:
        script = scripts.load()[name]
        keys = [self._keys(kind) for kind in script.keys]
        return self._client.call(name, arguments, Opening(script, keys))[1:]


def can_run(job_id: str, entry: bytes) -> bool:
    """Return whether a worker can run a job as it stands in `jobs`."""
    try:
        check_id(job_id)
    except BadRecord:
        return False
    return is_readable(entry)


def is_readable(entry: bytes) -> bool:
    """Return whether a worker can read an entry of `jobs`: its head, and the record."""
    head = _HEAD.match(entry)
    if head is None or int(entry[:13], 16) >= IMPOSSIBLE_SEQUENCE:
        return False
    try:
        rank = float(entry[13 : head.end()])
        decode_record(replies.record_of(entry))
    except (ValueError, BadRecord):
        return False
    return abs(rank) != float("inf")


def _job_seen(walk: str, name: str, row: Sequence[Any], now_ms: float) -> JobSeen:
    record, sequence, rank, ready, suspects, scheduled, letter, letter_sequence, dead, shed = row[:10]
    attempts, crashes, _cancels, _progress, _stands, runs, numbers = row[10:]
    return JobSeen(
        walk,
        name,
        name[13:] if walk in ("ready", "suspects") else name,
        _is_present(walk, row),
        replies.text(record),
        int(sequence, 16),
        float(rank),
        _score(ready),
        _score(suspects),
        _score(scheduled),
        tuple(
            Held(replies.text(worker), replies.text(claim), replies.text(standing))
            for worker, claim, standing in zip(runs[::3], runs[1::3], runs[2::3], strict=True)
        )
        if runs
        else (),
        _text(letter),
        int(letter_sequence, 16),
        _score(dead),
        _score(shed),
        _text(attempts),
        _text(crashes),
        tuple(map(float, numbers.split())) if numbers else (),
        now_ms,
    )


_AT = {"jobs": 0, "scheduled": 5, "dead:jobs": 6, "dead": 8, "shed": 9}
_AT |= {"attempts": 10, "crashes": 11, "cancels": 12, "progress": 13, "ready": 14, "suspects": 14}


def _is_present(walk: str, row: Sequence[Any]) -> bool:
    if walk in _AT:
        return row[_AT[walk]] not in (None, 0) and (walk != "jobs" or row[0] != b"")
    worker = walk.removeprefix("running:").encode("utf-8", "surrogateescape")
    return worker in row[15][::3]


def _identity(finding: Finding) -> tuple[Flaw, str, str]:
    return finding.flaw, finding.key, finding.name


def _score(score: bytes | None) -> float | None:
    return None if score is None else float(score)


def _text(raw: bytes | None) -> str | None:
    return None if raw is None else replies.text(raw)


def _fields(flat: Sequence[bytes]) -> dict[str, str]:
    return {replies.text(name): replies.text(value) for name, value in zip(flat[::2], flat[1::2], strict=True)}


def _sha1(entry: bytes) -> bytes:
    return hashlib.sha1(entry, usedforsecurity=False).hexdigest().encode()
