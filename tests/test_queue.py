"""A queue at its public face, on both kinds of store: what goes in, in which order, and what is refused."""

import math
import os
import re
import threading
import time
from datetime import timedelta

import pytest

import gqueue
from gqueue.core.model import Admission, NewJob
from gqueue.store import age
from gqueue.store.acl import rules
from gqueue.store.codec import decode_record
from gqueue.store.connection import MAX_LANES
from tests.hand import Hand
from tests.servers import Server, free_port


def add(a, b=0):
    return a + b


@pytest.fixture
def queue(make_queue):
    return make_queue(capacity=3)


@pytest.fixture
def task(queue):
    return queue.task(add)


def arguments(jobs):
    return [decode_record(job.record).args[0] for job in jobs]


# Settings.


def test_settings_default_to_what_the_docs_say(monkeypatch):
    for name in ("GQUEUE_REDIS_URL", "REDIS_URL"):
        monkeypatch.delenv(name, raising=False)
    queue = gqueue.Queue("reports")

    assert (queue.name, queue.url) == ("reports", "redis://localhost:6379/0")
    assert (queue.settings.capacity, queue.settings.max_payload_bytes) == (100_000, 1024 * 1024)
    rules = queue.settings.rules
    assert (rules.lease_ms, rules.max_crashes, rules.result_ttl_ms, rules.aging_per_second) == (30_000, 3, 300_000, 0)
    assert (rules.letters_max, rules.letters_ms, rules.shed_max) == (10_000, 30 * 86_400_000, 1_000)


def test_settings_are_seconds_or_timedeltas():
    queue = gqueue.Queue("reports", lease=timedelta(minutes=1), result_ttl=0, retry_for=0.5, letters_ttl=60)

    rules = queue.settings.rules
    assert (rules.lease_ms, rules.result_ttl_ms, queue.settings.retry_for_ms, rules.letters_ms) == (
        60_000,
        0,
        500,
        60_000,
    )


def test_the_url_is_the_argument_else_the_environment(monkeypatch):
    monkeypatch.setenv("REDIS_URL", "redis://two")
    assert gqueue.Queue("a").url == "redis://two"
    monkeypatch.setenv("GQUEUE_REDIS_URL", "redis://one")
    assert gqueue.Queue("a").url == "redis://one"
    assert gqueue.Queue("a", "redis://three").url == "redis://three"


@pytest.mark.parametrize(
    "settings",
    [
        {"capacity": 0},
        {"capacity": 1.5},
        {"lease": 0},
        {"lease": timedelta(days=2)},
        {"max_payload_bytes": 0},
        {"max_crashes": 0},
        {"aging_per_second": -1},
        {"aging_per_second": float("nan")},
        {"retry_for": 301},
        {"letters_max": 0},
        {"wait_timeout": -1},
        {"wait_timeout": "soon"},
    ],
)
def test_settings_out_of_range_are_refused(settings):
    with pytest.raises(gqueue.BadSetting, match=next(iter(settings))):
        gqueue.Queue("reports", "memory:", **settings)


@pytest.mark.parametrize("digits", [400, 5000])
@pytest.mark.parametrize("name", ["lease", "capacity", "aging_per_second", "wait_timeout"])
def test_numbers_that_no_float_can_hold_are_refused(name, digits):
    with pytest.raises(gqueue.BadSetting, match=name):
        gqueue.Queue("reports", "memory:", **{name: 10**digits})


