"""`gqueue worker`, and `gqueue` alone: run jobs, of the user's app or of the demo; or supervise those that do.

Decides how the command line becomes the worker's options and what comes before the first job: logs, the app, one
PING. The process was patched by `__main__` before this was imported, unless it is to supervise others.
"""

import logging
import os
import socket
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from gqueue import config
from gqueue.cli import logs, options
from gqueue.cli.main import exit_code
from gqueue.errors import GqueueError

if TYPE_CHECKING:
    from gqueue.demo import Demo
    from gqueue.queue import Queue
    from gqueue.worker import Worker

_logger = logging.getLogger("gqueue.worker")


@click.command("worker", short_help="Run jobs (the default command).")
@options.app
@options.option(
    "--workers", "GQUEUE_WORKERS", type=options.Count(1, 100_000), help="Greenlets.  [default: 50; demo: 5]"
)
@options.option(
    "--queue-size",
    "GQUEUE_QUEUE_SIZE",
    type=options.Count(1, 2**31 - 1),
    help="Most jobs that may wait, for producers in this process.  [default: the queue's own; demo: 3]",
)
@options.redis
@options.option(
    "--lease",
    "GQUEUE_LEASE",
    type=options.Seconds(0.5),
    help="Silence after which the jobs of a worker run elsewhere.  [default: the queue's own, 30]",
)
@options.option(
    "--grace",
    "GQUEUE_GRACE",
    type=options.Seconds(),
    default=30.0,
    help="How long running jobs get to finish after SIGTERM or SIGINT.",
)
@options.option("--burst", "GQUEUE_BURST", is_flag=True, help="End when nothing is left.")
@options.option(
    "--processes",
    "GQUEUE_PROCESSES",
    type=options.Count(1, 1000),
    default=1,
    help="Interpreters, each with so many workers; one that dies is started again.",
)
@options.option(
    "--weights",
    "GQUEUE_WEIGHTS",
    type=options.Weights(),
    help="Shares of several queues, as in 3,1.  [default: strictly in the order given]",
)
@options.option(
    "--stuck-after",
    "GQUEUE_STUCK_AFTER",
    type=options.Seconds(0.1),
    default=30.0,
    help="A process that a job blocks for so long beyond its limit ends with 4.",
)
@options.option(
    "--max-jobs",
    "GQUEUE_MAX_JOBS",
    type=options.Count(1, 2**31 - 1),
    help="After so many jobs, or up to a tenth less, the process makes way for a fresh one.  [default: never]",
)
@options.option(
    "--max-rss",
    "GQUEUE_MAX_RSS",
    type=options.Size(),
    help="With so much memory, as in 512M or 1G, the process makes way for a fresh one.  [default: never]",
)
@options.option(
    "--jobs", "GQUEUE_JOBS", type=options.Count(0, 1_000_000), default=20, help="Jobs that the demo enqueues."
)
@options.option("--log-jobs", "GQUEUE_LOG_JOBS", is_flag=True, help="A line for each job, as in the demo.")
@options.log
@click.option("--child", hidden=True, help="INDEX:FD, given by the supervisor.")
def command(**chosen: Any) -> int:
    """Run jobs until SIGTERM or SIGINT, which end it cleanly; a second one gives back at once what still runs.

    SIGTSTP: claim no more jobs. SIGUSR1: write all stacks and running jobs.
    """
    index, line, turn = _child(chosen["child"])
    logs.set_up(chosen["log_level"], chosen["log_format"], index)
    if chosen["processes"] > 1 and line is None:
        return _supervise(chosen["processes"], burst=chosen["burst"], grace_s=chosen["grace"], url=chosen["url"])
    handed_on = config.url_for_child()
    if line is not None and handed_on is not None:
        chosen["url"] = handed_on
    try:
        return _demo(chosen, index, line) if not chosen["apps"] else _app(chosen, line)
    except (click.ClickException, GqueueError) as error:
        if turn is None or _take(turn):
            raise
        return exit_code(error)


def _app(chosen: dict[str, Any], line: socket.socket | None) -> int:
    from gqueue.cli import app

    queues = app.load(chosen["apps"])
    weights = chosen["weights"]
    if weights and len(weights) != len(queues):
        raise click.UsageError(f"--weights {','.join(map(str, weights))}: there are {len(queues)} queues")
    app.override(queues, url=chosen["url"], capacity=chosen["queue_size"], lease=chosen["lease"])
    try:
        return _work(queues, _worker_options(chosen, slots=50), line)
    finally:
        for queue in queues:
            queue.close()  # what tasks have enqueued with: else the end of an embedded server would look like an outage


