"""Scenarios 10 to 18, and 32: a Redis that is killed, comes back with less, stands still, or has another time."""

import time

import redis
from attrs import evolve

from tests.faults import aof, clock
from tests.faults.rig import Rig
from tests.faults.scenarios.scenario import BACKLOG_FULL, BACKLOG_SHORT, FULL, SHORT, scenario
from tests.servers import debug_allowed

MORE_FULL = evolve(FULL, duration=0.4, seconds=30.0, redis=aof.SETTINGS)
MORE_SHORT = evolve(SHORT, duration=0.8, seconds=4.0, redis=aof.SETTINGS)
"""Where Redis comes back with less: more is enqueued than is done, so that something waits that can be lost."""

POWER_S = 2.0
"""What a power cut takes from an AOF that is synced every second: the second, and what the disk is behind."""

AFTER, URGENT = "after-", -10.0
"""What the keys of jobs begin with that are enqueued when an emptied Redis is back; they start before all others."""

SLACK_S = 0.5
"""From the moment to which the AOF is cut to the line of the fault, beyond what was waited."""


@scenario(
    10,
    full=evolve(FULL, fsync="always"),
    short=evolve(SHORT, fsync="always"),
    duplicated=0,
    reached=("kill -9 redis", "outages over"),
)
def kill_redis_always(rig: Rig) -> None:
    """Kill the server, with an AOF synced before every answer; start it again soon, or after 1.5 leases; again.

    No job is lost, and none done twice: what was answered is on disk, calls without an answer are sent again under
    their numbers, and leases that ran out while Redis was away are prolonged when it is back.
    """
    for number in rig.every(rig.scaled(4.0)):
        rig.kill_redis()
        rig.sleep((0.2, 1.5)[number % 2] * rig.setup.lease)
        rig.start_redis()
    rig.never |= {"leases lost", "stats: crashed"}


@scenario(11, duplicated=0, reached=("kill -9 redis", "outages over"))
def kill_redis_everysec(rig: Rig) -> None:
    """The same with an AOF synced every second: the process is killed, the machine goes on.

    No job is lost: what was answered was written, and the kernel keeps it. Only a disk so slow that a sync of Redis
    takes longer than a second makes it answer before it writes; then up to 2 s are lost, as in a power loss.
    """
    kill_redis_always(rig)


@scenario(
    12,
    full=MORE_FULL,
    short=MORE_SHORT,
    lost=None,
    missing=None,
    lost_within_s=POWER_S + SLACK_S,
    doubled_by=("kill -9 redis",),
    doubled_within_s=POWER_S + SLACK_S,
    overlapping=None,
    reached=("kill -9 redis", "bytes of the AOF lost", "stale calls"),
)
def power_loss(rig: Rig) -> None:
    """Cut the AOF back to what it was 2 s before the server was killed, as a power cut does.

    What was acknowledged within those 2 s may be lost, and nothing older; how much is reported. What was settled
    within them is done again. Workers that Redis remembers as they were notice by the number of their next call,
    register anew and lose what they run, which may run elsewhere already.
    """
    for _ in rig.every(rig.scaled(4.0)):
        _lose_the_end(rig, POWER_S, inside=False)


@scenario(
    13,
    full=MORE_FULL,
    short=MORE_SHORT,
    lost=None,
    missing=None,
    lost_within_s=2 * SLACK_S,
    doubled_by=("kill -9 redis",),
    doubled_within_s=2 * SLACK_S,
    overlapping=None,
    reached=("kill -9 redis", "bytes of the AOF lost", "AOF truncated by Redis", "stale calls"),
)
def cut_aof(rig: Rig) -> None:
    """Cut the AOF in the middle of a command that was written half a second before the server was killed.

    With aof-load-truncated, which is its default, Redis starts with what comes before. What was acknowledged after may
    be lost, and nothing older; how much is reported.
    """
    for _ in rig.every(rig.scaled(4.0)):
        _lose_the_end(rig, SLACK_S, inside=True)
    rig.reach("AOF truncated by Redis", rig.server.log().count("aof-load-truncated is enabled"))


