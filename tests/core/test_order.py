"""Ranks, and members of sorted sets."""

from hypothesis import given
from hypothesis import strategies as st

from gqueue.core.model import MAX_SEQUENCE
from gqueue.core.order import Entry, entry_size, member, rank_of

sequences = st.integers(0, MAX_SEQUENCE - 1)
finite = st.floats(allow_nan=False, allow_infinity=False)


@given(first=sequences, second=sequences, one=st.text(max_size=3), other=st.text(max_size=3))
def test_members_sort_as_their_sequences_do(first, second, one, other):
    if first != second:
        assert (member(first, one) < member(second, other)) == (first < second)


@given(priority=finite, age_ms=st.integers(0, 10**12))
def test_without_aging_the_rank_is_the_priority(priority, age_ms):
    assert rank_of(priority, 0.0, age_ms) == priority


@given(
    priority=st.integers(-1000, 1000),
    aging=st.sampled_from([0.001, 0.5, 2.0]),
    ages=st.tuples(st.integers(0, 10**10), st.integers(0, 10**10)),
)
def test_under_aging_of_two_jobs_of_one_priority_the_older_never_ranks_worse(priority, aging, ages):
    older, newer = sorted(ages)
    assert rank_of(priority, aging, older) <= rank_of(priority, aging, newer)


def test_aging_lets_an_old_job_pass_an_urgent_one():
    assert rank_of(5, 1.0, 0) < rank_of(0, 1.0, 5_001)


@given(rank=finite, record=st.binary(max_size=20))
def test_the_size_is_that_of_the_written_entry(rank, record):
    written = f"{7:013x}{rank:.17g} ".encode() + record
    assert entry_size(Entry(rank, 7, record)) == len(written)


@given(rank=finite)
def test_a_rank_survives_being_written(rank):
    assert float(f"{rank:.17g}") == rank
