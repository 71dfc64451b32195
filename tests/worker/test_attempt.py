"""What was done to a job and what it did about it, in every pairing: which outcome it is."""

import functools
import math
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import gevent
import pytest

from gqueue.core.dispatch import Why
from gqueue.core.model import Backoff, ClaimedJob, Reason
from gqueue.core.retry import Cancelled, Failed, Rejected, RetryAsked, Succeeded, TimedOut
from gqueue.errors import Reject, Retry
from gqueue.store import codec
from gqueue.store.codec import BadRecord, Record
from gqueue.worker.attempt import MISSING, outcome_of, outcome_stuck, outcome_untold, text_of, trace_of
from gqueue.worker.running import Interrupted, Known, RunningJob, Tasks


def known(function: Any = lambda: None, **changes: Any) -> Known:
    options: dict[str, Any] = {"limit_s": 5.0, "max_attempts": 3, "backoff": Backoff(), "result_ttl_ms": 1_000}
    return Known("task", function, **(options | changes))


def job(fate: BaseException | None = None, *, lost: bool = False, task: Known | None = None) -> RunningJob:
    home: Any = SimpleNamespace(worker_id="w")
    made = RunningJob(home, ClaimedJob("a", b"", 1, 2), 0, 0.0, task or known())
    made.record = Record("task")
    made.fate, made.lost = fate, lost
    return made


def raised(error: BaseException) -> BaseException:
    """Return *error* with the traceback of the worker's frame and one of the task's."""

    def task() -> None:
        raise error

    try:
        task()
    except BaseException as caught:
        return caught
    raise AssertionError


TIME_OUT = gevent.Timeout(5)
FATES: dict[str, Callable[[], BaseException | None]] = {
    "none": lambda: None,
    "timeout": lambda: TIME_OUT,
    "cancel": lambda: Interrupted(None),
    "grace": lambda: Interrupted(Why.GRACE_OVER),
}
ENDINGS: dict[str, Callable[[BaseException | None], tuple[object, BaseException | None]]] = {
    "returns": lambda _: (1, None),
    "lets it pass": lambda fate: (MISSING, raised(fate) if fate else None),
    "raises another": lambda _: (MISSING, raised(ValueError("no"))),
    "asks for a retry": lambda _: (MISSING, raised(Retry(2))),
    "rejects": lambda _: (MISSING, raised(Reject("no use"))),
}


@pytest.mark.parametrize(
    ("fate", "ending", "outcome"),
    [
        ("none", "returns", Succeeded),
        ("none", "raises another", Failed),
        ("none", "asks for a retry", RetryAsked),
        ("none", "rejects", Rejected),
        ("timeout", "returns", TimedOut),
        ("timeout", "lets it pass", TimedOut),
        ("timeout", "raises another", TimedOut),
        ("timeout", "asks for a retry", RetryAsked),
        ("timeout", "rejects", Rejected),
        ("cancel", "returns", Succeeded),
        ("cancel", "lets it pass", Cancelled),
        ("cancel", "raises another", Cancelled),
        ("grace", "returns", Succeeded),
        ("grace", "lets it pass", None),
        ("grace", "raises another", None),
        ("grace", "asks for a retry", RetryAsked),
    ],
)
def test_outcome_by_what_hit_the_task_and_how_it_ended(fate: str, ending: str, outcome: type | None) -> None:
    hit = FATES[fate]()
    value, error = ENDINGS[ending](hit)
    made = outcome_of(job(hit), value, error, 1_000)

    assert made is None if outcome is None else type(made) is outcome
    assert outcome_of(job(hit, lost=True), value, error, 1_000) is None


def test_traceback_begins_with_the_tasks_own_frame() -> None:
    made = outcome_of(job(), MISSING, raised(ValueError("no")), 1_000)

    assert isinstance(made, Failed)
    assert made.error == "ValueError: no"
    assert "in task" in made.traceback
    assert "in raised" not in made.traceback


def test_foreign_time_limit_is_a_failure_and_told_apart() -> None:
    made = outcome_of(job(), MISSING, raised(gevent.Timeout(1)), 1_000)

    assert isinstance(made, Failed)
    assert "of the task's own" in made.error


def test_type_error_of_the_body_is_no_misfit_even_if_the_signature_seems_to_say_so() -> None:
    def wrapped(connection: object, number: int) -> int:
        return number

    @functools.wraps(wrapped)
    def injects(number: int) -> int:
        return wrapped(None, number) + len(3)  # type: ignore[arg-type]

    one = job(task=known(function=injects))
    assert one.record
    one.record.args = [1]
    try:
        one.known.function(1)
    except TypeError as error:
        made = outcome_of(one, MISSING, error, 1_000)

    assert isinstance(made, Failed)


def test_kept_value_is_encoded_and_measured() -> None:
    assert outcome_of(job(), "x" * 10, None, 100) == Succeeded(codec.encode_value("x" * 10))
    assert isinstance(outcome_of(job(), "x" * 100, None, 100), Rejected)


def test_limits_are_those_of_the_record_where_it_has_any() -> None:
    task = known()
    assert task.under(Record("task")) is task

    own = task.under(Record("task", timeout=0.25, max_attempts=7, result_ttl=0.0))
    assert (own.limit_s, own.max_attempts, own.result_ttl_ms) == (0.25, 7, 0)
    assert own.function is task.function


