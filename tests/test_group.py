"""Group commit: enqueues that meet travel in one call, and nobody's end is another's."""

import itertools
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

import gqueue
import gqueue.group as group_module
from gqueue.core.producer import one_call_carries
from gqueue.group import GroupCommit, Trip
from gqueue.store import patience
from tests.conftest import wait_until
from tests.processes import ROOT
from tests.proxy import Proxy
from tests.servers import Server


class Calls:
    """A group of callers that bring numbers; *send* may be replaced. All who are told to come together, do."""

    def __init__(self, monkeypatch, most=1_000):
        self.group = GroupCommit(lambda trip: self.send(trip), lambda those, _: min(len(those), most))
        self.trips = []
        self._together = 1
        self._pool = ThreadPoolExecutor(20)
        monkeypatch.setattr("gqueue.group.let_others_come", lambda: wait_until(self._all_here))

    def send(self, trip):
        self.trips.append([rider.brings for rider in trip.riders])
        trip.end(len(self.trips))

    def come(self, *brought):
        """Have callers come, in this order, and wait for one another; return their futures."""
        self._together = len(brought)
        futures = []
        for number in brought:
            before = len(self.group._waiting)
            futures.append(self._pool.submit(self.group.ride, number))
            wait_until(lambda before=before: len(self.group._waiting) != before or len(brought) == 1)
        return futures

    def _all_here(self):
        return len(self.group._waiting) >= self._together


@pytest.fixture
def calls(monkeypatch):
    return Calls(monkeypatch)


def test_callers_that_meet_travel_in_one_call_in_the_order_of_arrival(calls):
    riders = [future.result(10) for future in calls.come(*"abcde")]

    assert calls.trips == [list("abcde")]
    assert [(rider.seat, rider.trip.outcome) for rider in riders] == [(seat, 1) for seat in range(5)]


def test_who_does_not_fit_goes_with_the_next_call(monkeypatch):
    calls = Calls(monkeypatch, most=2)
    futures = calls.come(*"abcde")
    calls._together = 1

    assert [future.result(10).trip.outcome for future in futures] == [1, 1, 2, 2, 3]
    assert calls.trips == [["a", "b"], ["c", "d"], ["e"]]


def test_what_a_call_ended_with_is_told_to_all(calls):
    failure = gqueue.StoreUnavailable("Redis is away")
    calls.send = lambda trip: trip.end(None, failure)

    assert [future.result(10).trip.error for future in calls.come(*"abc")] == [failure] * 3


def test_call_goes_on_with_the_same_riders_when_who_carried_it_is_hit(calls):
    carried: list[tuple[object, Trip]] = []

    def send(trip):
        carried.append((trip.state, trip))
        trip.state = len(carried)
        if len(carried) <= 2:
            raise KeyboardInterrupt
        trip.end("done")

    calls.send = send
    first, second, *others = calls.come(*"abcd")

    for hit in (first, second):
        assert isinstance(hit.exception(10), KeyboardInterrupt)
    assert [future.result(10).trip.outcome for future in others] == ["done"] * 2
    assert [state for state, _ in carried] == [None, 1, 2]
    assert len({trip for _, trip in carried}) == 1


def test_everybody_is_hit_and_the_next_who_come_travel_as_ever(calls):
    calls.send = lambda trip: (_ for _ in ()).throw(ValueError("a fault of the sender's"))
    assert all(isinstance(future.exception(10), ValueError) for future in calls.come(*"abc"))

    del calls.send
    assert [future.result(10).trip.outcome for future in calls.come(*"de")] == [1, 1]


def test_who_is_hit_while_it_lets_others_aboard_is_replaced(calls, monkeypatch):
    together, hits = calls._all_here, []

    def wait():
        wait_until(together)
        if not hits:
            hits.append(1)
            calls._together = 1
            raise KeyboardInterrupt

    monkeypatch.setattr("gqueue.group.let_others_come", wait)
    first, *others = calls.come(*"abc")

    assert isinstance(first.exception(10), KeyboardInterrupt)
    assert [future.result(10).trip.outcome for future in others] == [1, 1]
    assert calls.trips == [["b", "c"]]


