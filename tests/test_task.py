"""Tasks: what may be one, what a job's record says, what is refused before anything is sent."""

import functools
import json
import time
from datetime import timedelta

import pytest

import gqueue
from gqueue.store.codec import decode_record


@pytest.fixture
def queue():
    return gqueue.Queue("reports", "redis://192.0.2.1:1/0", max_payload_bytes=1_000)  # nobody is there: nothing is sent


def add(a, b=0):
    """Add."""
    return a + b


def record_of(prepared):
    return decode_record(prepared.new.record)


def test_a_task_is_the_function_it_was_made_of(queue):
    task = queue.task(add)

    assert task(1, b=2) == 3
    assert (task.name, task.function, task.queue) == ("add", add, queue)
    assert (task.__name__, task.__doc__, task.__wrapped__) == ("add", "Add.", add)
    assert dict(queue.tasks) == {"add": task}


def test_settings_of_a_task_that_is_given_none(queue):
    task = queue.task(add)

    assert (task.priority, task.timeout_ms, task.max_attempts, task.result_ttl_ms) == (0.0, 60_000, 3, 300_000)
    assert task.backoff == gqueue.Backoff()


def test_settings_of_a_task_are_seconds_or_timedeltas(queue):
    backoff = gqueue.Backoff(base=2)
    options = {
        "priority": -1,
        "timeout": timedelta(minutes=2),
        "max_attempts": 5,
        "backoff": backoff,
        "result_ttl": 0.5,
    }

    task = queue.task(name="reports.add", **options)(add)

    assert (task.name, task.priority, task.timeout_ms, task.max_attempts) == ("reports.add", -1.0, 120_000, 5)
    assert (task.backoff, task.result_ttl_ms) == (backoff, 500)


def test_results_of_a_task_are_kept_as_the_queue_says():
    queue = gqueue.Queue("reports", "memory:", result_ttl=timedelta(hours=1))

    assert queue.task(add).result_ttl_ms == 3_600_000


async def coroutine():
    pass


async def async_generator():
    yield


def generator():
    yield


class AsyncCallable:
    async def __call__(self):
        pass


class PlainCallable:
    def __call__(self, n):
        return n


def passing_on(function):
    @functools.wraps(function)
    def passed_on(*args):
        return function(*args)

    return passed_on


class InBody:
    def method(self, n):
        return n

    def of_class(cls):
        return cls

    @passing_on
    def wrapped(self, n):
        return n

    @staticmethod
    def static(n):
        return n


@pytest.mark.parametrize(
    ("function", "why"),
    [
        (coroutine, "async def"),
        (functools.partial(coroutine), "async def"),
        (AsyncCallable(), "async def"),
        (async_generator, "async def"),
        (generator, "generator"),
        (5, "cannot be called"),
        (InBody.method, "is a method"),
        (InBody.of_class, "is a method"),
        (InBody.wrapped, "is a method"),
    ],
)
def test_what_cannot_be_run_by_calling_it_is_refused_at_decoration(queue, function, why):
    with pytest.raises(gqueue.NotATask, match=why) as refused:
        queue.task(name="named")(function)

    assert isinstance(refused.value, TypeError)
    assert not queue.tasks


def test_a_function_is_no_method_for_its_first_name_nor_a_bound_method_or_a_static_one(queue):
    def inner(self):
        return self

    for number, function in enumerate((inner, InBody().method, InBody.static, InBody.__dict__["static"], str.upper)):
        assert queue.task(name=f"t{number}")(function)("X") == "X"


@pytest.mark.parametrize("function", [lambda n: n, functools.partial(add, 1), PlainCallable()])
def test_a_callable_without_a_name_needs_one(queue, function):
    with pytest.raises(gqueue.NotATask, match="name="):
        queue.task(function)

    assert queue.task(name="named")(function)(2) == function(2)


def test_attributes_of_the_function_do_not_hide_those_of_the_task(queue):
    def named():
        pass

    named.name, named.priority = "other", 7

    task = queue.task(named)

    assert (task.name, task.priority) == ("named", 0.0)


def test_two_tasks_of_one_name_are_refused_at_decoration(queue):
    first = queue.task(add)

    with pytest.raises(gqueue.DuplicateTask, match="'add'") as refused:
        queue.task(add)

    assert isinstance(refused.value, ValueError)
    assert queue.tasks["add"] is first


def test_a_task_of_another_queue_may_be_registered_again(queue):
    other = gqueue.Queue("other", "memory:").task(queue.task(add))

    assert (other.function, other.queue.name) == (add, "other")