def _demo(chosen: dict[str, Any], index: int | None, line: socket.socket | None) -> int:
    from gqueue import demo
    from gqueue.cli import reach

    if chosen["weights"]:
        raise click.UsageError("--weights: the demo has only one queue")
    if chosen["max_jobs"] or chosen["max_rss"]:
        raise click.UsageError("--max-jobs, --max-rss: the demo's producer would end with its process; name an --app")
    url = reach.find_for_demo(chosen["url"])
    own = {"capacity": chosen["queue_size"], "lease": chosen["lease"]}
    queue = demo.make_queue(url, **{name: value for name, value in own.items() if value is not None})
    how = _worker_options(chosen, slots=demo.WORKERS, log_jobs=True)
    if index:  # only the first of several processes is the producer
        return _work([queue], how, line)
    show = demo.Demo(queue, jobs=chosen["jobs"], workers=how.slots, burst=how.burst)
    try:
        return _work([queue], how, line, show)
    finally:
        show.end()
        queue.close()


def _work(
    queues: "Sequence[Queue]", how: config.WorkerOptions, line: socket.socket | None, show: "Demo | None" = None
) -> int:
    from gqueue.cli import reach
    from gqueue.worker.child import SAYS_REPLACED

    servers = [reach.check(url) for url in dict.fromkeys(queue.url for queue in queues)]
    sizes = [f"queue {queue.name} (size {queue.settings.capacity:,})" for queue in queues]
    _logger.info("%s on %s", " and ".join(sizes), " and ".join(servers))
    for queue in queues:
        reach.prove_rights(queue.url, queue.name)
    from gqueue.worker import Worker

    replaced = (lambda: _tell(line, SAYS_REPLACED)) if line is not None else lambda: None
    worker = Worker(queues, how, busy=show.busy if show else None, replaced=replaced)
    if line is not None:
        _attend(line, worker)
    if show is not None:
        show.start()
    return worker.run(last=True)


def _attend(line: socket.socket, worker: "Worker") -> None:
    """Tell the supervisor that this process came up; drain when the supervisor is no more."""
    from gqueue.worker.child import SAYS_UP

    def follow() -> None:
        try:
            line.recv(1)
        except OSError:
            pass
        worker.drain()

    _tell(line, SAYS_UP)
    worker.spawn(follow)


def _tell(line: socket.socket, said: bytes) -> None:
    try:
        line.sendall(said)
    except OSError:  # the supervisor is no more; `_attend` sees to that
        pass


def _worker_options(chosen: dict[str, Any], *, slots: int, log_jobs: bool = False) -> config.WorkerOptions:
    return config.WorkerOptions(
        slots=chosen["workers"] or slots,
        grace_ms=config.to_ms("--grace", chosen["grace"]),
        burst=chosen["burst"],
        weights=chosen["weights"],
        stuck_after_ms=config.to_ms("--stuck-after", chosen["stuck_after"]),
        log_jobs=log_jobs or chosen["log_jobs"],
        max_jobs=chosen["max_jobs"],
        max_rss_bytes=chosen["max_rss"],
    )


def _child(given: str | None) -> tuple[int | None, socket.socket | None, str | None]:
    """Return which process this is, its line to the supervisor, and the file that gives it the turn to tell an error.

    All that start together meet the same error; who removes the file tells it. None: it has the turn.
    """
    if given is None:
        return None, None, None
    try:
        index_given, descriptor, turn = given.split(":", 2)
        index = int(index_given)
        line = socket.socket(fileno=int(descriptor))
    except (ValueError, OSError) as error:
        raise click.UsageError(f"--child {given} is for the supervisor only: {error}") from None
    line.set_inheritable(False)  # it would keep the supervisor waiting for what a task may start
    return index, line, turn or None


def _without_url(args: list[str]) -> list[str]:
    """Return *args* without --redis and its value, which may hold a password."""
    kept, skip = [], False
    for arg in args:
        if skip:
            skip = False
        elif arg == "--redis":
            skip = True
        elif not arg.startswith("--redis="):
            kept.append(arg)
    return kept


def _take(turn: str) -> bool:
    try:
        os.unlink(turn)
    except FileNotFoundError:
        return False
    return True


def _supervise(processes: int, *, burst: bool, grace_s: float, url: str | None) -> int:
    from gqueue.worker.supervisor import Supervisor

    args = list(click.get_current_context().find_root().obj)
    if args[:1] == ["worker"]:
        del args[0]
    if url is not None:
        os.environ[config.URL_FOR_CHILDREN] = url
        args = _without_url(args)

    with tempfile.TemporaryDirectory(prefix="gqueue-") as folder:
        turn = Path(folder) / "turn"
        turn.touch()
        begun: set[int] = set()

        def arguments(index: int, descriptor: int) -> Sequence[str]:
            first = "" if index in begun else turn  # who is started again speaks for itself
            begun.add(index)
            child = ("--processes", "1", "--child", f"{index}:{descriptor}:{first}")  # the last --processes counts
            return (sys.executable, "-m", "gqueue", "worker", *args, *child)

        return Supervisor(arguments, processes, burst=burst, grace_s=grace_s).run(last=True)
