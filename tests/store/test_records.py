"""Records are read by the rules by which they are written: size, signature, depth, digits."""

import hashlib
import hmac

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gqueue import config
from gqueue.errors import BadPayload, PayloadTooLarge
from gqueue.store import codec
from gqueue.store import records as records_module
from gqueue.store.codec import BadRecord, BadSignature, Record, check_payload, decode_record, encode_record
from gqueue.store.records import Records

OLD, NEW = "old:" + "o" * 32, "new:hex:" + "0f" * 16
LIMIT = 10_000


def records(keys: str = NEW, queue: str = "q", max_bytes: int = LIMIT) -> Records:
    return Records(queue, max_bytes, config.signing_keys(keys))


def nested(depth: int) -> object:
    value: object = []
    for number in range(depth - 1):
        value = {"a": value} if number % 2 else [value]
    return value


plain = st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats(allow_nan=False) | st.text()
payloads = st.recursive(plain, lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner), max_leaves=10)
written = st.builds(Record, st.text(), st.lists(payloads), st.dictionaries(st.text(), payloads))
ids = st.sampled_from(["a", "ab", "1:a", "a" * 100])


@given(record=written, job_id=ids, keys=st.sampled_from(["", OLD, NEW]))
def test_what_was_written_is_read(record, job_id, keys):
    try:
        check_payload(record.args, "args")
        check_payload(record.kwargs, "kwargs")
        codec.encode_record(record)
    except (BadPayload, UnicodeEncodeError):
        return

    assert records(keys, max_bytes=10**6).read(job_id, records(keys, max_bytes=10**6).write(job_id, record)) == record


@given(data=st.data(), at=st.integers(0, 200), byte=st.integers(0, 255), how=st.sampled_from(["set", "insert", "cut"]))
def test_signed_record_that_was_changed_anywhere_is_refused(data, at, byte, how):
    stored = records().write("job", Record("add", [1, 2]))
    at %= len(stored)
    put = bytes([byte]) if how != "cut" else b""
    changed = stored[:at] + put + stored[at + (how != "insert") :]

    if changed != stored:
        with pytest.raises(BadSignature):
            records().read("job", changed)


def test_signature_is_that_of_this_job_and_queue_alone():
    stored = records(queue="ab").write("c", Record("add"))

    assert records(queue="ab").read("c", stored).task == "add"
    for queue, job_id in (("a", "bc"), ("ab", "d"), ("q", "c")):
        with pytest.raises(BadSignature, match="another job or queue"):
            records(queue=queue).read(job_id, stored)


def test_signature_is_the_hmac_that_the_documents_describe():
    key, data = b"k" * 16, b'{"task":"add"}'
    covered = b"15:gqueue record 1" + b"4:mail" + b"3:j-1" + data
    mac = hmac.new(key, covered, hashlib.sha256).hexdigest()

    stored = Records("mail", LIMIT, config.signing_keys({"a": key})).sign("j-1", data)

    assert stored == data + b"\nsig:a:" + mac.encode()


def test_first_key_signs_and_all_verify():
    by_old, by_new = records(OLD).write("a", Record("t")), records(NEW).write("a", Record("t"))

    both = records(f"{NEW},{OLD}")
    assert both.write("a", Record("t")) == by_new
    assert both.read("a", by_old) == both.read("a", by_new) == Record("t")
    with pytest.raises(BadSignature, match="not known here: old"):
        records(NEW).read("a", by_old)


def test_key_of_the_same_id_but_another_is_a_wrong_signature():
    with pytest.raises(BadSignature, match="wrong"):
        records("new:" + "x" * 32).read("a", records(NEW).write("a", Record("t")))


@pytest.mark.parametrize("equal", [True, False])
def test_signatures_are_compared_in_a_time_that_tells_nothing(equal, monkeypatch):
    stored = records().write("a", Record("t"))
    data, _, mac = stored.rpartition(b":")
    asked = []
    monkeypatch.setattr(records_module.hmac, "compare_digest", lambda *both: asked.append(set(both)) or equal)

    if equal:
        assert records().read("a", data + b":forged") == Record("t")
    else:
        with pytest.raises(BadSignature, match="is wrong"):
            records().read("a", data + b":forged")

    assert asked == [{b"forged", mac}]


