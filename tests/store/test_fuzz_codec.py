"""Whatever bytes Redis gives: they are read, or are a BadRecord; and what was read can be shown, in one line."""

from types import SimpleNamespace

import msgspec
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from gqueue import config
from gqueue.core.model import Letter, Look, Reason, State
from gqueue.errors import BadName, BadPayload, GqueueError
from gqueue.job import value_of
from gqueue.letters import readable
from gqueue.store import codec, replies
from gqueue.store.codec import BadRecord, Outcome, Record, Report
from gqueue.store.records import Records
from tests.store.test_records import payloads

LIMIT = 2_000

anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=8,
)
fields = st.sampled_from(
    [field for kind in (Record, Outcome, Report) for field in kind.__struct_fields__] + ["unknown", "state\n"]
)
objects = st.dictionaries(fields, anything | payloads, max_size=6).map(msgspec.json.encode)
parts = rb"""{ } [ ] , : " "task": "args": "state":"dead" 1 - e9 .5 true null \ \u \ud800""".split()
tokens = st.lists(st.sampled_from([*parts, b"\xff", b"\x00", b"\n", b"\nsig:a:", b" ", b"9" * 30])).map(b"".join)


@st.composite
def damaged(draw, sound):
    """Return what is sound with some of it changed, cut or doubled."""
    data = draw(sound)
    for _ in range(draw(st.integers(0, 3))):
        at = draw(st.integers(0, len(data)))
        to = min(len(data), at + draw(st.integers(0, 8)))
        data = data[:at] + draw(st.binary(max_size=4) | st.just(data[at:to] * 2)) + data[to:]
    return data


hostile = st.binary(max_size=200) | tokens | objects | damaged(objects)


def or_refused(call, *arguments, refusal=BadRecord):
    try:
        return call(*arguments)
    except refusal as error:
        refused = error
    assert len(str(refused)) < 500
    return None


@given(hostile)
@example(b'{"task":"\\ud800"}')
@example(b'{"task":"t","kwargs":{"a\\nb":1}}')
def test_record_is_read_or_refused_and_what_was_read_can_be_shown(data):
    pytest.importorskip("gevent")
    from gqueue.worker import lines

    plain, signed = (Records("q", LIMIT, config.signing_keys(keys)) for keys in ("", "a:" + "k" * 32))
    assert or_refused(signed.read, "job", data) is None  # nobody signed it
    record = or_refused(plain.read, "job", data)
    if record is not None:
        line = lines.call_of(SimpleNamespace(record=record, sensitive=False))
        assert line.isprintable()
        assert len(line) < 250
        codec.check_payload(record.args, "args")
        codec.check_payload(record.kwargs, "kwargs")
        codec.encode_record(record)


@given(hostile)
def test_outcome_is_read_or_refused(data):
    outcome = or_refused(codec.decode_outcome, data, LIMIT)
    state = replies.state(b"finished", data)
    if outcome is not None:
        codec.check_payload(outcome.value, "result")
        assert state.value == outcome.state or state is State.UNKNOWN
    death = or_refused(codec.decode_death, data)
    if death is not None:
        codec.check_payload([death.reason, death.error, death.traceback], "death")
    for state in State:
        or_refused(value_of, "job", "q", Look(state, data, report=data), LIMIT, refusal=GqueueError)


@given(hostile)
def test_report_and_progress_are_read_or_refused(data):
    or_refused(codec.decode_report, data)
    or_refused(codec.decode_json, data, LIMIT)


@given(record=hostile, report=hostile)
def test_letter_is_readable_whatever_is_in_it(record, report):
    letter = readable(Letter("job", Reason.FAILED, 0, 1, 0, report, record), LIMIT)

    assert repr(letter)


numbers = st.integers() | st.sampled_from([replies.LATEST_MS, replies.LATEST_MS + 1, 10**4_299])
heads = st.lists(numbers, min_size=3, max_size=3).map(lambda three: b"failed %d %d %d" % tuple(three))


@given(st.lists(heads | hostile, min_size=1, max_size=3).map(b"\n".join))
@example(b"failed 1 0 253402300799999")
@example(b"failed 1 0 253402300800000")
@example(b"failed 1%s 1%s 0" % (b"0" * 4_299, b"0" * 4_299))
def test_entry_of_the_dead_is_a_letter_whatever_is_in_it(written):
    (letter,) = replies.letters([b"job", written])

    assert len(f"{letter.failures + letter.crashes}") <= 17
    assert readable(letter, LIMIT).id == "job"


@given(st.recursive(anything, lambda inner: st.tuples(inner, st.sets(st.integers())), max_leaves=4))
def test_what_is_sent_is_given_back_or_refused(value):
    try:
        sent = codec.encode_value(value)
    except (BadPayload, BadName):
        return

    assert codec.decode_outcome(sent, 10**6).value == msgspec.to_builtins(value)