@pytest.mark.parametrize(
    ("url", "why"),
    [
        (5, "must be a str, not int"),
        (0, "must be a str, not int"),
        (b"redis://host", "must be a str, not bytes"),
        ("localhost", "begins with none of"),
        ("http://:secret@host", "begins with none of"),
        ("redis:/:secret@host", "begins with none of"),
        ("secret@host", "begins with none of"),
        ("REDIS://:secret@host", "begins with none of"),
        ("memory", "begins with none of"),
        ("redis://:secret@host:port/0", "port"),
        ("redis://:secret@host:65536", "port"),
        ("redis://:secret@host:0", "port is 0"),
        ("redis://:sec/ret@host", "port"),
        ("redis://:secret@[::1/0", "host"),
        ("redis://:secret@host/zero", "database"),
        ("redis://:secret@host/-1", "database"),
        ("redis://:secret@host/0?db=one", "database"),
        ("rediss://:secret@host/0?password=secret&db=x", "database"),
        ("unix://:secret@/tmp/socket?db=x", "database"),
        ("unix://", "path of the unix socket"),
    ],
)
def test_a_url_that_is_none_is_refused_and_its_password_not_shown(url, why):
    with pytest.raises(gqueue.BadSetting, match=why) as refused:
        gqueue.Queue("reports", url)

    shown = str(refused.value).replace(why, "")
    assert "sec" not in shown
    assert refused.value.__cause__ is None or "sec" not in str(refused.value.__cause__)


@pytest.mark.parametrize(
    "url",
    [
        "redis://",
        "redis:///3",
        "redis://host",
        "redis://host:1/",
        "redis://user:p%2Fw@[::1]:6379/15?socket_connect_timeout=3",
        "rediss://:pw@host:6380/0?ssl_cert_reqs=none",
        "unix:///run/redis.sock?db=2",
        "unix://:pw@/run/redis.sock",
        "memory:",
        "memory:other",
        "embedded:",
    ],
)
def test_a_url_of_the_right_form_is_taken_without_asking_anybody(url):
    assert gqueue.Queue("reports", url).url == url


@pytest.mark.parametrize("kind", ["redis", "rediss", "unix", "redis+sentinel", "embedded", "memory"])
def test_a_refused_url_tells_every_kind_there_is(kind):
    with pytest.raises(gqueue.BadSetting, match=f"expected .*{re.escape(kind)}:"):
        gqueue.Queue("reports", "localhost")


@pytest.mark.parametrize("variable", ["GQUEUE_REDIS_URL", "REDIS_URL"])
def test_a_bad_url_of_the_environment_names_its_variable(monkeypatch, variable):
    monkeypatch.delenv("GQUEUE_REDIS_URL", raising=False)
    monkeypatch.setenv(variable, "http://:secret@host")

    with pytest.raises(gqueue.BadSetting, match=rf"http://\*\*\* \(from {variable}\)"):
        gqueue.Queue("reports")
    assert gqueue.Queue("reports", "redis://host").url == "redis://host"


def test_a_queue_does_not_show_the_password_in_its_url():
    assert "secret" not in repr(gqueue.Queue("reports", "redis://:secret@localhost"))


# Enqueue.


def test_jobs_run_by_priority_then_in_order_of_arrival(queue, task):
    queue.set_capacity(100)
    for number, priority in enumerate([0, 5, -1, 0, -1]):
        task.options(priority=priority).enqueue(number)

    assert arguments(Hand(queue).claim(10)) == [2, 4, 0, 3, 1]


def test_a_delayed_job_is_scheduled_and_takes_room(queue, task):
    job = task.options(delay=60).enqueue(1)

    assert job.status() == "scheduled"
    assert (queue.stats().scheduled, queue.stats().depth) == (1, 1)


def test_a_job_whose_id_waits_already_is_not_added_and_needs_no_room(queue, task):
    first = task.options(job_id="mine").enqueue(1)
    queue.enqueue_many(task.job(n) for n in range(2))

    second = task.options(job_id="mine", when_full="reject").enqueue(2)

    assert second == first
    assert queue.stats().depth == 3


def test_a_prepared_job_that_is_enqueued_twice_is_one_job(queue, task):
    prepared = task.job(1)

    assert prepared.enqueue().id == queue.enqueue(prepared).id == prepared.id
    assert queue.stats().depth == 1


def test_rejected_when_full(queue, task):
    queue.enqueue_many(task.job(n) for n in range(3))

    with pytest.raises(gqueue.QueueFull, match="when_full='reject'") as refused:
        task.options(when_full="reject", priority=-9).enqueue(4)

    error = refused.value
    assert (error.queue, error.capacity, error.depth, error.admitted) == (queue.name, 3, 3, ())


