"""Who may enter a queue that is nearly full."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gqueue.core.admission import ahead_of, ahead_of_newcomer, policy_inside_task, quota, reached
from gqueue.core.model import Place, WhenFull

lines = st.lists(st.sampled_from([0.0, 1.0, 2.0]), max_size=6).map(
    lambda ranks: [Place(rank, number) for number, rank in enumerate(ranks)]
)
rooms = st.integers(-3, 8)


@given(line=lines, room=rooms)
def test_who_is_reached_may_enter_and_nobody_else(line, room):
    tickets = [(place, f"p.{place.number}") for place in line]
    may = {ticket for place, ticket in tickets if quota(room, ahead_of(line, place), in_line=True) > 0}
    assert may == set(reached(tickets, room))


@given(line=lines, room=rooms)
def test_those_in_line_never_enter_together_beyond_the_room(line, room):
    entered = 0
    for place in sorted(line):
        entered += min(1, quota(room - entered, ahead_of(line, place), in_line=True))
        line = [other for other in line if other != place]
    assert entered <= max(0, room)


@given(line=lines, room=rooms, rank=st.sampled_from([0.0, 1.0, 2.0]))
def test_a_newcomer_enters_only_if_no_one_as_urgent_waits(line, room, rank):
    enters = quota(room, ahead_of_newcomer(line, rank), in_line=False) > 0
    assert enters == (room > 0 and all(place.rank > rank for place in line))


@given(line=lines, room=rooms)
def test_a_waiter_leaves_room_for_all_before_it(line, room):
    for place in line:
        before = ahead_of(line, place)
        assert quota(room, before, in_line=True) <= max(0, room - before)


@given(line=lines)
def test_the_line_is_most_urgent_first_then_in_order_of_arrival(line):
    tickets = [(place, place.number) for place in line]
    order = reached(tickets, len(tickets))
    by_number = {place.number: place for place in line}
    assert order == sorted(order, key=lambda number: (by_number[number].rank, number))


@pytest.mark.parametrize("policy", WhenFull)
def test_a_task_never_waits_for_its_own_worker(policy):
    assert policy_inside_task(policy, served_here=True) is not WhenFull.WAIT
    assert policy_inside_task(policy, served_here=False) is policy
