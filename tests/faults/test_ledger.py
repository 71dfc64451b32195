"""When an attempt ends, what a fault hits, and from when a recovery counts."""

import pytest

from tests.faults.history import Event, Kind
from tests.faults.ledger import Ledger

MS = 1_000_000


class Told:
    """A ledger that is told events with times in milliseconds."""

    def __init__(self) -> None:
        self.ledger = Ledger()

    def __call__(self, at_ms: int, e: Kind, pid: int = 0, **fields: object) -> None:
        self.ledger.add(Event(t=at_ms * MS, pid=pid, e=e, **fields))  # type: ignore[arg-type]

    def admit(self, job: str, at_ms: int = 0) -> None:
        self(at_ms, "attempt", 9, job=job)
        self(at_ms, "ack", 9, job=job, id=f"id-{job}")

    @property
    def recoveries(self) -> list[tuple[str, str, float]]:
        return [(found.job, found.fault, round(found.seconds, 3)) for found in self.ledger.recoveries]

    def state(self, job: str) -> tuple[bool, bool]:
        """Return whether the job was refused, and whether it may be in or not."""
        return self.ledger.jobs[job].was_refused, self.ledger.jobs[job].is_indeterminate

    def overlaps(self, job: str) -> bool:
        return self.ledger.jobs[job].overlap[0] > 0


@pytest.fixture
def told() -> Told:
    told = Told()
    told.admit("a")
    return told


def test_process_that_dies_ends_its_attempts_and_no_others(told: Told) -> None:
    told.admit("b")
    told(10, "start", 1, job="a", attempt=1)
    told(10, "start", 2, job="b", attempt=1)
    told(20, "fault", 1, what="kill -9")
    told(21, "died", 1)
    told(30, "start", 2, job="a", attempt=2)
    told(40, "start", 3, job="b", attempt=2)

    assert (told.overlaps("a"), told.overlaps("b")) == (False, True)
    assert told.recoveries == [("a", "kill -9", 0.010)]


def test_process_that_ends_by_itself_hits_what_it_ran(told: Told) -> None:
    told(10, "start", 1, job="a", attempt=1)
    told(20, "died", 1)
    told(50, "start", 2, job="a", attempt=2)

    assert not told.overlaps("a")
    assert told.recoveries == [("a", "died", 0.030)]


def test_last_words_of_a_killed_process_are_its_and_leave_nothing_open(told: Told) -> None:
    told(20, "fault", 1, what="kill -9")
    told(21, "start", 1, job="a", attempt=1)
    told(22, "died", 1)
    told(1_500, "start", 2, job="a", attempt=2)

    assert not told.overlaps("a")
    assert told.recoveries == [("a", "kill -9", 1.479)]


def test_pid_that_comes_again_is_another_process(told: Told) -> None:
    told(20, "fault", 1, what="kill -9")
    told(22, "died", 1)
    told(30, "start", 1, job="a", attempt=1)
    told(40, "start", 2, job="a", attempt=2)

    assert told.overlaps("a")


def test_jobs_that_the_worker_held_are_hit_by_their_ids(told: Told) -> None:
    told(10, "start", 1, job="a", attempt=1)
    told(11, "effect", 1, job="a", attempt=1)
    told(12, "end", 1, job="a", attempt=1, how="returned")
    told(20, "fault", 1, what="kill -9", ids=("id-a",))
    told(1_020, "start", 2, job="a", attempt=2)

    assert told.recoveries == [("a", "kill -9", 1.0)]


def test_second_hit_starts_the_clock_anew(told: Told) -> None:
    told(10, "start", 1, job="a", attempt=1)
    told(20, "fault", 1, what="kill -9")
    told(1_000, "fault", 2, what="kill -9", ids=("id-a",))
    told(1_500, "start", 3, job="a", attempt=3)

    assert told.recoveries == [("a", "kill -9", 0.5)]


def test_fault_that_is_repeated_does_not_start_the_clock_anew(told: Told) -> None:
    told(10, "start", 1, job="a", attempt=1)
    for at_ms in (20, 120, 220):
        told(at_ms, "fault", what="CLIENT KILL")
    told(300, "end", 1, job="a", attempt=1, how="interrupted")
    told(400, "start", 2, job="a", attempt=2)

    assert told.recoveries == [("a", "CLIENT KILL", 0.380)]


