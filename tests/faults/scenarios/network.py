"""Scenarios 19 to 23: a network that is slow, loses replies, swallows everything, or cuts in the middle."""

import time

import redis
from attrs import evolve

from tests.faults.rig import SIDES, Rig
from tests.faults.scenarios.scenario import BACKLOG_FULL, BACKLOG_SHORT, FULL, SHORT, scenario


@scenario(
    19,
    full=evolve(FULL, slots=40, many=100, lease=3.0),
    short=evolve(SHORT, jobs=400, many=40),
    duplicated=0,
    inversions=0,
    reached=("round trips above 100 ms",),
)
def latency(rig: Rig) -> None:
    """Have every round trip take 200 ms, 150 more or less.

    Work goes on. No job is lost and no lease: beats that come late are beats, and one that was given up was carried
    out. Nothing is done twice.
    """
    rig.proxy.latency(0.1, 0.075, "both")
    with rig.during("latency", "200 +- 150 ms"), redis.Redis(port=rig.proxy.port, protocol=2) as client:
        for _ in rig.every(rig.scaled(1.0)):
            began = time.monotonic()
            client.ping()
            rig.reach("round trips above 100 ms", time.monotonic() - began > 0.1)
        stuck = any(producer.alive() for producer in rig.producers)
        if stuck or rig.stats().counters.get("succeeded", 0) < rig.setup.jobs / 2:
            rig.problems.append(f"work did not go on meanwhile: {rig.stats()}")


@scenario(
    20,
    full=BACKLOG_FULL,
    short=BACKLOG_SHORT,
    duplicated=0,
    inversions=0,
    reached=("replies lost", "reply lost settle_and_claim", "reply lost enqueue"),
)
def lost_replies(rig: Rig) -> None:
    """Lose the reply of 5% of all calls, after they were carried out, and cut the connection.

    No job is lost, none is enqueued or done twice: whoever misses the reply sends the same call again under the same
    number, and is answered as before.
    """
    with rig.during("replies lost", "5%"):
        rig.proxy.lose_replies(0.05)
        for _ in rig.every(rig.scaled(1.0)):
            pass
        rig.proxy.clear()


HITS = tuple(f"app: {client} {how}" for client in ("redis", "gqueue") for how in ("timed out", "killed"))


@scenario(
    21,
    full=evolve(FULL, jobs=12_000, seconds=90.0, duration=0.3, direct_workers=1, wait_timeout=4.0),
    short=evolve(SHORT, jobs=800, seconds=17.0, duration=0.5, direct_workers=1, wait_timeout=2.0, scale=0.17),
    recovers=True,
    overlapping=None,
    reached=(
        *(f"swallowed: {side}" for side in SIDES.values()),
        "short holes without a loss",
        "leases lost",
        "jobs taken back",
        "stale settlements refused",
    ),
)
def black_hole(rig: Rig) -> None:
    """Swallow all between one worker (and the producers) and Redis for 15 s: both ways, replies only, requests only.

    No job is lost. The other worker, which has a way of its own, runs the first one's jobs within lease + lease/3 of
    the beginning. At the end all that was held arrives, requests that were given up long ago too: what they would
    settle is refused, what they would enqueue again is not. Until then a job may run in two places, as in 4. Before
    all that, for less than half a lease: that costs nobody a lease, and nothing is taken back.
    """
    rig.sleep(rig.setup.lease)
    with rig.hole(0, "both"):
        rig.sleep(0.4 * rig.setup.lease)
    rig.sleep(rig.setup.lease)
    rig.reach("short holes without a loss", not (rig.log_has("is lost") or rig.stats().counters.get("crashed", 0)))
    for way in SIDES:
        rig.sleep(rig.setup.lease)
        with rig.hole(0, way):
            rig.sleep(rig.scaled(15.0))
        rig.sleep(rig.setup.lease)


@scenario(
    22,
    full=evolve(FULL, lease=5.0, seconds=90.0),
    short=evolve(SHORT, jobs=400, lease=3.0),
    duplicated=0,
    reached=("slices", *HITS),
)
def slicer(rig: Rig) -> None:
    """Pass all on in slices of 1 to 64 bytes, while jobs time out and kill greenlets of theirs that talk to Redis.

    They do so in the middle of requests and replies of a client of their own, and of gqueue's calls, enqueues too. No
    job is lost, none is done twice, and nobody gets an answer that is another's: a job that does fails, and is a dead
    letter.
    """
    with rig.during("slicer", "1 to 64 bytes every ms"):
        rig.proxy.slicer(64, 0.001, "both")
        for number in rig.every(0.2):
            rig.put("meddle", f"meddle-{number}", 1.0)
        rig.proxy.clear()


@scenario(23, duplicated=0, inversions=0, reached=("cut inside settle_and_claim", "cut inside enqueue"))
def cut_inside_reply(rig: Rig) -> None:
    """Cut the connection in the middle of a bulk reply: of every fourth that brings jobs, of some of all others.

    No job is lost and none is done twice: half of a reply is none, and the call is sent again under its number. What a
    claim brought is brought again.
    """
    with rig.during("cut inside a reply", "25% of claims, then 10% of all"):
        for number in rig.every(rig.scaled(2.0)):
            if number % 2:
                rig.proxy.cut_inside_reply(0.1, least=8)
            else:
                rig.proxy.cut_inside_reply(0.25, ["settle_and_claim"], least=200)
        rig.proxy.clear()
