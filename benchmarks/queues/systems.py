"""The queues that are compared: versions, settings, what their documentation promises, and how they are run.

Each has the settings that its documentation gives for speed, and keeps no result where that can be set. Of what must
be set against a trap, the reason stands in its app.
"""

import os
import platform
import sys
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import redis
from attrs import field, frozen

from benchmarks.queues import environments

APPS = Path(__file__).parent / "apps"
MODULES = "benchmarks.queues.apps"
OURS = "gqueue"

Client = redis.Redis
REDIS_PY = ("redis==8.1.0", "hiredis==3.5.0")
GEVENT = "gevent==26.9.0"
PACE = 125.0
"""Jobs a second for the latency, unless a queue cannot. Equal gaps would beat with those of a queue that polls."""


@frozen(kw_only=True)
class System:
    """A queue with its settings: a row of the comparison.

    Attributes:
        name: on the command line and in the results.
        label: in the tables.
        installs: what is installed, as the installer is told.
        told: names of those whose versions are told, if not of all.
        make: what installs it, and gives the folder.
        worker, producer: (folder, slots), (folder) -> command.
        environ: variables of both; *more_environ*: those that hang on the folder.
        waiting: jobs that wait, run or are not acknowledged, and failed ones.
        drain_slots, io_slots: jobs at the same time.
        single: no-ops that are enqueued one by one for the drain, and *bulk*, that are with the call for many.
        shows_enqueue: its producer is not that of another row.
        shows_idle: its idle worker is not that of another row.
        io_turns: I/O jobs a slot.
        pace: enqueued a second on average, for the latency.
        settings, guarantee: for the table; *source* is where the guarantee stands.
    """

    name: str
    label: str
    language: str = "Python"
    installs: tuple[str, ...] = ()
    told: tuple[str, ...] = ()
    make: Callable[[], Path] = lambda: Path(sys.executable).parent
    worker: Callable[[Path, int], list[str]]
    producer: Callable[[Path], list[str]]
    environ: Mapping[str, str] = field(factory=dict)
    more_environ: Callable[[Path], dict[str, str]] = lambda folder: {}
    waiting: Callable[[Client], int]
    drain_slots: int = 100
    io_slots: int = 100
    single: int = 10_000
    bulk: int = 0
    shows_enqueue: bool = True
    shows_idle: bool = True
    io_turns: int = 20
    pace: float = PACE
    results: str = "off"
    settings: str
    guarantee: str
    source: str


def _lengths(client: Client, **keys: str) -> int:
    """Return the sum of what is in *keys*, each a command that counts with its key, or several with spaces."""
    call: Callable[..., int] = client.execute_command
    return sum(call(command, key) for command, names in keys.items() for key in names.split())


def _python(app: str, folder: Path) -> list[str]:
    return [str(folder / "python"), "-m", "benchmarks.queues.produce", app]


def _made(name: str, *installs: str) -> dict[str, Any]:
    """Return the fields of a queue for Python."""
    return {
        "installs": installs,
        "make": partial(environments.python, name, installs),
        "producer": partial(_python, f"{name}_app"),
    }


# gqueue.


def _gqueue_worker(folder: Path, slots: int) -> list[str]:
    app = f"{MODULES}.gqueue_app:queue"
    return [str(folder / "python"), "-m", "gqueue", "--app", app, "--workers", str(slots), "--log-level", "ERROR"]


def _gqueue_waiting(client: Client) -> int:
    return _lengths(client, HLEN="gq:{bench}:jobs gq:{bench}:dead:jobs")


_GQUEUE: dict[str, Any] = {
    "worker": _gqueue_worker,
    "producer": partial(_python, "gqueue_app"),
    "waiting": _gqueue_waiting,
    "drain_slots": 50,
    "single": 5_000,
    "bulk": 295_000,
    "guarantee": "at least once, strict priorities; 30 s after its worker's last heartbeat, looked for each 10 s",
    "source": "../docs/promises.md",
}

# RQ.

_RQ = ("rq==3.0.0", *REDIS_PY)


def _rq_worker(kind: str, folder: Path, _: int) -> list[str]:
    return [str(folder / "python"), "-m", f"{MODULES}.rq_app", kind]


def _rq_waiting(client: Client) -> int:
    queue = "rq:queue:bench"
    return _lengths(client, LLEN=f"{queue} {queue}:intermediate", ZCARD="rq:wip:bench rq:failed:bench")