@pytest.mark.parametrize("name", ["", "a b", "a{b}", "a\n", "ä", "a" * 101])
def test_names_that_break_the_rule_are_refused(queue, name):
    with pytest.raises(gqueue.BadName, match="1 to 100 characters"):
        queue.task(name=name)(add)
    with pytest.raises(gqueue.BadName, match="1 to 100 characters"):
        gqueue.Queue(name)
    task = queue.task(name="add")(add)
    with pytest.raises(gqueue.BadName, match="1 to 100 characters"):
        task.options(job_id=name)


@pytest.mark.parametrize(
    "options",
    [
        {"priority": float("nan")},
        {"priority": "high"},
        {"priority": 10**400},
        {"timeout": 0},
        {"timeout": float("inf")},
        {"timeout": "1"},
        {"max_attempts": 0},
        {"max_attempts": 1.5},
        {"result_ttl": -1},
        {"backoff": 3},
    ],
)
def test_settings_out_of_range_are_refused(queue, options):
    with pytest.raises(gqueue.BadSetting, match=next(iter(options))):
        queue.task(**options)(add)


@pytest.mark.parametrize(
    "options",
    [
        {"priority": float("inf")},
        {"priority": 10**400},
        {"priority": 10**5000},
        {"delay": 10**400},
        {"delay": -1},
        {"delay": "soon"},
        {"when_full": "later"},
        {"wait_timeout": -1},
        {"timeout": 0},
        {"max_attempts": True},
        {"result_ttl": timedelta(days=-1)},
    ],
)
def test_options_out_of_range_are_refused(queue, options):
    with pytest.raises(gqueue.BadSetting, match=next(iter(options))):
        queue.task(add).options(**options)


def test_a_record_names_task_and_arguments_and_leaves_the_rest_to_the_task(queue):
    record = record_of(queue.task(priority=2.5)(add).job(1, b=[None, (2.5, "x")]))

    assert (record.task, record.args, record.kwargs) == ("add", [1], {"b": [None, [2.5, "x"]]})
    assert record.priority == 2.5
    assert (record.timeout, record.max_attempts, record.result_ttl) == (None, None, None)


def test_options_go_into_the_record_and_the_job(queue):
    task = queue.task(add)
    options = {"priority": -5, "timeout": timedelta(seconds=2), "max_attempts": 1, "result_ttl": 0, "job_id": "mine"}

    prepared = task.options(delay=60, when_full="shed", wait_timeout=1.5, **options).job(1)

    record = record_of(prepared)
    assert (record.priority, record.timeout, record.max_attempts, record.result_ttl) == (-5.0, 2.0, 1, 0.0)
    assert prepared.new[:3] == ("mine", -5.0, 60_000)
    assert prepared.terms[:2] == (gqueue.WhenFull.SHED, 1_500)


@pytest.mark.parametrize("priority", [None, 0, 0.0, -0.0])
def test_record_leaves_out_what_is_as_usual(queue, priority):
    record = queue.task(add).options(priority=priority).job().new.record

    assert json.loads(record).keys() == {"task"}


def test_ids_are_short_unlike_and_fit_an_url(queue):
    ids = {queue.task(name=f"t{n}")(add).job().id for n in range(1_000)}

    assert len(ids) == 1_000
    assert all(len(job_id) == 14 and job_id.isalnum() and job_id.isascii() for job_id in ids)


def test_a_prepared_job_does_not_see_later_changes_of_its_arguments(queue):
    numbers = [1, 2]
    prepared = queue.task(add).job(numbers)
    numbers.append(3)

    assert record_of(prepared).args == [[1, 2]]


@pytest.mark.parametrize(
    ("args", "kwargs", "path"),
    [
        (({1},), {}, "args[0]"),
        ((1, {"x": [b""]}), {}, "args[1]['x'][0]"),
        ((), {"b": float("nan")}, "kwargs['b']"),
        ((), {"b": {1: 2}}, "kwargs['b']"),
    ],
)
def test_an_argument_that_json_cannot_give_back_is_named_by_its_path(queue, args, kwargs, path):
    with pytest.raises(gqueue.BadPayload) as refused:
        queue.task(add).enqueue(*args, **kwargs)

    assert refused.value.path == path
    assert isinstance(refused.value, TypeError)


def test_a_record_above_the_limit_is_refused_before_anything_is_sent(queue, monkeypatch):
    monkeypatch.setattr(time, "time", lambda: 1.5)  # it stands in the record, with more digits or fewer
    task = queue.task(add)
    fits = 1_000 - len(task.job("").new.record)

    assert len(task.job("x" * fits).new.record) == 1_000
    with pytest.raises(gqueue.PayloadTooLarge, match=r"1,001 bytes, the limit is 1,000"):
        task.options(job_id="big").enqueue("x" * (fits + 1))


def test_nothing_shown_of_a_job_tells_its_arguments(queue):
    task = queue.task(add)

    assert "secret" not in repr(task.job("secret")) + repr(task) + repr(queue.fetch_job("x"))
