"""The whole content of a queue in Redis as plain data, in the shape of MemoryStore.snapshot: for tests and fsck.

Read key by key, so it is one moment's content only while nobody changes it. Hint lists are left out, and what has a TTL
is told with the TTL it was given, as far as that can be seen: the time left, rounded up to TTL_STEP_MS.
"""

import math
from collections.abc import Callable
from typing import Any

from gqueue.store import replies
from gqueue.store.client import Client
from gqueue.store.keys import Keys

TTL_STEP_MS = 60_000


def snapshot(client: Client, keys: Keys) -> dict[str, Any]:
    """Return the content of the queue that *keys* belong to."""
    return _Reader(client, keys).everything()


class _Reader:
    def __init__(self, client: Client, keys: Keys) -> None:
        self._client, self._keys = client, keys
        self._owners: dict[str, list[str]] = {}
        for key in self._scan():
            kind, owner = keys.kind_of(key)
            self._owners.setdefault(kind, []).append(owner)

    def everything(self) -> dict[str, Any]:
        return {
            "jobs": self._hash("jobs", _entry),
            "ready": self._ranked("ready"),
            "suspects": self._ranked("suspects"),
            "scheduled": self._ranked("scheduled"),
            "running": {worker: self._hash("running:WORKER", _run, worker) for worker in self._of("running:WORKER")},
            "workers": self._scores("workers"),
            "graces": self._graces(),
            "lapsed": self._scores("lapsed"),
            "calls": self._hash("calls", int),
            "lanes": {lane: _lane(self._ask(b"GET", "call:LANE", lane)) for lane in self._of("call:LANE")},
            "attempts": self._hash("attempts", int),
            "crashes": self._hash("crashes", int),
            "cancels": self._hash("cancels", int),
            "asked": self._hash("asked", replies.text),
            "leases": self._hash("leases", int),
            "progress": self._hash("progress", bytes),
            "letters": self._letters(),
            "results": {job_id: self._result(job_id) for job_id in self._of("result:ID")},
            "awaited": self._scores("awaited"),
            "line": self._line(),
            "meta": self._meta(),
            "counters": self._hash("stats", int),
        }

    def _scan(self) -> list[bytes]:
        cursor, found = b"0", set()
        while True:
            command = (b"SCAN", cursor, b"MATCH", self._keys.prefix + b"*", b"COUNT", 1000)
            cursor, some = self._client.call("snapshot", command)
            found.update(some)
            if cursor == b"0":
                return sorted(found)

    def _of(self, kind: str) -> list[str]:
        return self._owners.get(kind, [])

    def _ask(self, command: bytes, kind: str, owner: str = "", *arguments: bytes | int) -> Any:
        return self._client.call("snapshot", (command, self._keys(kind, owner), *arguments))

    def _hash(self, kind: str, read: Callable[[Any], Any], owner: str = "") -> dict[str, Any]:
        found = self._ask(b"HGETALL", kind, owner)
        return {replies.text(field): read(value) for field, value in zip(found[::2], found[1::2], strict=True)}

    def _ranked(self, kind: str) -> list[tuple[float, str]]:
        found = self._ask(b"ZRANGE", kind, "", 0, -1, b"WITHSCORES")
        return [(float(score), replies.text(member)) for member, score in zip(found[::2], found[1::2], strict=True)]

    def _scores(self, kind: str) -> dict[str, int]:
        # Of a ms a part may be missing: _room.lua, _touch.lua.
        return {member: math.ceil(score) for score, member in self._ranked(kind)}

    def _graces(self) -> dict[str, int]:
        graces = {worker: int(8 * (math.ceil(score) - score)) for score, worker in self._ranked("workers")}
        return {worker: number for worker, number in graces.items() if number}

    def _letters(self) -> dict[str, Any]:
        stored = self._hash("dead:jobs", bytes)
        times = {**self._scores("dead"), **self._scores("shed")}
        told = {}
        for job_id, text in stored.items():
            (letter,) = replies.letters([job_id.encode("utf-8", "surrogateescape"), text])
            sequence, rank, _ = _entry(text.split(b"\n", 2)[2])
            died_at_ms = times.pop(job_id, None)
            told[job_id] = (
                died_at_ms,
                letter.reason.value,
                letter.failures,
                letter.crashes,
                letter.report,
                (sequence, rank),
            )
        return {**told, **{job_id: (at, "no letter") for job_id, at in times.items()}}

    def _result(self, job_id: str) -> tuple[bytes, int]:
        left_ms = int(self._ask(b"PTTL", "result:ID", job_id))
        return self._ask(b"GET", "result:ID", job_id), -(-left_ms // TTL_STEP_MS) * TTL_STEP_MS

    def _line(self) -> list[tuple[float, int, str, int | None]]:
        until = self._scores("tickets")
        line = [(rank, int(m[:13], 16), m[13:], until.pop(m, None)) for rank, m in self._ranked("waiters")]
        return sorted(line) + [(0.0, 0, f"ticket without a place: {m}", at) for m, at in until.items()]

    def _meta(self) -> dict[str, Any]:
        known = self._hash("meta", int)
        names = ("epoch", "seen", "lease", "capacity", "capacity_set")
        return {
            "sequence": known.get("sequence", 0),
            "places": known.get("places", 0),
            **{name: known.get(name) for name in names},
            "paused": known.get("paused") == 1,
        }


def _entry(entry: bytes) -> tuple[int, float, bytes]:
    try:
        return int(entry[:13], 16), float(entry[13:].split(b" ", 1)[0]), replies.record_of(entry)
    except ValueError:
        return 0, 0.0, entry


def _run(value: bytes) -> tuple[int, int]:
    call, claimed_at_ms = value.split(b" ")
    return int(call), int(claimed_at_ms)


def _lane(value: bytes) -> tuple[int, Any]:
    call, _, reply = value.partition(b" ")
    return int(call), replies.admission(reply)
