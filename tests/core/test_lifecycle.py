"""The table of a job's life."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gqueue.core.lifecycle import FINAL, TABLE, WAITING, Move, after
from gqueue.core.model import State
from gqueue.errors import IllegalMove


@given(state=st.sampled_from(State), move=st.sampled_from(Move))
def test_a_move_is_in_the_table_or_refused(state, move):
    if (state, move) in TABLE:
        assert after(state, move) is TABLE[state, move]
    else:
        with pytest.raises(IllegalMove, match=f"{state.value} cannot {move.value}"):
            after(state, move)


def test_every_state_can_be_reached_and_left():
    reached = {State.UNKNOWN}
    for _ in State:
        reached |= {to for (state, _), to in TABLE.items() if state in reached}
    assert reached == set(State)
    assert {state for state, _ in TABLE} == set(State)


def test_a_final_job_runs_again_only_if_somebody_asks_for_it():
    ways_out = {(state, move) for state, move in TABLE if state in FINAL}
    assert {move for _, move in ways_out} == {Move.REDRIVE, Move.FORGET}
    assert all(TABLE[way] is State.UNKNOWN for way in ways_out if way[1] is Move.FORGET)


def test_only_a_ready_job_is_claimed():
    assert [state for state, move in TABLE if move is Move.CLAIM] == [State.READY]


def test_a_running_job_leaves_only_with_its_outcome_or_back_to_waiting():
    assert {TABLE[way] for way in TABLE if way[0] is State.RUNNING} == FINAL | WAITING
