"""The queues that are compared: versions, settings, what their documentation promises, and how they are run.

A timeout after which work of a worker that is gone is given to another is `TIMEOUT_S` for all that have one that can be
set so low, so that runs end; what it is by default is told with the settings. Nothing else differs from the defaults
but where the row says so: the second row of a queue has what its documentation recommends against loss.
"""

import re
import sys
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import redis
from attrs import field, frozen

TIMEOUT_S = 10.0
RQ_WORKERS = 10
"""A worker of RQ runs one job at a time: as many of them count as one, by half the slots that others have."""
KEY = re.compile(rb"p\d+-\d+")
"""A job's key: in every queue's record of a job there is the key, as text."""

Client = redis.Redis
Found = Iterator[bytes]


@frozen(kw_only=True)
class System:
    """A queue with its settings: a row of the comparison.

    Attributes:
        name: on the command line, and of its results' folder.
        label: in the table.
        installs: what pip is told; nothing: it is this environment.
        app: module of `apps`.
        worker: (folder of the environment's programs, slots) -> command; all that it starts counts as one worker.
        ready: what a worker writes to its log when it is up; *ready_times* is how often.
        held: what is in the queue's keys of jobs that wait, run or are not acknowledged: records with the key in them.
        dead: (reason, record) of each job that the queue has set aside as failed.
        lock: key of the lock under which jobs of a vanished worker are given back, where a killed one may leave it.
        settings, promise: for the table; *source* is where the promise stands.
        drain_s: so long after the last job left the queue's keys, a run waits for the others no more.
    """

    name: str
    label: str
    installs: tuple[str, ...] = ()
    app: str
    environ: dict[str, str] = field(factory=dict)
    worker: Callable[[Path, int], list[str]]
    ready: str
    ready_times: int = 1
    held: Callable[[Client], Found]
    dead: Callable[[Client], Iterator[tuple[str, bytes]]] = lambda client: iter(())
    lock: str = ""
    settings: str
    promise: str
    source: str
    drain_s: float = 60.0


def keys_in(records: Iterable[bytes]) -> set[str]:
    """Return the keys of the jobs that *records* are about."""
    return {found[0].decode() for record in records if (found := KEY.search(record))}


def _list(client: Client, *names: str) -> Found:
    for name in names:
        yield from client.lrange(name, 0, -1)


def _values(client: Client, *names: str) -> Found:
    for name in names:
        yield from client.hvals(name)


# RQ.


def _rq_worker(programs: Path, _: int) -> list[str]:
    # In loops that start one again when it ends, as a supervisor does; what tasks import is there before the fork.
    rq = f"{programs}/python -c 'import tests.faults.peers.tasks; from rq.cli import main; main()'"
    command = f"{rq} worker --url $PEERS_URL {_RQ_OPTIONS} default"
    return ["sh", "-c", f"for i in $(seq {RQ_WORKERS}); do (while :; do {command}; sleep 0.2; done) & done; wait"]


def _rq_held(client: Client) -> Found:
    yield from _list(client, "rq:queue:default", "rq:queue:default:intermediate")
    for registry in ("wip", "scheduled", "deferred"):
        yield from client.zrange(f"rq:{registry}:default", 0, -1)


def _rq_dead(client: Client) -> Iterator[tuple[str, bytes]]:
    for job in client.zrange("rq:failed:default", 0, -1):
        yield "failed", job


_RQ_OPTIONS = "--maintenance-interval 30 --job-monitoring-interval 5 --worker-ttl 30"

_RQ = (
    f"`rq worker {_RQ_OPTIONS}` (defaults 600, 30 and 420 s), {RQ_WORKERS} of them a worker, with the tasks imported "
    "before they fork, started again when they end. A job then counts as abandoned 65 s after its last heartbeat "
    "(default 90 s; 60 s of it cannot be set), and that is looked for every 30 s (default 10 min)"
)

# Celery.


def _celery_worker(programs: Path, slots: int) -> list[str]:
    # Each needs a name of its own, and a fresh one when it is started again: its pid.
    app = "tests.faults.peers.apps.celery_app"
    return ["sh", "-c", f"exec {programs}/celery -A {app} worker -P gevent -c {slots} -n w$$@%h --loglevel INFO"]


def _celery_held(client: Client) -> Found:
    yield from _list(client, "celery")  # the body is in base64, but the header has the arguments as text
    yield from _values(client, "unacked")


_CELERY = "-P gevent -c 20; visibility_timeout 10 s (default 1 h)"

# Dramatiq.


def _dramatiq_worker(programs: Path, slots: int) -> list[str]:
    module = "tests.faults.peers.apps.dramatiq_app"
    return [str(programs / "dramatiq-gevent"), module, "--processes", "1", "--threads", str(slots)]


def _dramatiq_held(client: Client) -> Found:
    return _values(client, "dramatiq:default.msgs", "dramatiq:default.DQ.msgs")


def _dramatiq_dead(client: Client) -> Iterator[tuple[str, bytes]]:
    for record in _values(client, "dramatiq:default.XQ.msgs"):
        yield "dead letter", record


# Huey.


def _huey_worker(programs: Path, slots: int) -> list[str]:
    patched = (str(programs / "python"), "-m", "gevent.monkey")  # its documentation leaves that to the application
    app = "tests.faults.peers.apps.huey_app.huey"
    return [*patched, str(programs / "huey_consumer"), app, "-k", "greenlet", "-w", str(slots)]