_RQ_ROW: dict[str, Any] = {
    **_made("rq", *_RQ),
    "waiting": _rq_waiting,
    "drain_slots": 1,
    "io_slots": 1,
    "io_turns": 60,
    "guarantee": "a job whose worker died is set aside as failed, not run again",
    "source": "https://python-rq.org/docs/exceptions/",
}

# Celery.


def _celery_worker(pool: str, folder: Path, slots: int) -> list[str]:
    return [
        *(str(folder / "celery"), "-A", f"{MODULES}.celery_app", "worker"),
        *("-P", pool, "-c", str(slots), "--loglevel", "WARNING"),
    ]


def _celery_waiting(client: Client) -> int:
    return _lengths(client, LLEN="celery", HLEN="unacked")


_CELERY: dict[str, Any] = {
    # kombu imports packaging for Redis, and does not ask for it.
    **_made("celery", "celery[gevent]==5.7.0", "kombu==5.7.0", *REDIS_PY, GEVENT, "packaging"),
    "waiting": _celery_waiting,
    "single": 5_000,
    "guarantee": "acknowledged before it runs: lost with its worker",
    "source": "https://docs.celeryq.dev/en/stable/userguide/tasks.html",
}

# Dramatiq.


def _dramatiq_worker(folder: Path, slots: int) -> list[str]:
    return [str(folder / "dramatiq-gevent"), f"{MODULES}.dramatiq_app", "--processes", "1", "--threads", str(slots)]


def _dramatiq_waiting(client: Client) -> int:
    return _lengths(client, HLEN="dramatiq:default.msgs dramatiq:default.DQ.msgs dramatiq:default.XQ.msgs")


# Huey.


def _huey_worker(folder: Path, slots: int) -> list[str]:
    patched = (str(folder / "python"), "-m", "gevent.monkey")  # its documentation leaves that to the application
    return [
        *(*patched, str(folder / "huey_consumer"), f"{MODULES}.huey_app.huey"),
        *("-k", "greenlet", "-w", str(slots), "--quiet"),
    ]


def _huey_waiting(client: Client) -> int:
    return _lengths(client, LLEN="huey.redis.bench", ZCARD="huey.schedule.bench")


# Taskiq.


def _taskiq_worker(folder: Path, slots: int) -> list[str]:
    return [
        *(str(folder / "taskiq"), "worker", f"{MODULES}.taskiq_app:broker", "--workers", "1"),
        *("--max-async-tasks", str(slots), "--log-level", "WARNING"),
    ]


def _taskiq_list_waiting(client: Client) -> int:
    return _lengths(client, LLEN="bench")


def _taskiq_stream_waiting(client: Client) -> int:
    groups: Any = client.xinfo_groups("bench")
    # Servers before 7.0 do not tell how far a group is behind: then only what was delivered counts.
    return sum(group["pending"] + (group.get("lag") or 0) for group in groups)


_TASKIQ = _made("taskiq", "taskiq==0.13.0", "taskiq-redis==1.2.4", *REDIS_PY, "uvloop==0.23.0")

# ARQ.


def _arq_worker(folder: Path, _: int) -> list[str]:
    app = f"{MODULES}.arq_app"
    return [str(folder / "arq"), f"{app}.Worker", "--custom-log-dict", f"{app}.LOG"]


def _arq_waiting(client: Client) -> int:
    return _lengths(client, ZCARD="arq:queue")


# SAQ.


def _saq_worker(folder: Path, _: int) -> list[str]:
    return [str(folder / "saq"), f"{MODULES}.saq_app.settings", "--quiet"]


def _saq_waiting(client: Client) -> int:
    return _lengths(client, ZCARD="saq:bench:incomplete", LLEN="saq:bench:active")


# streaQ.


def _streaq_worker(folder: Path, _: int) -> list[str]:
    return [str(folder / "streaq"), "run", f"{MODULES}.streaq_app:worker"]


def _streaq_waiting(client: Client) -> int:
    return _lengths(client, XLEN="streaq:bench:queues:normal")


# BullMQ.


def _node(*given: str) -> list[str]:
    return ["node", str(APPS / "bullmq_app.cjs"), *given]


def _bullmq_waiting(client: Client) -> int:
    return _lengths(client, LLEN="bull:bench:wait bull:bench:active", ZCARD="bull:bench:failed")


