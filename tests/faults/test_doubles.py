"""Which effects a fault explains: those of attempts whose outcome may not have been recorded, and no others."""

import pytest

from tests.faults.doubles import RECORDED_NS, Doubles
from tests.faults.history import Event, Expect, Kind
from tests.faults.ledger import Ledger

MS = 1_000_000
RECORDED_MS = RECORDED_NS // MS


class Told:
    """A ledger that is told of one job, `a`, whose first attempt has its effect at 100 ms and ends at 110, in 1."""

    def __init__(self) -> None:
        self.ledger = Ledger()
        self(0, "attempt", 9, job="a")
        self(1, "ack", 9, job="a", id="id-a")
        self.did(90, 1)

    def __call__(self, at_ms: int, e: Kind, pid: int = 0, **fields: object) -> None:
        self.ledger.add(Event(t=at_ms * MS, pid=pid, e=e, **fields))  # type: ignore[arg-type]

    def did(self, at_ms: int, pid: int, attempt: int = 1) -> None:
        self(at_ms, "start", pid, job="a", attempt=attempt)
        self(at_ms + 10, "effect", pid, job="a", attempt=attempt)
        self(at_ms + 20, "end", pid, job="a", attempt=attempt, how="returned")

    def unexplained(self, **expect: object) -> int:
        return sum(1 for _ in Doubles(self.ledger, Expect(**expect)).all())  # type: ignore[arg-type]


@pytest.fixture
def told() -> Told:
    return Told()


def test_one_effect_needs_no_reason(told: Told) -> None:
    assert told.unexplained() == 0


@pytest.mark.parametrize(("held", "unexplained"), [(("id-a",), 0), (("id-b",), 1), ((), 1)])
def test_what_had_ended_is_done_again_if_its_killed_worker_still_held_it(
    told: Told, held: tuple[str, ...], unexplained: int
) -> None:
    told(120, "fault", 1, what="kill -9", ids=held)
    told(121, "died", 1)
    told.did(2_000, 2, attempt=2)

    assert told.unexplained() == unexplained


def test_process_that_was_hit_explains_nothing_of_another(told: Told) -> None:
    told(120, "fault", 2, what="kill -9", ids=("id-a",))
    told.did(2_000, 3, attempt=2)

    assert told.unexplained() == 1


def test_what_a_stopped_worker_finishes_when_it_goes_on_is_explained(told: Told) -> None:
    told(1_000, "start", 2, job="a", attempt=2)
    told(1_001, "fault", 2, what="SIGSTOP")
    told(9_000, "heal", what="SIGSTOP")
    told(9_001, "effect", 2, job="a", attempt=2)
    assert told.unexplained() == 0

    told.did(12_000, 2, attempt=3)
    assert told.unexplained() == 1


@pytest.mark.parametrize(("began_ms", "unexplained"), [(110 + RECORDED_MS, 0), (111 + RECORDED_MS, 1)])
def test_worker_that_is_lost_while_redis_is_away_takes_what_it_could_not_record(
    told: Told, began_ms: int, unexplained: int
) -> None:
    told(began_ms, "fault", what="kill -9 redis")
    told(began_ms + 2_000, "fault", 1, what="kill -9")
    told(began_ms + 2_001, "died", 1)
    told(began_ms + 2_002, "heal", what="kill -9 redis")
    told.did(began_ms + 4_000, 2, attempt=2)

    assert told.unexplained() == unexplained


@pytest.mark.parametrize(("fault", "unexplained"), [("power loss", 0), ("CLIENT KILL", 1)])
def test_fault_that_hits_all_explains_nothing_unless_redis_goes_back(told: Told, fault: str, unexplained: int) -> None:
    told(110 + RECORDED_MS + 2_000, "fault", what=fault)
    told.did(7_000, 2, attempt=2)

    assert told.unexplained(doubled_by=("power loss",), doubled_within_s=2.0) == unexplained
    assert told.unexplained(doubled_by=("power loss",), doubled_within_s=1.999) == 1


@pytest.mark.parametrize(("at_ms", "unexplained"), [(5_900, 0), (6_200, 1)])
def test_worker_that_does_not_know_yet_that_redis_went_back_works_in_vain(
    told: Told, at_ms: int, unexplained: int
) -> None:
    told(3_110, "fault", what="power loss")
    told.did(at_ms, 2, attempt=2)

    assert told.unexplained(doubled_by=("power loss",), doubled_within_s=0.5) == unexplained


@pytest.mark.parametrize(("after_s", "unexplained"), [(1.0, 1), (2.0, 0)])
def test_master_that_was_replaced_takes_what_it_is_told_until_its_users_hear_of_it(
    told: Told, after_s: float, unexplained: int
) -> None:
    told(3_000, "fault", what="failover")
    told(3_500, "heal", what="failover")
    told.did(5_000, 1, attempt=2)
    told.did(6_000, 2, attempt=3)
    told.did(9_000, 2, attempt=4)

    found = [len(effects) for _, effects in Doubles(told.ledger, Expect(doubled_by=("failover",))).all()]
    assert found == [4]
    expect = Expect(doubled_by=("failover",), doubled_within_s=2.5, lost_after_s=after_s)
    assert [len(effects) for _, effects in Doubles(told.ledger, expect).all()] == [2 + unexplained]


def test_each_further_effect_needs_a_reason_of_its_own(told: Told) -> None:
    told(120, "fault", 1, what="kill -9", ids=("id-a",))
    told.did(2_000, 2, attempt=2)
    assert told.unexplained() == 0

    told.did(3_000, 3, attempt=3)
    assert [len(effects) for _, effects in Doubles(told.ledger, Expect()).all()] == [2]