class Struck(BaseException):
    pass


def strike(number, seen):
    """Return a trace function that raises at the *number*th line of group.py, as a signal's handler may; note it.

    Not at a `with`: there Python runs no handler between taking a lock and the block that gives it back.
    """
    lines = Path(group_module.__file__).read_text().splitlines()

    def trace(frame, event, _):
        if frame.f_code.co_filename != group_module.__file__:
            return None
        text = lines[frame.f_lineno - 1].strip()
        if event == "line" and not text.startswith("with "):
            seen.append(f"{frame.f_lineno}: {text}")
            if len(seen) == number:
                raise Struck
        return trace

    return trace


def four_come(calls, place, number):
    """Have four callers come, in order, of whom the one at *place* is struck at the *number*th line; another follows.

    Return whether it was struck, and the line.
    """
    seen, met, futures, carried = [], [], [], {}

    def send(trip):
        carried[trip] = [rider.brings for rider in trip.riders]
        trip.end("done")

    def ride(name):
        if name == place:
            sys.settrace(strike(number, seen))
        try:
            return calls.group.ride(name)
        finally:
            sys.settrace(None)

    def all_here():
        if len(calls.group._waiting) == 4 or len(seen) == number:
            met.append(True)
        return met

    calls._all_here, calls.send = all_here, send
    for name in range(4):
        before = len(calls.group._waiting)
        futures.append(calls._pool.submit(ride, name))
        wait_until(lambda before=before: len(calls.group._waiting) != before or met or futures[-1].done())
    hit = futures[place].exception(20)
    others = [future.result(20) for name, future in enumerate(futures) if name != place]
    follower = calls._pool.submit(calls.group.ride, "follower").result(20)
    calls._pool.shutdown()
    assert all(rider.trip.ended for rider in (*others, follower)), seen[-1]
    travelled = [*itertools.chain(*carried.values())]
    assert len({*travelled}) == len(travelled), seen[-1]
    assert hit is None or isinstance(hit, Struck), hit
    return hit is not None, seen[-1]


@pytest.mark.slow
@pytest.mark.parametrize("place", [0, 1])
def test_whatever_line_a_caller_is_hit_at_the_others_travel_once(monkeypatch, place):
    monkeypatch.setattr(group_module, "LOOK_AGAIN_S", 60)
    lines = []
    for number in itertools.count(1):
        struck, line = four_come(Calls(monkeypatch), place, number)
        if not struck:
            break
        lines.append(line.partition(": ")[2])

    assert "rider.seat, rider.trip = seat, trip" in lines or place == 1, lines
    assert "self._waiting.append(rider)" in lines


def test_who_is_hit_again_while_it_tells_the_others_is_found_out_by_them(calls, monkeypatch):
    monkeypatch.setattr(group_module, "LOOK_AGAIN_S", 0.05)
    calls = Calls(monkeypatch)
    mend, hits = calls.group._mend, []

    def hit():
        if not hits:
            hits.append(1)
            raise KeyboardInterrupt
        mend()

    def send(trip):
        if not hits:
            raise ValueError("a fault of the sender's")
        trip.end("done")

    calls.group._mend, calls.send = hit, send
    first, *others = calls.come(*"abc")

    assert isinstance(first.exception(10), KeyboardInterrupt)
    assert [future.result(10).trip.outcome for future in others] == ["done"] * 2


@pytest.mark.parametrize(
    ("sizes", "count"),
    [([1], 1), ([1] * 1_000, 1_000), ([1] * 1_001, 1_000), ([10**9], 1), ([10**9, 1], 1), ([3_000_000] * 3, 1)],
)
def test_one_call_carries_a_thousand_jobs_or_4_mib(sizes, count):
    assert one_call_carries(sizes, 10_000) == count


@pytest.mark.parametrize(("callers", "count"), [(1, 8), (8, 8), (17, 9), (50, 20), (39, 20), (20, 10)])
def test_of_many_callers_half_go_with_one_call(callers, count):
    assert one_call_carries([10] * 20, callers) == count


# On a queue.


def note(n):
    return n