def test_clock_of_what_hit_all_runs_from_its_end_and_again_from_the_next(told: Told) -> None:
    told.admit("b")
    for job in "ab":
        told(10, "start", 1, job=job, attempt=1)
    told(20, "fault", what="redis away")
    told(500, "heal", what="redis away")
    told(600, "start", 2, job="a", attempt=2)
    told(700, "fault", what="redis away")
    told(900, "heal", what="redis away")
    told(950, "start", 2, job="b", attempt=2)

    assert told.recoveries == [("a", "redis away", 0.1), ("b", "redis away", 0.05)]


def test_clock_of_a_stopped_worker_runs_from_the_stop_though_it_goes_on_later(told: Told) -> None:
    told(10, "start", 1, job="a", attempt=1)
    told(20, "fault", 1, what="SIGSTOP")
    told(500, "heal", what="SIGSTOP")
    told(600, "start", 2, job="a", attempt=2)

    assert told.recoveries == [("a", "SIGSTOP", 0.58)]


@pytest.mark.parametrize("how", ["returned", "raised"])
def test_attempt_that_ends_by_itself_after_a_fault_was_not_ended_by_it(told: Told, how: str) -> None:
    told(10, "start", 1, job="a", attempt=1)
    told(20, "fault", what="CLIENT KILL")
    told(20, "heal", what="CLIENT KILL")
    told(30, "end", 1, job="a", attempt=1, how=how)
    told(5_000, "start", 1, job="a", attempt=2)

    assert told.recoveries == []


@pytest.mark.parametrize("how", ["returned", "raised"])
@pytest.mark.parametrize(("healed_ms", "recovered"), [(2_000, []), (20_000, [("a", "black hole", 2.98)])])
def test_what_a_worker_finishes_while_it_is_cut_off_is_recovered_from_when_it_was(
    told: Told, how: str, healed_ms: int, recovered: list[tuple[str, str, float]]
) -> None:
    told(10, "start", 1, job="a", attempt=1)
    told(20, "fault", 1, what="black hole")
    if healed_ms < 2_500:
        told(healed_ms, "heal", what="black hole")
    told(2_500, "end", 1, job="a", attempt=1, how=how)
    told(3_000, "start", 2, job="a", attempt=2)

    assert told.recoveries == recovered


def test_next_attempt_of_a_job_that_raised_while_redis_was_away_is_no_recovery(told: Told) -> None:
    told(10, "start", 1, job="a", attempt=1)
    told(20, "fault", what="kill -9 redis")
    told(30, "end", 1, job="a", attempt=1, how="raised")
    told(900, "heal", what="kill -9 redis")
    told(1_000, "start", 1, job="a", attempt=2)

    assert told.recoveries == []


def test_what_a_stopped_worker_had_claimed_is_recovered_by_another_and_not_by_itself(told: Told) -> None:
    told.admit("b")
    told(20, "fault", 1, what="SIGSTOP", ids=("id-a", "id-b"))
    told(3_000, "start", 2, job="a", attempt=1)
    told(4_000, "heal", what="SIGSTOP")
    told(4_001, "start", 1, job="b", attempt=1)

    assert told.recoveries == [("a", "SIGSTOP", 2.98)]


@pytest.mark.parametrize(("healed_ms", "took_s"), [(99, 2.98), (121, 2.879), (4_000, 2.98)])
def test_clock_of_a_worker_that_was_hit_runs_from_the_end_of_what_hit_all_for_a_while(
    told: Told, healed_ms: int, took_s: float
) -> None:
    told(10, "start", 1, job="a", attempt=1)
    told(20, "fault", what="redis away")
    told(20, "fault", 1, what="kill -9")
    if healed_ms < 3_000:
        told(healed_ms, "heal", what="redis away")
    told(3_000, "start", 2, job="a", attempt=2)

    assert told.recoveries == [("a", "kill -9", took_s)]


def test_job_that_was_refused_and_then_taken_is_not_refused(told: Told) -> None:
    told(10, "attempt", 9, job="b")
    told(11, "refused", 9, job="b", why="QueueFull")
    states = [told.state("b")]
    told(20, "attempt", 9, job="b")
    states.append(told.state("b"))
    told(21, "ack", 9, job="b", id="id-b")
    states.append(told.state("b"))

    assert states == [(True, False), (False, True), (False, False)]


