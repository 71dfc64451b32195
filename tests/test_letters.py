"""Dead letters as their reader sees them."""

from datetime import UTC, datetime, timedelta

import pytest

import gqueue
from gqueue.core.model import Letter, NewJob, Reason, Settlement
from gqueue.letters import readable
from gqueue.store.codec import Record, encode_record, encode_report
from tests.hand import Hand


def add(a, b=0):
    return a + b


@pytest.fixture
def queue(make_queue):
    return make_queue()


@pytest.fixture
def task(queue):
    return queue.task(add)


def bury(queue, jobs, **death):
    hand = Hand(queue)
    hand.claim(len(jobs))
    for job in jobs:
        hand.bury(job.id, **death)


def test_a_letter_tells_what_was_called_and_why_it_died(queue, task):
    job = task.options(priority=2).enqueue(1, b=[2])

    bury(queue, [job], reason="failed", error="ValueError: no", traceback="Traceback: here")

    (letter,) = queue.dead.list()
    assert (letter.id, letter.task, letter.args, letter.kwargs, letter.priority) == (
        job.id,
        "add",
        (1,),
        {"b": [2]},
        2.0,
    )
    assert (letter.reason, letter.error, letter.traceback) == ("failed", "ValueError: no", "Traceback: here")
    assert letter.attempts == 1
    assert abs(letter.died_at - datetime.now(UTC)) < timedelta(minutes=1)


def test_letters_come_newest_first_a_page_at_a_time(queue, task):
    jobs = [task.enqueue(n) for n in range(5)]
    for job in jobs:
        bury(queue, [job])
    newest_first = queue.dead.list()

    assert {letter.id for letter in newest_first} == {job.id for job in jobs}
    assert sorted((letter.died_at for letter in newest_first), reverse=True) == [x.died_at for x in newest_first]
    assert queue.dead.list(2) == newest_first[:2]
    assert queue.dead.list(2, offset=2) == newest_first[2:4]
    assert queue.dead.list(0) == []


@pytest.mark.parametrize("page", [{"limit": -1}, {"offset": -1}, {"limit": 1.5}])
def test_a_page_below_zero_is_refused(queue, page):
    with pytest.raises(gqueue.BadSetting, match=next(iter(page))):
        queue.dead.list(**page)


def test_more_letters_than_a_call_can_carry(queue, task):
    jobs = queue.enqueue_many(task.job(n) for n in range(1_050))
    hand = Hand(queue)
    while claimed := hand.claim(1_000):
        for job in claimed:
            hand.bury(job.id)

    letters = queue.dead.list(2_000)

    assert {letter.id for letter in letters} == {job.id for job in jobs}
    assert queue.dead.delete(letters) == 1_050
    assert queue.dead.list() == []


def test_a_record_that_cannot_be_read_hides_neither_itself_nor_others(queue, task):
    queue.store.enqueue("lane", 1, [NewJob("bad", 0.0, 0, b"\xff{")], when_full=gqueue.WhenFull.REJECT, capacity=9)
    bury(queue, [queue.fetch_job("bad"), task.enqueue(1)], reason="bad_record", error="not JSON")

    letters = {letter.id == "bad": letter for letter in queue.dead.list()}

    assert (letters[True].task, letters[True].args, letters[True].record) == (None, (), b"\xff{")
    assert (letters[True].reason, letters[True].error) == ("bad_record", "not JSON")
    assert letters[False].task == "add"


def test_a_report_that_cannot_be_read_is_told():
    letter = readable(Letter("x", Reason.FAILED, 0, 2, 1, b"{", encode_record(Record("add"))), 1_000)

    assert "cannot be read" in letter.error
    assert (letter.task, letter.attempts, letter.crashes) == ("add", 3, 1)


def test_a_letter_without_a_report_has_no_error():
    letter = readable(Letter("x", Reason.SHED, 0, 0, 0, b"", encode_record(Record("add"))), 1_000)

    assert (letter.error, letter.traceback, letter.attempts) == ("", "", 0)


def test_a_report_tells_the_error():
    letter = readable(Letter("x", Reason.FAILED, 0, 1, 0, encode_report("e", "t"), b"{}"), 1_000)

    assert (letter.error, letter.traceback, letter.task) == ("e", "t", None)


def test_a_letter_that_breaks_limits_floods_nobody(make_queue):
    queue = make_queue(max_payload_bytes=2_000)
    long, large = b'{"task":"%s"}' % (b"t" * 5_000), b'{"task":"add","args":["%s"]}' % (b"x" * 5_000_000)
    jobs = [NewJob("long", 0.0, 0, long), NewJob("large", 0.0, 0, large)]
    queue.store.enqueue("lane", 1, jobs, when_full=gqueue.WhenFull.REJECT, capacity=9)
    hand = Hand(queue)
    report = b'{"error":"%sthe error","traceback":"%sthe line"}' % (b"e" * 3_000_000, b"t" * 3_000_000)
    for job in hand.claim(1) + hand.claim(1):
        hand.settle(Settlement(job.id, "bury", reason="failed", report=report))

    letters = queue.dead.list()

    assert {letter.id: letter.record for letter in letters} == {"long": long, "large": large}
    for letter in letters:
        assert (letter.task, letter.args) == (None, ())
        assert letter.error == "[2,983,625 characters cut] " + "e" * (16_384 - 9) + "the error"
        assert letter.traceback == "[2,983,624 characters cut] " + "t" * (16_384 - 8) + "the line"


def test_redriven_jobs_run_again(queue, task):
    jobs = [task.enqueue(n) for n in range(3)]
    bury(queue, jobs)

    back = queue.dead.redrive([jobs[0].id, queue.dead.list()[0], "unknown"])

    assert jobs[0].id in back
    assert jobs[0].status() == "ready"
    assert queue.dead.redrive(jobs[0].id) == []


def test_redrive_stops_at_the_capacity_unless_forced(make_queue):
    queue = make_queue(capacity=2)
    task = queue.task(add)
    jobs = [task.enqueue(n) for n in range(2)]
    bury(queue, jobs)
    task.enqueue(9)
    ids = [job.id for job in jobs]

    assert queue.dead.redrive(ids) == ids[:1]
    assert queue.dead.redrive(ids, force=True) == ids[1:]


def test_one_id_is_not_taken_for_its_letters(queue, task):
    job = task.options(job_id="abc").enqueue(1)
    bury(queue, [job])

    assert queue.dead.delete("abc") == 1