@pytest.fixture
def hold(monkeypatch):
    """Return what makes everybody who comes wait for so many others."""

    def hold(queue, together):
        were_here = []

        def all_here():
            if any(len(group._waiting) >= together for group in queue.producer._groups.values()):
                were_here.append(True)
            return were_here  # those whom the first call does not carry need not wait for more

        monkeypatch.setattr("gqueue.group.let_others_come", lambda: wait_until(all_here))

    return hold


def enqueue_together(queue, hold, pool, tasks, together=None):
    """Enqueue 0, 1, ... at once, while a first call is under way, so that all meet; return the futures."""
    hold(queue, together or len(tasks))
    group = queue.producer._group(endless=queue.settings.wait_ms is None)
    group.under_way.add(group)
    try:
        futures = []
        for number, task in enumerate(tasks):
            before = len(group._waiting)
            futures.append(pool.submit(task.enqueue, number))
            wait_until(lambda before=before: len(group._waiting) != before or all(f.done() for f in futures))
        return futures
    finally:
        wait_until(lambda: not group._waiting)
        group.under_way.discard(group)


@pytest.fixture
def pool():
    threads = ThreadPoolExecutor(20)
    yield threads
    threads.shutdown(wait=False)


def sizes_of_calls(queue):
    store, sizes = queue.store, []
    enqueue = store.enqueue

    def counted(lane, call, jobs, **options):
        sizes.append(len(jobs))
        return enqueue(lane, call, jobs, **options)

    store.enqueue = counted
    return sizes


def test_jobs_of_many_threads_go_in_with_one_call_and_each_has_its_handle(make_queue, hold, pool):
    queue = make_queue()
    task, sizes = queue.task(note), sizes_of_calls(queue)

    jobs = [future.result(10) for future in enqueue_together(queue, hold, pool, [task] * 8)]

    assert sizes == [8]
    assert len({job.id for job in jobs}) == 8
    assert [job.status() for job in jobs] == ["ready"] * 8


def test_half_of_many_get_ready_while_the_others_call_is_under_way(make_queue, hold, pool):
    queue = make_queue()
    task, sizes = queue.task(note), sizes_of_calls(queue)

    futures = enqueue_together(queue, hold, pool, [task] * 19)

    assert len({future.result(10).id for future in futures}) == 19
    assert sizes[0] == 10
    assert sum(sizes) == 19


def test_whoever_finds_no_room_asks_for_itself_and_stands_in_line(make_queue, hold, pool):
    queue = make_queue(capacity=3)
    task, sizes = queue.task(note), sizes_of_calls(queue)

    futures = enqueue_together(queue, hold, pool, [task] * 5)
    wait_until(lambda: queue.stats().waiters == 2)
    wait_until(lambda: [future.done() for future in futures] == [True] * 3 + [False] * 2)
    assert sizes[0] == 5
    queue.set_capacity(10)

    assert [future.result(10).status() for future in futures] == ["ready"] * 5
    assert queue.stats().depth == 5


def test_most_urgent_of_those_who_meet_behind_a_line_is_let_in_if_it_may_be(make_queue, hold, pool):
    queue = make_queue(capacity=1)
    task = queue.task(note)
    task.options(priority=5).enqueue("first")
    waiting = pool.submit(task.options(priority=0).enqueue, "waits")
    wait_until(lambda: queue.stats().waiters == 1)
    queue.set_capacity(1)
    rejected = task.options(when_full="reject", priority=3)

    futures = enqueue_together(queue, hold, pool, [rejected, rejected])

    assert all(isinstance(future.exception(10), gqueue.QueueFull) for future in futures)
    assert not waiting.done()
    queue.purge()
    assert waiting.result(10).status() == "ready"