def test_job_that_may_be_in_after_all_is_not_refused(told: Told) -> None:
    for job in "bc":
        told(10, "attempt", 9, job=job)
        told(11, "refused", 9, job=job, why="QueueFull")
    told(20, "ack", 9, job="b", id="id-b")
    told(20, "unknown", 9, job="c", why="StoreUnavailable")

    assert (told.state("b"), told.state("c")) == ((False, False), (False, True))


def test_job_with_a_delay_is_overtaken_from_when_it_is_due(told: Told) -> None:
    told(0, "attempt", 9, job="b", priority=-1.0, delay=5.0)
    told(0, "ack", 9, job="b", id="id-b")
    told.admit("c")
    told(5_999, "start", 1, job="a", attempt=1)
    told(6_000, "start", 1, job="c", attempt=1)
    told(6_499, "heal")
    assert told.ledger.order.inversions == 0

    told(6_500, "heal")
    assert (told.ledger.order.inversions, told.ledger.order.first) == (1, ("c", "b"))


def test_only_what_waited_well_before_is_overtaken(told: Told) -> None:
    told(0, "attempt", 9, job="b", priority=-1.0)
    told(0, "ack", 9, job="b", id="id-b")
    told.admit("c")
    told(999, "start", 1, job="a", attempt=1)
    told(1_000, "start", 1, job="c", attempt=1)
    told(5_000, "heal")

    assert (told.ledger.order.inversions, told.ledger.order.first) == (1, ("c", "b"))


@pytest.mark.parametrize(("started_ms", "early"), [(1_094, True), (1_095, False)])
def test_job_that_starts_before_its_delay_is_over_is_early_but_for_the_clocks(
    told: Told, started_ms: int, early: bool
) -> None:
    told(100, "attempt", 9, job="b", delay=1.0)
    told(110, "ack", 9, job="b", id="id-b")
    told(started_ms, "start", 1, job="b", attempt=1)

    assert (told.ledger.jobs["b"].early != (0, 0)) == early


@pytest.mark.parametrize(("fault", "early"), [("kill -9 redis", False), ("CLIENT KILL", True)])
def test_job_is_early_before_what_its_last_attempt_asked_for_unless_redis_may_have_forgotten(
    told: Told, fault: str, early: bool
) -> None:
    told(10, "start", 1, job="a", attempt=1)
    told(20, "end", 1, job="a", attempt=1, how="raised", delay=0.1)
    told(25, "fault", what=fault)
    told(30, "heal", what=fault)
    told(110, "start", 1, job="a", attempt=2)
    told.admit("b", 200)
    told(210, "start", 1, job="b", attempt=1)
    told(3_029, "end", 1, job="b", attempt=1, how="raised", delay=0.1)
    told(3_100, "start", 1, job="b", attempt=2)

    assert [told.ledger.jobs[job].early != (0, 0) for job in "ab"] == [early, early]


def test_who_has_registered_is_up_before_it_starts_a_job(told: Told) -> None:
    told.ledger.lease_ns = 3_000 * MS
    told(10, "start", 1, job="a", attempt=1)
    told(20, "fault", 1, what="kill -9")
    told(30, "up", 2)
    told(5_000, "start", 2, job="a", attempt=2)

    assert [recovery.seconds for recovery in told.ledger.recoveries] == [4.98]


def test_where_nobody_was_up_the_clock_runs_from_when_somebody_is(told: Told) -> None:
    told.ledger.lease_ns = 3_000 * MS
    told.admit("b")
    told(10, "start", 1, job="a", attempt=1)
    told(20, "fault", 1, what="kill -9")
    told(5_000, "start", 2, job="b", attempt=1)
    told(7_100, "start", 2, job="a", attempt=2)

    assert told.recoveries == [("a", "kill -9", 4.1)]


def test_where_somebody_was_up_the_clock_runs_from_the_fault(told: Told) -> None:
    told.ledger.lease_ns = 3_000 * MS
    told.admit("b")
    told(5, "start", 2, job="b", attempt=1)
    told(10, "start", 1, job="a", attempt=1)
    told(20, "fault", 1, what="kill -9")
    told(7_100, "start", 2, job="a", attempt=2)

    assert told.recoveries == [("a", "kill -9", 7.08)]


