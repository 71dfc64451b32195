"""A job from outside, by its handle, and from inside, by current_job()."""

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from functools import partial

import pytest

import gqueue
from gqueue import attendant
from gqueue.core.model import Look, Reason, Settlement, State
from gqueue.errors import ResultTimeout, StoreUnavailable
from gqueue.job import current, value_of
from gqueue.outcomes import Outcomes
from gqueue.queue import Queue
from gqueue.store.codec import Outcome, encode_report, encode_value
from gqueue.store.connection import MAX_LANES
from tests.hand import Hand


def add(a, b=0):
    return a + b


@pytest.fixture
def queue(make_queue):
    return make_queue()


@pytest.fixture
def task(queue):
    return queue.task(add)


@pytest.fixture
def hand(queue):
    return Hand(queue)


def dead(queue, hand, task, **death):
    job = task.enqueue(1)
    hand.claim()
    hand.bury(job.id, **death)
    return job


# Status.


def test_the_states_that_a_job_goes_through(queue, task, hand):
    job = task.enqueue(1)
    assert job.status() == "ready"
    hand.claim()
    assert job.status() == "running"
    hand.settle(Settlement(job.id, "retry", delay_ms=60_000, ttl_ms=1_000))
    assert job.status() == "scheduled"
    assert job.cancel()
    assert job.status() == "cancelled"
    assert queue.fetch_job("nobody").status() == "unknown"


def test_a_handle_is_found_again_by_its_id(queue, task):
    job = task.enqueue(1)

    again = queue.fetch_job(job.id)

    assert again == job
    assert hash(again) == hash(job)
    assert again != queue.fetch_job("another")
    assert again.queue is queue


# Results.


@pytest.mark.parametrize("value", [None, 55, "text", [1, {"a": None}]])
def test_the_result_is_the_value_that_the_task_returned(task, hand, value):
    job = task.enqueue(1)
    hand.claim()
    hand.succeed(job.id, value)

    assert job.result() == job.result(timeout=0) == value
    assert job.wait()


def test_a_result_that_comes_later_wakes_who_waits_for_it(task, hand):
    job = task.enqueue(1)
    with ThreadPoolExecutor() as pool:
        waiting = pool.submit(job.result, 20)
        hand.claim()
        began = time.monotonic()
        hand.succeed(job.id, 55)

        assert waiting.result(20) == 55
        assert time.monotonic() - began < 5


def test_a_failure_carries_reason_error_and_the_traceback_of_the_worker(queue, task, hand):
    job = dead(queue, hand, task, reason="failed", error="ValueError: no", traceback="Traceback: in the worker")

    with pytest.raises(gqueue.JobFailed) as failed:
        job.result()

    error = failed.value
    assert (error.job_id, error.reason, error.error) == (job.id, "failed", "ValueError: no")
    assert error.remote_traceback == "Traceback: in the worker"
    assert "Traceback: in the worker" in str(error)
    assert not isinstance(error, gqueue.JobTimeout)
    assert job.wait(0)


def test_a_job_that_timed_out_is_a_timeout(queue, task, hand):
    job = dead(queue, hand, task, reason="timed_out", error="after 1 s")

    with pytest.raises(gqueue.JobTimeout) as failed:
        job.result()

    assert isinstance(failed.value, TimeoutError)
    assert failed.value.reason == "timed_out"


@pytest.mark.parametrize(("reason", "kind"), [("failed", gqueue.JobFailed), ("timed_out", gqueue.JobTimeout)])
def test_a_dead_job_whose_outcome_is_not_kept_answers_by_its_letter(queue, task, hand, reason, kind):
    job = dead(queue, hand, task, reason=reason, error="no", traceback="there", ttl_ms=0)

    with pytest.raises(kind) as failed:
        job.result()

    assert (failed.value.reason, failed.value.error, failed.value.remote_traceback) == (reason, "no", "there")


def test_a_cancelled_job_is_cancelled(task):
    job = task.enqueue(1)

    assert job.cancel()

    with pytest.raises(gqueue.JobCancelled):
        job.result()
    assert job.wait(0)
    assert job.cancel()  # it is, whoever did it