@pytest.mark.parametrize(
    "stored", [b'{"task":"t"}', b'{"task":"t"}\nsig:new', b'{"task":"t"}\nsig:new:', b"\xff", b"", b"\nsig::"]
)
def test_unsigned_record_is_refused_and_not_decoded(stored, monkeypatch):
    monkeypatch.setattr(records_module, "decode_record", lambda _: pytest.fail("it was decoded"))

    with pytest.raises(BadSignature):
        records().read("a", stored)


def test_key_id_from_the_store_is_not_shown_unless_it_is_a_name():
    with pytest.raises(BadSignature) as refused:
        records().read("a", b'{"task":"t"}\nsig:\x1b[31m\nforged:' + b"0" * 64)

    assert str(refused.value).isprintable()


@pytest.mark.parametrize("job_id", ["", "a" * 101, "-" * 101, "x\ny", "\x1b[31m", "a b", "\udcff", "\u00e9", "\u0661"])
def test_id_that_no_producer_may_give_is_a_bad_record_and_nothing_is_decoded(job_id, monkeypatch):
    monkeypatch.setattr(records_module, "decode_record", lambda data: pytest.fail("it was decoded"))

    with pytest.raises(BadRecord, match="cannot name a job") as refused:
        records("").read(job_id, b'{"task":"t"}')
    assert len(f"{refused.value}") < 200


def test_queue_without_keys_reads_signed_records():
    stored = records().write("a", Record("t", [1]))

    assert records("").read("a", stored) == decode_record(stored) == Record("t", [1])


def test_record_that_is_too_large_is_refused_on_both_sides_and_not_decoded(monkeypatch):
    fits = Record("t", ["x" * (LIMIT - len(encode_record(Record("t", [""]))))])
    assert records().read("a", records().write("a", fits)) == fits
    with pytest.raises(PayloadTooLarge):
        records().write("a", Record("t", ["x" * LIMIT]))
    monkeypatch.setattr(records_module, "decode_record", lambda _: pytest.fail("it was decoded"))
    for keys in ("", NEW):
        with pytest.raises(BadRecord, match="the limit is 10,000"):
            records(keys).read("a", b"\xff" * (2 * LIMIT))


@pytest.mark.parametrize("where", ["args", "kwargs", "result"])
def test_depth_has_the_same_limit_on_both_sides(where):
    def sent_and_read(depth):
        if where == "result":
            codec.decode_outcome(codec.encode_value(nested(depth)))
        else:
            value = [nested(depth - 1)] if where == "args" else {"a": nested(depth - 1)}
            check_payload(value, where)
            decode_record(encode_record(Record("t", **{where: value})))

    sent_and_read(codec.MAX_DEPTH)
    with pytest.raises(BadPayload, match="deeper than 64"):
        sent_and_read(codec.MAX_DEPTH + 1)
    deep = b"[" * (codec.MAX_DEPTH + 1) + b"]" * (codec.MAX_DEPTH + 1)
    read = codec.decode_outcome if where == "result" else decode_record
    with pytest.raises(BadRecord, match="deeper than 64"):
        read(b'{"state":"succeeded","task":"t","%s":%s}' % (b"value" if where == "result" else b"args", deep))


@pytest.mark.parametrize("number", [str(2**64), str(-(2**63) - 1), "1" * 400, "1" * 5_000, "1e999", "-1e999", "NaN"])
def test_number_that_nobody_could_have_sent_is_refused(number):
    for args in (f"[{number}]", f"[[{number}]]", f'[{{"a":{number}}}]'):
        with pytest.raises(BadRecord):
            decode_record(f'{{"task":"t","args":{args}}}'.encode())
    with pytest.raises(BadRecord):
        codec.decode_outcome(f'{{"state":"succeeded","value":{number}}}'.encode())
    with pytest.raises(BadRecord):
        codec.decode_json(number.encode(), LIMIT)


