"""Producers that wait for room: who gets in and when, and what happens to those who do not come back."""

import itertools
import logging
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing

import pytest

import gqueue
from gqueue.core.model import TICKET_MS, Ticket
from gqueue.line import Waiter
from gqueue.store.codec import decode_record
from tests.hand import Hand
from tests.servers import Server

numbers = itertools.count(1)


def add(a, b=0):
    return a + b


@pytest.fixture
def queue(make_queue):
    return make_queue(capacity=1)


@pytest.fixture
def task(queue):
    return queue.task(add)


@pytest.fixture
def pool():
    threads = ThreadPoolExecutor(40)
    yield threads
    threads.shutdown(wait=False)  # who still waits is ended when the queue is closed


def standing(queue):
    return queue.stats().waiters


def argument(job):
    return decode_record(job.record).args[0]


def take(queue, hand):
    """Claim one job and drop it; return its first argument."""
    jobs = hand.claim()
    hand.drop(jobs)
    return argument(jobs[0]) if jobs else None


# Getting in.


def test_a_producer_waits_while_the_queue_is_full_and_gets_in_when_there_is_room(queue, task, pool, eventually):
    task.enqueue(1)
    waiting = pool.submit(task.enqueue, 2)
    eventually(lambda: standing(queue) == 1)
    assert not waiting.done()
    began = time.monotonic()

    take(queue, Hand(queue))

    assert waiting.result(20).status() == "ready"
    assert time.monotonic() - began < 1
    assert (standing(queue), queue.stats().depth) == (0, 1)


def test_waiters_are_served_most_urgent_first_then_in_order_of_arrival(queue, task, pool, eventually):
    task.options(priority=-9).enqueue("first")
    priorities = [1, 0, 1, 0, -1, 0]
    waiting = []
    for number, priority in enumerate(priorities):
        waiting.append(pool.submit(task.options(priority=priority).enqueue, number))
        eventually(lambda number=number: standing(queue) == number + 1)
    hand, taken = Hand(queue), []

    while len(taken) < len(priorities) + 1:
        eventually(lambda: queue.stats().depth == 1)
        taken.append(take(queue, hand))

    assert taken == ["first", 4, 1, 3, 5, 0, 2]
    assert all(future.result(20) for future in waiting)


def test_a_newcomer_does_not_overtake_who_waits(queue, task, pool, eventually, monkeypatch):
    first = task.enqueue(1)
    monkeypatch.setattr(queue.producer.line, "sleep", lambda waiter, until: time.sleep(0.01) or True)
    release = threading.Event()
    send = queue.producer._send
    waiting = pool.submit(task.enqueue, 2)
    eventually(lambda: standing(queue) == 1)

    def held_back(batch, when_full, ticket, **limits):
        if ticket is not None:
            release.wait(20)
        return send(batch, when_full, ticket, **limits)

    monkeypatch.setattr(queue.producer, "_send", held_back)
    assert first.cancel()
    with pytest.raises(gqueue.QueueFull):
        task.options(when_full="reject").enqueue(3)
    release.set()

    assert waiting.result(20).status() == "ready"


@pytest.mark.slow
def test_twenty_producers_and_one_consumer_never_pass_the_capacity(make_queue, pool):
    queue = make_queue(capacity=10)
    task = queue.task(add)
    depths = []
    producing = [pool.submit(lambda: [task.enqueue(n) for n in range(25)]) for _ in range(20)]
    hand, taken = Hand(queue), 0
    deadline = time.monotonic() + 60

    while taken < 500:
        assert time.monotonic() < deadline
        depths.append(queue.stats().depth)
        jobs = hand.claim(3)
        hand.drop(jobs)
        taken += len(jobs)

    for future in producing:
        future.result(20)
    assert max(depths) == 10
    assert (queue.stats().depth, standing(queue)) == (0, 0)


