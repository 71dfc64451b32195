"""Between Python values and the JSON that Redis keeps: records, outcomes, reports.

Decides what a payload may hold and how it is written. The queue's scripts never parse any of it. What is read here
may have been written by another version, by hand, or by an enemy: every fault is a BadRecord, never a crash, and the
limits are the same as for what is sent. Never pickle.
"""

import math
import re
from collections.abc import Iterable
from typing import Any

import msgspec

from gqueue.errors import BadPayload, GqueueError

MAX_DEPTH = 64
"""Nesting allowed in arguments and results: far below the recursion limits of any JSON reader."""

TEXT_LIMIT = 16_384
"""Most characters kept of an error's text or a traceback: the end of it, where the raising line is."""

_CUT = re.compile(r"\[[\d,]{1,20} characters cut\] ")
"""What a text that was cut begins with, beside what is kept of it."""

LEAST_INT, MOST_INT = -(2**63), 2**64 - 1
"""Ints allowed: those of 64 bits, with or without a sign, which any JSON reader has."""

PRIORITY = 0.0
"""The priority that a record leaves out. msgspec leaves out what *is* the default: another 0.0 it would write."""

SIGNATURE = b"\nsig:"
"""What stands between a record and its signature. JSON has no line end inside of a string, so no record holds it."""


class BadRecord(GqueueError, ValueError):
    """What was read from the store is not a record, an outcome or a report."""


class BadSignature(BadRecord):
    """A record is not signed with a key of this queue's, or it was changed, or is that of another job or queue."""


class Record(msgspec.Struct, omit_defaults=True, gc=False):
    """A job as it is stored. Options that are None are those of the task, as registered in the worker.

    Times are seconds here, for people who read it with redis-cli; msgspec ignores fields that it does not know.
    """

    task: str
    args: list[Any] = []
    kwargs: dict[str, Any] = {}
    priority: float = PRIORITY
    timeout: float | None = None
    max_attempts: int | None = None
    result_ttl: float | None = None
    sensitive: bool = False


class Outcome(msgspec.Struct, omit_defaults=True, gc=False):
    """What a job's handle reads once it is done: `state` is succeeded, dead or cancelled."""

    state: str
    value: Any = None
    reason: str = ""
    error: str = ""
    traceback: str = ""


class _Kind(msgspec.Struct, gc=False):
    """So much of an outcome as tells the state of its job."""

    state: str


class Report(msgspec.Struct, omit_defaults=True, gc=False):
    """The last error of a dead letter."""

    error: str = ""
    traceback: str = ""


class Death(Report, omit_defaults=True, gc=False):
    """So much of an outcome as tells why its job died."""

    reason: str = ""


FAULTS = (msgspec.MsgspecError, UnicodeDecodeError, RecursionError)
"""What a decoder raises."""

_SENSITIVE = b'{"sensitive":true,'
"""As long as `,"sensitive":true}`, with which the encoder ends such a record: it has the fields in their order."""

_encoder = msgspec.json.Encoder()
_record = msgspec.json.Decoder(Record)
_decode_record = _record.decode
_outcome = msgspec.json.Decoder(Outcome)
_kind = msgspec.json.Decoder(_Kind)
_report = msgspec.json.Decoder(Report)
_death = msgspec.json.Decoder(Death)


def encode_record(record: Record) -> bytes:
    """Return *record* as JSON; its arguments must have passed `check_payload`.

    That it is sensitive comes first: of a record that was cut, it is what must be left.
    """
    data = _encoder.encode(record)
    return _SENSITIVE + data[1 : -len(_SENSITIVE)] + b"}" if record.sensitive else data


def decode_record(data: bytes) -> Record:
    """Return the record in *data*, signed or not: `records.Records.read` is who looks at that. Raises BadRecord."""
    # Each job comes by here: what most of them need is written out, and costs 0.2 us beside the decoding itself.
    try:
        record = _decode_record(data)
    except FAULTS as error:
        unsigned, _, mac = split_signature(data)
        if not mac:
            raise BadRecord(f"{error}") from None
        record = _decode(_record, unsigned)
    for value in record.args:
        kind = type(value)
        if kind is list or kind is dict or (kind is int and not LEAST_INT <= value <= MOST_INT):
            check_read(record.args)
            break
    if record.kwargs:
        check_read(record.kwargs)
    return record