def test_shed_displaces_the_least_urgent_and_only_by_a_more_urgent_one(queue, task):
    jobs = [task.options(priority=p).enqueue(p) for p in (1, 3, 2)]

    task.options(when_full="shed", priority=2.5).enqueue(0)
    with pytest.raises(gqueue.QueueFull, match="when_full='shed'"):
        task.options(when_full="shed", priority=2.5).enqueue(0)

    assert [job.status() for job in jobs] == ["ready", "dead", "ready"]
    assert [letter.id for letter in queue.dead.list(shed=True)] == [jobs[1].id]


def test_a_wait_of_no_time_is_a_refusal(queue, task):
    queue.enqueue_many(task.job(n) for n in range(3))

    with pytest.raises(gqueue.QueueFull, match="wait_timeout=0"):
        task.options(wait_timeout=0).enqueue(1)


# Many at once.


def test_the_queue_says_how_long_its_jobs_wait_where_their_options_do_not(make_queue):
    queue = make_queue(capacity=1, wait_timeout=timedelta(seconds=0.05))
    task = queue.task(add)
    task.enqueue(1)

    for enqueue in (
        task.enqueue,
        task.options(priority=-1).enqueue,
        lambda n: queue.enqueue_many([task.job(n)]),
        lambda n: queue.enqueue_many([task.job(n)], when_full="wait"),
    ):
        with pytest.raises(gqueue.QueueFull, match=r"within 0\.05 s"):
            enqueue(2)
    with pytest.raises(gqueue.QueueFull, match=r"within 0\.1 s"):
        task.options(wait_timeout=0.1).enqueue(2)
    with pytest.raises(gqueue.QueueFull, match=r"within 0\.1 s"):
        queue.enqueue_many([task.job(2)], when_full="wait", wait_timeout=0.1)


def test_for_ever_can_be_asked_for_in_spite_of_the_queue():
    limited, endless = gqueue.Queue("a", "memory:", wait_timeout=2), gqueue.Queue("a", "memory:")

    assert limited.task(add).options(wait_timeout=float("inf")).job(1).terms[1] is None
    assert limited.tasks["add"].job(1).terms[1] == 2_000
    assert endless.task(add).job(1).terms[1] is None


def test_many_jobs_go_in_order_one_call_for_each_500(make_queue):
    queue = make_queue()
    task = queue.task(add)
    calls = count_calls(queue)

    handles = queue.enqueue_many(task.job(n) for n in range(2_500))

    assert calls == [500] * 5
    assert arguments(Hand(queue).claim(1_000)) == list(range(1_000))
    assert len({job.id for job in handles}) == 2_500
    assert handles[0].status() == "running"


def test_many_jobs_are_cut_by_their_bytes_too(make_queue):
    queue = make_queue()
    task = queue.task(add)
    calls = count_calls(queue)

    queue.enqueue_many(task.job("x" * 900_000) for _ in range(6))

    assert calls == [2, 2, 2]


def test_a_generator_is_asked_for_the_next_jobs_while_a_call_is_under_way_and_for_no_more(make_queue, monkeypatch):
    monkeypatch.setattr(gqueue.core.producer, "QUICK_MS", math.inf)
    queue = make_queue()
    task = queue.task(add)
    calls, calls_when_taken = count_calls(queue), []

    def source():
        for number in range(3_000):
            calls_when_taken.append(len(calls))
            yield task.job(number)

    queue.enqueue_many(source())

    taken_by = [calls_when_taken.count(call) for call in range(7)]
    assert taken_by == [501, 500, 500, 500, 500, 499, 0]  # by the second call those of the third, ...


def test_a_slow_generator_is_asked_only_when_the_answer_is_there(make_queue, monkeypatch):
    monkeypatch.setattr(gqueue.core.producer, "QUICK_MS", -1)
    queue = make_queue()
    task = queue.task(add)
    depths = []

    def source():
        for number in range(2_000):
            if number % 500 == 250:
                depths.append(queue.stats().depth)
            yield task.job(number)

    queue.enqueue_many(source())

    assert depths == [0, 500, 1_000, 1_500]