def test_a_batch_goes_in_as_room_comes_in_order(make_queue, pool):
    queue = make_queue(capacity=2)
    task = queue.task(add)
    hand = Hand(queue)
    producing = pool.submit(lambda: queue.enqueue_many(task.job(n) for n in range(20)))
    taken = []
    deadline = time.monotonic() + 30

    while len(taken) < 20:
        assert time.monotonic() < deadline
        assert queue.stats().depth <= 2
        taken += [argument(job) for job in hand.claim(5)]

    assert taken == list(range(20))
    assert len(producing.result(20)) == 20


def test_a_batch_that_finds_room_behind_others_does_not_wait_for_a_hint(make_queue, monkeypatch):
    # The worse job of a batch goes behind who stands between; room reaches it at once, and nobody says so.
    queue = make_queue(capacity=9)
    task = queue.task(add)
    stand(queue, task.options(priority=3).job("between"), capacity=0)

    def sleep(waiter, until):
        pytest.fail("it waits for a hint")

    monkeypatch.setattr(queue.producer.line, "sleep", sleep)
    jobs = queue.enqueue_many([task.options(priority=p).job(p) for p in (0, 5, 7, 9)])

    assert [job.status() for job in jobs] == ["ready"] * 4
    assert standing(queue) == 1


def stand(queue, prepared, capacity):
    """Put a producer in line that does nothing by itself; return its ticket and the reply."""
    ticket = Ticket(f"idle.{next(numbers)}")
    options = {"when_full": gqueue.WhenFull.WAIT, "capacity": capacity, "ticket": ticket}
    return ticket, queue.store.enqueue(f"idle-{next(numbers)}", 1, [prepared.new], **options)


# Giving up.


def test_a_producer_whose_time_is_up_leaves_the_line(queue, task):
    task.enqueue(1)
    began = time.monotonic()

    with pytest.raises(gqueue.QueueFull, match=r"within 0\.3 s") as refused:
        task.options(wait_timeout=0.3).enqueue(2)

    assert 0.3 <= time.monotonic() - began < 3
    assert (refused.value.depth, refused.value.capacity, refused.value.admitted) == (1, 1, ())
    assert standing(queue) == 0
    assert not queue.producer.line._waiters


@pytest.mark.slow
def test_time_runs_anew_whenever_a_job_of_the_batch_gets_in(make_queue, pool, eventually):
    queue = make_queue(capacity=1)
    task = queue.task(add)
    hand = Hand(queue)
    producing = pool.submit(queue.enqueue_many, [task.job(n) for n in range(5)], when_full="wait", wait_timeout=2)
    began = time.monotonic()
    for number in range(5):
        eventually(lambda: queue.stats().depth == 1)
        time.sleep(0.6)  # the whole takes longer than the limit
        assert take(queue, hand) == number

    assert len(producing.result(20)) == 5
    assert time.monotonic() - began > 2


@pytest.mark.parametrize("exception", [KeyboardInterrupt, SystemExit, RuntimeError])
def test_an_exception_while_waiting_leaves_the_line_at_once(queue, task, monkeypatch, eventually, exception):
    monkeypatch.setattr("gqueue.line.RENEW_S", 30)  # so that nothing but the exception can stir the thread
    task.enqueue(1)

    def thrown_into(waiter, until):
        assert standing(queue) == 1
        raise exception

    monkeypatch.setattr(queue.producer.line, "sleep", thrown_into)
    with pytest.raises(exception):
        task.enqueue(2)

    began = time.monotonic()
    eventually(lambda: standing(queue) == 0)
    assert time.monotonic() - began < TICKET_MS / 1000 / 2, "that was the ticket's lapse"
    assert not queue.producer.line._waiters


def test_an_exception_while_the_threads_start_leaves_nobody_in_line(queue, task, monkeypatch, eventually):
    # A greenlet that starts a thread waits for it, and may be killed then; its ticket was renewed for ever.
    task.enqueue(1)

    def interrupted():
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(queue.producer.line._listener, "ensure", interrupted)
        with pytest.raises(KeyboardInterrupt):
            task.enqueue(2)

    assert not queue.producer.line._waiters
    eventually(lambda: standing(queue) == 0)