def split_signature(stored: bytes) -> tuple[bytes, bytes, bytes]:
    """Return the record in *stored*, the id of the key that it is signed with, and the signature: b"" if it is not."""
    at = stored.rfind(SIGNATURE)
    if at < 0:
        return stored, b"", b""
    key_id, _, mac = stored[at + len(SIGNATURE) :].rpartition(b":")
    return stored[:at], key_id, mac


def encode_value(value: object) -> bytes:
    """Return the outcome of a job that succeeded with *value*; raise BadPayload naming the path."""
    check_payload(value, "result")
    return _encoder.encode(Outcome("succeeded", value))


def encode_death(reason: str, error: str, traceback: str = "") -> bytes:
    """Return the outcome of a job that died."""
    return _encoder.encode(Outcome("dead", None, reason, clip(error), clip(traceback)))


def encode_report(error: str, traceback: str = "") -> bytes:
    """Return the report of a dead letter."""
    return _encoder.encode(Report(clip(error), clip(traceback)))


def decode_outcome(data: bytes, max_bytes: int | None = None) -> Outcome:
    """Return the outcome in *data* of a job that succeeded; raise BadRecord.

    *max_bytes* is the limit of results, in which the frame counts, as it does for the worker; None: there is none.
    """
    if max_bytes is not None:
        check_size(data, max_bytes)
    outcome: Outcome = _decode(_outcome, data)
    check_read((outcome.value,))
    return outcome


def decode_death(data: bytes) -> Death:
    """Return why the job died whose outcome is in *data*, of any size, each text cut; raise BadRecord."""
    death: Death = _decode(_death, data)
    death.reason, death.error, death.traceback = clip(death.reason), clip(death.error), clip(death.traceback)
    return death


def state_of(outcome: bytes) -> str:
    """Return the state in *outcome*, of any size: the rest is skipped. Raises BadRecord."""
    kind: _Kind = _decode(_kind, outcome)
    return kind.state


def decode_report(data: bytes) -> Report:
    """Return the report in *data*, of any size, each text cut; raise BadRecord."""
    report: Report = _decode(_report, data)
    report.error, report.traceback = clip(report.error), clip(report.traceback)
    return report


def encode_json(value: object, path: str) -> bytes:
    """Return any payload as JSON; raise BadPayload naming the place under *path*."""
    check_payload(value, path)
    return _encoder.encode(value)


def decode_json(data: bytes, max_bytes: int) -> Any:
    """Return the payload in *data*, of at most *max_bytes*; raise BadRecord."""
    check_size(data, max_bytes)
    value = _decode(msgspec.json.Decoder(), data)
    check_read((value,))
    return value


def check_size(data: bytes, max_bytes: int) -> None:
    """Raise BadRecord if *data* has more than *max_bytes*."""
    if len(data) > max_bytes:
        raise BadRecord(f"it has {len(data):,} bytes, the limit is {max_bytes:,} (max_payload_bytes)")


def check_read(values: "list[Any] | tuple[Any, ...] | dict[str, Any]") -> None:
    """Raise BadRecord unless *values*, decoded arguments or a result in a tuple, are within the limits of a payload.

    A list or dict of arguments counts as
    a level, as it does in `check_payload`; the tuple around a result does not.
    """
    # A decoder gives no NaN and no key but str; what is left to be checked are depth and digits.
    held: Iterable[Any] = values.values() if isinstance(values, dict) else values
    for value in held:
        kind = type(value)
        if kind is int:
            if not LEAST_INT <= value <= MOST_INT:
                raise BadRecord("it holds an int of more than 64 bits")
        elif kind is list or kind is dict:
            return _check_levels([values], -1 if type(values) is tuple else 0)
    return None