def test_a_result_that_is_not_there_in_time_is_a_timeout_and_the_job_goes_on(task):
    job = task.enqueue(1)
    began = time.monotonic()

    with pytest.raises(gqueue.ResultTimeout, match=r"0\.2 s") as late:
        job.result(timeout=0.2)

    assert isinstance(late.value, TimeoutError)
    assert 0.2 <= time.monotonic() - began < 2
    assert not job.wait(timeout=0)
    assert job.status() == "ready"


def test_a_result_that_is_not_kept_is_unknown_and_the_job_done(task, hand):
    job = task.enqueue(1)
    hand.drop(hand.claim())

    assert job.wait(5)
    with pytest.raises(gqueue.UnknownJob):
        job.result()


def test_waiting_for_a_job_whose_result_is_not_kept_ends(task, hand):
    job = task.enqueue(1)
    with ThreadPoolExecutor() as pool:
        waiting = pool.submit(job.wait, 20)
        hand.drop(hand.claim())

        assert waiting.result(20) is True


def test_a_job_that_never_was_is_unknown(queue):
    with pytest.raises(gqueue.UnknownJob, match="nobody"):
        queue.fetch_job("nobody").result(timeout=1)


@pytest.mark.parametrize(("state", "outcome"), [(State.SUCCEEDED, b"{"), (State.DEAD, b"\xff"), (State.DEAD, b"[]")])
def test_an_outcome_that_cannot_be_read_is_a_failure(state, outcome):
    with pytest.raises(gqueue.JobFailed, match="cannot be read") as failed:
        value_of("x", "q", Look(state, outcome))

    assert failed.value.reason == "bad_result"


def test_a_result_beyond_the_limit_is_a_failure_however_small_the_limit(make_queue):
    task = make_queue().task(add)
    job, hand = task.enqueue(1), Hand(task.queue)
    hand.claim()
    hand.succeed(job.id, "x" * 200_000)
    stranger = make_queue(max_payload_bytes=2_000).fetch_job(job.id)

    assert job.result() == "x" * 200_000
    with pytest.raises(gqueue.JobFailed, match="has 200,032 bytes, the limit is 2,000") as failed:
        stranger.result()
    assert failed.value.reason == "bad_result"


@pytest.mark.parametrize("ttl_ms", [0, 60_000])
def test_error_and_traceback_of_any_size_are_cut_where_they_are_read(make_queue, ttl_ms):
    queue = make_queue(max_payload_bytes=2_000)
    job, hand = queue.task(add).enqueue(1), Hand(queue)
    hand.claim()
    texts = b'"error":"%sthe error","traceback":"%sthe line"' % (b"e" * 3_000_000, b"t" * 3_000_000)
    report, outcome = b"{%s}" % texts, b'{"state":"dead","reason":"%s",%s}' % (b"r" * 20_000, texts)
    hand.settle(Settlement(job.id, "bury", reason="failed", report=report, outcome=outcome, ttl_ms=ttl_ms))

    with pytest.raises(gqueue.JobFailed) as failed:
        job.result()

    assert failed.value.error == "[2,983,625 characters cut] " + "e" * (16_384 - 9) + "the error"
    assert failed.value.remote_traceback == "[2,983,624 characters cut] " + "t" * (16_384 - 8) + "the line"
    assert failed.value.reason == ("[3,616 characters cut] " + "r" * 16_384 if ttl_ms else "failed")


def test_the_outcome_says_more_than_the_letter():
    look = Look(State.DEAD, encode_value(1), reason=Reason.TIMED_OUT, report=encode_report("e"))

    with pytest.raises(gqueue.JobFailed) as failed:
        value_of("x", "q", look)

    assert failed.value.reason == Outcome("").reason


@pytest.mark.parametrize("timeout", [-1, "1", float("nan")])
def test_a_timeout_that_is_none_is_refused(task, timeout):
    with pytest.raises(gqueue.BadSetting, match="timeout"):
        task.enqueue(1).result(timeout=timeout)


# Waiting.