@pytest.mark.parametrize(
    ("fault", "arrives"),
    [(gqueue.StoreUnavailable, True), (gqueue.StoreUnavailable, False), (patience.AllBusy, True)],
)
def test_outage_is_told_to_each_with_its_own_job(make_queue, hold, pool, fault, arrives):
    queue = make_queue(wait_timeout=5)
    task = queue.task(note)
    store = queue.store
    enqueue = store.enqueue

    def unanswered(lane, call, jobs, **options):
        if arrives:
            enqueue(lane, call, jobs, **options)
        calls.append(lane)
        raise fault("Redis is away", may_be_in=arrives)

    calls, store.enqueue = [], unanswered
    errors = [future.exception(10) for future in enqueue_together(queue, hold, pool, [task] * 3)]

    assert [type(error) for error in errors] == [gqueue.StoreUnavailable] * 3
    assert len({error.job_ids for error in errors}) == 3
    assert [(len(error.job_ids), error.may_be_in) for error in errors] == [(1, arrives)] * 3
    assert len(calls) == 1
    assert all(error.job_ids[0] in str(error) for error in errors)


def test_jobs_that_are_in_though_nobody_can_tell_how_safely_are_not_sent_again(make_queue, hold, pool):
    queue = make_queue()
    task, store, calls = queue.task(note), queue.store, []
    enqueue = store.enqueue

    def unsure(lane, call, jobs, **options):
        enqueue(lane, call, jobs, **options)
        calls.append(lane)
        raise gqueue.DurabilityUnsupported(queue.name, "fsync", "appendonly is off", tuple(job.id for job in jobs))

    store.enqueue = unsure
    errors = [future.exception(10) for future in enqueue_together(queue, hold, pool, [task] * 3)]

    assert [type(error) for error in errors] == [gqueue.DurabilityUnsupported] * 3
    assert len({error.job_ids for error in errors}) == 3
    assert [len(error.job_ids) for error in errors] == [1] * 3
    assert len(calls) == 1


def test_callers_of_whom_all_connections_are_busy_and_nothing_was_sent_ask_for_themselves(make_queue, hold, pool):
    queue = make_queue(wait_timeout=5)
    task, store, calls = queue.task(note), queue.store, []
    enqueue = store.enqueue

    def busy_once(lane, call, jobs, **options):
        calls.append(len(jobs))
        if len(calls) == 1:
            raise patience.AllBusy("all connections were busy")
        return enqueue(lane, call, jobs, **options)

    store.enqueue = busy_once
    jobs = [future.result(10) for future in enqueue_together(queue, hold, pool, [task] * 3)]

    assert [job.status() for job in jobs] == ["ready"] * 3
    assert calls == [3, 1, 1, 1]


def test_producer_whose_locks_would_stop_all_greenlets_is_told(server):
    program = (
        "from gevent import monkey; monkey.patch_all(thread=False)\n"
        "import sys, gqueue\n"
        "gqueue.Queue('half', sys.argv[1]).task(name='t')(print).enqueue()\n"
    )
    command = [sys.executable, "-c", program, server.url]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60)

    assert done.returncode == 1
    assert "BadSetting: queue 'half': gevent has patched sockets, but not threads" in done.stderr


def test_lost_reply_of_a_shared_call_puts_nothing_in_twice(queue_name, hold, pool):
    with Server() as server, Proxy(server.socket) as proxy:
        queue = gqueue.Queue(queue_name, proxy.url)
        task = queue.task(note)
        task.enqueue(0)
        proxy.next("lose reply")

        jobs = [future.result(10) for future in enqueue_together(queue, hold, pool, [task] * 6)]

        assert queue.stats().counters == {"enqueued": 7}
        assert [job.status() for job in jobs] == ["ready"] * 6
        queue.close()


def test_call_that_was_answered_is_not_sent_again_when_its_carrier_is_hit(make_queue, hold, pool, monkeypatch):
    queue = make_queue()
    task, sizes, end = queue.task(note), sizes_of_calls(queue), Trip.end
    hits = []

    def hit(trip, *outcome):
        if not hits:
            hits.append(1)
            raise KeyboardInterrupt
        end(trip, *outcome)

    monkeypatch.setattr(Trip, "end", hit)
    first, *others = enqueue_together(queue, hold, pool, [task] * 4)

    assert isinstance(first.exception(10), KeyboardInterrupt)
    assert [future.result(10).status() for future in others] == ["ready"] * 3
    assert sizes == [4]
    idle = [lane.id for lane in queue.producer._lanes._idle]
    assert len(idle) == len(set(idle)) == 1


