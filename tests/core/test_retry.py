"""Laws: a job is tried at most `max_attempts` times; delays stay under their envelope; what is final is final."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gqueue.core.lifecycle import Move
from gqueue.core.model import Backoff, Reason, Settlement
from gqueue.core.retry import (
    MAX_DELAY_MS,
    UNKNOWN_TASK_MS,
    Cancelled,
    Failed,
    Outcome,
    Rejected,
    RetryAsked,
    Succeeded,
    TimedOut,
    UnknownTask,
    backoff_ms,
    envelope_ms,
    settle,
)
from gqueue.store import codec

jitters = st.floats(0, 1, exclude_max=True)
attempts = st.integers(1, 12) | st.sampled_from([100, 1_024, 2**31, 2**64, 10**400])
policies = st.builds(
    lambda base, more, factor: Backoff(base=base, cap=base + more, factor=factor),
    base=st.floats(0.001, 1_000),
    more=st.floats(0, 100_000),
    factor=st.floats(1, 1e6) | st.just(1e300),
)
repeatable: st.SearchStrategy[Outcome] = st.one_of(
    st.just(Failed("ValueError: no", "Traceback ...")),
    st.just(TimedOut("after 1 s")),
    st.just(UnknownTask("reports.sum")),
    st.builds(RetryAsked, st.none() | st.integers(0, 10**18)),
)
refusals: st.SearchStrategy[Outcome] = st.builds(
    Rejected, st.just("why"), st.sampled_from([Reason.REJECTED, Reason.BAD_RECORD, Reason.BAD_RESULT])
)


def settled(outcome: Outcome, **changes: Any) -> Settlement:
    arguments: dict[str, Any] = {"job_id": "a", "failures": 0, "max_attempts": 3, "jitter": 0.5, "result_ttl_ms": 1_000}
    arguments["backoff"] = Backoff(base=1, cap=60)
    return settle(outcome, **(arguments | changes), encoder=codec)


@given(attempts, policies, jitters)
def test_backoff_stays_between_0_and_its_envelope_and_the_envelope_under_the_cap(
    attempt: int, policy: Backoff, jitter: float
) -> None:
    assert 0 <= backoff_ms(attempt, policy, jitter) <= envelope_ms(attempt, policy) <= policy.cap * 1000


@given(attempts, attempts, policies)
def test_envelope_never_falls_as_attempts_grow(one: int, other: int, policy: Backoff) -> None:
    fewer, more = sorted((one, other))
    assert envelope_ms(fewer, policy) <= envelope_ms(more, policy)


@given(attempts, policies, jitters, jitters)
def test_more_jitter_never_means_less_delay(attempt: int, policy: Backoff, one: float, other: float) -> None:
    less, more = sorted((one, other))
    assert backoff_ms(attempt, policy, less) <= backoff_ms(attempt, policy, more)


@pytest.mark.parametrize(
    ("attempt", "longest_ms"), [(1, 1_000), (2, 2_000), (3, 4_000), (6, 32_000), (7, 60_000), (99, 60_000)]
)
def test_envelope_doubles_from_base_to_cap(attempt: int, longest_ms: int) -> None:
    assert envelope_ms(attempt, Backoff(base=1, cap=60)) == longest_ms


def test_envelope_of_factor_1_is_constant_however_many_the_attempts() -> None:
    assert envelope_ms(10**400, Backoff(base=2, cap=60, factor=1)) == 2_000


@pytest.mark.parametrize(("attempt", "jitter"), [(0, 0.5), (-1, 0.5), (1, 1.0), (1, -0.1), (1, float("nan"))])
def test_backoff_refuses_what_is_out_of_range(attempt: int, jitter: float) -> None:
    with pytest.raises(ValueError, match=r"attempt|jitter"):
        backoff_ms(attempt, Backoff(), jitter)


@given(repeatable | refusals, st.integers(1, 6), policies, st.lists(jitters, min_size=7, max_size=7))
def test_job_that_never_succeeds_is_tried_at_most_max_attempts_times_and_then_dead(
    outcome: Outcome, max_attempts: int, policy: Backoff, draws: list[float]
) -> None:
    failures = 0
    while (
        made := settled(outcome, failures=failures, max_attempts=max_attempts, backoff=policy, jitter=draws[failures])
    ).move == Move.RETRY.value:
        failures += 1
        assert failures < max_attempts

    assert made.move == Move.BURY.value
    assert failures == (0 if isinstance(outcome, Rejected) else max_attempts - 1)


@given(st.integers(0, 5), st.integers(1, 5), st.integers(0, 1_000))
def test_success_and_cancel_are_final_whatever_the_attempts(failures: int, max_attempts: int, ttl_ms: int) -> None:
    arguments = {"failures": failures, "max_attempts": max_attempts, "result_ttl_ms": ttl_ms}

    assert settled(Succeeded(b"{}"), **arguments).move == Move.SUCCEED.value
    assert settled(Cancelled(), **arguments) == Settlement("a", Move.CANCEL.value, ttl_ms=ttl_ms)


@given(jitters)
def test_unknown_task_is_tried_again_after_30_s_give_or_take_15(jitter: float) -> None:
    made = settled(UnknownTask("sum"), jitter=jitter, backoff=Backoff(base=0.001, cap=0.001))

    assert made.move == Move.RETRY.value
    assert 15_000 <= made.delay_ms <= 45_000
    assert sum(UNKNOWN_TASK_MS) / 2 == 30_000


@given(jitters)
def test_retry_with_a_delay_is_taken_at_its_word_without_jitter(jitter: float) -> None:
    assert settled(RetryAsked(7_000), jitter=jitter).delay_ms == 7_000
    assert settled(RetryAsked(10**30), jitter=jitter).delay_ms == MAX_DELAY_MS


@pytest.mark.parametrize(
    ("outcome", "reason", "error"),
    [
        (Failed("ValueError: no", "tb"), "failed", "ValueError: no"),
        (TimedOut("ran past 1 s", "tb"), "timed_out", "ran past 1 s"),
        (Rejected("no such file"), "rejected", "no such file"),
        (Rejected("arguments do not fit", Reason.BAD_RECORD), "bad_record", "arguments do not fit"),
        (Rejected("result[0]: set", Reason.BAD_RESULT), "bad_result", "result[0]: set"),
        (RetryAsked(5), "failed", "Retry: asked for in the last attempt"),
        (UnknownTask("sum"), "unknown_task", "no task 'sum' is registered in the workers of this queue"),
    ],
)
def test_dead_letter_tells_reason_and_error_to_operator_and_handle_alike(
    outcome: Outcome, reason: str, error: str
) -> None:
    made = settled(outcome, failures=2)

    assert (made.move, made.reason, made.ttl_ms) == (Move.BURY.value, reason, 1_000)
    assert codec.decode_report(made.report).error == error
    handed = codec.decode_death(made.outcome)
    assert (codec.state_of(made.outcome), handed.reason, handed.error) == ("dead", reason, error)
    assert handed.traceback == codec.decode_report(made.report).traceback == getattr(outcome, "traceback", "")


def test_dead_letter_keeps_its_report_where_results_are_not_kept() -> None:
    made = settled(Failed("no"), failures=2, result_ttl_ms=0)

    assert (made.outcome, made.ttl_ms) == (b"", 0)
    assert codec.decode_report(made.report).error == "no"


def test_success_keeps_its_value_for_the_time_to_live() -> None:
    assert settled(Succeeded(b"55")) == Settlement("a", "succeed", outcome=b"55", ttl_ms=1_000)
    assert settled(Succeeded()) == Settlement("a", "succeed")


def test_retry_carries_the_time_to_live_in_case_the_job_was_cancelled_meanwhile() -> None:
    assert settled(Failed("no"), jitter=0.25) == Settlement("a", "retry", delay_ms=250, ttl_ms=1_000)


@pytest.mark.parametrize("numbers", [{"failures": -1}, {"max_attempts": 0}])
def test_settle_refuses_numbers_out_of_range(numbers: dict[str, int]) -> None:
    with pytest.raises(ValueError, match="at least"):
        settled(Failed("no"), **numbers)
