"""What only a store in Redis can meet: lost replies, outages, full and foreign servers, forks, damaged records."""

import functools
import itertools
import logging
import math
import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
from attrs import evolve

from gqueue.core.model import Left, NewJob, Settlement, State, Ticket, WhenFull, WorkerCall
from gqueue.errors import CallRefused, LeaseLost, StoreFull, StoreTooOld, StoreUnavailable
from gqueue.letters import readable
from gqueue.store import age, patience
from gqueue.store.connection import Lanes, Link
from gqueue.store.patience import AllBusy
from gqueue.store.redis import RedisStore
from gqueue.store.scripts import load
from tests.conftest import wait_until
from tests.fake_server import OK, FakeServer, bulk
from tests.proxy import Proxy
from tests.servers import Server
from tests.store.conftest import RULES, OpenStore


def enqueue(store: RedisStore, *ids: str, lane: str = "lane", call: int = 1, size: int = 2):
    jobs = [NewJob(job_id, 0.0, 0, b"x" * size) for job_id in ids]
    return store.enqueue(lane, call, jobs, when_full=WhenFull.REJECT, capacity=1_000_000)


def claim(store: RedisStore, call: int = 1, limit: int = 100, done: tuple[str, ...] = ()) -> list[str]:
    return [job.id for job in store.settle_and_claim("w", call, done, [], limit).jobs]


@pytest.fixture
def proxy(server: Server) -> Iterator[Proxy]:
    with Proxy(server.socket) as running:
        yield running


@pytest.fixture
def own() -> Iterator[Server]:
    """Return a server for tests that stop it, with an AOF."""
    with Server(appendonly=True) as running:
        yield running


# Lost replies.


def test_call_sent_again_after_the_servers_clock_went_an_hour_ahead_is_applied_once(
    open_redis: OpenStore, server: Server
):
    store, client = open_redis(), server.client()
    enqueue(store, "a")
    (record,) = client.keys(f"*{store.name}*call:lane")
    client.pexpire(record, client.pttl(record) - 3_600_000)  # all that has an end comes so much nearer to it
    store.register("w")
    assert claim(store) == ["a"]
    claim(store, 2, 0, done=("a",))

    enqueue(store, "a")

    assert claim(store, 3) == []


def test_enqueue_whose_reply_was_lost_is_applied_once(open_redis: OpenStore, proxy: Proxy):
    store = open_redis(proxy.url)
    store.stats()
    proxy.next("lose reply")

    reply = enqueue(store, "a", "b")

    assert (reply.accepted, reply.taken, reply.depth) == (2, (), 2)
    assert store.stats().counters == {"enqueued": 2}


def scripts_sent(proxy: Proxy) -> int:
    return sum(request[0] == b"EVALSHA" for request in proxy.requests)


def test_enqueue_that_was_sent_too_long_ago_is_not_sent_again_though_its_connection_broke_just_now(
    open_redis: OpenStore, proxy: Proxy, monkeypatch: pytest.MonkeyPatch
):
    store = open_redis(proxy.url)
    store.stats()
    slept_s = [0.0]
    monkeypatch.setattr("gqueue.store.age._now", lambda: time.monotonic() + slept_s[0])
    before = scripts_sent(proxy)

    def rule(arguments: list[bytes]) -> str:
        if arguments[0] != b"EVALSHA" or slept_s[0]:
            return "pass"
        slept_s[0] = 301  # the machine was suspended, and wakes up
        return "lose reply"

    proxy.rule = rule
    with pytest.raises(StoreUnavailable, match=r"sent 301 s ago.*Last error: ConnectionError") as failed:
        enqueue(store, "a")

    assert (failed.value.may_be_in, failed.value.job_ids) == (True, ("a",))
    assert scripts_sent(proxy) == before + 1


def test_call_that_brings_no_jobs_is_repeated_however_old(
    open_redis: OpenStore, proxy: Proxy, monkeypatch: pytest.MonkeyPatch
):
    store = open_redis(proxy.url)
    store.stats()
    monkeypatch.setattr("gqueue.store.age.too_late_to_send_again", lambda waited_ms: True)
    proxy.next("lose reply")

    assert store.stats()


def test_enqueue_that_was_sent_by_an_earlier_call_too_long_ago_is_not_sent(open_redis: OpenStore, proxy: Proxy):
    store = open_redis(proxy.url)
    store.stats()
    before = scripts_sent(proxy)
    job = NewJob("a", 0.0, 0, b"{}")
    with pytest.raises(StoreUnavailable, match="301 s ago") as failed:
        store.enqueue("l", 1, [job], when_full=WhenFull.REJECT, capacity=9, first_sent=age.now() - 301)

    assert failed.value.may_be_in
    assert scripts_sent(proxy) == before


def test_age_of_an_enqueue_counts_from_when_it_was_sent_not_from_when_it_began_to_wait(
    open_redis: OpenStore, proxy: Proxy, monkeypatch: pytest.MonkeyPatch
):
    store = open_redis(proxy.url)
    enqueue(store, "first", lane="other")  # so that the script is known
    times = itertools.chain([0.0], itertools.repeat(400.0))
    monkeypatch.setattr(age, "_now", lambda: next(times))
    proxy.next("lose reply")

    assert enqueue(store, "a").accepted == 1


def test_age_is_by_the_clock_that_a_suspended_machine_does_not_stop():
    assert age._now.args == (time.CLOCK_BOOTTIME,)
    assert age.now() == pytest.approx(time.clock_gettime(time.CLOCK_BOOTTIME), abs=60)