def test_any_number_of_waiters_share_one_listener(queue, task, hand):
    jobs = [task.enqueue(n) for n in range(20)]
    threads_before = threading.active_count()
    with ThreadPoolExecutor(40) as pool:
        waiting = [pool.submit(job.result, 20) for job in jobs for _ in range(2)]
        wait_until_awaited(queue, 20)
        assert threading.active_count() <= threads_before + 40 + 1
        for claimed in hand.claim(20):
            hand.succeed(claimed.id, claimed.id)

        assert [future.result(20) for future in waiting] == [job.id for job in jobs for _ in range(2)]
    assert not queue.producer.outcomes._waiting


def wait_until_awaited(queue, count):
    deadline = time.monotonic() + 20
    while len(queue.store.snapshot()["awaited"]) < count:
        assert time.monotonic() < deadline, "the waiters did not come to wait"
        time.sleep(0.005)


def test_an_outcome_that_nobody_announces_is_found_by_the_next_renewal(task, hand, queue, monkeypatch):
    job = task.enqueue(1)
    monkeypatch.setattr(queue.store, "wait_done", lambda timeout: time.sleep(timeout) or ())
    with ThreadPoolExecutor() as pool:
        waiting = pool.submit(job.result, 30)
        wait_until_awaited(queue, 1)
        hand.claim()
        hand.succeed(job.id, 5)

        assert waiting.result(30) == 5


def test_a_job_that_ended_between_look_and_wait_is_not_waited_for(queue, task, hand, monkeypatch):
    monkeypatch.setattr("gqueue.outcomes.RENEW_S", 60)
    job = task.enqueue(1)
    hand.claim()
    hand.succeed(job.id)
    began = time.monotonic()

    queue.producer.outcomes.wait(job.id, began + 20)

    assert time.monotonic() - began < 10


def test_a_listener_that_fails_goes_on(queue, task, hand, monkeypatch, caplog):
    job = task.enqueue(1)
    store, failed = queue.store, []
    wait_done = store.wait_done

    def fails_once(timeout):
        if not failed:
            failed.append(True)
            raise RuntimeError("a fault")
        return wait_done(timeout)

    monkeypatch.setattr(store, "wait_done", fails_once)
    with ThreadPoolExecutor() as pool:
        waiting = pool.submit(job.result, 30)
        wait_until_awaited(queue, 1)
        hand.claim()
        hand.succeed(job.id, 5)

        assert waiting.result(30) == 5
    assert failed
    assert "a fault" in caplog.text


def test_the_listener_ends_when_nobody_has_waited_for_a_while_and_comes_again(
    queue, task, hand, monkeypatch, eventually
):
    monkeypatch.setattr("gqueue.attendant.LINGER_S", 0.0)
    monkeypatch.setattr("gqueue.outcomes.RENEW_S", 0.05)
    name = f"gqueue outcomes {queue.name}"
    for number in range(2):
        job = task.enqueue(number)
        with pytest.raises(gqueue.ResultTimeout):
            job.result(timeout=0.01)
        eventually(lambda: name not in {thread.name for thread in threading.enumerate()})
    with ThreadPoolExecutor() as pool:
        waiting = pool.submit(job.result, 20)
        for claimed in hand.claim(2):
            hand.succeed(claimed.id, 7)
        assert waiting.result(20) == 7


def test_the_subscription_ends_with_the_listener(redis_url, queue_name, monkeypatch, eventually):
    monkeypatch.setattr(attendant, "LINGER_S", 0.0)
    monkeypatch.setattr("gqueue.outcomes.RENEW_S", 0.05)
    with closing(Queue(queue_name, redis_url)) as queue:
        task, store = queue.task(add), queue.store
        subscribed = partial(store._client.call, "numsub", (b"PUBSUB", b"NUMSUB", store._keys.done))
        for _ in range(2):
            job = task.enqueue(1)
            waiter = threading.Thread(target=job.wait, args=(20,))
            waiter.start()
            eventually(lambda: subscribed()[1] == 1)

            job.cancel()

            waiter.join(20)
            eventually(lambda: subscribed()[1] == 0)


