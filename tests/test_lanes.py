"""Lanes: ids and numbers of a process's calls."""

from gqueue.lanes import Lanes


def test_a_lane_has_one_call_in_flight():
    lanes = Lanes()

    assert lanes.take().id != lanes.take().id


def test_a_lane_that_was_given_back_is_taken_again_and_has_counted_its_call():
    lanes = Lanes()
    lane = lanes.take()

    lanes.give_back(lane)

    assert lanes.take() is lane
    assert lane.call == 1


def test_a_lane_that_was_not_given_back_never_comes_again():
    lanes = Lanes()
    dropped = lanes.take().id

    assert dropped not in {lanes.take().id for _ in range(100)}


def test_two_processes_have_no_lane_in_common():
    assert Lanes().take().id != Lanes().take().id
