"""Scenarios 26 to 29, 31 and 33: a Redis that is full, refuses, forgets on its own, or is kept busy by others."""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import redis
from attrs import evolve

import gqueue
from gqueue.store import scripts
from gqueue.store.audit import audit
from tests.faults import aof
from tests.faults.rig import Rig
from tests.faults.scenarios.scenario import FULL, SHORT, TARDY_S, scenario
from tests.servers import Server, free_port

HASTY_FULL = evolve(FULL, jobs=10_800, wait_timeout=1.0, retry_for=1.0)
HASTY_SHORT = evolve(SHORT, wait_timeout=0.5, retry_for=0.5)
"""Every other producer is told soon, and the others wait for ever. So many jobs that 10,000 are acknowledged."""


@scenario(
    26,
    full=evolve(HASTY_FULL, tcp=True),
    short=evolve(HASTY_SHORT, tcp=True),
    duplicated=0,
    inversions=0,
    reached=("replica killed", "met NOREPLICAS", "outages over"),
)
def replica_gone(rig: Rig) -> None:
    """Kill the only replica of a server with `min-replicas-to-write 1`; start it again after one and a half leases.

    No job is lost, none is done twice: all that writes is refused before it has written anything, and waits, or is told
    so after `retry_for`. No lease is lost: the refused beats are refused to all, and the first that passes prolongs.
    """
    with Server(replica_of=rig.server) as replica, rig.redis() as master:
        _wait_for_replica(rig)
        master.config_set("min-replicas-to-write", 1)
        try:
            for _ in rig.every(rig.scaled(4.0)):
                with rig.during("replica killed"):
                    replica.kill()
                    rig.sleep(1.5 * rig.setup.lease)
                    replica.start()
                    _wait_for_replica(rig)
        finally:
            master.config_set("min-replicas-to-write", 0)
    rig.never |= {"leases lost", "stats: crashed"}


def _wait_for_replica(rig: Rig) -> None:
    with rig.redis() as master:
        told = "no replica was online"
        rig.wait(lambda: master.info("replication").get("slave0", {}).get("state") == "online", 20, told)