def _huey_held(client: Client) -> Found:
    yield from _list(client, "huey.redis.faults")
    yield from client.zrange("huey.schedule.faults", 0, -1)


# gqueue.


def _gqueue_worker(_: Path, slots: int) -> list[str]:
    app = "tests.faults.peers.apps.gqueue_app:queue"
    return [sys.executable, "-m", "gqueue", "--app", app, "--workers", str(slots)]


def _gqueue_held(client: Client) -> Found:
    return _values(client, "gq:{faults}:jobs")


def _gqueue_dead(client: Client) -> Iterator[tuple[str, bytes]]:
    import gqueue

    queue = gqueue.Queue("faults", f"unix://{client.connection_pool.connection_kwargs['path']}")
    for letter in queue.dead.list(limit=100_000):
        yield letter.reason, str(letter.args[0] if letter.args else "").encode()
    queue.close()


SYSTEMS: dict[str, System] = {
    system.name: system
    for system in (
        System(
            name="gqueue",
            label="gqueue",
            app="gqueue_app",
            worker=_gqueue_worker,
            ready=" process ",
            held=_gqueue_held,
            dead=_gqueue_dead,
            settings="--workers 20; lease 10 s (default 30 s)",
            promise="at least once: each is done, or is a dead letter; recovered within lease + lease/3 + 1 s",
            source="promises.md",
        ),
        System(
            name="rq",
            label="RQ 3.0.0",
            installs=("rq==3.0.0", "redis==8.1.0", "hiredis==3.5.0"),
            app="rq_app",
            worker=_rq_worker,
            ready="Listening on default",
            ready_times=RQ_WORKERS,
            held=_rq_held,
            lock="rq:clean_registries:default",
            dead=_rq_dead,
            settings=_RQ,
            promise="a job whose worker died is moved to the FailedJobRegistry, not run again",
            source="https://python-rq.org/docs/exceptions/",
            drain_s=120.0,
        ),
        System(
            name="rq-retry",
            label="RQ 3.0.0, Retry(max=3)",
            installs=("rq==3.0.0", "redis==8.1.0", "hiredis==3.5.0"),
            app="rq_app",
            environ={"PEERS_RETRY": "3"},
            worker=_rq_worker,
            ready="Listening on default",
            ready_times=RQ_WORKERS,
            held=_rq_held,
            lock="rq:clean_registries:default",
            dead=_rq_dead,
            settings=f"{_RQ}; enqueue(retry=Retry(max=3))",
            promise="a job that failed, or was abandoned, is run again up to three times",
            source="https://python-rq.org/docs/exceptions/",
            drain_s=120.0,
        ),
        System(
            name="celery",
            label="Celery 5.7.0",
            installs=(
                "celery[gevent]==5.7.0",
                "kombu==5.7.0",
                "redis==8.1.0",
                "hiredis==3.5.0",
                "gevent==26.9.0",
                "packaging",
            ),
            app="celery_app",
            worker=_celery_worker,
            ready=" ready.",
            held=_celery_held,
            lock="unacked_mutex",
            settings=_CELERY,
            promise="acknowledged before it runs, so not delivered again if the worker is killed meanwhile",
            source="https://docs.celeryq.dev/en/stable/glossary.html",
            drain_s=90.0,
        ),
        System(
            name="celery-acks-late",
            label="Celery 5.7.0, acks_late",
            installs=(
                "celery[gevent]==5.7.0",
                "kombu==5.7.0",
                "redis==8.1.0",
                "hiredis==3.5.0",
                "gevent==26.9.0",
                "packaging",
            ),
            app="celery_app",
            environ={"PEERS_ACKS_LATE": "1"},
            worker=_celery_worker,
            ready=" ready.",
            held=_celery_held,
            lock="unacked_mutex",
            settings=f"{_CELERY}; task_acks_late, task_reject_on_worker_lost, worker_prefetch_multiplier 1",
            promise="acknowledged after it ran, so delivered again if the worker was killed, "
            "when the visibility timeout is over",
            source="https://docs.celeryq.dev/en/stable/getting-started/backends-and-brokers/redis.html",
            drain_s=90.0,
        ),
        System(
            name="dramatiq",
            label="Dramatiq 2.2.1",
            installs=("dramatiq[redis]==2.2.1", "redis==8.1.0", "hiredis==3.5.0", "gevent==26.9.0"),
            app="dramatiq_app",
            worker=_dramatiq_worker,
            ready="Worker process is ready for action",
            held=_dramatiq_held,
            dead=_dramatiq_dead,
            settings="dramatiq-gevent --processes 1 --threads 20; heartbeat_timeout 10 s (default 60 s), "
            "maintenance_chance 10% of commands (default 0.1%)",
            promise="at least once: acknowledged after it ran; a dead worker's messages are enqueued again after the "
            "heartbeat timeout",
            source="https://dramatiq.io/guide.html",
            drain_s=60.0,
        ),
        System(
            name="huey",
            label="Huey 3.5.4",
            installs=("huey==3.5.4", "redis==8.1.0", "hiredis==3.5.0", "gevent==26.9.0"),
            app="huey_app",
            worker=_huey_worker,
            ready="Huey consumer started",
            held=_huey_held,
            settings="RedisHuey; huey_consumer -k greenlet -w 20. Its documentation has no setting against loss",
            promise="nothing is said of a consumer that is killed: a task is taken off the list before it runs; one "
            "interrupted by a shutdown is signalled (SIGNAL_INTERRUPTED), for the application to enqueue again",
            source="https://huey.readthedocs.io/en/latest/signals.html",
        ),
    )
}