@pytest.mark.slow
def test_without_another_thread_the_producer_fails_and_leaves_the_line(queue, task, monkeypatch, eventually):
    task.enqueue(1)

    def start(thread):
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", start)
        with pytest.raises(RuntimeError, match="thread"):
            task.enqueue(2)

    assert not queue.producer.line._waiters
    eventually(lambda: standing(queue) == 0)


def test_who_leaves_makes_room_for_who_is_behind(queue, task, pool, eventually):
    first = task.enqueue(1)
    ahead = pool.submit(task.options(priority=-1, wait_timeout=0.4).enqueue, 2)
    eventually(lambda: standing(queue) == 1)
    behind = pool.submit(task.enqueue, 3)
    eventually(lambda: standing(queue) == 2)
    with pytest.raises(gqueue.QueueFull):
        ahead.result(20)

    assert first.cancel()

    assert behind.result(20).status() == "ready"


# Tickets and hints.


@pytest.mark.slow
def test_a_ticket_is_kept_alive_while_its_producer_waits(queue, task, pool, eventually):
    first = task.enqueue(1)
    waiting = pool.submit(task.enqueue, 2)
    eventually(lambda: standing(queue) == 1)
    calls = count(queue.store, "enqueue")
    stood = time.monotonic() + 3  # longer than a ticket lives

    while time.monotonic() < stood:
        assert standing(queue) == 1
        time.sleep(0.05)
    assert len(calls) <= 5, "it is the renewal that keeps the ticket alive, with a look by the first in line"
    assert first.cancel()
    assert waiting.result(20)


@pytest.mark.slow
def test_one_renewal_and_one_blocked_connection_serve_all_waiters(queue, task, pool, eventually):
    first = task.enqueue(1)
    renewals, waits = count(queue.store, "renew_tickets"), count(queue.store, "wait_room")
    waiting = [pool.submit(task.options(wait_timeout=3).enqueue, n) for n in range(30)]
    eventually(lambda: standing(queue) == 30)
    eventually(lambda: any(len(tickets) == 30 for (tickets, *_) in renewals))

    assert len([t for t in threading.enumerate() if t.name.endswith(f" {queue.name}")]) == 2
    assert len(waits) <= 10
    assert first.cancel()
    for future in waiting:
        future.exception(20)


def count(store, method):
    """Return a list that gets the arguments of each call of *method*."""
    calls, call = [], getattr(store, method)

    def counted(*arguments, **options):
        calls.append(arguments)
        return call(*arguments, **options)

    setattr(store, method, counted)
    return calls


def test_who_comes_while_others_of_the_process_stand_in_line_takes_a_place_with_the_first_call(
    queue, task, pool, eventually, monkeypatch
):
    task.enqueue(0)
    waiting = [pool.submit(task.enqueue, 0)]
    eventually(lambda: queue.producer.line.anyone)  # later than Redis knows of it
    tickets, enqueue = [], queue.store.enqueue

    def noted(*arguments, **options):
        tickets.append(options["ticket"])
        return enqueue(*arguments, **options)

    monkeypatch.setattr(queue.store, "enqueue", noted)
    waiting += [pool.submit(task.enqueue, number) for number in range(20)]
    eventually(lambda: standing(queue) == 21)

    assert all(tickets), "a call without one has nobody stand in line"
    assert sum(ticket.place is None for ticket in tickets) == 20