def _lose_the_end(rig: Rig, seconds: float, *, inside: bool) -> None:
    length = aof.size(rig.server.folder)
    rig.sleep(seconds)
    rig.kill_redis()
    rig.reach("bytes of the AOF lost", aof.cut(rig.server.folder, length, inside=inside))
    rig.start_redis()


@scenario(
    14,
    full=MORE_FULL,
    short=MORE_SHORT,
    lost=None,
    missing=None,
    lost_within_s=86_400.0,
    never_lost=AFTER,
    duplicated=0,
    overlapping=None,
    reached=("kill -9 redis", "leases lost", "done after a restart"),
)
def empty_restart(rig: Rig) -> None:
    """Kill the server, remove its AOF, and start it with nothing.

    What was in the queue then is lost; how much is reported. What is enqueued afterwards is done: producers and workers
    go on without being started anew, and jobs that run are interrupted, since Redis knows nothing of them. Of one
    client, jobs that are urgent come after each restart, and are done before the next; and after the last one the
    producers go on, and nothing of theirs is lost.
    """
    rig.put("work", "before", 0.01, priority=URGENT)  # so that this client has a past, which Redis forgets
    until = time.monotonic() + rig.setup.seconds * 2 / 3
    for number in rig.every(rig.scaled(2.0)):
        if number and time.monotonic() > until:
            break
        rig.kill_redis()
        rig.server.wipe()
        rig.start_redis()
        jobs = [rig.put("work", f"{AFTER}{number}-{each}", 0.01, priority=URGENT) for each in range(20)]
        told = "what was enqueued after a restart was not done"
        rig.wait(lambda jobs=jobs: all(map(rig.is_over, jobs)), 20, told)
    rig.reach("done after a restart", rig.effects(AFTER))


@scenario(
    15,
    full=evolve(FULL, redis=debug_allowed(), workers=4, slots=10),
    short=evolve(SHORT, redis=debug_allowed(), workers=4, slots=10),
    duplicated=0,
    reached=("DEBUG SLEEP", "PINGs held back"),
)
def debug_sleep(rig: Rig) -> None:
    """Have the server do nothing else for 10 s, or one and a half leases in the short form.

    No lease is lost, no job is done twice: connections stand, calls are answered late, and the first one of a worker
    prolongs the leases of all.
    """
    seconds = 1.5 * rig.setup.lease if rig.short else 10.0
    for _ in rig.every(rig.scaled(2.0)):
        with rig.during("DEBUG SLEEP", f"{seconds:g} s"), rig.redis() as client, rig.redis() as other:
            asked = other.connection_pool.get_connection()
            connection = client.connection_pool.get_connection()
            connection.send_command("DEBUG", "SLEEP", seconds)
            rig.sleep(0.1)  # until the server sleeps
            asked.send_command("PING")
            rig.sleep(seconds - 0.2)
            rig.reach("PINGs held back", not asked.can_read(0))
            connection.read_response()
            connection.disconnect()
            asked.disconnect()
    _show_that_beats_go_on(rig)


def _show_that_beats_go_on(rig: Rig) -> None:
    """Have jobs of 2 leases run when nothing else does: no call but the heartbeat's renews a lease then."""
    for number in range(4):
        rig.put("work", f"long-{number}", 2 * rig.setup.lease)
    rig.never |= {"leases lost", "stats: crashed"}


@scenario(
    16,
    full=evolve(FULL, workers=4, slots=10),
    short=evolve(SHORT, workers=4, slots=10),
    duplicated=0,
    reached=("redis seen standing still",),
)
def stop_redis(rig: Rig) -> None:
    """Stop the server for 3 leases: connections stand, new ones are taken by the kernel, nothing is answered.

    No lease is lost, no job is done twice, although calls that were given up are carried out when it goes on.
    """
    for _ in rig.every(rig.scaled(2.0)):
        rig.freeze_redis()
        rig.sleep(3 * rig.setup.lease)
        rig.thaw_redis()
    _show_that_beats_go_on(rig)