def test_a_limit_holds_while_all_connections_are_busy(redis_queue_and_busy, monkeypatch):
    monkeypatch.setattr("gqueue.store.patience.LEAST_S", 0.1)
    queue, busy = redis_queue_and_busy
    began = time.monotonic()

    with busy(), pytest.raises(ResultTimeout):
        queue.fetch_job("any").result(timeout=0.2)
    with busy(), pytest.raises(StoreUnavailable, match="did not go in") as refused:
        queue.task(add).options(wait_timeout=0.2).enqueue(1)

    assert time.monotonic() - began < 3
    assert not refused.value.may_be_in


@pytest.fixture
def redis_queue_and_busy(redis_url, queue_name):
    """Return a queue, and what keeps all its connections in others' hands for a while."""

    @contextmanager
    def busy():
        links = queue.store._client._links
        taken = [links.lanes().take(time.monotonic() + 5) for _ in range(MAX_LANES)]
        try:
            yield
        finally:
            for link in taken:
                links.lanes().drop(link)

    with closing(Queue(queue_name, redis_url)) as queue:
        yield queue, busy


def test_an_interrupted_waiter_leaves_nothing_behind(queue, task, monkeypatch):
    job = task.enqueue(1)

    def interrupted(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(queue.store, "await_done", interrupted)
    with pytest.raises(KeyboardInterrupt):
        job.result()
    assert queue.producer.outcomes._waiting == {}


def test_an_interrupt_while_the_listener_starts_leaves_nothing_behind(queue, task, monkeypatch):
    job = task.enqueue(1)

    def interrupted():
        raise KeyboardInterrupt

    monkeypatch.setattr(queue.producer.outcomes._listener, "ensure", interrupted)
    with pytest.raises(KeyboardInterrupt):
        job.result()
    assert queue.producer.outcomes._waiting == {}


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_listener_that_was_killed_is_started_again_by_those_who_wait(queue, task, hand, monkeypatch):
    monkeypatch.setattr("gqueue.outcomes.ENSURE_S", 0.1)
    job = task.enqueue(1)
    store, killed = queue.store, []
    wait_done = store.wait_done

    def killed_once(timeout):
        if not killed:
            killed.append(threading.current_thread())
            raise SystemExit  # what ends a thread as silently as a greenlet that is killed
        return wait_done(timeout)

    monkeypatch.setattr(store, "wait_done", killed_once)
    with ThreadPoolExecutor() as pool:
        waiting = pool.submit(job.result, 30)
        wait_until_awaited(queue, 1)
        hand.claim()
        hand.succeed(job.id, 5)

        assert waiting.result(30) == 5
    killed[0].join(10)


def test_closing_wakes_those_who_wait():
    outcomes = Outcomes("q", lambda: None)
    outcomes._listener.ensure = lambda: None
    with ThreadPoolExecutor() as pool:
        waiting = pool.submit(outcomes._listening.wait, 20)
        outcomes.close()

        assert waiting.result(20)


# Cancel, priority, progress.


def test_cancelling_a_running_job_asks_its_worker(task, hand):
    job = task.enqueue(1)
    hand.claim()

    assert job.cancel()
    assert job.status() == "running"
    assert hand.store.heartbeat(hand.worker).cancels == (job.id,)


def test_cancelling_a_job_that_is_done_or_unknown_is_false(queue, task, hand):
    job = task.enqueue(1)
    hand.claim()
    hand.succeed(job.id)

    assert not job.cancel()
    assert not queue.fetch_job("nobody").cancel()
    assert job.status() == "succeeded"


def test_a_waiting_job_can_be_ranked_anew(queue, task, hand):
    _, late = task.enqueue(1), task.enqueue(2)

    assert late.set_priority(-1)
    assert [job.id for job in hand.claim()] == [late.id]
    assert not late.set_priority(0)
    with pytest.raises(gqueue.BadSetting):
        late.set_priority(float("nan"))


def test_progress_is_what_the_job_last_reported(task, hand):
    job = task.enqueue(1)
    assert job.progress() is None
    hand.claim()
    hand.store.report_progress(hand.worker, job.id, b'{"done":3}')

    assert job.progress() == {"done": 3}


# Inside a task.


class InTask:
    """A worker's side of a running job; counts what it carries."""

    job_id, task_name, queue_name, attempt, priority, slot = "j1", "add", "reports", 2, -1.0, 4

    def __init__(self, *serves):
        self._serves, self.carried, self.progress = serves, [], []
        self.deadline = time.monotonic() + 60

    def carry(self, call):
        self.carried.append(call)
        token = current.set(None)  # the worker's greenlet has a context of its own
        try:
            return call()
        finally:
            current.reset(token)

    def serves(self, url, queue_name):
        return (url, queue_name) in self._serves

    def report_progress(self, data):
        self.progress.append(data)


@pytest.fixture
def in_task(queue):
    running = InTask((queue.url, queue.name))
    token = current.set(running)
    yield running
    current.reset(token)


@pytest.fixture
def in_task_elsewhere(queue):
    running = InTask()
    token = current.set(running)
    yield running
    current.reset(token)


def test_outside_of_a_worker_there_is_no_current_job():
    assert gqueue.current_job() is None


def test_the_current_job_is_what_the_worker_says(in_task):
    job = gqueue.current_job()

    assert (job.id, job.task, job.queue, job.attempt, job.priority, job.slot) == ("j1", "add", "reports", 2, -1.0, 4)
    assert job.deadline == in_task.deadline
    assert 0 < job.remaining <= 60
    job.progress({"done": (1, 2)})
    assert in_task.progress == [b'{"done":[1,2]}']
    with pytest.raises(gqueue.BadPayload, match="progress"):
        job.progress({1})


class OnlyCarried:
    """A store that refuses calls which do not come through the worker's `carry`."""

    def __init__(self, store):
        self._store = store

    def __getattr__(self, name):
        value = getattr(self._store, name)
        if not callable(value):
            return value

        def carried(*arguments, **options):
            assert current.get() is None, f"{name} was called on the task's own greenlet"
            return value(*arguments, **options)

        return carried


def test_every_call_of_a_task_is_carried_by_the_worker(in_task_elsewhere, queue, task, monkeypatch):
    queue.producer._store = OnlyCarried(queue.store)
    job = task.enqueue(1)
    handles = queue.enqueue_many([task.job(1)])

    assert (job.status(), job.progress(), job.wait(timeout=0.1), job.set_priority(1)) == ("ready", None, False, True)
    assert job.cancel()
    assert queue.stats().depth == 1
    queue.pause()
    queue.resume()
    queue.set_capacity(1)
    with pytest.raises(gqueue.QueueFull):
        task.options(wait_timeout=0.05).enqueue(1)
    queue.purge()
    assert queue.dead.list() == queue.dead.redrive("x") == []
    assert queue.dead.delete("x") == 0
    assert handles[0].wait()
    assert in_task_elsewhere.carried


def test_waiting_in_a_task_without_timeout_for_a_queue_that_its_worker_serves_is_refused(in_task, task):
    job = task.enqueue(1)

    with pytest.raises(gqueue.WouldDeadlock, match="timeout"):
        job.result()
    with pytest.raises(gqueue.WouldDeadlock):
        job.wait()
    with pytest.raises(gqueue.ResultTimeout):
        job.result(timeout=0)


def test_a_task_never_waits_for_room_in_a_queue_that_its_worker_serves(in_task, make_queue):
    task = make_queue(capacity=1).task(add)
    task.enqueue(1)
    began = time.monotonic()

    with pytest.raises(gqueue.QueueFull, match="its own worker serves"):
        task.enqueue(2)
    with pytest.raises(gqueue.QueueFull, match="its own worker serves"):
        task.options(wait_timeout=60).enqueue(2)

    assert time.monotonic() - began < 10


def test_a_task_may_wait_for_room_elsewhere(in_task_elsewhere, make_queue):
    queue = make_queue(capacity=1)
    task = queue.task(add)
    first = task.enqueue(1)
    timer = threading.Timer(0.2, lambda: queue.store.cancel(first.id, 0))
    timer.start()

    assert task.options(wait_timeout=20).enqueue(2).status() == "ready"