def _check_levels(level: list[Any], depth: int) -> None:
    """Raise BadRecord by what is in the containers *level*; not recursive: what is read may be nested to any depth."""
    while level:
        if depth >= MAX_DEPTH:
            raise BadRecord(f"it is nested deeper than {MAX_DEPTH}")
        below: list[Any] = []
        for container in level:
            for value in container.values() if type(container) is dict else container:
                kind = type(value)
                if kind is int:
                    if not LEAST_INT <= value <= MOST_INT:
                        raise BadRecord("it holds an int of more than 64 bits")
                elif kind is list or kind is dict:
                    below.append(value)
        level, depth = below, depth + 1


def clip(text: str) -> str:
    """Return the last TEXT_LIMIT characters of *text*, in a form that UTF-8 can hold, behind how many were cut.

    What was cut before is left as it is: what is sent is cut, and what is read as well.
    """
    told = _CUT.match(text)
    room = TEXT_LIMIT + (told.end() if told else 0)
    kept = text[-room:].encode("utf-8", "backslashreplace").decode()
    if len(text) <= room and len(kept) <= room:
        return kept
    cut = max(0, len(text) - room) + len(kept) - TEXT_LIMIT
    return f"[{cut:,} characters cut] {kept[-TEXT_LIMIT:]}"


def check_sensitive(value: "tuple[object, ...] | dict[str, object]", path: str) -> None:
    """Raise BadPayload as `check_payload` does, but name the argument alone: what lies below it must not be shown."""
    if _can_be_sent(value, path):
        return
    for name, one in value.items() if isinstance(value, dict) else enumerate(value):
        if not _can_be_sent(one, path) or not _can_be_sent(name, path):
            path = f"{path}[{name!a}]"
            break
    raise BadPayload(path, "it cannot be sent as JSON and come back the same; details are withheld")


def _can_be_sent(value: object, path: str) -> bool:
    try:
        check_payload(value, path)
    except BadPayload:  # what is raised instead must not hang on to it
        return False
    return True


def check_payload(value: object, path: str) -> None:
    """Raise BadPayload unless JSON gives *value* back as it is (a tuple comes back as a list).

    msgspec alone would turn NaN into null, int keys into strings, sets into lists and datetimes into text.
    """
    if value is None or value is True or value is False:
        return
    _check(value, path, 0)


def _check(value: object, path: str, depth: int) -> None:
    kind = type(value)
    if kind is str:
        try:
            value.encode()  # type: ignore[attr-defined]
        except UnicodeEncodeError as error:
            raise BadPayload(path, f"a str that UTF-8 cannot hold ({error.reason})") from None
    elif kind is int:
        if not LEAST_INT <= value <= MOST_INT:  # type: ignore[operator]
            raise BadPayload(path, "an int of more than 64 bits; pass it as a str")
    elif kind is float:
        if not math.isfinite(value):  # type: ignore[arg-type]
            raise BadPayload(path, f"{value!r} is no JSON number; pass None or a str")
    elif kind is list or kind is tuple:
        if depth >= MAX_DEPTH:
            raise BadPayload(path, f"nested deeper than {MAX_DEPTH}")
        for index, item in enumerate(value):  # type: ignore[arg-type,var-annotated]
            if type(item) is int and LEAST_INT <= item <= MOST_INT:  # needs no path: nothing can be wrong with it
                continue
            if item is not None and item is not True and item is not False:
                _check(item, f"{path}[{index}]", depth + 1)
    elif kind is dict:
        if depth >= MAX_DEPTH:
            raise BadPayload(path, f"nested deeper than {MAX_DEPTH}")
        for key, item in value.items():  # type: ignore[attr-defined]
            if type(key) is not str:
                raise BadPayload(path, f"the key {key!r} is of type {type(key).__name__}; JSON keys are str")
            _check(key, f"{path} (a key)", depth + 1)
            if item is not None and item is not True and item is not False:
                _check(item, f"{path}[{key!r}]", depth + 1)
    elif value is not None and value is not True and value is not False:
        raise BadPayload(
            path,
            f"{kind.__name__} cannot be sent as JSON and come back the same; "
            "allowed: None, bool, int, float, str, list, tuple, dict with str keys",
        )


def _decode(decoder: "msgspec.json.Decoder[Any]", data: bytes) -> Any:
    try:
        return decoder.decode(data)
    except FAULTS as error:
        raise BadRecord(f"{error}") from None