def test_a_generator_may_enqueue_by_itself_meanwhile(make_queue):
    queue = make_queue()
    task = queue.task(add)

    def source():
        for number in range(1_200):
            if number % 400 == 300:
                task.options(priority=-1).enqueue(-number)
            yield task.job(number)

    queue.enqueue_many(source())

    assert arguments(Hand(queue).claim(1_000))[:4] == [-300, -700, -1_100, 0]
    assert queue.stats().depth == 203


def test_generators_that_ask_the_queue_never_hold_all_connections(redis_url, queue_name, monkeypatch):
    monkeypatch.setattr(gqueue.core.producer, "QUICK_MS", math.inf)
    queue = gqueue.Queue(queue_name, redis_url)
    task = queue.task(add)
    everyone, done = threading.Barrier(MAX_LANES), []

    def source():
        for number in range(700):
            if number == 600:  # while the first call is under way, or behind it
                everyone.wait(30)
                queue.stats()
            yield task.job(number)

    threads = [
        threading.Thread(target=lambda: done.append(len(queue.enqueue_many(source()))), daemon=True)
        for _ in range(MAX_LANES)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    queue.close()

    assert done == [700] * MAX_LANES


def test_an_interrupt_of_a_generator_ends_the_call_that_is_under_way(make_queue, monkeypatch):
    monkeypatch.setattr(gqueue.core.producer, "QUICK_MS", math.inf)
    queue = make_queue()
    task = queue.task(add)

    def source():
        for number in range(2_000):
            if number == 1_200:
                raise KeyboardInterrupt
            yield task.job(number)

    with pytest.raises(KeyboardInterrupt) as hit:
        queue.enqueue_many(source())

    assert "500 jobs of the batch went in before" in hit.value.__notes__[0]
    assert queue.stats().depth in (500, 1_000)  # those of the call were sent
    task.enqueue(1)


def test_many_that_do_not_fit_tell_which_went_in(queue, task):
    prepared = [task.job(n) for n in range(5)]

    with pytest.raises(gqueue.QueueFull) as refused:
        queue.enqueue_many(prepared, when_full="reject")

    assert refused.value.admitted == tuple(job.id for job in prepared[:3])


def test_many_tell_of_the_calls_before_as_well(make_queue):
    queue = make_queue(capacity=1_500)
    task = queue.task(add)
    prepared = [task.job(n) for n in range(2_500)]

    with pytest.raises(gqueue.QueueFull) as refused:
        queue.enqueue_many(prepared, when_full="wait", wait_timeout=0.05)

    assert refused.value.admitted == tuple(job.id for job in prepared[:1_500])


def test_each_of_many_is_treated_as_it_was_prepared(queue, task):
    worse = [task.options(priority=1).job(n) for n in range(3)]

    queue.enqueue_many([*worse, task.options(when_full="shed").job(9)])

    assert arguments(Hand(queue).claim(9)) == [9, 0, 1]


def test_an_error_of_the_generator_tells_how_many_went_in(make_queue):
    queue = make_queue()
    task = queue.task(add)

    with pytest.raises(gqueue.BadPayload) as refused:
        queue.enqueue_many(task.job(n if n < 1_999 else {n}) for n in range(3_000))

    assert "1,500 jobs of the batch went in" in refused.value.__notes__[0]
    assert queue.stats().depth == 1_500


def test_no_jobs_are_no_call(queue):
    calls = count_calls(queue)

    assert queue.enqueue_many([]) == []
    assert calls == []


def test_jobs_of_another_queue_are_refused(queue, task):
    other = gqueue.Queue("other", "memory:").task(add)

    with pytest.raises(gqueue.BadSetting, match="'other'"):
        queue.enqueue_many([other.job(1)])
    with pytest.raises(gqueue.BadSetting, match="not a job"):
        queue.enqueue_many([task])


def test_a_timeout_for_many_needs_a_policy(queue, task):
    with pytest.raises(gqueue.BadSetting, match="when_full"):
        queue.enqueue_many([task.job(1)], wait_timeout=1)


# Looking after it.


def test_pause_resume_capacity_and_purge(queue, task):
    hand = Hand(queue)
    jobs = queue.enqueue_many(task.job(n) for n in range(3))

    queue.pause()
    assert queue.stats().paused
    assert hand.claim(3) == ()
    queue.resume()
    assert len(hand.claim(1)) == 1
    queue.set_capacity(1)
    assert queue.stats().capacity == 1
    queue.set_capacity(None)
    queue.purge()
    assert [job.status() for job in jobs] == ["running", "unknown", "unknown"]


def test_purge_drops_more_than_a_call_can(make_queue):
    queue = make_queue()
    task = queue.task(add)
    queue.enqueue_many(task.job(n) for n in range(2_001))

    queue.purge()

    assert queue.stats().depth == 0


def test_who_may_not_purge_is_told_so_of_this(server, queue_name):
    with server.client() as client:
        client.execute_command("ACL", "SETUSER", "vic", "on", ">pw", *rules([queue_name], ["worker"], selective=False))
    queue = gqueue.Queue(queue_name, f"unix://vic:pw@{server.socket}")
    with pytest.raises(gqueue.CallRefused, match="refused purge: "):
        queue.purge()
    queue.close()


@pytest.mark.parametrize("job_id", ["", "a b", None, "x" * 101])
def test_a_handle_of_an_impossible_id_is_refused(queue, job_id):
    with pytest.raises(gqueue.BadName):
        queue.fetch_job(job_id)


def test_a_closed_queue_opens_anew(queue, task):
    task.enqueue(1)
    queue.close()

    task.enqueue(2)

    assert queue.stats().depth == 2


# Numbered calls.


class Unanswered:
    """A store that carries out calls, or does not, and does not answer them."""

    def __init__(self, store, *, arrives, fails=1):
        self.store, self.arrives, self.fails = store, arrives, fails
        self.calls = []

    def __getattr__(self, name):
        return getattr(self.store, name)

    def enqueue(self, lane, call, jobs, **options):
        self.calls.append((lane, call, len(jobs)))
        if len(self.calls) <= self.fails:
            if self.arrives:
                self.store.enqueue(lane, call, jobs, **options)
            raise gqueue.StoreUnavailable("Redis is away", may_be_in=self.arrives)
        return self.store.enqueue(lane, call, jobs, **options)


def count_calls(queue):
    store, sizes = queue.store, []
    enqueue = store.enqueue

    def counted(lane, call, jobs, **options):
        sizes.append(len(jobs))
        return enqueue(lane, call, jobs, **options)

    store.enqueue = counted
    return sizes


def put(queue, store):
    queue.producer._store = store
    return store


def test_calls_in_a_row_are_numbered_on_one_lane(queue, task):
    store = put(queue, Unanswered(queue.store, arrives=True, fails=0))

    for number in range(3):
        task.enqueue(number)

    assert [call for _, call, _ in store.calls] == [1, 2, 3]
    assert len({lane for lane, _, _ in store.calls}) == 1


def test_a_lane_is_never_used_again_after_a_call_without_an_answer(queue, task):
    store = put(queue, Unanswered(queue.store, arrives=True, fails=0))
    task.enqueue(0)
    store.fails = 2

    with pytest.raises(gqueue.StoreUnavailable):
        task.options(when_full="reject").enqueue(1)
    task.options(when_full="reject").enqueue(2)

    lanes = [lane for lane, _, _ in store.calls]
    assert lanes[0] == lanes[1] != lanes[2]
    assert store.calls[2][1] == 1


@pytest.mark.parametrize("arrives", [True, False])
def test_without_an_answer_the_error_names_the_job_and_whether_it_may_be_in(queue, task, arrives):
    put(queue, Unanswered(queue.store, arrives=arrives))

    with pytest.raises(gqueue.StoreUnavailable, match="mine") as failed:
        task.options(job_id="mine", wait_timeout=5).enqueue(1)

    assert (failed.value.job_ids, failed.value.may_be_in) == (("mine",), arrives)
    assert queue.stats().depth == arrives


def test_without_an_answer_to_a_batch_the_error_names_what_is_in_and_what_may_be(make_queue):
    queue = make_queue()
    task = queue.task(add)
    prepared = [task.job(n) for n in range(1_500)]
    store = put(queue, Unanswered(queue.store, arrives=True, fails=0))

    def fail_the_second():
        for number, job in enumerate(prepared):
            if number == 1_200:
                store.fails = 3
            yield job

    with pytest.raises(gqueue.StoreUnavailable) as failed:
        queue.enqueue_many(fail_the_second(), when_full="reject")

    ids = [job.id for job in prepared]
    assert (list(failed.value.admitted), list(failed.value.job_ids)) == (ids[:1_000], ids[1_000:])


def test_full_redis_refuses_the_rest_of_a_batch_and_the_error_names_what_is_in(eventually):
    with Server() as server, server.client() as client:
        queue = gqueue.Queue("full", server.url)
        task = queue.task(add)
        prepared = [task.job(n) for n in range(1_500)]

        def fill_up():
            for number, job in enumerate(prepared):
                if number == 1_200:
                    eventually(lambda: queue.stats().depth == 1_000)
                    client.config_set("maxmemory", 1)
                yield job

        with pytest.raises(gqueue.StoreFull, match="1000 jobs of the batch went in before") as refused:
            queue.enqueue_many(fill_up())

        ids = [job.id for job in prepared]
        assert (list(refused.value.admitted), list(refused.value.job_ids)) == (ids[:1_000], ids[1_000:])
        assert queue.stats().depth == 1_000
        queue.close()


@pytest.mark.parametrize("arrives", [True, False])
def test_who_waits_for_ever_waits_through_an_outage_and_puts_the_job_in_once(queue, task, arrives, caplog):
    store = put(queue, Unanswered(queue.store, arrives=arrives, fails=2))

    job = task.enqueue(1)

    assert job.status() == "ready"
    assert queue.stats().counters["enqueued"] == 1
    assert len(set(store.calls)) == 1
    (told,) = [r for r in caplog.records if r.name == "gqueue.producer"]
    assert told.levelname == "WARNING"
    assert job.id in told.getMessage()
    assert "give wait_timeout to be told instead" in told.getMessage()


def test_who_waits_for_ever_is_told_at_once_that_redis_is_away(caplog, queue_name, eventually):
    queue = gqueue.Queue(queue_name, f"redis://127.0.0.1:{free_port()}", retry_for=60)
    waiting = threading.Thread(target=pytest.raises, args=(gqueue.StoreUnavailable, queue.task(add).enqueue, 1))
    waiting.start()

    def told():
        return [r for r in caplog.records if "give wait_timeout to be told instead" in r.getMessage()]

    eventually(told)  # long before the 60 s are over
    assert [r.levelname for r in told()] == ["WARNING"]
    queue.close()
    waiting.join(10)
    assert not waiting.is_alive()


def test_a_call_that_may_have_arrived_is_not_sent_again_when_its_number_may_be_forgotten(queue, task, monkeypatch):
    monkeypatch.setattr("gqueue.store.age.too_late_to_send_again", lambda waited_ms: True)
    put(queue, Unanswered(queue.store, arrives=True))

    with pytest.raises(gqueue.StoreUnavailable):
        task.enqueue(1)


def test_a_call_that_may_have_arrived_is_sent_again_with_the_time_when_it_was_first(queue, task, monkeypatch):
    store = put(queue, Unanswered(queue.store, arrives=True, fails=2))
    monkeypatch.setattr("gqueue.producer.PAUSE_S", (0, 0))
    enqueue, times = store.enqueue, []

    def noted(*arguments, first_sent, **options):
        times.append(first_sent)
        return enqueue(*arguments, **options)

    store.enqueue = noted
    before = age.now()
    task.enqueue(1)

    assert times[0] is None
    assert times[1] == times[2]
    assert before <= times[1] <= age.now()


def test_an_overtaken_lane_is_replaced(queue, task):
    task.enqueue(0)
    lane = queue.producer._lanes.take()
    queue.producer._lanes._idle.append(lane)
    for call in (2, 3):
        queue.store.enqueue(
            lane.id, call, [NewJob("stolen", 0.0, 0, b"{}")], when_full=gqueue.WhenFull.REJECT, capacity=9
        )

    task.enqueue(1)

    assert queue.stats().depth == 3


def test_a_lane_is_dropped_when_an_exception_is_thrown_into_the_call(queue, task):
    store = put(queue, Unanswered(queue.store, arrives=True, fails=0))
    task.enqueue(0)
    enqueue = store.enqueue

    def interrupted(*arguments, **options):
        enqueue(*arguments, **options)
        raise KeyboardInterrupt

    store.enqueue = interrupted
    with pytest.raises(KeyboardInterrupt):
        task.enqueue(1)
    del store.enqueue
    task.enqueue(2)

    lanes = [lane for lane, _, _ in store.calls]
    assert lanes[0] == lanes[1] != lanes[2]


# Threads and forks.


def test_many_threads_share_a_queue(make_queue):
    queue = make_queue()
    task = queue.task(add)
    threads = [threading.Thread(target=lambda: [task.enqueue(n) for n in range(20)]) for _ in range(10)]

    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)

    assert queue.stats().depth == 200
    assert len(queue.producer._lanes._idle) <= 10


