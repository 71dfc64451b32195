"""What a valid name, priority, policy or setting is."""

import math
from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gqueue.core.model import NAME_RULE, Backoff, Rules, check_name, check_priority
from gqueue.errors import BadName, BadSetting


@pytest.mark.parametrize("name", ["a", "reports", "reports.sum_first", "tenant-1:mail/out@x+1", "x" * 100])
def test_a_plain_name_is_taken_as_it_is(name):
    assert check_name("queue", name) == name


@pytest.mark.parametrize("name", ["", "a b", "a{b}", "a\n", "\x00", "x" * 101, "x" * 300, "ä", None, 7, b"a"])
def test_any_other_name_is_refused_with_the_rule(name):
    with pytest.raises(BadName) as refused:
        check_name("queue", name)
    assert NAME_RULE in str(refused.value)
    assert len(str(refused.value)) < 200


@given(st.text(max_size=5))
def test_a_name_that_passes_is_safe_in_a_key(name):
    try:
        check_name("task", name)
    except BadName:
        return
    assert name.isascii()
    assert not set(name) & set("{} \n\r\0")


@given(st.one_of(st.integers(-(10**6), 10**6), st.floats(allow_nan=False, allow_infinity=False)))
def test_a_finite_number_is_a_priority(number):
    assert check_priority(number) == number


def test_minus_zero_is_zero():
    assert math.copysign(1, check_priority(-0.0)) == 1


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf, "1", None, True])
def test_anything_else_is_no_priority(bad):
    with pytest.raises(BadSetting, match="finite number"):
        check_priority(bad)


@pytest.mark.parametrize(
    "make",
    [
        lambda: Backoff(base=0),
        lambda: Backoff(base=2, cap=1),
        lambda: Backoff(cap=math.inf),
        lambda: Backoff(factor=0.5),
        lambda: Backoff(factor=None),
        lambda: Backoff(factor=math.nan),
        lambda: Backoff(base="1"),
        lambda: Backoff(base=True),
        lambda: Backoff(base=timedelta(0)),
        lambda: Backoff(cap=10**400),
        lambda: Rules(lease_ms=0),
        lambda: Rules(max_crashes=0),
        lambda: Rules(letters_max=0),
    ],
)
def test_a_setting_outside_its_range_is_refused(make):
    with pytest.raises(BadSetting):
        make()


def test_a_backoff_is_made_of_seconds_or_timedeltas():
    assert Backoff(base=timedelta(milliseconds=500), cap=timedelta(minutes=1), factor=3) == Backoff(0.5, 60, 3)
    assert Backoff(base=1).base == 1.0


@pytest.mark.parametrize("digits", [400, 5000])
def test_a_priority_that_no_float_can_hold_is_refused(digits):
    with pytest.raises(BadSetting, match="too large for a float"):
        check_priority(-(10**digits))