def test_a_ticket_that_lapsed_returns_where_it_stood(queue, task, pool, eventually, monkeypatch):
    monkeypatch.setattr("gqueue.line.POLL_S", 60)
    task.options(priority=-9).enqueue("first")
    waiting = []
    for name in ("ahead", "lapsed", "behind"):
        waiting.append(pool.submit(task.enqueue, name))
        eventually(lambda: standing(queue) == len(waiting))
    waiter = sorted(queue.producer.line._waiters.values(), key=lambda waiter: waiter.ticket.place)[1]
    place = waiter.ticket.place

    queue.store.leave_line(waiter.ticket)  # what a lapse does: the renewal finds it gone

    eventually(lambda: standing(queue) == 3)
    assert waiter.ticket.place == place
    hand, taken = Hand(queue), []
    while len(taken) < 4:
        eventually(lambda: queue.stats().depth == 1)
        taken.append(take(queue, hand))
    assert taken == ["first", "ahead", "lapsed", "behind"]
    assert all(future.result(20) for future in waiting)


def test_without_hints_the_first_of_the_process_looks_for_itself(queue, task, pool, eventually, monkeypatch):
    monkeypatch.setattr("gqueue.line.POLL_S", 60)
    first = task.enqueue(1)
    monkeypatch.setattr(queue.store, "wait_room", lambda producer, timeout: time.sleep(0.1) or ())
    waiting = pool.submit(task.enqueue, 2)
    eventually(lambda: standing(queue) == 1)
    began = time.monotonic()
    assert first.cancel()

    assert waiting.result(20)
    assert time.monotonic() - began < 5


def test_a_hint_that_comes_before_its_producer_lies_down_is_not_lost(queue, task, monkeypatch):
    monkeypatch.setattr("gqueue.line.RENEW_S", 60)
    monkeypatch.setattr("gqueue.line.POLL_S", 60)
    task.enqueue(1)
    ticket, reply = stand(queue, task.job(2), capacity=1)
    line, hints = queue.producer.line, [(ticket.name,)]
    monkeypatch.setattr(queue.store, "wait_room", lambda *_: hints.pop() if hints else time.sleep(0.1) or ())
    line._listen()

    waiter = Waiter(ticket, reply)
    line.join(waiter)

    assert line.sleep(waiter, time.monotonic() + 5)
    line.part(waiter)


def test_hints_for_producers_that_left_are_not_kept_for_ever(queue, task, monkeypatch):
    line = queue.producer.line
    numbers = iter(range(2_000))
    monkeypatch.setattr(queue.store, "wait_room", lambda producer, timeout: (f"gone.{next(numbers)}",))

    for _ in range(2_000):
        line._listen()

    assert len(line._early) == 1_000


@pytest.mark.slow
def test_the_threads_end_when_nobody_has_waited_for_a_while(queue, task, monkeypatch, eventually):
    monkeypatch.setattr("gqueue.attendant.LINGER_S", 0.0)
    monkeypatch.setattr("gqueue.line.POLL_S", 0.05)
    task.enqueue(1)
    for number in range(2):
        with pytest.raises(gqueue.QueueFull):
            task.options(wait_timeout=0.1).enqueue(number)
        eventually(lambda: not [t for t in threading.enumerate() if t.name.endswith(f" {queue.name}")])


def test_a_long_wait_is_logged_once_with_how_full_the_queue_is(queue, task, monkeypatch, caplog):
    caplog.set_level(logging.INFO, "gqueue.producer")
    monkeypatch.setattr("gqueue.core.producer.TELL_AFTER_MS", 100)
    monkeypatch.setattr("gqueue.line.RENEW_S", 0.1)
    task.enqueue("secret")

    with pytest.raises(gqueue.QueueFull):
        task.options(wait_timeout=1).enqueue("secret")

    (line,) = [record.getMessage() for record in caplog.records if record.name == "gqueue.producer"]
    assert f"queue {queue.name} is full (1 jobs wait, capacity 1)" in line
    assert "secret" not in line


def test_a_short_wait_is_not_logged(queue, task, monkeypatch, caplog):
    caplog.set_level(logging.INFO, "gqueue.producer")
    monkeypatch.setattr("gqueue.line.RENEW_S", 0.05)
    task.enqueue(1)

    with pytest.raises(gqueue.QueueFull):
        task.options(wait_timeout=0.5).enqueue(1)

    assert not [record for record in caplog.records if record.name == "gqueue.producer"]