def test_threads_that_come_first_together_open_one_store(make_queue):
    queue = make_queue()
    opened, closed = [], []
    everyone = threading.Barrier(5)

    def slowly():
        store = gqueue.Queue(queue.name, "memory:").open_store()
        opened.append(store)
        store.close = lambda: closed.append(store)
        everyone.wait(10)
        return store

    queue.producer._open_store = slowly
    threads = [threading.Thread(target=lambda: queue.store.stats()) for _ in range(5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(10)

    assert set(opened) - set(closed) == {queue.store}


def in_child(action):
    """Run *action* in a forked child; return its exit status."""
    pid = os.fork()
    if pid == 0:
        try:
            action()
        except BaseException:  # whatever it is, the child must not go on with the tests
            os._exit(1)
        os._exit(0)
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        done, status = os.waitpid(pid, os.WNOHANG)
        if done:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.005)
    os.kill(pid, 9)
    os.waitpid(pid, 0)
    return "hung"


def test_a_forked_child_produces_on_lanes_and_connections_of_its_own(redis_url, queue_name):
    queue = gqueue.Queue(queue_name, redis_url)
    task = queue.task(add)
    first = task.enqueue(0)
    lanes = {queue.producer._lanes._prefix}

    def child():
        for number in range(5):
            task.enqueue(number)
        assert queue.producer._lanes._prefix not in lanes
        assert first.status() == "ready"

    assert in_child(child) == 0
    task.enqueue(6)

    assert queue.stats().depth == 7
    queue.close()


def test_a_forked_child_that_has_the_id_of_a_dead_ancestor_enqueues(redis_url, queue_name):
    queue = gqueue.Queue(queue_name, redis_url)
    task = queue.task(add)
    task.enqueue(0)
    ancestor = os.getpid()

    def child():
        os.getpid = lambda: ancestor  # as the kernel may give it out again, once that one is dead
        task.options(wait_timeout=5).enqueue(1)

    assert in_child(child) == 0
    assert queue.stats().depth == 2
    queue.close()


def test_a_child_that_is_forked_while_threads_enqueue_is_not_stuck(redis_url, queue_name):
    queue = gqueue.Queue(queue_name, redis_url)
    task = queue.task(add)
    stop = threading.Event()
    failures = []

    def produce():
        try:
            while not stop.is_set():
                task.enqueue(0)
        except Exception as error:  # shown by the assertion below
            failures.append(error)

    threads = [threading.Thread(target=produce) for _ in range(4)]
    for thread in threads:
        thread.start()
    try:
        exits = [in_child(lambda: task.enqueue(1)) for _ in range(10)]
    finally:
        stop.set()
        for thread in threads:
            thread.join(20)

    assert exits == [0] * 10
    assert failures == []
    queue.close()


def test_a_reply_without_a_place_refuses_even_who_would_wait(queue, task, monkeypatch):
    put(queue, Unanswered(queue.store, arrives=True, fails=0))
    queue.store.enqueue = lambda *arguments, **options: Admission(0, (), 3, 3)

    with pytest.raises(gqueue.QueueFull):
        task.options(wait_timeout=5).enqueue(1)
