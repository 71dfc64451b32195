"""What `gqueue dead list` shows of a letter."""

import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gqueue.cli.dead import _as_data, _line
from gqueue.cli.main import run
from gqueue.core.model import Letter, Reason
from gqueue.letters import DeadLetter, readable
from gqueue.store.codec import Record, encode_record
from tests.servers import Server

LIMIT = 2_000
SECRET = "hunter2-hunter2"
SENSITIVE = encode_record(Record("set_password", ["ann", SECRET], {"again": SECRET}, 1.5, sensitive=True))


def letter_of(record: bytes) -> DeadLetter:
    return readable(Letter("job-1", Reason.BAD_RECORD, 0, 1, 0, b"", record), LIMIT)


def test_unreadable_record_is_shown_by_its_length_and_digest():
    record = encode_record(Record("send", [SECRET]))[:-1]
    letter = letter_of(record)

    digest = hashlib.sha256(record).hexdigest()[:12]
    assert f"job-1 an unreadable record ({len(record)} bytes, sha256 {digest}): bad record" in _line("mail", letter)
    assert letter.record == record


def test_record_that_breaks_a_limit_is_shown_as_one_that_cannot_be_read():
    huge, nested = b"9" * 5_000, b"[" * 100 + b"]" * 100
    for record in (
        b'{"task":"%s"}' % (b"t" * 101),
        b'{"task":"no name"}',
        b'{"task":"t","args":["%s"]}' % (b"x" * LIMIT),
        b'{"task":"t","args":[%s]}' % huge,
        b'{"task":"t","args":[%s]}' % nested,
    ):
        letter = letter_of(record)
        assert (letter.task, letter.args, letter.kwargs, letter.record) == (None, (), {}, record)
        assert f"job-1 an unreadable record ({len(record):,} bytes, sha256 " in _line("mail", letter)


def test_record_of_the_largest_size_and_the_longest_name_is_shown_signed_or_not():
    record = Record("t" * 100, ["", 2**64 - 1])
    record.args[0] = "x" * (LIMIT - len(encode_record(record)))
    data = encode_record(record)

    for stored in (data, data + b"\nsig:2026a:" + b"0" * 64):
        letter = letter_of(stored)
        assert (letter.task, letter.args) == (record.task, tuple(record.args))


@given(cut=st.integers(0, len(SENSITIVE) - 1), at=st.integers(0, len(SENSITIVE) - 1), byte=st.binary(max_size=1))
def test_damaged_record_of_a_sensitive_task_shows_nothing_that_it_was_given(cut: int, at: int, byte: bytes):
    for record in (SENSITIVE[:cut], SENSITIVE[:at] + byte + SENSITIVE[at + 1 :]):
        letter = letter_of(record)
        if letter.task is None:  # else it can be read, and says itself what it is
            assert "hunter2" not in _line("mail", letter) + repr(letter) + repr(_as_data("mail", letter))


def test_record_that_was_cut_still_says_that_it_is_sensitive():
    assert all(letter_of(SENSITIVE[:cut]).sensitive for cut in range(20, len(SENSITIVE)))


ODD = ["", "x\ny\x1b[31m", b"\xff\xfe\x00", "a" * 5_000]


def test_ids_that_no_producer_may_give_tell_the_terminal_nothing(
    server: Server, redis_url: str, queue_name: str, capsys: pytest.CaptureFixture[str]
):
    letter = b'bad_record 1 0 5\n{}\n00000000000010 {"task":"t"}'
    with server.client() as client:
        for job_id in ODD:
            client.hset(f"gq:{{{queue_name}}}:dead:jobs", job_id, letter)
            client.zadd(f"gq:{{{queue_name}}}:dead", {job_id: 5})

        client.hset(f"gq:{{{queue_name}}}:meta", "sequence", 1)
        where = ["--queue", queue_name, "--redis", redis_url]
        assert run(["dead", "list", *where]) == 0
        assert run(["fsck", queue_name, "--redis", redis_url]) == 0
        assert run(["dead", "redrive", "--all", *where]) == 0
        assert run(["fsck", queue_name, "--redis", redis_url]) == 1
        said = capsys.readouterr().out.splitlines()
        assert client.hlen(f"gq:{{{queue_name}}}:jobs") == len(ODD)

    assert all(line.isprintable() and len(line) < 300 for line in said)
    for line, shown in zip(
        sorted(said[5:9]), ["''", "\\udcff\\udcfe\\x00", "a" * 97 + "...", "x\\ny\\x1b[31m"], strict=True
    ):
        assert line == shown
    assert [line.partition(":")[2][:12] for line in said[9:13]] == [" bad record:"] * 4


def test_dead_letter_without_an_id_can_be_deleted(
    server: Server, redis_url: str, queue_name: str, capsys: pytest.CaptureFixture[str]
):
    with server.client() as client:
        client.hset(f"gq:{{{queue_name}}}:dead:jobs", "", b'bad_record 1 0 5\n{}\n00000000000010 {"task":"t"}')
        client.zadd(f"gq:{{{queue_name}}}:dead", {"": 5})

    assert run(["dead", "delete", "--queue", queue_name, "--redis", redis_url, ""]) == 0
    assert capsys.readouterr().out == "1\n"
