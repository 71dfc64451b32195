"""What a producer decides: the cuts of a batch, and what it does after an answer."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gqueue.core.admission import quota
from gqueue.core.model import LANE_MS, MOVE_BYTES, MOVE_LIMIT, Admission, Place, WhenFull
from gqueue.core.producer import (
    SEND_BYTES,
    SEND_JOBS,
    Chunks,
    Step,
    first_in_line,
    next_step,
    policy,
    refusal,
    too_late_to_send_again,
    travels_alone,
    worth_taking_ahead,
)

MIB = 1024 * 1024
sizes = st.sampled_from([1, MIB, SEND_BYTES - 1, SEND_BYTES, SEND_BYTES + 1])
jobs = st.lists(st.tuples(sizes, st.sampled_from("ab")), max_size=12)


def cut(of):
    return list(Chunks(of, lambda job: job[0], lambda job: job[1]))


@given(jobs)
def test_runs_are_the_jobs_in_order_and_each_fits_a_call(of):
    runs = cut(of)

    assert [job for run in runs for job in run] == of
    for run in runs:
        assert len(run) == 1 or sum(size for size, _ in run) <= SEND_BYTES
        assert len({kind for _, kind in run}) == 1


@given(jobs)
def test_no_two_runs_in_a_row_could_have_been_one(of):
    for one, next_one in zip(runs := cut(of), runs[1:], strict=False):
        assert one[0][1] != next_one[0][1] or sum(size for size, _ in one) + next_one[0][0] > SEND_BYTES


def test_a_run_has_500_jobs_at_most_half_of_what_a_call_may_carry():
    assert [len(run) for run in cut([(1, "a")] * (2 * SEND_JOBS + 1))] == [SEND_JOBS, SEND_JOBS, 1]
    assert (2 * SEND_JOBS, 2 * SEND_BYTES) == (MOVE_LIMIT, MOVE_BYTES)


def test_only_of_who_brings_jobs_quickly_more_are_taken_before_the_answer_is_there():
    assert worth_taking_ahead(0)
    assert worth_taking_ahead(50)
    assert not worth_taking_ahead(51)


@given(jobs)
def test_what_was_taken_is_in_a_run_or_known_to_be_in_none_yet(of):
    source = iter(of)
    runs, in_runs = Chunks(source, lambda job: job[0], lambda job: job[1]), 0
    for run in runs:
        in_runs += len(run)
        assert in_runs + len(runs.beyond) == len(of) - source.__length_hint__()


def test_what_was_taken_before_the_jobs_failed_is_in_no_run():
    def source():
        yield 1, "a"
        yield from [(1, "b")] * 2
        raise LookupError

    runs = Chunks(source(), lambda job: job[0], lambda job: job[1])

    assert next(runs) == [(1, "a")]
    with pytest.raises(LookupError):
        next(runs)
    assert runs.beyond == [(1, "b")] * 2


def test_runs_take_no_more_of_the_jobs_than_they_need():
    taken = []

    def source():
        for number in range(5 * MOVE_LIMIT):
            taken.append(number)
            yield 1, "a"

    next(Chunks(source(), lambda job: job[0], lambda job: job[1]))

    assert len(taken) == SEND_JOBS + 1


@given(st.sampled_from(WhenFull), st.sampled_from([None, 0, 1, 5_000]), st.booleans())
def test_only_who_may_and_has_time_to_waits(when_full, wait_ms, served_here):
    in_force = policy(when_full, wait_ms, served_here=served_here)

    assert (in_force is WhenFull.WAIT) == (when_full is WhenFull.WAIT and wait_ms != 0 and not served_here)
    assert in_force in (when_full, WhenFull.REJECT)
    if in_force is not WhenFull.WAIT:
        assert refusal(when_full, wait_ms, served_here=served_here)


@given(accepted=st.integers(0, 5), left=st.integers(0, 5), room=st.integers(-2, 5), ahead=st.integers(0, 3))
def test_a_producer_in_line_asks_again_at_once_exactly_if_a_job_of_it_would_be_let_in(accepted, left, room, ahead):
    place = Place(0.0, 1) if left else None
    reply = Admission(accepted, (), depth=10 - room, capacity=10, place=place, ahead=ahead)

    step = next_step(left, reply)

    assert (step is Step.DONE) == (left == 0)
    if step is not Step.DONE:
        assert (step is Step.ASK_AGAIN) == (quota(room, ahead, in_line=True) > 0)


def test_without_a_place_the_rest_is_refused():
    assert next_step(2, Admission(1, (), depth=10, capacity=10)) is Step.REFUSED


@given(st.lists(st.builds(Place, st.sampled_from([-1.0, 0.0, 1.0]), st.integers(1, 9)), max_size=6, unique=True))
def test_the_first_in_line_is_the_most_urgent_and_of_those_the_first_to_come(line):
    expected = sorted(line, key=lambda place: (place.rank, place.number))[0] if line else None

    assert first_in_line((place, place) for place in line) == expected


@pytest.mark.parametrize(("waited_ms", "late"), [(0, False), (300_000, False), (300_001, True), (600_000, True)])
def test_a_call_is_sent_again_only_while_its_answer_is_surely_known(waited_ms, late):
    assert too_late_to_send_again(waited_ms) is late


def test_an_answer_is_known_for_an_hour_longer_than_its_call_is_sent_again():
    assert too_late_to_send_again(LANE_MS - 3_600_000)


@pytest.mark.parametrize(
    ("jobs", "when_full", "usual", "line", "alone"),
    [
        (1, WhenFull.WAIT, True, False, False),
        (1, WhenFull.REJECT, True, True, False),
        (1, WhenFull.WAIT, True, True, True),
        (2, WhenFull.WAIT, True, False, True),
        (1, WhenFull.SHED, True, False, True),
        (1, WhenFull.WAIT, False, False, True),
    ],
)
def test_a_call_goes_for_one_producer_if_it_may_have_to_stand_in_line_or_asks_for_more(
    jobs, when_full, usual, line, alone
):
    assert travels_alone(jobs, when_full, usual=usual, line=line) is alone