@scenario(
    27,
    full=evolve(FULL, jobs=20_000, duration=0.3, priorities=(0.0,)),  # almost half of them are refused
    short=evolve(SHORT, duration=1.0, priorities=(0.0,)),
    recovers=True,
    inversions=0,
    reached=("maxmemory below used", "met OOM", "refused: StoreFull", "drained while full", "stats: crashed"),
)
def full_redis(rig: Rig) -> None:
    """Set maxmemory below what is used, with jobs waiting; kill a worker meanwhile; raise it when all are done.

    No job is lost. Every enqueue is refused at once, by StoreFull, and nothing of it is in. Workers claim, settle,
    beat, register, and take back what the killed one ran, until the queue is empty; only that is done twice.
    """
    for number in rig.every(rig.scaled(3.0)):
        with rig.redis() as client, rig.during("maxmemory below used"):
            client.config_set("maxmemory", int(client.info("memory")["used_memory"]) // 2)
            rig.kill_worker(number % rig.setup.workers)
            if rig.wait(lambda: not _depth(rig), 30, "the workers did not drain a full Redis"):
                rig.reach("drained while full")
            client.config_set("maxmemory", 0)


def _depth(rig: Rig) -> int:
    stats = rig.stats()
    return stats.depth + stats.running


EVICTS = "an evicting policy may drop jobs"


@scenario(
    28,
    full=evolve(FULL, jobs=10_400, duration=0.4, seconds=30.0, redis={"maxmemory_policy": "allkeys-lru"}),
    short=evolve(SHORT, duration=0.6, redis={"maxmemory_policy": "allkeys-lru"}),
    lost=None,
    lost_within_s=86_400.0,  # whatever is there may be evicted: but nothing that comes when that is over
    missing=None,
    overlapping=None,
    doubled_by=("evicting",),
    lost_after_s=1.0,  # a call that was on its way may be carried out twice: its number was evicted, too
    reached=("warned at the start", "warned live", "keys evicted"),
)
def evicting_policy(rig: Rig) -> None:
    """Start with an evicting policy; correct it; set another one live, and let Redis evict some keys; again.

    Workers warn of both: of the one set live when they look again, after an outage or within a minute. What Redis
    evicts may be lost: how much is reported. What it leaves is done, or is put right by `gqueue fsck --repair`: the
    place of a job may be gone, and its record still there. Workers and producers neither end nor hang, and a worker
    whose lease is evicted again and again does not register in a storm.
    """
    rig.reach("warned at the start", rig.log_has(f"maxmemory-policy allkeys-lru: {EVICTS}"))
    with rig.redis() as client:
        client.config_set("maxmemory-policy", "noeviction")
        _shut_out(rig, client, 0.3)
        for number in rig.every(rig.scaled(2.0)):
            client.config_set("maxmemory-policy", "allkeys-random")
            _shut_out(rig, client, 0.3)
            with rig.during("evicting"):
                client.config_set("maxmemory", int(client.info("memory")["used_memory"]) - 1)
                rig.sleep(0.2 * (number % 2))
                client.config_set("maxmemory", 0)
        rig.reach("keys evicted", int(client.info("stats")["evicted_keys"]))
        client.config_set("maxmemory-policy", "noeviction")
    rig.reach("warned live", rig.log_has(f"maxmemory-policy allkeys-random: {EVICTS}"))
    rig.sleep(1.5 * rig.setup.lease)
    rig.reach("findings repaired", sum(finding.repaired for finding in audit(rig.queue.store, repair=True)))


LOADED = 20_000
"""How many commands the server loads at least, for it says so between two thousands of them; and how often it sleeps
meanwhile, which takes some 60 us each time."""


@scenario(
    29,
    full=evolve(HASTY_FULL, redis={"lua_time_limit": "50", **aof.SETTINGS}),
    short=evolve(HASTY_SHORT, redis={"lua_time_limit": "50", **aof.SETTINGS}),
    duplicated=0,
    inversions=0,
    reached=("met BUSY", "met LOADING", "met MISCONF", "met READONLY", "outages over"),
)
def refusing_redis(rig: Rig) -> None:
    """Have the server answer BUSY (somebody's endless script), MISCONF (it cannot save), READONLY, LOADING in turn.

    No job is lost, none is done twice: each is answered before anything was written, and the call is sent again. No
    lease is lost, although each lasts longer than one.
    """
    while True:
        for refuse in (_busy, _misconf, _readonly, _loading):
            rig.sleep(rig.scaled(1.0))
            refuse(rig)
        if rig.short or not rig.loading():
            break
    rig.never |= {"leases lost", "stats: crashed"}


def _busy(rig: Rig) -> None:
    with rig.during("BUSY script"), rig.redis() as client, rig.redis() as other:
        connection = client.connection_pool.get_connection()
        connection.send_command("EVAL", "while true do end", 0)
        rig.sleep(1.3 * rig.setup.lease)
        other.script_kill()
        try:
            connection.read_response()
        except redis.ResponseError:  # that it was killed
            connection.disconnect()


def _misconf(rig: Rig) -> None:
    in_the_way = rig.server.folder / "dump.rdb"
    in_the_way.mkdir()
    with rig.during("MISCONF"), rig.redis() as client:
        client.config_set("save", "3600 1")
        client.bgsave()
        rig.sleep(1.3 * rig.setup.lease)
        client.config_set("save", "")
    in_the_way.rmdir()


def _readonly(rig: Rig) -> None:
    with rig.during("READONLY"), rig.redis() as client:
        client.replicaof("127.0.0.1", free_port())
        rig.sleep(1.3 * rig.setup.lease)
        client.replicaof("NO", "ONE")


def _loading(rig: Rig) -> None:
    with rig.redis() as client, client.pipeline(transaction=False) as pipeline:
        for number in range(LOADED):
            pipeline.set("other", number)
        pipeline.execute()
    rig.kill_redis()
    commands = sum(1 for _ in aof.ends(aof.growing(rig.server.folder).read_bytes()))
    rig.server.settings["key-load-delay"] = str(-(commands // LOADED))  # below 0: once in so many commands
    rig.start_redis()
    del rig.server.settings["key-load-delay"]


@scenario(31, duplicated=0, inversions=0, reached=("maxclients", "met MAXCLIENTS", "outages over"))
def maxclients(rig: Rig) -> None:
    """Set maxclients to what is connected, cut all other connections, and let nobody in for one and a half leases.

    No job is lost, none is done twice: clients wait, and go on when there is room; no lease is lost meanwhile.
    """
    with rig.redis() as client:
        for _ in rig.every(rig.scaled(4.0)):
            _shut_out(rig, client, 1.5 * rig.setup.lease)
    rig.never |= {"leases lost", "stats: crashed"}


def _shut_out(rig: Rig, client: redis.Redis, seconds: float) -> None:
    with rig.during("maxclients"):
        before = client.config_get("maxclients")["maxclients"]
        client.config_set("maxclients", 1)
        client.client_kill_filter(_type="normal", skipme=True)
        rig.sleep(seconds)
        client.config_set("maxclients", before)


@scenario(
    33,
    duplicated=0,
    tardy_s=TARDY_S,
    inversions=0,
    reached=("jobs purged", "steps of the purge", "longest step, us", "longest PING, us"),
)
def purge(rig: Rig) -> None:
    """Purge a million jobs (50,000 in the short form) that wait in another queue of the server.

    Of another queue, since those of this one were promised. Nothing of this one is lost or done twice. A purge goes in
    steps of 1,000 jobs, and between two of them others are served: the longest step on the server is reported, what one
    costs it on average, and how long a PING took at most meanwhile. It costs less than a sixth of the lease, which is
    how long a heartbeat waits.
    """
    number = 50_000 if rig.short else 1_000_000
    rig.sleep(rig.scaled(2.0))
    other = gqueue.Queue("other", rig.server.url, capacity=2 * number)
    other.task(name="nothing")(_nothing)
    nothing = other.tasks["nothing"]
    with rig.during("enqueue_many"):
        other.enqueue_many(nothing.job(n) for n in range(number))
    with rig.redis() as client, _pinged(rig):
        client.config_set("slowlog-log-slower-than", 100)
        client.config_set("slowlog-max-len", 10_000)
        before = _cpu_s(client)
        with rig.during("purge"):
            other.purge()
        cpu_us = (_cpu_s(client) - before) * 1e6
        sha = scripts.load()["purge"].sha
        steps = [entry["duration"] for entry in client.slowlog_get(10_000) if sha in entry["command"]]
    rig.reach("jobs purged", number - other.stats().depth)
    rig.reach("steps of the purge", len(steps))
    rig.reach("longest step, us", max(steps, default=0))
    rig.reach("CPU of a step, us", round(cpu_us / max(1, len(steps))))
    if cpu_us / max(1, len(steps)) > rig.setup.lease * 1e6 / 6:
        rig.problems.append(
            f"a step of the purge took {cpu_us / len(steps):.0f} us of the server, a sixth of the lease"
        )
    rig.never |= {"leases lost", "stats: crashed"}
    other.close()


def _cpu_s(client: redis.Redis) -> float:
    cpu = client.info("cpu")
    return float(cpu["used_cpu_user"] + cpu["used_cpu_sys"])


def _nothing(number: int) -> None:
    """Do nothing."""


@contextmanager
def _pinged(rig: Rig) -> Iterator[None]:
    longest, ended = [0.0], threading.Event()

    def ping() -> None:
        with rig.redis() as client:
            while not ended.wait(0.001):
                began = time.monotonic()
                client.ping()
                longest[0] = max(longest[0], time.monotonic() - began)

    thread = threading.Thread(target=ping)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()
    rig.reach("longest PING, us", round(longest[0] * 1e6))
