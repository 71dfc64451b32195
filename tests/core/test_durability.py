"""What the words of `durable` mean, and when they are met."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gqueue.core.durability import Durability, Safety, durability
from gqueue.errors import BadSetting

some = st.integers(0, 3)


@given(st.booleans(), some, st.booleans(), some)
def test_is_met_when_nothing_is_missing_that_was_asked_for(fsync: bool, replicas: int, has: bool, got: int):
    wanted, found = Durability(fsync, replicas), Safety(has, got)

    assert wanted.met_by(found) is (got >= replicas and (has or not fsync))
    assert wanted.met_by(Safety(fsync, replicas))
    assert Durability(False, 0).met_by(found)


@given(st.booleans(), st.integers(1, 100))
def test_words_are_read_as_they_are_written(fsync: bool, replicas: int):
    wanted = Durability(fsync, replicas, timeout_ms=7)

    assert durability(str(wanted), 7) == wanted
    assert durability("fsync", 7) == Durability(True, 0, timeout_ms=7)
    assert str(Durability(True, 0)) == "fsync"
    assert str(Safety(False, 0)) == "replicas:0"


@pytest.mark.parametrize(
    "text",
    ["", "replicas", "replicas:", "replicas:0", "replicas:01", "replicas:101", "fsync+", "FSYNC", 1, True, b"fsync"],
)
def test_other_words_are_refused_with_the_rule(text: object):
    with pytest.raises(BadSetting, match="'replicas:N', 'fsync' or 'fsync"):
        durability(text, 1)


def test_off_asks_for_nothing():
    assert durability("off", 1) is None