ALARMS = """
import random, signal, sys, threading, gqueue
from collections import Counter
class Alarm(Exception): pass
queue = gqueue.Queue("alarms", sys.argv[1])
task = queue.task(name="note")(lambda n: n)
armed, over, inside, hit = False, False, [], 0

def ring(*_):
    if armed:
        raise Alarm

def produce():
    while not over:
        inside.append(task.enqueue(0).id)

signal.signal(signal.SIGALRM, ring)
task.enqueue(0)
threads = [threading.Thread(target=produce, daemon=True) for _ in range(5)]
for thread in threads:
    thread.start()
while hit < 2_000:
    try:
        armed = True
        signal.setitimer(signal.ITIMER_REAL, random.uniform(0.00005, 0.0015))
        inside.append(task.enqueue(0).id)
        armed = False
    except Alarm:
        armed = False
        hit += 1
over = True
for thread in threads:
    thread.join(20)
    assert not thread.is_alive(), "somebody was left behind"
found = [look for n in range(0, len(inside), 500) for look in queue.producer.store.look(inside[n : n + 500])]
assert all(look.state.value == "ready" for look in found), Counter(look.state for look in found)
print(len(inside))
"""


@pytest.mark.slow
def test_alarms_that_raise_anywhere_in_an_enqueue_crash_nothing_and_leave_nobody_behind():
    with Server() as server:
        command = [sys.executable, "-X", "faulthandler", "-c", ALARMS, server.url]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) > 1_000


def test_full_redis_is_told_to_each(queue_name, hold, pool):
    with Server() as server, server.client() as client:
        queue = gqueue.Queue(queue_name, server.url)
        task = queue.task(note)
        task.enqueue(0)
        client.config_set("maxmemory", 1)

        errors = [future.exception(10) for future in enqueue_together(queue, hold, pool, [task] * 3)]

        assert [type(error) for error in errors] == [gqueue.StoreFull] * 3
        assert len({error.job_ids for error in errors}) == 3
        queue.close()


GREENLETS = """
from gevent import monkey; monkey.patch_all()
import random, sys, gevent, gqueue
queue = gqueue.Queue("storm", sys.argv[1])
task = queue.task(name="note")(lambda n: n)
chance = random.Random(int(sys.argv[2]))
inside, hit = [], []

def produce(number):
    for n in range(40):
        job = task.options(job_id=f"{number}.{n}")
        try:
            with gevent.Timeout(chance.choice([None, None, 0.0, 0.0005, 0.002, 0.01])):
                job.enqueue(n)
        except gevent.Timeout:
            hit.append(f"{number}.{n}")
        else:
            inside.append(f"{number}.{n}")

every = [gevent.spawn(produce, number) for number in range(50)]
for n in range(100):
    gevent.sleep(0.002)
    victim = chance.randrange(50)
    if not every[victim].dead and n % 10 == 0:
        every[victim].kill(block=False)
gevent.joinall(every, timeout=60, raise_error=False)
assert all(greenlet.dead for greenlet in every), "somebody was left behind"
assert len(hit) > 20 and len(inside) > 500, (len(hit), len(inside))
for lost in (id for id in inside if queue.fetch_job(id).status() != "ready"):
    raise AssertionError(lost)
depth = queue.stats().depth
assert len(inside) <= depth <= 2_000, (len(inside), depth)
assert queue.stats().counters == {"enqueued": depth}
task.options(wait_timeout=5).enqueue(0)
print("calls", queue.producer._lanes.take().call)
"""


@pytest.mark.parametrize("seed", range(3))
def test_nobody_is_left_behind_when_greenlets_are_timed_out_and_killed_on_their_way(seed):
    with Server() as server, Proxy(server.socket) as proxy:
        proxy.delay(0.001)
        done = subprocess.run(
            [sys.executable, "-c", GREENLETS, proxy.url, str(seed)],
            cwd=ROOT,
            capture_output=True,
            text=True,
            timeout=90,
        )
        assert done.returncode == 0, done.stderr
        with server.client() as client:
            calls = client.info("commandstats")["cmdstat_evalsha"]["calls"]
        assert calls < 3_000