# Processes.

PRODUCER = """
import sys, threading, time
{patch}
import gqueue
queue = gqueue.Queue({name!r}, {url!r}, capacity=1)
@queue.task
def add(a, b=0): return a + b
"""


started = []


@pytest.fixture(autouse=True)
def no_process_left():
    yield
    while started:
        process = started.pop()
        process.kill()
        process.communicate()


def producer(url, name, code, patch=""):
    """Start a process that has a queue and a task, and runs *code*."""
    text = PRODUCER.format(url=url, name=name, patch=patch) + code
    command = [
        sys.executable,
        "-W",
        "ignore::DeprecationWarning",
        "-c",
        text,
    ]  # from 3.12 on a fork beside threads warns
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    started.append(process)
    return process


def output(process, seconds=60):
    out, err = process.communicate(timeout=seconds)
    assert process.returncode == 0, err
    assert err == ""
    return out.strip()


@pytest.fixture
def redis_queue(redis_url, queue_name):
    queue = gqueue.Queue(queue_name, redis_url, capacity=1)
    yield queue
    queue.close()


@pytest.mark.slow
def test_a_killed_producer_holds_nobody_up_for_long(redis_queue, redis_url, pool, eventually):
    task = redis_queue.task(add)
    first = task.enqueue(1)
    killed = producer(redis_url, redis_queue.name, "add.options(priority=-1).enqueue(2)")
    eventually(lambda: standing(redis_queue) == 1)
    behind = pool.submit(task.enqueue, 3)
    eventually(lambda: standing(redis_queue) == 2)

    killed.send_signal(signal.SIGKILL)
    killed.communicate(timeout=20)
    began = time.monotonic()
    assert first.cancel()

    assert behind.result(20).status() == "ready"
    assert time.monotonic() - began < 3 + 1, "promised are 3 s, and one is for a busy machine"


def test_a_process_that_ends_leaves_the_line(redis_queue, redis_url):
    redis_queue.task(add).enqueue(1)
    code = """
threading.Thread(target=add.enqueue, args=(2,), daemon=True).start()
while not queue.producer.line._at_exit: time.sleep(0.01)
"""

    assert output(producer(redis_url, redis_queue.name, code)) == ""

    assert standing(redis_queue) == 0


def test_a_forked_child_that_ends_does_not_take_its_parent_out_of_the_line(redis_queue, redis_url, eventually):
    first = redis_queue.task(add).enqueue(1)
    code = """
import os
thread = threading.Thread(target=add.enqueue, args=(2,))
thread.start()
while not queue.producer.line._at_exit: time.sleep(0.01)
if os.fork() == 0:
    try:
        add.options(wait_timeout=0.1).enqueue(3)
    except gqueue.QueueFull:
        print("full", flush=True)
    sys.exit()
os.wait()
print("waiters", queue.stats().waiters, flush=True)
thread.join()
"""
    process = producer(redis_url, redis_queue.name, code)
    assert process.stdout.readline() == "full\n"
    assert process.stdout.readline() == "waiters 1\n"
    assert first.cancel()

    assert output(process) == ""


PATCH = "from gevent import monkey; monkey.patch_all()"