def test_call_whose_time_is_up_is_not_sent_again_though_its_connection_broke_just_now(
    open_redis: OpenStore, proxy: Proxy, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("gqueue.store.client.BUSY_S", 0.0)
    store = open_redis(proxy.url, retry_for_ms=0)
    store.stats()
    before = scripts_sent(proxy)
    proxy.next("lose reply")
    with pytest.raises(StoreUnavailable, match="Last error: ConnectionError") as failed:
        enqueue(store, "a")

    assert failed.value.may_be_in
    assert scripts_sent(proxy) == before + 1


def test_lost_reply_is_cured_even_when_the_job_has_run_and_gone_meanwhile(
    open_redis: OpenStore, proxy: Proxy, server: Server
):
    store, other = open_redis(proxy.url), open_redis()
    other.register("w")
    with server.client() as client:
        client.script_load(load()["enqueue"].text)  # else nobody hears that it is not known
    numbers, ran = itertools.count(1), []

    def run_it() -> None:
        wait_until(lambda: claim(other, next(numbers)))
        claim(other, next(numbers), done=("a",))
        ran.append(True)

    worker = threading.Thread(target=run_it)
    worker.start()

    def rule(arguments: list[bytes]) -> str:
        if arguments[0] == b"EVALSHA" and not ran:
            return "lose reply"
        return "pass"

    store.stats()
    proxy.rule = rule

    reply = enqueue(store, "a")

    worker.join(10)
    assert (ran, reply.accepted, reply.taken) == ([True], 1, ())
    assert other.stats().counters == {"enqueued": 1, "claimed": 1, "succeeded": 1}


def test_claim_whose_reply_was_lost_is_answered_with_the_same_jobs(open_redis: OpenStore, proxy: Proxy):
    store = open_redis(proxy.url)
    enqueue(store, "a", "b", "c")
    store.register("w")
    proxy.next("lose reply")

    assert claim(store, limit=2) == ["a", "b"]
    assert store.stats().running == 2
    assert claim(store, call=2) == ["c"]


def test_settlement_whose_reply_was_lost_is_recorded_once(open_redis: OpenStore, proxy: Proxy):
    store = open_redis(proxy.url)
    enqueue(store, "a")
    store.register("w")
    claim(store)
    proxy.next("lose reply", count=2)

    reply = store.settle_and_claim("w", 2, [], [Settlement("a", "retry", 60_000)], 5)

    assert (reply.jobs, reply.skipped, reply.left) == ((), (), Left.NOTHING)
    assert store.look(["a"])[0].failures == 1


@pytest.mark.parametrize("overtaken", [False, True])
def test_request_that_arrives_after_its_sender_gave_up_strands_nothing(
    open_redis: OpenStore, proxy: Proxy, overtaken: bool
):
    store = open_redis(proxy.url)
    enqueue(store, "a", "b")
    store.register("w")
    assert claim(store, limit=1) == ["a"]
    proxy.next("hold", count=1)

    assert claim(store, call=2, limit=0, done=("a",)) == []  # sent again: the first is still on its way
    assert claim(store, call=3, limit=1) == ["b"]
    if overtaken:
        claim(store, call=4, limit=0)
    (late,) = proxy.let_go()

    assert late.startswith(b"*1\r\n$10\r\nstale_call\r\n" if overtaken else b"*7\r\n$2\r\nok")
    assert [job.id for job in store.held("w", 4 if overtaken else 3)] == ["b"]
    assert store.stats().counters["succeeded"] == 1


def test_late_enqueue_adds_nothing_twice(open_redis: OpenStore, proxy: Proxy):
    store = open_redis(proxy.url)
    enqueue(store, "z", lane="warm")
    proxy.next("hold")
    enqueue(store, "a")
    enqueue(store, "b", call=2)
    (late,) = proxy.let_go()

    assert b"stale_call" in late
    assert store.stats().depth == 3


def test_connection_that_died_in_idleness_is_replaced_without_a_word(
    open_redis: OpenStore, server: Server, caplog: pytest.LogCaptureFixture
):
    store = open_redis()
    enqueue(store, "a")
    caplog.clear()
    with server.client() as client:
        client.client_kill_filter(_type="normal", skipme=True)

    assert store.stats().depth == 1
    assert not [record for record in caplog.records if "away" in record.getMessage()]


def test_calls_go_on_while_connections_are_killed_all_the_time(open_redis: OpenStore, server: Server):
    store = open_redis()
    store.register("w")
    stop = threading.Event()

    def kill():
        with server.client() as client:
            while not stop.wait(0.003):
                client.client_kill_filter(_type="normal", skipme=True)

    killer = threading.Thread(target=kill)
    killer.start()
    try:
        for number in range(300):
            assert enqueue(store, f"j{number}", call=number + 1).accepted == 1
    finally:
        stop.set()
        killer.join()

    assert store.stats().counters == {"enqueued": 300}
    assert claim(store, limit=1000) == [f"j{number}" for number in range(300)]


def test_claim_is_on_its_way_while_its_caller_does_something_else(open_redis: OpenStore):
    store, other = open_redis(), open_redis()
    enqueue(store, "a")
    store.register("w")
    claim(store, limit=0)  # the server knows the script by now

    def look():
        wait_until(lambda: other.stats().running == 1)

    assert [job.id for job in store.settle_and_claim("w", 2, [], [], 1, meanwhile=look).jobs] == ["a"]


def test_many_claims_are_noted_in_a_table_that_has_these_jobs_alone(
    open_redis: OpenStore, server: Server, queue_name: str
):
    store, running = open_redis(), f"gq:{{{queue_name}}}:running:w"
    enqueue(store, *(f"j{number}" for number in range(60)))
    store.register("w")
    with server.client() as client:
        few = claim(store, limit=20)
        assert client.object("encoding", running) in (b"listpack", b"ziplist")

        many = claim(store, call=2, limit=40)
        assert client.object("encoding", running) == b"hashtable"
        assert {field.decode() for field in client.hkeys(running)} == {*few, *many}
    assert [job.id for job in store.held("w", 2)] == [*few, *many]


def behind_each_other(store: RedisStore, call: int, done: str, behind: WorkerCall) -> list[list[str]]:
    """Make a call and the one *behind* it; return which jobs each claimed."""
    first = store.settle_and_claim("w", call, [done], [], 1, meanwhile=lambda: behind)
    second = store.settle_and_claim("w", call + 1, *behind)
    assert (first.skipped, second.skipped) == ((), ())
    return [[job.id for job in claimed.jobs] for claimed in (first, second)]


def test_call_that_is_sent_behind_another_is_carried_out_before_it_is_asked_for(open_redis: OpenStore):
    store, other = open_redis(), open_redis()
    enqueue(store, "a", "b")
    store.register("w")
    claim(store, limit=0)

    first = store.settle_and_claim("w", 2, [], [], 1, meanwhile=lambda: WorkerCall([], [], 1))
    wait_until(lambda: other.stats().running == 2)

    assert [job.id for job in (*first.jobs, *store.settle_and_claim("w", 3, [], [], 1).jobs)] == ["a", "b"]
    assert store.parts()[0].connections() == 1


@pytest.mark.parametrize(
    "verdicts",
    [
        ["lose reply"],
        ["cut"],
        ["hold"],
        ["pass", "lose reply"],
        ["pass", "cut"],
        ["pass", "hold"],
        ["lose reply", "pass", "pass", "lose reply"],
        ["pass", "cut", "cut", "lose reply"],
    ],
    ids=" ".join,
)
def test_calls_one_behind_the_other_are_each_applied_once_whatever_is_lost(
    open_redis: OpenStore, proxy: Proxy, verdicts: list[str]
):
    store = open_redis(proxy.url)
    enqueue(store, *"abcdef")
    store.register("w")
    assert claim(store, limit=2) == ["a", "b"]
    rest, met = iter(verdicts), []

    def rule(arguments: list[bytes]) -> str:
        met.append(next(rest, "pass") if arguments[0] in (b"EVALSHA", b"EVAL") else "pass")
        return met[-1]

    proxy.rule = rule

    assert behind_each_other(store, 2, "a", WorkerCall(["b"], [], 1)) == [["c"], ["d"]]

    assert {*met} > {"pass"}
    proxy.let_go()
    assert behind_each_other(store, 4, "c", WorkerCall(["d"], [], 1)) == [["e"], ["f"]]
    assert store.stats().counters == {"enqueued": 6, "claimed": 6, "succeeded": 4}
    assert store.parts()[0].connections() == 1


def test_both_of_two_calls_are_answered_again_when_both_replies_were_lost(open_redis: OpenStore):
    store, lost = open_redis(), open_redis()
    enqueue(store, *"abcd")
    store.register("w")
    claim(store, limit=2)
    replies = behind_each_other(lost, 2, "a", WorkerCall(["b"], [], 1))

    assert behind_each_other(store, 2, "a", WorkerCall(["b"], [], 1)) == replies == [["c"], ["d"]]


def test_refused_call_takes_the_connection_along_that_owes_the_reply_to_another(open_redis: OpenStore):
    store, other = open_redis(), open_redis()
    enqueue(store, "a")
    store.register("w")
    other.leave("w", 10)

    with pytest.raises(LeaseLost):
        store.settle_and_claim("w", 1, [], [], 1, meanwhile=lambda: WorkerCall([], [], 1))

    store.register("w")
    assert claim(store) == ["a"]


def test_call_that_is_made_in_place_of_the_one_sent_behind_gets_its_own_reply(open_redis: OpenStore):
    store = open_redis()
    enqueue(store, "a", "b")
    store.register("w")
    store.register("v")
    store.settle_and_claim("w", 1, [], [], 0, meanwhile=lambda: WorkerCall([], [], 1))
    wait_until(lambda: store.stats().running == 1)

    assert [job.id for job in store.settle_and_claim("v", 1, [], [], 1).jobs] == ["b"]
    assert claim(store, call=2) == ["a"]


@pytest.mark.parametrize("first", [True, False])
def test_scripts_that_are_flushed_between_two_calls_are_sent_again(open_redis: OpenStore, server: Server, first: bool):
    store = open_redis()
    enqueue(store, "a", "b", "c", "d")
    store.register("w")
    claim(store, limit=2)
    behind = WorkerCall(["b"], [], 1)

    def flush() -> WorkerCall:
        with server.client() as client:
            client.script_flush()
        return behind

    if first:
        flush()
        assert behind_each_other(store, 2, "a", behind) == [["c"], ["d"]]
    else:
        store.settle_and_claim("w", 2, ["a"], [], 1, meanwhile=flush)
        assert claim(store, 3, 1, done=("b",)) == ["d"]
    assert store.stats().counters["succeeded"] == 2


def test_second_of_two_calls_that_is_refused_is_made_when_the_server_takes_writes_again(
    open_redis: OpenStore, own: Server
):
    store, other = open_redis(own.url), open_redis(own.url)
    enqueue(store, *"abcd")
    store.register("w")
    claim(store, limit=2)
    with own.client() as client:
        back = threading.Timer(0.3, client.config_set, ("min-replicas-to-write", 0))

        def refuse() -> WorkerCall:
            wait_until(lambda: other.stats().counters.get("succeeded") == 1)
            client.config_set("min-replicas-to-write", 1)
            back.start()
            return WorkerCall(["b"], [], 1)

        assert [job.id for job in store.settle_and_claim("w", 2, ["a"], [], 1, meanwhile=refuse).jobs] == ["c"]
        assert claim(store, 3, 1, done=("b",)) == ["d"]
        back.join()
    assert store.stats().counters["succeeded"] == 2


def test_call_that_was_sent_to_a_server_that_is_none_any_more_is_sent_again(
    open_redis: OpenStore, monkeypatch: pytest.MonkeyPatch
):
    store, other, old = open_redis(), open_redis(), []
    enqueue(store, "a", "b")
    store.register("w")
    store.settle_and_claim("w", 1, [], [], 1, meanwhile=lambda: WorkerCall([], [], 1))
    wait_until(lambda: other.stats().running == 2)
    assert store._sent is not None
    old.append(store._sent[2])
    monkeypatch.setattr(Link, "outdated", property(lambda link: link in old))

    assert claim(store, 2, 1) == ["b"]
    assert store.parts()[0].connections() == 1
    assert old[0]._connection._sock is None


def test_store_that_is_closed_closes_the_connection_that_owes_a_reply(open_redis: OpenStore):
    store = open_redis()
    enqueue(store, "a")
    store.register("w")
    store.settle_and_claim("w", 1, [], [], 0, meanwhile=lambda: WorkerCall([], [], 1))
    assert store._sent is not None
    link = store._sent[2]

    store.close()

    assert link._connection._sock is None
    with pytest.raises(StoreUnavailable):
        claim(store, 2)


def test_calls_that_a_server_refuses_one_behind_the_other_are_made_when_it_takes_writes_again(
    open_redis: OpenStore, own: Server
):
    store = open_redis(own.url)
    enqueue(store, *"abcd")
    store.register("w")
    claim(store, limit=2)
    with own.client() as client:
        client.config_set("min-replicas-to-write", 1)
        back = threading.Timer(0.3, client.config_set, ("min-replicas-to-write", 0))
        back.start()

        assert behind_each_other(store, 2, "a", WorkerCall(["b"], [], 1)) == [["c"], ["d"]]
        back.join()
    assert store.stats().counters["succeeded"] == 2


# Scripts.


def test_flushed_scripts_are_sent_again(open_redis: OpenStore, server: Server):
    store = open_redis()
    enqueue(store, "a")
    with server.client() as client:
        client.script_flush()

    assert enqueue(store, "b", call=2).depth == 2
    assert store.stats().depth == 2


def test_key_of_a_wrong_type_is_named_with_operation_and_queue(open_redis: OpenStore, server: Server, queue_name: str):
    store = open_redis()
    with server.client() as client:
        client.set(f"gq:{{{queue_name}}}:ready", "not a zset")
    with pytest.raises(CallRefused, match="WRONGTYPE") as caught:
        enqueue(store, "a")

    assert (caught.value.queue, caught.value.operation) == (queue_name, "enqueue")


def test_user_without_permission_is_told_so(open_redis: OpenStore, server: Server):
    with server.client() as client:
        client.execute_command("ACL SETUSER", "reader", "on", ">pw", "~*", "+@all", "-evalsha", "-eval")
    store = open_redis(f"unix://reader:pw@{server.socket}")
    with pytest.raises(CallRefused, match="no permissions"):
        store.stats()


def test_wrong_password_is_refused_at_once_and_not_shown(open_redis: OpenStore, server: Server):
    store = open_redis(f"unix://nobody:secret@{server.socket}", retry_for_ms=60_000)
    with pytest.raises(StoreUnavailable, match="refuses us") as caught:
        store.stats()

    assert "secret" not in str(caught.value)


def test_clone_finds_out_well_within_a_third_of_the_lease_that_the_server_is_back(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("gqueue.store.outage.random.random", lambda: 1.0)
    asked_at = []

    def answer(request: list[bytes]) -> bytes:
        asked_at.append(time.monotonic())
        return b"-LOADING Redis is loading the dataset in memory\r\n"

    with FakeServer(answer) as fake:
        store = RedisStore(fake.url, "q", evolve(RULES, lease_ms=3_000), retry_for_ms=2_000)
        clone = store.clone()

        with pytest.raises(StoreUnavailable):
            clone.heartbeat("w")

        clone.close()
        store.close()
    assert max(after - before for before, after in itertools.pairwise(asked_at)) < 0.5


# A full server.


def test_full_redis_refuses_jobs_and_lets_workers_drain(own: Server, queue_name: str):
    store = RedisStore(own.url, queue_name, RULES)
    enqueue(store, *(f"j{n}" for n in range(50)), size=1000)
    store.register("w")
    before = store.snapshot()
    with own.client() as client:
        client.config_set("maxmemory", "1mb")
        client.config_set("maxmemory", str(client.info("memory")["used_memory"] // 2))

        with pytest.raises(StoreFull, match="maxmemory"):
            enqueue(store, "new", call=2)

        assert store.snapshot() == before
        ids = claim(store)
        assert len(ids) == 50
        store.heartbeat("w")
        settlements = [
            Settlement(ids[0], "succeed", outcome=b'{"state":"succeeded"}', ttl_ms=60_000),
            Settlement(ids[1], "retry", 1000),
            Settlement(ids[2], "bury", 0, "failed", b"{}", b'{"state":"dead"}', 60_000),
        ]
        store.settle_and_claim("w", 2, ids[3:40], settlements, 0)
        assert store.leave("w", 1000) == 0
        store.register("v")
        client.config_set("maxmemory", "0")
    assert (store.stats().ready, store.stats().scheduled, store.stats().dead) == (10, 1, 1)
    assert enqueue(store, "new", call=2).accepted == 1
    store.close()


# Outages.


def test_calls_wait_for_a_server_that_restarts_and_lose_nothing(
    own: Server, queue_name: str, caplog: pytest.LogCaptureFixture
):
    store = RedisStore(own.url, queue_name, RULES, retry_for_ms=20_000)
    done, go_on = [], threading.Event()

    def produce(lane: str):
        number = 0
        while not go_on.is_set() or number < 50:
            number += 1
            enqueue(store, f"{lane}.{number}", lane=lane, call=number)
            done.append(f"{lane}.{number}")

    threads = [threading.Thread(target=produce, args=(f"l{n}",)) for n in range(4)]
    for thread in threads:
        thread.start()
    for _ in range(2):
        wait_until(lambda: len(done) > 20)
        own.kill()
        own.start()
        done_before = len(done)
        wait_until(lambda seen=done_before: len(done) > seen + 20)
    go_on.set()
    for thread in threads:
        thread.join(30)

    assert not any(thread.is_alive() for thread in threads)
    pages = (store.inspect(State.READY, offset=offset, limit=1000) for offset in range(0, len(done) + 1, 1000))
    assert {job_id for page in pages for job_id, _, _ in page} == set(done), own.log()
    assert store.stats().counters == {"enqueued": len(done)}, own.log()
    words = [record.getMessage().split(" is ")[1].split(" ")[0].rstrip(":") for record in caplog.records]
    assert words == ["away", "back"] * (len(words) // 2)
    assert 1 <= len(words) // 2 <= 2
    store.close()


def test_server_that_stays_away_ends_in_store_unavailable(own: Server, queue_name: str):
    store = RedisStore(own.url, queue_name, RULES, retry_for_ms=300)
    store.stats()
    own.stop()
    started = time.monotonic()
    with pytest.raises(StoreUnavailable, match=r"did not answer for 0\.3 s") as caught:
        enqueue(store, "a", "b")

    assert 0.25 < time.monotonic() - started < 3
    assert (caught.value.job_ids, caught.value.may_be_in) == (("a", "b"), False)
    assert str(own.socket) in str(caught.value)
    own.start()
    wait_until(lambda: _works(store))
    store.close()


def _works(store: RedisStore) -> bool:
    try:
        store.stats()
    except StoreUnavailable:
        return False
    return True


def test_call_that_may_have_been_carried_out_says_so(open_redis: OpenStore, proxy: Proxy):
    store = open_redis(proxy.url, retry_for_ms=200)
    enqueue(store, "before")  # now the server has the script: what is lost is the reply of a call, not NOSCRIPT
    proxy.next("lose reply", count=100_000)
    with pytest.raises(StoreUnavailable, match="may have been carried out") as caught:
        enqueue(store, "a", call=2)

    assert caught.value.may_be_in
    proxy.rule = lambda _: "pass"
    assert store.look(["a"])[0].state is State.READY


def test_frozen_server_counts_as_away_and_the_calls_succeed_when_it_goes_on(
    own: Server, queue_name: str, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("gqueue.store.redis.REPLY_TIMEOUT_S", 0.2)
    store = RedisStore(own.url, queue_name, RULES, retry_for_ms=20_000)
    enqueue(store, "a")
    own.pause()
    threading.Timer(0.8, own.go_on).start()

    assert enqueue(store, "b", call=2).accepted == 1
    assert store.stats().counters == {"enqueued": 2}
    store.close()


def test_waits_last_through_an_outage_and_find_what_comes_after(own: Server, queue_name: str):
    store = RedisStore(own.url, queue_name, RULES)
    assert not store.wait_hint(0)
    own.kill()
    started = time.monotonic()
    assert not store.wait_hint(0.3)
    assert store.wait_done(0.1) == ()
    assert 0.35 < time.monotonic() - started < 3

    own.start()
    enqueue(store, "a")

    assert store.wait_hint(5)
    store.close()


def test_a_lost_hint_of_room_comes_again_once_the_ticket_is_renewed(open_redis: OpenStore):
    store = open_redis()
    enqueue(store, "a", "b", "c")
    waiting = store.enqueue(
        "p", 1, [NewJob("d", 0.0, 0, b"{}")], when_full=WhenFull.WAIT, capacity=3, ticket=Ticket("p.1")
    )
    store.register("w")
    claim(store, 1, 1)
    assert store.wait_room("p", 0) == ("p.1",)
    claim(store, 2, 1)
    assert store.wait_room("p", 0) == ()

    assert store.renew_tickets([Ticket("p.1", waiting.place)]) == ()
    claim(store, 3, 1)

    assert store.wait_room("p", 0) == ("p.1",)


def test_wait_under_way_survives_a_restart(own: Server, queue_name: str):
    store = RedisStore(own.url, queue_name, RULES, retry_for_ms=20_000)
    store.stats()
    found: list[bool] = []
    waiting = threading.Thread(target=lambda: found.append(store.wait_hint(20)))
    waiting.start()
    with own.client() as client:
        wait_until(lambda: client.info("clients")["blocked_clients"] == 1)
    own.kill()
    own.start()
    enqueue(store, "a")
    waiting.join(20)

    assert found == [True]
    store.close()


@pytest.mark.parametrize(
    "error",
    [
        b"-LOADING Redis is loading the dataset in memory\r\n",
        b"-READONLY You can't write against a read only replica.\r\n",
        b"-BUSY Redis is busy running a script.\r\n",
        b"-CLUSTERDOWN The cluster is down\r\n",
        b"-MASTERDOWN Link with MASTER is down\r\n",
    ],
)
def test_error_that_passes_is_waited_out(queue_name: str, error: bytes, caplog: pytest.LogCaptureFixture):
    failing = [3]

    def answer(arguments: list[bytes]) -> bytes:
        if arguments[0] in (b"EVALSHA", b"ZREM"):
            failing[0] -= 1
            if failing[0] >= 0:
                return error
            return b":0\r\n" if arguments[0] == b"ZREM" else b"*1\r\n+ok\r\n"
        return bulk("redis_version:7.0.0") if arguments[0] == b"INFO" else OK

    with FakeServer(answer) as fake:
        store = RedisStore(fake.url, queue_name, RULES)
        store.pause()
        store.close()

    assert ["away" in caplog.records[0].getMessage(), "back" in caplog.records[1].getMessage()] == [True, True]
    assert len(caplog.records) == 2


def test_cluster_node_that_names_another_is_followed(open_redis: OpenStore, queue_name: str):
    with Server(tcp=True) as real:

        def answer(arguments: list[bytes]) -> bytes:
            if arguments[0] == b"EVALSHA":
                return f"-MOVED 1234 127.0.0.1:{real.port}\r\n".encode()
            return bulk("redis_version:7.0.0") if arguments[0] == b"INFO" else OK

        with FakeServer(answer) as fake:
            store = open_redis(fake.url)
            assert enqueue(store, "a").accepted == 1
            assert store.stats().depth == 1
            assert sum(request[0] == b"EVALSHA" for request in fake.requests) == 1
            store.close()


# What the server is.


def info_server(*lines: str) -> FakeServer:
    def answer(arguments: list[bytes]) -> bytes:
        return bulk("\r\n".join(lines)) if arguments[0] == b"INFO" else OK

    return FakeServer(answer)


def test_old_server_is_refused_with_both_versions(queue_name: str):
    with info_server("# Server", "redis_version:6.0.16") as fake:
        store = RedisStore(fake.url, queue_name, RULES)
        with pytest.raises(StoreTooOld, match=r"Redis 6\.0\.16.*needs Redis 6\.2"):
            store.stats()
        store.close()


@pytest.mark.parametrize(
    ("lines", "text"),
    [
        (("redis_version:6.2.0",), "Redis 6.2.0"),
        (("redis_version:10.0.1",), "Redis 10.0.1"),
        (("redis_version:7.2.4", "server_name:valkey", "valkey_version:8.1.0"), "Valkey 8.1.0"),
        ((), "Redis"),
    ],
)
def test_newer_servers_and_valkey_are_taken(queue_name: str, lines: tuple[str, ...], text: str):
    with info_server(*lines) as fake:
        store = RedisStore(fake.url, queue_name, RULES)
        assert str(store.server()) == text
        store.close()


@pytest.mark.parametrize(
    ("policy", "dropped"),
    [("allkeys-lru", "jobs"), ("allkeys-random", "jobs"), ("volatile-ttl", "results, and what"), ("noeviction", "")],
)
def test_evicting_policy_is_warned_of_once(
    own: Server, queue_name: str, caplog: pytest.LogCaptureFixture, policy: str, dropped: str
):
    with own.client() as client:
        client.config_set("maxmemory-policy", policy)
    store = RedisStore(own.url, queue_name, RULES)
    store.stats()
    store.clone().stats()
    store.stats()

    warnings = [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]
    assert len(warnings) == bool(dropped)
    assert all(policy in text and f"may drop {dropped}" in text for text in warnings)
    store.close()


def test_server_that_saves_nothing_is_noted_once_whatever_its_queues(
    server: Server, own: Server, queue_name: str, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("gqueue.store.server._unsaved", {})
    caplog.set_level(logging.INFO, "gqueue.store")
    for one in (own, server):
        store = RedisStore(one.url, queue_name, RULES)
        store.stats()
        assert store.server().persistent is (one is own)
        store.close()
    another = RedisStore(f"{server.url}?db=1", f"{queue_name}-too", RULES)
    another.stats()
    another.close()

    assert [record.getMessage() for record in caplog.records if "does not save" in record.getMessage()]
    assert len(caplog.records) == 1


def test_server_that_may_not_be_asked_is_taken_as_it_is(open_redis: OpenStore, server: Server):
    with server.client() as client:
        client.execute_command("ACL SETUSER", "shy", "on", ">pw", "~*", "&*", "+@all", "-info", "-config")
    store = open_redis(f"unix://shy:pw@{server.socket}")

    assert store.stats().depth == 0
    assert store.server().persistent is None


# Connections.


def blocked_names(client, queue: str) -> list[str]:
    return [c["cmd"] for c in client.client_list() if c["cmd"] in ("blpop", "subscribe")]


def test_calls_of_many_threads_share_few_connections(own: Server, queue_name: str):
    store = RedisStore(own.url, queue_name, RULES)
    wrong = []

    def work(lane: str):
        for number in range(1, 21):
            reply = store.look([f"{lane}.{n}" for n in range(number)])
            if len(reply) != number:
                wrong.append(lane)

    threads = [threading.Thread(target=work, args=(f"l{n}",)) for n in range(64)]
    with own.client() as client:
        before = most = client.info("clients")["connected_clients"]
        for thread in threads:
            thread.start()
        while any(thread.is_alive() for thread in threads):
            most = max(most, client.info("clients")["connected_clients"])
    assert not wrong
    assert before < most <= before + 16
    store.close()


def test_each_kind_of_wait_has_one_connection(own: Server, queue_name: str):
    store = RedisStore(own.url, queue_name, RULES)
    with own.client() as client:
        before = client.info("clients")["connected_clients"]
        for _ in range(3):
            store.wait_hint(0.01)
            store.wait_room("p", 0.01)
            store.wait_done(0.01)
            store.stats()
        assert client.info("clients")["connected_clients"] == before + 4
        store.close()
        wait_until(lambda: client.info("clients")["connected_clients"] == before)


def subscribers(client, queue: str) -> int:
    return client.pubsub_numsub(f"gq:{{{queue}}}:done")[0][1]


def test_who_stops_waiting_is_subscribed_no_more(open_redis: OpenStore, server: Server, queue_name: str, eventually):
    store = open_redis()
    with server.client() as client:
        store.wait_done(0)
        assert subscribers(client, queue_name) == 1

        store.stop_waiting("room")
        assert subscribers(client, queue_name) == 1
        store.stop_waiting("done")
        eventually(lambda: subscribers(client, queue_name) == 0)

        store.wait_done(0)
        assert subscribers(client, queue_name) == 1


@pytest.mark.parametrize("what", ["room", "done"])
def test_wait_under_way_ends_when_waiting_is_stopped_and_nobody_is_told_of_an_outage(
    open_redis: OpenStore, what: str, caplog: pytest.LogCaptureFixture
):
    store = open_redis()
    store.stats()
    answers = []
    waits = {"room": lambda: store.wait_room("p", 9), "done": lambda: store.wait_done(9)}
    waiter = threading.Thread(target=lambda: answers.append(waits[what]()))
    waiter.start()
    wait_until(lambda: store._client._links._waiting)

    while waiter.is_alive():  # it may not have begun yet when it is stopped
        store.stop_waiting(what)
        waiter.join(0.01)

    assert answers in ([None], [()])
    assert "away" not in caplog.text


# Many callers, few connections.


@pytest.fixture
def one_connection(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gqueue.store.links.Lanes", functools.partial(Lanes, most=1))


@pytest.mark.usefixtures("one_connection")
def test_waiting_for_a_connection_does_not_count_as_the_servers_silence(open_redis: OpenStore, proxy: Proxy):
    store = open_redis(proxy.url, retry_for_ms=150)
    store.stats()
    proxy.delay(0.05)
    with ThreadPoolExecutor(12) as pool:
        calls = [pool.submit(store.stats) for _ in range(12)]  # the last waits for 0.55 s

    assert all(call.result() for call in calls)


@pytest.mark.usefixtures("one_connection")
def test_deadline_begins_when_a_connection_is_free(open_redis: OpenStore):
    client = open_redis()._client
    lanes = client._links.lanes()
    link, deadline = client._take(client._links, lanes, time.monotonic() + 0.1)
    back = threading.Timer(0.3, lanes.give, [link])
    back.start()

    assert client._take(client._links, lanes, deadline) == (link, pytest.approx(deadline + 0.3, abs=0.2))
    back.join()
    lanes.drop(link)


@pytest.mark.usefixtures("one_connection")
def test_who_has_no_patience_does_not_wait_for_a_connection(
    open_redis: OpenStore, proxy: Proxy, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("gqueue.store.patience.LEAST_S", 0.1)
    store = open_redis(proxy.url)
    store.stats()
    sent = len(proxy.requests)
    proxy.delay(5)
    pool = ThreadPoolExecutor(1)
    busy = pool.submit(store.stats)
    wait_until(lambda: len(proxy.requests) > sent)
    started = time.monotonic()

    with pytest.raises(AllBusy, match=r"look: all 16 connections to redis://127.0.0.1:.* were busy") as refused:
        patience.until(started, lambda: store.look(["a"]))

    assert time.monotonic() - started < 2
    assert not refused.value.may_be_in
    proxy.close()
    store.close()
    assert isinstance(busy.exception(10), StoreUnavailable)


def test_callers_own_code_waits_for_a_connection_as_long_as_it_says_itself(open_redis: OpenStore):
    store, ends = open_redis(), []
    job = NewJob("a", 0.0, 0, b"{}")

    def call():
        return store.enqueue(
            "l", 1, [job], when_full=WhenFull.REJECT, capacity=9, meanwhile=lambda: ends.append(patience.ends.get())
        )

    patience.until(time.monotonic(), call)

    assert ends == [math.inf]


@pytest.mark.usefixtures("one_connection")
def test_connection_that_nobody_gives_back_is_waited_for_no_longer_than_a_server(open_redis: OpenStore):
    store = open_redis(retry_for_ms=100)
    store.stats()
    lanes = store._client._links.lanes()
    held = lanes.take(time.monotonic() + 5)

    with pytest.raises(StoreUnavailable, match=r"busy, and none was given back .* \(0.1 s\)") as refused:
        store.stats()

    assert not refused.value.may_be_in
    lanes.give(held)
    assert store.stats()


@pytest.mark.usefixtures("one_connection")
def test_server_that_goes_away_is_given_up_while_callers_wait_for_a_connection(own: Server, queue_name: str):
    store = RedisStore(own.url, queue_name, RULES, retry_for_ms=300)
    store._client._reply_timeout = store._client._links._reply_timeout = 0.2
    own.pause()
    started = time.monotonic()
    with ThreadPoolExecutor(5) as pool:
        errors = [pool.submit(store.stats).exception for _ in range(5)]

    assert [type(error()) for error in errors] == [StoreUnavailable] * 5
    assert time.monotonic() - started < 5
    own.go_on()
    store.close()


def test_closed_store_says_that_it_is_closed(open_redis: OpenStore):
    store = open_redis()
    store.stats()
    store.close()

    for call in (store.stats, lambda: store.wait_hint(5), lambda: store.wait_done(5)):
        with pytest.raises(StoreUnavailable, match="closed"):
            call()


def test_nothing_is_opened_before_the_first_call(queue_name: str):
    RedisStore("redis://127.0.0.1:1/0", queue_name, RULES).close()


class Stop(BaseException):
    """Comes between sending and the reply, as a KeyboardInterrupt would."""


def test_call_that_was_interrupted_leaves_no_reply_to_the_next(open_redis: OpenStore, own: Server, queue_name: str):
    store = RedisStore(own.url, queue_name, RULES)
    enqueue(store, "a", "b", "c")
    own.pause()

    def interrupt(_signal: int, _frame: object) -> None:
        raise Stop

    before = signal.signal(signal.SIGALRM, interrupt)
    signal.setitimer(signal.ITIMER_REAL, 0.1)
    try:
        with pytest.raises(Stop):
            store.look(["a", "b", "c"])
    finally:
        signal.signal(signal.SIGALRM, before)
        own.go_on()

    assert len(store.look(["a"])) == 1
    assert store.stats().depth == 3
    store.close()


def test_reply_that_was_not_read_is_not_the_answer_to_the_next_call(
    open_redis: OpenStore, monkeypatch: pytest.MonkeyPatch
):
    store = open_redis()
    store.stats()

    def interrupted(_: Link) -> None:
        raise Stop

    with monkeypatch.context() as patch:
        patch.setattr(Link, "receive", interrupted)
        with pytest.raises(Stop):
            store.look(["a", "b", "c"])

    assert len(store.look(["a"])) == 1


def test_silence_on_one_connection_condemns_the_idle_ones(
    own: Server, queue_name: str, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("gqueue.store.redis.REPLY_TIMEOUT_S", 0.3)
    store = RedisStore(own.url, queue_name, RULES, retry_for_ms=100)
    store.stats()
    lanes = store._client._links.lanes()
    links = [lanes.take(time.monotonic() + 5) for _ in range(4)]
    for link in links:
        if link.fresh:
            link.open()
        lanes.give(link)
    assert store._client.connections() == 4
    own.pause()
    with pytest.raises(StoreUnavailable):
        store.stats()
    own.go_on()

    assert store._client.connections() == 0
    store.close()


@pytest.mark.filterwarnings("ignore:This process.*is multi-threaded:DeprecationWarning")
def test_forked_child_opens_connections_of_its_own(open_redis: OpenStore):
    store = open_redis()
    enqueue(store, "a")
    store.wait_hint(0)
    store.wait_done(0)
    child = os.fork()
    if child == 0:
        code = 1
        try:
            for number in range(1, 100):
                assert enqueue(store, f"c{number}", lane="child", call=number).accepted == 1
                assert len(store.look(["a", "b"])) == 2
            store.wait_done(0)
            code = 0
        finally:
            os._exit(code)
    for number in range(1, 100):
        assert enqueue(store, f"p{number}", lane="parent", call=number).accepted == 1
        assert len(store.look(["a"])) == 1
    _, status = os.waitpid(child, 0)

    assert os.waitstatus_to_exitcode(status) == 0
    assert store.stats().depth == 199


@pytest.mark.filterwarnings("ignore:This process.*is multi-threaded:DeprecationWarning")
def test_fork_while_other_threads_hold_locks_does_not_hang_the_child(open_redis: OpenStore):
    store = open_redis()
    stop = threading.Event()

    def busy():
        while not stop.is_set():
            store.look(["a"])

    threads = [threading.Thread(target=busy) for _ in range(24)]
    for thread in threads:
        thread.start()
    try:
        for _ in range(10):
            child = os.fork()
            if child == 0:
                signal.alarm(10)
                store.stats()
                os._exit(0)
            assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    finally:
        stop.set()
        for thread in threads:
            thread.join()


# Under gevent's patching; in a process of its own, since there is no way back.


def in_gevent(server: Server, queue: str, code: str) -> str:
    """Run *code* with a patched standard library, a `store`, and gevent; return what it prints."""
    start = f"""
        from gevent import monkey; monkey.patch_all()
        import gevent, threading, time
        from gqueue.core.model import *
        from gqueue.store import open_store
        store = open_store({server.url!r}, {queue!r}, Rules())
    """
    program = textwrap.dedent(start) + textwrap.dedent(code)
    ran = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=False)
    assert ran.returncode == 0, ran.stderr
    assert not ran.stderr
    return ran.stdout.strip()


def test_greenlets_share_a_store(server: Server, queue_name: str):
    code = """
        def work(n):
            return [len(store.look([str(i) for i in range(n)])) for _ in range(20)] == [n] * 20
        waiting = gevent.spawn(store.wait_hint, 20)
        greenlets = [gevent.spawn(work, 1 + n % 50) for n in range(200)]
        gevent.joinall(greenlets)
        store.enqueue("l", 1, [NewJob("a", 0, 0, b"")], when_full=WhenFull.REJECT, capacity=9)
        print(all(g.value for g in greenlets), waiting.get(), store._client.connections() <= 16)
    """
    assert in_gevent(server, queue_name, code) == "True True True"


@pytest.mark.slow
def test_timeout_and_kill_in_the_middle_of_a_call_leave_no_reply_to_the_next(server: Server, queue_name: str):
    code = """
        import random
        wrong = 0
        def work(n):
            global wrong
            for _ in range(300):
                with gevent.Timeout(random.random() / 2000, False):
                    wrong += len(store.look([str(i) for i in range(n)])) != n
        greenlets = [gevent.spawn(work, 1 + n % 50) for n in range(50)]
        gevent.sleep(0.2)
        gevent.killall(greenlets[:25])
        gevent.joinall(greenlets)
        print(wrong, len(store.look(["a", "b"])), store._client.connections() <= 16)
    """
    assert in_gevent(server, queue_name, code) == "0 2 True"


def test_killing_who_sleeps_for_all_hands_the_turn_to_another(server: Server, queue_name: str):
    code = """
        from gqueue.store.outage import Gate
        gate = Gate("here", speaks=False)
        gate.shut(OSError("gone"))
        gate._next_at = time.monotonic() + 0.5
        first = gevent.spawn(gate.enter, time.monotonic() + 30)
        gevent.sleep(0.05)
        second = gevent.spawn(gate.enter, time.monotonic() + 30)
        gevent.sleep(0.05)
        first.kill()
        print(second.get(timeout=10), type(first.value).__name__)
    """
    assert in_gevent(server, queue_name, code) == "True GreenletExit"


def test_native_thread_uses_a_clone_or_the_store_itself(server: Server, queue_name: str):
    code = """
        clone, pool, seen = store.clone(), gevent.get_hub().threadpool, []
        store.stats()
        def beat():
            clone.register("w")
            for _ in range(50):
                clone.heartbeat("w")
                store.stats()
            clone.close()
            return len(clone.name)
        thread = pool.spawn(beat)
        for _ in range(50):
            store.stats()
        print(thread.get() > 0, store.workers().keys())
    """
    assert in_gevent(server, queue_name, code) == "True dict_keys(['w'])"


@pytest.mark.parametrize("wait", ["wait_hint(20)", "wait_room('p', 20)", "wait_done(20)"])
def test_closing_under_gevent_ends_waits_of_this_and_other_threads(server: Server, queue_name: str, wait: str):
    code = f"""
        def waits():
            try:
                return store.{wait}
            except Exception as error:
                return type(error).__name__
        started = time.monotonic()
        here, there = gevent.spawn(waits), gevent.get_hub().threadpool.spawn(waits)
        gevent.sleep(0.3)
        store.close()
        here.get(), there.get()
        print(time.monotonic() - started < 5)
    """
    assert in_gevent(server, queue_name, code) == "True"


def test_waiting_is_stopped_for_the_native_thread_alone(server: Server, queue_name: str):
    code = """
        there = gevent.get_hub().threadpool.spawn(lambda: (store.wait_done(0), store.wait_done(1.5))[1])
        gevent.sleep(0.3)
        store.wait_done(0)
        store.await_done(["a"])
        store.stop_waiting("done")
        store.enqueue("l", 1, [NewJob("a", 0, 0, b"")], when_full=WhenFull.REJECT, capacity=9)
        store.await_done(["a"])
        store.cancel("a", 0)
        print(there.get(), store.wait_done(0))
    """
    assert in_gevent(server, queue_name, code) == "('a',) ()"


def test_native_thread_that_ends_leaves_nothing_behind_and_nothing_to_one_that_gets_its_id(
    server: Server, queue_name: str
):
    code = """
        import os
        from gevent.threadpool import ThreadPoolExecutor
        from gqueue import Queue
        from gqueue.store.owners import owner
        queue = Queue(store.name, store._url)
        task = queue.task(name="note")(lambda: None)
        links, producer = store._client._links, queue.producer
        main, real = threading.get_native_id(), threading.get_native_id
        threading.get_native_id = lambda: main if real() == main else 7  # the kernel gives ids out again
        def use():
            job = task.enqueue()
            assert not job.wait(timeout=0.01)
            store.wait_room("p", 0), store.wait_done(0)
            return owner()
        def left():
            kept = (links._lanes, links._idle, links._waiting, producer._lines, producer._groups, producer._outcomes)
            return [*map(len, kept), len(os.listdir("/proc/self/fd"))]
        def thread():
            with ThreadPoolExecutor(1) as pool:
                return pool.submit(use).result()
        use()
        before, numbers = left(), {owner(), *(thread() for _ in range(3))}
        deadline = time.monotonic() + 10
        while left() != before and time.monotonic() < deadline:
            time.sleep(0.01)
        print(len(numbers), left() == before or (before, left()))
    """
    assert in_gevent(server, queue_name, code) == "4 True"


def test_forking_under_gevent_leaves_the_parent_its_connections(server: Server, queue_name: str):
    code = """
        import os
        waiting = gevent.spawn(store.wait_hint, 20)
        store.stats()
        gevent.sleep(0.1)
        child = os.fork()
        if child == 0:
            ok = len(store.look(["a"])) == 1
            os._exit(0 if ok else 1)
        for _ in range(100):
            assert len(store.look(["a", "b"])) == 2
        status = os.waitpid(child, 0)[1]
        store.enqueue("l", 1, [NewJob("a", 0, 0, b"")], when_full=WhenFull.REJECT, capacity=9)
        print(status, waiting.get())
    """
    assert in_gevent(server, queue_name, code) == "0 True"


# Damaged records.


@pytest.mark.parametrize("damage", [b"", b"not an entry", b"000000000000z0 {}", b"0000000000001nope {}"])
def test_damaged_entry_is_claimed_and_buried_and_stops_nothing(
    open_redis: OpenStore, server: Server, queue_name: str, damage: bytes
):
    store = open_redis()
    enqueue(store, "a", "bad", "c")
    with server.client() as client:
        client.hset(f"gq:{{{queue_name}}}:jobs", "bad", damage)
    store.register("w")

    assert sorted(claim(store)) == ["a", "bad", "c"]
    bury = Settlement("bad", "bury", 0, "bad_record", b"{}", b"", 0)
    store.settle_and_claim("w", 2, ["a", "c"], [bury], 0)

    (letter,) = store.letters()
    assert letter.job_id == "bad"
    assert store.stats().running == 0


@pytest.mark.parametrize("rank", [b"nan", b"0x10", b"1e999", b"1\t", b"--1", b"inf"])
def test_job_whose_rank_is_damaged_is_promoted_reaped_and_given_back(
    open_redis: OpenStore, server: Server, queue_name: str, rank: bytes
):
    store = open_redis()
    delayed = [NewJob(job_id, 0.0, 10, b"{}") for job_id in ("bad", "good")]
    store.enqueue("lane", 1, delayed, when_full=WhenFull.REJECT, capacity=9, now_ms=1_000)
    with server.client() as client:
        client.hset(f"gq:{{{queue_name}}}:jobs", "bad", b"0000000000001" + rank + b" {}")
    for worker in ("w", "other"):
        store.register(worker, now_ms=1_000)

    taken = store.settle_and_claim("w", 1, (), (), 5, now_ms=1_010).jobs
    assert sorted(job.id for job in taken) == ["bad", "good"]
    assert store.leave("w", 5, now_ms=1_010) == 0
    taken = store.settle_and_claim("other", 1, (), (), 5, now_ms=1_010).jobs
    assert sorted(job.id for job in taken) == ["bad", "good"]
    for now_ms in range(1_010, 13_010, 1_000):
        store.fence(now_ms=now_ms)
    assert store.reap("other", 5, now_ms=13_010).ready == 2


def test_damaged_counters_count_as_none(open_redis: OpenStore, server: Server, queue_name: str):
    store = open_redis()
    enqueue(store, "a", "b", "c")
    with server.client() as client:
        for kind in ("attempts", "crashes"):
            client.hset(f"gq:{{{queue_name}}}:{kind}", mapping=dict.fromkeys("abc", "abc"))
    store.register("w")
    claim(store)
    retry, bury = Settlement("a", "retry", 0, ttl_ms=0), Settlement("b", "bury", 0, "failed", b"{}", b"", 0)

    jobs = store.settle_and_claim("w", 2, (), [retry, bury], 1).jobs

    assert [(job.id, job.failures, job.crashes) for job in jobs] == [("a", 1, 0)]
    assert [(letter.failures, letter.crashes) for letter in store.letters()] == [(1, 0)]
    assert store.look(["c"])[0].failures == 0


@pytest.mark.parametrize("number", ["nonsense", "-1", "1e300", str(2**52), str(2**53 - 1)])
def test_damaged_numbers_lose_neither_a_job_nor_a_place(
    open_redis: OpenStore, server: Server, queue_name: str, number: str
):
    store = open_redis()
    with server.client() as client:
        client.hset(f"gq:{{{queue_name}}}:meta", mapping={"sequence": number, "places": number})
        client.hset(f"gq:{{{queue_name}}}:stats", mapping=dict.fromkeys(("enqueued", "claimed", "succeeded"), number))
    store.register("w")

    enqueue(store, "a", "b")
    jobs = [NewJob("c", 0.0, 0, b"{}")]
    waits = store.enqueue("l", 1, jobs, when_full=WhenFull.WAIT, capacity=2, ticket=Ticket("p.1"))
    assert waits.place
    assert claim(store) == ["a", "b"]
    assert claim(store, 2, done=("a", "b")) == []
    again = Ticket("p.1", waits.place)
    assert store.enqueue("l", 2, jobs, when_full=WhenFull.WAIT, capacity=2, ticket=again).accepted == 1
    assert claim(store, 3) == ["c"]


def test_job_that_is_never_due_is_no_time_to_wake_at(open_redis: OpenStore, server: Server, queue_name: str):
    store = open_redis()
    store.register("w")
    with server.client() as client:
        client.zadd(f"gq:{{{queue_name}}}:scheduled", {"never": float("inf")})
        assert store.settle_and_claim("w", 1, (), [], 5).due_in_ms is None
        client.zadd(f"gq:{{{queue_name}}}:scheduled", {"long ago": float("-inf"), "soon": 20_000.0})

    assert store.settle_and_claim("w", 2, (), [], 5, now_ms=10_000).due_in_ms == 10_000


@pytest.mark.parametrize("lease", ["nonsense", "", "0", "1e300", str(2**52), "86400001"])
def test_damaged_lease_keeps_no_job_with_a_dead_worker(
    open_redis: OpenStore, server: Server, queue_name: str, lease: str
):
    store = open_redis()
    enqueue(store, "a")
    store.register("w", now_ms=1_000)
    claimed = store.settle_and_claim("w", 1, (), [], 1, now_ms=1_000)
    with server.client() as client:
        client.hset(f"gq:{{{queue_name}}}:meta", "lease", lease)
    store.heartbeat("w", now_ms=1_500)
    store.register("other", now_ms=1_500)
    for now_ms in range(2_000, 1_500 + RULES.lease_ms, 500):
        store.heartbeat("other", now_ms=now_ms)

    assert len(claimed.jobs) == 1
    assert store.fence(now_ms=1_500 + RULES.lease_ms) == ("w",)


def test_lapsed_worker_without_a_name_is_dropped(open_redis: OpenStore, server: Server, queue_name: str):
    store = open_redis()
    with server.client() as client:
        client.zadd(f"gq:{{{queue_name}}}:lapsed", {"": 0.0, "nobody": 0.0})

    assert store.fence() == ("nobody",)
    store.reap("nobody", 10)
    assert store.stats().lapsed == 0


@pytest.mark.parametrize("value", ["nonsense", "", "-1", "1e300", b"\xff"])
def test_damaged_settings_are_told_as_none(open_redis: OpenStore, server: Server, queue_name: str, value: str | bytes):
    store = open_redis()
    enqueue(store, "a")
    with server.client() as client:
        client.hset(f"gq:{{{queue_name}}}:meta", mapping={"capacity_set": value, "paused": value})

    assert (store.stats().capacity, store.stats().paused) == (1_000_000, False)


@pytest.mark.parametrize("ticket", [False, True], ids=["no ticket", "a ticket of nobody beside it"])
def test_place_without_a_ticket_holds_nobody_up(open_redis: OpenStore, server: Server, queue_name: str, ticket: bool):
    store = open_redis()
    with server.client() as client:
        client.zadd(f"gq:{{{queue_name}}}:waiters", {"0000000000001p.1": -1.0})
        if ticket:
            client.zadd(f"gq:{{{queue_name}}}:tickets", {"0000000000002p.2": time.time() * 1000 + 300})

    def enters() -> bool:
        call = next(calls)
        reply = store.enqueue("l", call, [NewJob("a", 0.0, 0, b"{}")], when_full=WhenFull.REJECT, capacity=10)
        return reply.accepted == 1

    calls = itertools.count(1)
    assert wait_until(enters) if ticket else enters()

    assert store.look(["a"])[0].state is State.READY
    with server.client() as client:
        assert not client.exists(f"gq:{{{queue_name}}}:waiters")


def test_member_without_a_record_is_dropped(open_redis: OpenStore, server: Server, queue_name: str):
    store = open_redis()
    enqueue(store, "a", "gone", "c")
    with server.client() as client:
        client.hdel(f"gq:{{{queue_name}}}:jobs", "gone")
    store.register("w")

    assert claim(store) == ["a", "c"]
    assert store.stats().ready == 0


def test_outcome_that_nobody_can_read_is_an_unknown_state(open_redis: OpenStore, server: Server, queue_name: str):
    store = open_redis()
    with server.client() as client:
        client.set(f"gq:{{{queue_name}}}:result:a", "{nonsense")

    assert store.look(["a"])[0].state is State.UNKNOWN


def test_damaged_setting_is_no_setting_in_the_count(open_redis: OpenStore, server: Server, queue_name: str):
    store = open_redis()
    with server.client() as client:
        client.hset(f"gq:{{{queue_name}}}:meta", mapping={"paused": "maybe", "capacity": "x"})

    assert (store.stats().paused, store.stats().capacity) == (False, 0)

    store.pause()
    assert store.stats().paused


@pytest.mark.parametrize("others", [0, 50])
def test_job_without_an_id_is_held_by_who_claims_it_and_can_be_buried(
    open_redis: OpenStore, server: Server, queue_name: str, others: int
):
    store = open_redis()
    with server.client() as client:
        client.hset(f"gq:{{{queue_name}}}:jobs", "", "00000000000000 {}")
        client.zadd(f"gq:{{{queue_name}}}:ready", {"0000000000000": 0})
    if others:
        enqueue(store, *(f"j{number}" for number in range(others)))
    store.register("w")
    assert len(claim(store)) == 1 + others
    assert store.stats().running == len(store.settle_and_claim("w", 1, [], [], 100).jobs) == 1 + others

    settled = store.settle_and_claim("w", 2, [], [Settlement("", "bury", 0, "bad_record", b"{}")], 0)

    assert settled.skipped == ()
    assert [(letter.job_id, letter.reason.value) for letter in store.letters()] == [("", "bad_record")]
    assert (store.stats().running, store.delete_letters([""])) == (others, 1)


@pytest.mark.parametrize(
    ("numbers", "told"),
    [
        ("1 0 99999999999999999", (1, 0, 1970)),
        ("1 0 253402300800000", (1, 0, 1970)),
        ("1 0 253402300799999", (1, 0, 9999)),
        (f"{2**53} {'9' * 5000} 0", (0, 0, 1970)),
    ],
)
def test_number_that_no_letter_can_have_is_missing_and_hides_no_letter(
    open_redis: OpenStore, server: Server, queue_name: str, numbers: str, told: tuple[int, int, int]
):
    store = open_redis()
    with server.client() as client:
        client.zadd(f"gq:{{{queue_name}}}:dead", {"a": 5, "b": 6})
        client.hset(f"gq:{{{queue_name}}}:dead:jobs", "a", 'failed 2 0 5\n{}\n00000000000010 {"task":"t"}')
        client.hset(f"gq:{{{queue_name}}}:dead:jobs", "b", f'failed {numbers}\n{{}}\n00000000000010 {{"task":"t"}}')

    damaged, sound = (readable(letter, 1_000_000) for letter in store.letters())

    assert (damaged.attempts - damaged.crashes, damaged.crashes, damaged.died_at.year) == told
    assert (damaged.reason, damaged.task, sound.attempts) == ("failed", "t", 2)
    assert store.redrive(["b"]) == ("b",)


def test_damaged_letter_is_shown_as_a_bad_record(open_redis: OpenStore, server: Server, queue_name: str):
    store = open_redis()
    with server.client() as client:
        client.zadd(f"gq:{{{queue_name}}}:dead", {"a": 5})
        client.hset(f"gq:{{{queue_name}}}:dead:jobs", "a", "nonsense")

    (letter,) = store.letters()
    assert (letter.job_id, letter.reason.value, letter.record) == ("a", "bad_record", b"nonsense")
    assert store.delete_letters(["a"]) == 1


WILD = b"\xff\xfe"
READ = "\udcff\udcfe"


def test_id_that_is_not_utf8_goes_through_every_operation_and_back(
    open_redis: OpenStore, server: Server, queue_name: str
):
    store = open_redis()
    prefix = f"gq:{{{queue_name}}}:"
    enqueue(store, "a")
    with server.client() as client:
        client.zadd(f"{prefix}ready", {b"0000000000000" + WILD: -1})
        client.hset(f"{prefix}jobs", WILD, b"00000000000000 {}")
    store.register("w")

    assert [job_id for job_id, _, _ in store.inspect(State.READY)] == [READ, "a"]
    assert claim(store, limit=1) == [READ]
    assert [job.id for job in store.held("w", 1)] == [READ]
    assert [look.state for look in store.look([READ])] == [State.RUNNING]
    assert store.cancel(READ, 0) is State.RUNNING
    assert store.heartbeat("w").cancels == (READ,)
    with server.client() as client:
        client.delete(f"{prefix}cancels")
    bury = Settlement(READ, "bury", 0, "bad_record", b"{}", b"", 60_000)
    assert store.settle_and_claim("w", 2, [READ + "x"], [bury], 0).skipped == (READ + "x",)
    assert [letter.job_id for letter in store.letters()] == [READ]
    assert READ in store.snapshot()["letters"]
    assert store.redrive([READ]) == (READ,)
    assert claim(store, call=3) == [READ, "a"]
    assert claim(store, call=4, done=(READ, "a")) == []
    assert store.stats().depth == 0


def test_worker_whose_id_is_not_utf8_is_reaped(open_redis: OpenStore, server: Server, queue_name: str):
    store = open_redis()
    with server.client() as client:
        client.zadd(f"gq:{{{queue_name}}}:lapsed", {WILD: 1})
        client.hset(f"gq:{{{queue_name}}}:running:".encode() + WILD, "a", "1 1")

    assert store.fence() == (READ,)
    assert store.reap(READ, 10).left == 0
    assert store.fence() == ()


def test_what_is_asked_of_a_worker_in_unknown_words_is_not_heard(
    open_redis: OpenStore, server: Server, queue_name: str
):
    store = open_redis()
    store.register("w")
    with server.client() as client:
        client.hset(f"gq:{{{queue_name}}}:asked", "w", "dance")
        client.hset(f"gq:{{{queue_name}}}:stats", "dead", "many")

    assert store.heartbeat("w").asked is None
    assert store.stats().counters == {"dead": 0}