@pytest.mark.parametrize(
    "options",
    [{"timeout": 0.0}, {"timeout": math.inf}, {"timeout": math.nan}, {"max_attempts": 0}, {"result_ttl": -1.0}],
)
def test_record_with_impossible_limits_is_refused(options: dict[str, Any]) -> None:
    with pytest.raises(BadRecord):
        known().under(Record("task", **options))


def test_task_registered_after_the_start_is_found() -> None:
    registered: dict[str, Any] = {}
    tasks = Tasks(registered, 1_000)
    with pytest.raises(KeyError):
        tasks["late"]

    registered["late"] = SimpleNamespace(
        function=print, timeout_ms=500, max_attempts=2, backoff=Backoff(), result_ttl_ms=0, sensitive=False
    )
    assert tasks["late"].limit_s == 0.5


def test_attempt_counts_failures_and_crashes() -> None:
    assert job().attempt == 4


class NoName(type):
    @property
    def __name__(cls) -> str:  # type: ignore[override]
        raise ValueError


class RaisesNotes(Exception):
    @property
    def __notes__(self) -> list[str]:
        raise self


class HasNoClass(Exception):
    @property
    def __class__(self) -> type:  # type: ignore[override]
        raise RuntimeError("no class")


class HasNoTraceback(TypeError):
    __traceback__ = property(lambda self: 1 / 0)  # type: ignore[assignment]

    def __str__(self) -> str:
        raise SystemExit


class Recurses(Exception):
    def __str__(self) -> str:
        return str(self)

    __repr__ = __str__


class ReturnsNoText(Exception):
    __notes__ = 5  # type: ignore[assignment]

    def __str__(self) -> str:
        return 5  # type: ignore[return-value]


class HasNoName(RaisesNotes, metaclass=NoName):
    pass


class HalfACharacter(Exception):
    def __str__(self) -> str:
        return "\ud800"


EVIL: dict[str, type[BaseException]] = {
    "RaisesNotes": RaisesNotes,
    "HasNoClass": HasNoClass,
    "HasNoTraceback": HasNoTraceback,
    "Recurses": Recurses,
    "ReturnsNoText": ReturnsNoText,
    "HasNoName": HasNoName,
    "HalfACharacter": HalfACharacter,
}


@pytest.mark.parametrize("name", EVIL)
def test_exception_whose_own_code_fails_is_told_by_its_type(name: str) -> None:
    error = raised(EVIL[name]())

    assert name in text_of(error)
    assert name in trace_of(error)
    assert "in task" in trace_of(error)


@pytest.mark.parametrize("name", ["RaisesNotes", "Recurses", "HasNoName"])
def test_group_of_such_exceptions_and_one_caused_by_such_are_told_as_well(name: str) -> None:
    evil: Any = EVIL[name]
    effect, group = ValueError("its effect"), ExceptionGroup("together", [evil()])
    effect.__cause__ = evil()
    # Nothing may fail while one of them is being handled: pytest could not show it.
    told = [text_of(effect), trace_of(effect), text_of(group), trace_of(group)]

    assert "ValueError: its effect" in told[0]
    assert "ValueError: its effect" in told[1]
    assert "ExceptionGroup: together" in told[2]
    assert "ExceptionGroup: together" in told[3]


def test_once_the_job_was_hit_no_more_of_an_exceptions_own_code_runs() -> None:
    running, calls = job(), []

    class TakesLong(Exception):
        def __str__(self) -> str:
            calls.append("")
            running.hits += 1  # what the hub or the watchdog does meanwhile
            raise gevent.Timeout(5)

    made = outcome_of(running, MISSING, raised(TakesLong()), 1_000)

    assert isinstance(made, Failed)
    assert "TakesLong" in made.error
    assert "in task" in made.traceback
    assert "takes too long" in made.traceback
    assert len(calls) == 1


@pytest.mark.parametrize(
    ("fate", "outcome"), [("none", Failed), ("timeout", TimedOut), ("cancel", Cancelled), ("grace", None)]
)
def test_outcome_that_cannot_be_taken_is_told_by_what_hit_the_task(fate: str, outcome: type | None) -> None:
    made = outcome_untold(job(FATES[fate]()))

    assert made is None if outcome is None else type(made) is outcome
    assert outcome_untold(job(FATES[fate](), lost=True)) is None


def test_stuck_job_is_rejected_as_such_unless_it_was_cancelled_or_its_lease_is_lost() -> None:
    made = outcome_stuck(job(TIME_OUT), "where")

    assert isinstance(made, Rejected)
    assert (made.reason, made.traceback) == (Reason.STUCK, "where")
    assert outcome_stuck(job(Interrupted(None)), "where") == Cancelled()
    assert outcome_stuck(job(TIME_OUT, lost=True), "where") is None


def test_depth_of_groups_and_length_of_causes_break_nothing() -> None:
    group: Exception = ValueError("the innermost")
    for _ in range(5_000):
        group = ExceptionGroup("group", [group])

    assert "group" in text_of(group)
    assert "group" in trace_of(group)