@scenario(
    17,
    full=BACKLOG_FULL,
    short=BACKLOG_SHORT,
    duplicated=0,
    inversions=0,
    reached=("CLIENT KILL", "connections killed"),
)
def client_kill(rig: Rig) -> None:
    """Cut all connections at the server, every 200 ms, under load.

    No job is lost and none is done twice: a call whose reply was lost is sent again, under its number, and applied
    once. No lease is lost: a beat passes between two cuts.
    """
    for _ in rig.every(0.2):
        with rig.redis() as client:
            rig.note("CLIENT KILL")
            try:
                rig.reach("connections killed", client.client_kill_filter(_type="normal", skipme=True))
            except redis.ConnectionError:
                pass


@scenario(
    18,
    full=evolve(FULL, workers=4, slots=10),
    short=evolve(SHORT, workers=4, slots=10),
    duplicated=0,
    reached=("PINGs held back", "writes held back"),
)
def client_pause(rig: Rig) -> None:
    """Have the server hold all commands back for one and a half leases, then those that write; and again.

    No lease is lost, no job is done twice: the held commands are carried out at once at the end of the pause, and the
    first of them prolongs the leases.
    """
    for number in rig.every(rig.scaled(2.0)):
        which, seconds = ("ALL", "WRITE")[number % 2], 1.5 * rig.setup.lease
        with rig.during(f"CLIENT PAUSE {which}", f"{seconds:g} s"), rig.redis() as client, rig.redis() as other:
            asked = other.connection_pool.get_connection()
            client.client_pause(int(seconds * 1000), all=which == "ALL")
            asked.send_command(*(("PING",) if which == "ALL" else ("SET", "other", "1")))
            rig.sleep(seconds - 0.1)
            rig.reach("PINGs held back" if which == "ALL" else "writes held back", not asked.can_read(0))
            rig.sleep(0.1)
            asked.disconnect()
    _show_that_beats_go_on(rig)


HOUR_S = 3600.0


@scenario(
    32,
    full=evolve(FULL, duration=0.2, workers=4, slots=10),
    short=evolve(SHORT, duration=0.5, workers=4, slots=10),
    needs=clock.lacking,
    recovers=True,
    early=None,
    reached=("clock seen ahead", "clock seen back", "kill -9 worker", "stats: crashed"),
)
def clock_steps(rig: Rig) -> None:
    """Step the server's clock an hour ahead, and back, and again; kill a worker after each step.

    No lease is lost by a step, ahead or back: the first call of a worker after it prolongs them all. Jobs of a killed
    worker are taken back as soon as ever, on whatever time. Only they can be done twice. Results, and replies kept for
    calls that are sent again, may end early or be kept an hour longer. What was to run, or be tried again, in a moment
    waits for that moment by the server's clock, which is an hour away once it is back: so it is ahead at the end.
    """
    rig.kill_redis()
    wall = clock.Clock(rig.server)
    rig.start_redis()
    for number in rig.every(rig.scaled(4.0)):
        ahead = number % 2 == 0
        _step(rig, wall, ahead=ahead)
        rig.sleep(rig.setup.lease)
        rig.kill_worker(number % rig.setup.workers)
    if not ahead:
        _step(rig, wall, ahead=True)
    rig.never |= {"leases lost"}


def _step(rig: Rig, wall: clock.Clock, *, ahead: bool) -> None:
    way, seconds = ("ahead", HOUR_S) if ahead else ("back", 0.0)
    rig.note(f"clock stepped {way}")
    wall.step(seconds)
    with rig.redis() as client:
        rig.reach(f"clock seen {way}", abs(client.time()[0] - time.time() - seconds) < 60)