@pytest.mark.parametrize("depth", [1_000, 10_000, 1_000_000])
def test_bomb_of_brackets_is_a_bad_record(depth):
    for bomb in (b"[" * depth, b"[" * depth + b"]" * depth, b'{"a":' * depth + b"1" + b"}" * depth):
        with pytest.raises(BadRecord):
            decode_record(b'{"task":"t","args":[' + bomb + b"]}")
        try:  # what nobody knows is skipped, as deep as the interpreter goes
            assert decode_record(b'{"task":"t","ignored":' + bomb + b"}") == Record("t")
        except BadRecord:
            pass
        with pytest.raises(BadRecord):
            codec.decode_outcome(b'{"state":"succeeded","value":' + bomb + b"}")
        with pytest.raises(BadRecord):
            codec.decode_json(bomb, 10**8)


def test_outcome_and_progress_of_any_size_are_refused_beyond_the_limit():
    large = b'{"state":"succeeded","value":"' + b"x" * 10**6 + b'"}'

    assert len(codec.decode_outcome(large, 2 * 10**6).value) == 10**6
    with pytest.raises(BadRecord, match="1,000,032 bytes"):
        codec.decode_outcome(large, 1_000)
    with pytest.raises(BadRecord, match="the limit is 1,000"):
        codec.decode_json(b'"' + b"x" * 1_000 + b'"', 1_000)


def test_result_has_the_same_limit_on_both_sides():
    sent = codec.encode_value("x" * 1_000)

    assert codec.decode_outcome(sent, len(sent)).value == "x" * 1_000
    with pytest.raises(BadRecord, match="the limit is 1,031"):
        codec.decode_outcome(sent, len(sent) - 1)


@given(st.text("ab\x00\ud800\U0001f600[1 characters cut] ") | st.just("[1,000 characters cut] "), st.integers(-30, 30))
def test_text_is_cut_once_and_keeps_its_end(text, more):
    text = "x" * (codec.TEXT_LIMIT + more) + text
    escaped = text.encode("utf-8", "backslashreplace").decode()

    cut = codec.clip(text)

    told, kept = cut[: -codec.TEXT_LIMIT], cut[-codec.TEXT_LIMIT :]
    assert kept == escaped[-codec.TEXT_LIMIT :]
    assert told == ("" if escaped == kept else f"[{len(escaped) - codec.TEXT_LIMIT:,} characters cut] ")
    assert codec.clip(cut) == cut
    assert codec.decode_report(codec.encode_report(text, cut)) == codec.Report(cut, cut)
    death = codec.decode_death(codec.encode_death("failed", text, cut))
    assert (death.reason, death.error, death.traceback) == ("failed", cut, cut)


def test_text_that_only_looks_cut_has_the_limit_of_any_other():
    for told, more in (("[1 characters cut] ", 1), ("[" + "9" * 20_000 + " characters cut] ", 0)):
        cut = codec.clip(told + "x" * (codec.TEXT_LIMIT + more))
        assert cut.endswith(" characters cut] " + "x" * codec.TEXT_LIMIT)
        assert len(cut) < codec.TEXT_LIMIT + 40


def test_result_of_a_death_is_not_decoded():
    assert codec.decode_death(b'{"state":"dead","reason":"r","value":%s}' % (b"9" * 5_000)).reason == "r"


@given(args=st.lists(st.none() | st.integers(-9, 9) | st.text(max_size=9)), priority=st.floats(-9, 9))
def test_sensitive_record_says_so_first_and_reads_as_it_was(args: list[object], priority: float):
    record = Record("t", args, {"sensitive": False}, priority, sensitive=True)

    assert encode_record(record).startswith(b'{"sensitive":true,"task":"t"')
    assert decode_record(encode_record(record)) == record