@pytest.mark.parametrize(("pid", "early"), [(1, False), (2, True)])
def test_what_an_attempt_asked_for_is_not_waited_for_if_its_worker_may_have_lost_it(
    told: Told, pid: int, early: bool
) -> None:
    told(10, "start", 1, job="a", attempt=1)
    told(15, "fault", pid, what="SIGSTOP worker")
    told(900, "heal", what="SIGSTOP worker")
    told(1_000, "end", 1, job="a", attempt=1, how="raised", delay=0.1)
    told(1_050, "start", 2, job="a", attempt=2)

    assert (told.ledger.jobs["a"].early != (0, 0)) == early


def test_back_off_is_drawn_so_half_of_the_waits_are_below_half_of_it(told: Told) -> None:
    for number, wait_ms in enumerate((0, 24, 25, 50)):
        job = f"b{number}"
        told.admit(job, 100 * number)
        told(100 * number + 1, "start", 1, job=job, attempt=1)
        told(100 * number + 2, "end", 1, job=job, attempt=1, how="raised", backoff=0.05)
        told(100 * number + 2 + wait_ms, "start", 1, job=job, attempt=2)

    assert (told.ledger.backoffs, told.ledger.hasty) == (4, 2)


@pytest.mark.parametrize(("brought_ms", "overtaken"), [(100, 0), (101, 1)])
def test_of_equals_that_came_first_which_was_in_before_the_other_was_brought(
    told: Told, brought_ms: int, overtaken: int
) -> None:
    told(90, "attempt", 9, job="b")
    told(100, "ack", 9, job="b", id="id-b")
    told.admit("c", brought_ms)
    told(5_000, "start", 1, job="a", attempt=1)
    told(5_001, "start", 1, job="c", attempt=1)
    told(5_502, "start", 1, job="b", attempt=1)

    assert told.ledger.order.inversions == overtaken


def test_job_with_a_delay_comes_by_when_it_was_brought_once_it_is_due(told: Told) -> None:
    told(10, "start", 1, job="a", attempt=1)
    told(90, "attempt", 9, job="b", delay=5.0)
    told(91, "ack", 9, job="b", id="id-b")
    told.admit("c", 1_000)
    told(5_100, "start", 1, job="b", attempt=1)
    told(5_700, "start", 1, job="c", attempt=1)
    told(9_000, "heal")

    assert told.ledger.order.inversions == 0


@pytest.mark.parametrize(("held", "overtaken"), [("id-b", 0), ("id-a", 1)])
def test_what_a_lost_worker_had_claimed_comes_late_and_is_not_overtaken(told: Told, held: str, overtaken: int) -> None:
    told(90, "attempt", 9, job="b", priority=-1.0)
    told(91, "ack", 9, job="b", id="id-b")
    told.admit("c", 100)
    told(2_000, "start", 1, job="a", attempt=1)
    told(2_001, "fault", 1, what="kill -9", ids=(held,))
    told(2_010, "start", 2, job="c", attempt=1)
    told(4_000, "start", 2, job="b", attempt=1)
    told(5_000, "heal")

    assert told.ledger.order.inversions == 2 * overtaken


@pytest.mark.parametrize(("how", "overtaken"), [("interrupted", 1), ("raised", 0)])
def test_what_is_given_back_waits_where_it_stood(told: Told, how: str, overtaken: int) -> None:
    told.admit("c", 100)
    told(10, "start", 1, job="a", attempt=1)
    told(200, "end", 1, job="a", attempt=1, how=how)
    told(2_000, "start", 1, job="c", attempt=1)
    told(2_600, "start", 2, job="a", attempt=1)
    told(5_000, "heal")

    assert told.ledger.order.inversions == overtaken


@pytest.mark.parametrize(("started_ms", "overtaken"), [(2_499, 0), (2_500, 1)])
def test_what_starts_soon_after_was_claimed_before_and_is_not_overtaken(
    told: Told, started_ms: int, overtaken: int
) -> None:
    told(0, "attempt", 9, job="b", priority=-1.0)
    told(0, "ack", 9, job="b", id="id-b")
    told(2_000, "start", 1, job="a", attempt=1)
    told(started_ms, "start", 2, job="b", attempt=1)
    told(5_000, "heal")

    assert told.ledger.order.inversions == overtaken