@pytest.mark.parametrize("patch", [PATCH, f"import gqueue; gqueue.Queue('early', 'memory:')\n{PATCH}"])
def test_two_hundred_greenlets_wait_for_room_at_once(redis_queue, redis_url, patch, pool):
    redis_queue.task(add).enqueue("first")
    code = """
import gevent
turns = 0
def turn():
    global turns
    while True:
        turns += 1
        gevent.sleep(0.01)
gevent.spawn(turn)
waiting = [gevent.spawn(add.options(priority=n % 3).enqueue, n) for n in range(200)]
while queue.stats().waiters < 200: gevent.sleep(0.01)
print("waiting", flush=True)
gevent.joinall(waiting, raise_error=True)
assert len({greenlet.value.id for greenlet in waiting}) == 200
print("all in,", "turned" if turns > 10 else "stood still")
"""
    process = producer(redis_url, redis_queue.name, code, patch)
    assert process.stdout.readline() == "waiting\n"
    hand, taken = Hand(redis_queue), []
    deadline = time.monotonic() + 60
    while len(taken) < 201 and time.monotonic() < deadline and process.poll() is None:
        jobs = hand.claim()
        hand.drop(jobs)
        taken += map(argument, jobs)
    while len(taken) < 201 and time.monotonic() < deadline:
        jobs = hand.claim()
        hand.drop(jobs)
        taken += map(argument, jobs)

    assert output(process) == "all in, turned"
    ranks = [number % 3 for number in taken[1:]]
    assert ranks == sorted(ranks)


@pytest.mark.slow
def test_a_killed_greenlet_and_a_gevent_timeout_leave_the_line(redis_queue, redis_url):
    redis_queue.task(add).enqueue("first")
    code = """
import gevent
killed = gevent.spawn(add.enqueue, 1)
def limited():
    with gevent.Timeout(2, False):
        add.enqueue(2)
    return "out of time"
timed = gevent.spawn(limited)
while len(queue.producer.line._waiters) < 2: gevent.sleep(0.01)
killed.kill()
timed.join()
began = time.monotonic()
while queue.stats().waiters: gevent.sleep(0.01)
print(timed.value, time.monotonic() - began < 1)
"""

    assert output(producer(redis_url, redis_queue.name, code, PATCH)) == "out of time True"


def test_a_greenlet_that_a_signal_hits_as_it_joins_the_line_or_waits_for_an_outcome_holds_nobody_up(
    redis_queue, redis_url
):
    # gevent's locks are taken in Python, between two lines of which the handler of a signal may raise.
    code = """
import gevent, gevent.thread, itertools
class Struck(BaseException): pass
TRACED = ("line.py", "outcomes.py", "attendant.py")
def strike(number, seen):
    def trace(frame, event, _):
        caller = frame.f_back.f_code.co_filename if frame.f_back else ""
        if frame.f_code.co_filename != gevent.thread.__file__ or not caller.endswith(TRACED): return None
        if event == "line":
            seen.append(frame.f_lineno)
            if len(seen) == number: raise Struck
        return trace
    return trace
struck = True
for number in itertools.count(1):
    job, struck, seen = add.enqueue(0), False, []
    for wait in (lambda: add.options(wait_timeout=0.02).enqueue(1), lambda: job.wait(0.02)):
        sys.settrace(strike(number, seen))
        try: wait()
        except gqueue.QueueFull: pass
        except Struck: struck = True
        finally: sys.settrace(None)
    outcome = gevent.spawn(job.wait, 20)
    follower = gevent.spawn(add.enqueue, 2)
    deadline = time.monotonic() + 10
    while not queue.stats().waiters and not follower.ready():
        assert time.monotonic() < deadline, number
        gevent.sleep(0.01)
    job.cancel()
    assert outcome.get(timeout=10), number
    assert follower.get(timeout=10).cancel(), number
    if not struck: break
print("all went on")
"""
    assert output(producer(redis_url, redis_queue.name, code, PATCH)) == "all went on"


@pytest.mark.slow
def test_greenlets_that_a_fork_copied_put_nothing_in(redis_queue, redis_url):
    # gevent lets them go on in the child, where they would use the parent's numbers.
    first = redis_queue.task(add).enqueue("first")
    code = """
import gevent, os
waiting = gevent.spawn(add.enqueue, 1)
while not queue.producer.line._at_exit: gevent.sleep(0.01)
child = os.fork()
if child == 0:
    gevent.get_hub().handle_error = lambda *error: None
    waiting.join(10)
    print(type(waiting.exception).__name__, flush=True)
    os._exit(0)
os.waitpid(child, 0)
print("forked", flush=True)
print(waiting.get(timeout=20).status(), queue.stats().counters["enqueued"])
"""
    process = producer(redis_url, redis_queue.name, code, PATCH)
    assert process.stdout.readline() == "StoreUnavailable\n"
    assert process.stdout.readline() == "forked\n"
    assert first.cancel()

    assert output(process) == "ready 2"