_BULLMQ = ("bullmq@6.7.0", "ioredis@6.0.0")

# Sidekiq.

_SIDEKIQ = (
    *("ruby-sidekiq", "ruby3.1", "ruby-redis", "ruby-connection-pool", "ruby-rack"),
    *("libruby3.1", "ruby-rubygems", "rubygems-integration", "libyaml-0-2", "libgmp10"),
)


def _ruby(folder: Path, *given: str) -> list[str]:
    return [str(folder / "usr" / "bin" / "ruby3.1"), *given]


def _sidekiq_worker(folder: Path, slots: int) -> list[str]:
    sidekiq, app = str(folder / "usr" / "bin" / "sidekiq"), str(APPS / "sidekiq_app.rb")
    return _ruby(folder, sidekiq, "-r", app, "-q", "bench", "-c", str(slots))


def _sidekiq_environ(folder: Path) -> dict[str, str]:
    """Return what has Ruby find its parts below *folder* instead of below /."""
    usr = folder / "usr"
    libraries = next((usr / "lib").glob("*-linux-gnu*"))
    return {
        "LD_LIBRARY_PATH": str(libraries),
        # Debian's Ruby 3.1 has its compiler for this processor alone, and refuses the options elsewhere. It takes the
        # room for all of its code at once, 256 MB unless told otherwise; 64 are what later ones have.
        **({"RUBYOPT": "--yjit --yjit-exec-mem-size=64"} if platform.machine() == "x86_64" else {}),
        "RUBYLIB": os.pathsep.join(
            map(str, (usr / "lib/ruby/vendor_ruby", usr / "lib/ruby/3.1.0", libraries / "ruby/3.1.0"))
        ),
        "GEM_PATH": os.pathsep.join(map(str, (usr / "share/rubygems-integration/all", usr / "lib/ruby/gems/3.1.0"))),
    }


def _sidekiq_waiting(client: Client) -> int:
    return _lengths(client, LLEN="queue:bench", ZCARD="retry dead")


