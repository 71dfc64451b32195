"""The records of one queue: written within its limits and under its keys, and read by the same rules.

Decides which record a worker takes: one that is not too large, bears the signature that its keys ask for, and holds
what a producer may send. In this order, so that nothing is decoded that nobody vouches for. A signed record is
readable with redis-cli all the same: behind the JSON comes a line `sig:ID:HEX`. No script looks at it.
"""

import hmac
from collections.abc import Mapping

from gqueue.config import SigningKeys
from gqueue.core.model import LONGEST_NAME, check_name
from gqueue.errors import BadName, PayloadTooLarge
from gqueue.store import codec
from gqueue.store.codec import BadRecord, BadSignature, Record, decode_record

PURPOSE = b"gqueue record 1"
"""What a signature says it is for: no other use of the same key can give one that fits."""

SIGNATURE_MOST = 128
"""Longest signature: its mark, an id of 32 characters, 64 hex digits."""


class Records:
    """How the records of a queue are written and read.

    Args:
        queue: its name, which each signature covers.
        max_bytes: largest record, its signature apart.
        keys: without any, nothing is signed, and signatures are not looked at.
    """

    def __init__(self, queue: str, max_bytes: int, keys: SigningKeys) -> None:
        self._max_bytes, self._most = max_bytes, max_bytes + SIGNATURE_MOST
        self._begun: Mapping[str, hmac.HMAC] = {key_id: _begin(key, queue) for key_id, key in keys.keys.items()}
        self._signs = next(iter(self._begun), None)

    def write(self, job_id: str, record: Record) -> bytes:
        """Return *record* as it is stored; its arguments must have passed `check_payload`. Raises PayloadTooLarge."""
        data = codec.encode_record(record)
        if len(data) > self._max_bytes:
            raise PayloadTooLarge(job_id, len(data), self._max_bytes)
        return data if self._signs is None else self.sign(job_id, data)

    def sign(self, job_id: str, data: bytes) -> bytes:
        """Return *data* with the signature of the first key."""
        assert self._signs is not None
        return b"%s%s%s:%s" % (data, codec.SIGNATURE, self._signs.encode(), self._mac(self._signs, job_id, data))

    def read(self, job_id: str, stored: bytes) -> Record:
        """Return the record in *stored*; raise BadSignature, BadRecord. What it returns names a task, but any.

        *job_id* is as suspect: whoever wrote one that no producer may give could neither fetch nor cancel the job.
        """
        # Each job comes by here. So look the ids that gqueue gives, at half the price of `check_name`'s rule.
        if not (job_id.isalnum() and job_id.isascii() and len(job_id) <= LONGEST_NAME):
            check_id(job_id)
        if len(stored) > self._most:
            raise BadRecord(f"it has {len(stored):,} bytes, the limit is {self._max_bytes:,} (max_payload_bytes)")
        if self._signs is not None:
            stored = self._verified(job_id, stored)
        return decode_record(stored)

    def _verified(self, job_id: str, stored: bytes) -> bytes:
        data, key_id, mac = codec.split_signature(stored)
        if not mac:
            raise BadSignature("it is not signed, and this queue has signing keys")
        known = key_id.decode("ascii", "replace")
        if known not in self._begun:
            # Not shown before it is known to be a name: it may hold anything.
            raise BadSignature(f"it is signed with a key that is not known here{_named(known)}")
        if not hmac.compare_digest(mac, self._mac(known, job_id, data)):
            raise BadSignature(
                f"its signature is wrong (key {known}): it was changed, signed for another job or queue, "
                "or the key of this id is another here"
            )
        return data

    def _mac(self, key_id: str, job_id: str, data: bytes) -> bytes:
        mac = self._begun[key_id].copy()  # 0.7 of the time of hmac.digest, and the prefix is in it already
        name = job_id.encode("utf-8", "surrogateescape")
        mac.update(b"%d:%s" % (len(name), name))
        mac.update(data)
        return mac.hexdigest().encode()


def read_buried(stored: bytes, max_bytes: int) -> Record:
    """Return the record of a dead letter, whoever signed it, by the limits of one that is to run; raise BadRecord."""
    data, _, _ = codec.split_signature(stored)
    codec.check_size(data, max_bytes)
    record = decode_record(data)
    _check_name("task", record.task)
    return record


def check_id(job_id: str) -> None:
    """Raise BadRecord if no producer can have given a job this id."""
    _check_name("job", job_id)


def _check_name(what: str, name: str) -> None:
    try:
        check_name(what, name)
    except BadName as bad:
        raise BadRecord(f"{bad}") from None


def _begin(key: bytes, queue: str) -> hmac.HMAC:
    # Each part but the last is preceded by its length, so that no two (queue, job, record) give the same bytes.
    name = queue.encode()
    return hmac.new(key, b"%d:%s%d:%s" % (len(PURPOSE), PURPOSE, len(name), name), "sha256")


def _named(key_id: str) -> str:
    try:
        return f": {check_name('key', key_id)}"
    except BadName:
        return ""