@pytest.mark.blackbox
def test_native_threads_and_greenlets_wait_for_outcomes_each_by_themselves(redis_queue, redis_url):
    code = """
import gevent
threadpool = gevent.get_hub().threadpool
store = queue.store
def subscribed(): return store._client.call("numsub", (b"PUBSUB", b"NUMSUB", store._keys.done))[1]
def wait(where):
    job = add.enqueue(1)
    gevent.spawn_later(0.1, job.cancel)
    began = time.monotonic()
    assert where(lambda: job.wait(20)), job.status()
    assert time.monotonic() - began < 1, "it was not woken"
def here(call): return call()
wait(threadpool.apply)
deadline = time.monotonic() + 5
while subscribed(): assert time.monotonic() < deadline; gevent.sleep(0.01)
wait(here)
wait(threadpool.apply)
wait(here)
pair = [gevent.spawn(wait, where) for where in (here, threadpool.apply, here, threadpool.apply)]
gevent.joinall(pair, raise_error=True)
print("all woken", flush=True)
"""
    process = producer(redis_url, redis_queue.name, code, patch="from gevent import monkey; monkey.patch_all()")
    assert output(process) == "all woken"


@pytest.mark.blackbox
@pytest.mark.slow
def test_native_threads_and_greenlets_wait_for_room_each_by_themselves(redis_queue, redis_url):
    code = """
import gevent
threadpool = gevent.get_hub().threadpool
add.enqueue(0)
gevent.spawn_later(0.3, queue.purge)
threadpool.apply(lambda: add.enqueue(1))
first = gevent.spawn(add.enqueue, 2)
gevent.sleep(2.5)  # longer than a ticket lives that nobody renews
for _ in range(10):
    gevent.sleep(0.05)
    assert queue.stats().waiters == 1
began = time.monotonic()
queue.purge()
first.get()
assert time.monotonic() - began < 1
print("all in", flush=True)
"""
    process = producer(redis_url, redis_queue.name, code, patch="from gevent import monkey; monkey.patch_all()")
    assert output(process) == "all in"


def test_plain_threads_wait_without_gevent(redis_queue, redis_url, eventually):
    first = redis_queue.task(add).enqueue("first")
    code = """
waiting = threading.Thread(target=add.enqueue, args=(1,))
waiting.start()
waiting.join()
print([name for name in ("gevent", "greenlet") if name in sys.modules])
"""
    process = producer(redis_url, redis_queue.name, code)
    eventually(lambda: standing(redis_queue) == 1)
    assert first.cancel()

    assert output(process) == "[]"


@pytest.mark.slow
def test_a_producer_that_waits_for_ever_waits_through_an_outage(queue_name, pool, eventually):
    with (
        Server(appendonly=True) as server,
        closing(gqueue.Queue(queue_name, server.url, capacity=1, retry_for=0.3)) as queue,
    ):
        task = queue.task(add)
        first = task.enqueue(1)
        waiting = pool.submit(task.enqueue, 2)
        limited = pool.submit(task.options(wait_timeout=60).enqueue, 3)
        eventually(lambda: standing(queue) == 2)

        server.kill()
        with pytest.raises(gqueue.StoreUnavailable, match=r"job [0-9A-Za-z]{14} "):
            limited.result(20)
        assert not waiting.done()
        server.start()
        assert eventually(lambda: cancelled(first))

        assert waiting.result(20).status() == "ready"
        assert queue.stats().depth == 1


def cancelled(job):
    try:
        return job.cancel()
    except gqueue.StoreUnavailable:
        return False