SYSTEMS: dict[str, System] = {
    system.name: system
    for system in (
        System(
            name="gqueue",
            label="gqueue",
            **_GQUEUE,
            settings="`--workers 50` (its default; 100 for I/O)",
        ),
        System(
            name="gqueue-results",
            label="gqueue, results kept",
            **_GQUEUE,
            environ={"PEERS_RESULTS": "1"},
            results="kept",
            shows_idle=False,
            settings="the same with `result_ttl=300`",
        ),
        System(
            name="rq",
            label="RQ",
            **_RQ_ROW,
            worker=partial(_rq_worker, "Worker"),
            single=500,
            shows_enqueue=False,
            pace=25.0,
            settings="`Worker`: a process for each job, forked from one that has imported the jobs; `result_ttl=0`",
        ),
        System(
            name="rq-simple",
            label="RQ, SimpleWorker",
            **_RQ_ROW,
            worker=partial(_rq_worker, "SimpleWorker"),
            single=1_000,
            bulk=1_000,
            settings="`SimpleWorker`: jobs run in the worker's own process; `result_ttl=0`",
        ),
        System(
            name="celery-gevent",
            label="Celery, gevent",
            **_CELERY,
            worker=partial(_celery_worker, "gevent"),
            settings="`-P gevent -c 100`, `task_ignore_result`",
        ),
        System(
            name="celery-prefork",
            label="Celery, prefork",
            **_CELERY,
            worker=partial(_celery_worker, "prefork"),
            environ={"PEERS_PREFETCH": "64"},
            drain_slots=2,
            io_slots=2,
            shows_enqueue=False,
            settings="`-P prefork -c 2`, `worker_prefetch_multiplier=64`, `task_ignore_result`",
        ),
        System(
            name="dramatiq",
            label="Dramatiq, gevent",
            **_made("dramatiq", "dramatiq[redis]==2.2.1", *REDIS_PY, GEVENT),
            worker=_dramatiq_worker,
            waiting=_dramatiq_waiting,
            single=15_000,
            settings="`dramatiq-gevent --processes 1 --threads 100`, `max_connections=400`",
            guarantee="at least once; 60 s after its worker's last heartbeat",
            source="https://dramatiq.io/guide.html",
        ),
        System(
            name="huey",
            label="Huey, greenlets",
            **_made("huey", "huey==3.5.4", *REDIS_PY, GEVENT),
            worker=_huey_worker,
            waiting=_huey_waiting,
            settings="`RedisHuey`, `huey_consumer -k greenlet -w 100`, `max_connections=400`; None is not stored",
            guarantee="at most once: taken off the list before it runs",
            source="https://huey.readthedocs.io/en/latest/signals.html",
        ),
        System(
            name="taskiq-list",
            label="Taskiq, list",
            **_TASKIQ,
            worker=_taskiq_worker,
            environ={"PEERS_BROKER": "ListQueueBroker"},
            waiting=_taskiq_list_waiting,
            settings="`ListQueueBroker`, `--workers 1 --max-async-tasks 100`, uvloop",
            guarantee="at most once: taken off the list before it runs",
            source="https://github.com/taskiq-python/taskiq-redis",
        ),
        System(
            name="taskiq-stream",
            label="Taskiq, stream",
            **_TASKIQ,
            worker=_taskiq_worker,
            environ={"PEERS_BROKER": "RedisStreamBroker"},
            waiting=_taskiq_stream_waiting,
            settings="`RedisStreamBroker`, `--workers 1 --max-async-tasks 100`, uvloop; the stream is never trimmed",
            guarantee="at least once; 10 min after it was taken",
            source="https://github.com/taskiq-python/taskiq-redis",
        ),
        System(
            name="arq",
            label="ARQ",
            **_made("arq", "arq==0.28.0", "redis==5.3.1", "hiredis==3.5.0"),
            worker=_arq_worker,
            waiting=_arq_waiting,
            single=6_000,
            settings="`max_jobs=100`, `poll_delay=0.01` (0.5 by default), `keep_result=0`",
            guarantee="at least once: stays in the queue until it has ended",
            source="https://arq-docs.helpmanual.io/",
        ),
        System(
            name="saq",
            label="SAQ",
            # On 3.11 it imports typing_extensions, and does not ask for it.
            **_made("saq", "saq[redis,hiredis]==0.26.4", "redis==7.4.1", "hiredis==3.5.0", "typing_extensions"),
            worker=_saq_worker,
            waiting=_saq_waiting,
            single=8_000,
            settings="`concurrency=100`, `ttl=-1`",
            guarantee="a job whose worker died is swept as aborted, not run again unless it has `retries`",
            source="https://saq-py.readthedocs.io/",
        ),
        System(
            name="streaq",
            label="streaQ",
            **_made("streaq", "streaq==7.2.0", "coredis==6.9.0", "uvloop==0.23.0"),
            worker=_streaq_worker,
            waiting=_streaq_waiting,
            single=3_000,
            bulk=3_000,
            settings="`concurrency=100`, uvloop, `silent=True`, `ttl=0`",
            guarantee="at least once; 60 s after its worker was last seen",
            source="https://streaq.readthedocs.io/",
        ),
        System(
            name="bullmq",
            label="BullMQ",
            language="Node",
            installs=_BULLMQ,
            make=partial(environments.node, "bullmq", _BULLMQ),
            producer=lambda folder: _node(),
            worker=lambda folder, slots: _node("worker"),
            more_environ=lambda folder: {"NODE_PATH": str(folder / "node_modules")},
            waiting=_bullmq_waiting,
            single=5_000,
            bulk=70_000,
            settings="`concurrency: 100`, `removeOnComplete: {count: 0}`",
            guarantee="at least once: run again, but once, when its lock of 30 s is over",
            source="https://docs.bullmq.io/guide/workers/stalled-jobs",
        ),
        System(
            name="sidekiq",
            label="Sidekiq",
            language="Ruby",
            installs=_SIDEKIQ,
            told=("ruby-sidekiq", "ruby-redis", "ruby3.1"),
            make=partial(environments.debian, "sidekiq", _SIDEKIQ),
            producer=lambda folder: _ruby(folder, str(APPS / "sidekiq_app.rb")),
            worker=_sidekiq_worker,
            more_environ=_sidekiq_environ,
            waiting=_sidekiq_waiting,
            drain_slots=10,
            single=5_000,
            bulk=35_000,
            settings="`-c 10` (its default; 100 for I/O), log level WARN, Ruby's compiler (YJIT) with 64 MB",
            guarantee="at most once if a worker is killed: taken off the list before it runs",
            source="https://github.com/sidekiq/sidekiq/wiki/Reliability",
        ),
    )
}
