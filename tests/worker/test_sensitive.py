"""What a sensitive task was given, returned or said is shown nowhere; where it failed is."""

import functools
import linecache
import logging
import os
import signal
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest

import gqueue
from gqueue.cli.main import run
from gqueue.core.model import ClaimedJob, Letter, NewJob, Reason
from gqueue.errors import BadPayload
from gqueue.letters import readable
from tests.worker.stage import dead, perform, play, until

SECRET = "s3cr3t"


def queue_of(url: str, **options: Any) -> tuple[gqueue.Queue, dict[str, Any]]:
    """Return a queue and its tasks, which fail in every way that may quote an argument."""
    queue = gqueue.Queue("sensitive", url, max_payload_bytes=5_000)
    tasks: dict[str, Any] = {}

    def task(function: Any) -> Any:
        tasks[function.__name__] = queue.task(**{"max_attempts": 1, "sensitive": True, **options})(function)
        return function

    @task
    def returns(secret: str) -> str:
        return secret

    @task
    def raises(secret: str) -> None:
        try:
            raise KeyError(secret)
        except KeyError as error:
            error.add_note(secret)
            raise ValueError(f"not {secret}") from error

    @task
    def rejects(secret: str) -> None:
        raise gqueue.Reject(secret)

    @task
    def retries(secret: str) -> None:
        raise gqueue.Retry() from ValueError(secret)

    @task
    def retries_never(secret: Any) -> None:
        raise gqueue.Retry(delay=secret)

    @task
    def takes_too_long(secret: str) -> None:
        try:
            time.sleep(5)
        except BaseException:
            raise ValueError(secret) from None

    @task
    def returns_a_set(secret: str) -> Any:
        return {secret: {secret}}

    @task
    def returns_what_fails(secret: str) -> Any:
        class Odd(list):  # type: ignore[type-arg]
            def __iter__(self) -> Any:
                raise ValueError(secret)

        return Odd()

    @task
    def reports_a_set(secret: str) -> Any:
        current: Any = gqueue.current_job()
        current.progress({secret: {secret}})

    @task
    def raises_a_class_of_its_own(secret: str) -> None:
        raise type(secret, (Exception,), {"__module__": __name__})

    @task
    def raises_in_code_of_its_own(secret: str) -> None:
        source = f"def {secret}(): raise ValueError('{secret}')\n{secret}()\n"
        linecache.cache[f"<{secret}>"] = len(source), None, source.splitlines(True), f"<{secret}>"
        exec(compile(source, f"<{secret}>", "exec"))

    @task
    def wants_two(a: str, b: str) -> None: ...

    return queue, tasks


def scene_of_sensitive_tasks(url: str) -> dict[str, Any]:
    logging.getLogger("gqueue").setLevel(logging.DEBUG)
    queue, tasks = queue_of(url)
    jobs = [task.options(timeout=0.2).enqueue(SECRET) for task in tasks.values() if task.name != "wants_two"]
    jobs.append(tasks["wants_two"].enqueue(SECRET, **{SECRET: 1}))
    unregistered = gqueue.Queue("sensitive", url)
    unregistered.task(name="nobody knows".replace(" ", "_"), sensitive=True, max_attempts=1)(lambda _: None)
    jobs.append(unregistered.tasks["nobody_knows"].options(max_attempts=1).enqueue(SECRET))
    perform(queue, lambda _: until(lambda: all(job.wait(timeout=1) for job in jobs)), log_jobs=True)
    letters = queue.store.letters()
    told = []
    for job in jobs[1:]:
        try:
            job.result(timeout=1)
        except gqueue.JobFailed as failed:
            told.append(f"{failed} {failed!r} {failed.remote_traceback}")
    return {
        "result": jobs[0].result(timeout=1),
        "reports": [letter.report.decode() for letter in letters],
        "letters": [repr(letter) + letter.traceback for letter in queue.dead.list()],
        "told": told,
        "dead": dead(queue),
        "traces": {letter.task: letter.traceback for letter in queue.dead.list()},
    }


def test_nothing_of_a_sensitive_job_is_shown_but_where_it_failed(
    redis_url: str, capsys: pytest.CaptureFixture[str]
) -> None:
    scene = play(scene_of_sensitive_tasks, redis_url)

    assert scene["result"] == SECRET  # whom it is for
    assert len(scene["told"]) == len(scene["letters"]) == 12
    for what in ("reports", "letters", "told"):
        assert not [one for one in scene[what] if SECRET in one]
    assert SECRET not in scene.log
    assert "returns(<sensitive>) = <sensitive>" in scene.log
    assert "nobody_knows(<sensitive>) failed" in scene.log
    errors = sorted(error for _, error in scene["dead"].values())
    assert "ValueError: [message withheld: the task is sensitive]" in errors
    assert "arguments do not fit wants_two" in errors
    trace = scene["traces"]["raises"]
    handlers = logging.getLogger().handlers[:]
    places = f'  File "{__file__}", line'
    assert trace.index(places) < trace.index("KeyError: [message") < trace.rindex(places) < trace.index("ValueError: [")
    assert "raise KeyError" not in trace
    assert "an exception: [message withheld: the task is sensitive]" in errors
    for options in ([], ["--json"], ["--traceback"]):
        assert run(["dead", "list", "--queue", "sensitive", "--redis", redis_url, *options]) == 0
        said = capsys.readouterr()
        assert "returns_a_set" in said.out
        assert SECRET not in said.out + said.err
    logging.getLogger().handlers[:] = handlers  # the commands have set up their own


def test_record_says_so_to_tools_that_do_not_know_the_task() -> None:
    _, tasks = queue_of("memory:")
    record = tasks["returns"].job(SECRET).new.record

    letter = readable(Letter("j", Reason.FAILED, 0, 1, 0, b"{}", record), 1_000)

    assert b'"sensitive":true' in record
    assert (letter.sensitive, letter.args, letter.kwargs) == (True, (), {})
    assert SECRET not in repr(letter)
    damaged = readable(Letter("j", Reason.BAD_RECORD, 0, 1, 0, b"{}", record[:-1]), 1_000)
    assert damaged.sensitive
    assert SECRET not in repr(damaged)


def test_prepared_claimed_and_dead_jobs_do_not_show_their_records() -> None:
    _, tasks = queue_of("memory:")
    prepared = tasks["returns"].job(SECRET)
    record = prepared.new.record
    shown = [prepared, prepared.new, NewJob("a", 0.0, 0, record), ClaimedJob("a", record, 0, 0)]

    assert not [one for one in shown if SECRET in repr(one)]
    assert SECRET not in repr(Letter("j", Reason.FAILED, 0, 1, 0, b"{}", record))


@pytest.mark.parametrize(
    ("args", "kwargs", "path"),
    [
        ((1, {SECRET: {SECRET}}), {}, "args[1]"),
        ((float("nan"),), {}, "args[0]"),
        ((), {"a": 1, "b": [{SECRET: 10**30}]}, "kwargs['b']"),
        ((), {"a": "\ud800" + SECRET}, "kwargs['a']"),
    ],
)
def test_bad_argument_is_named_but_not_shown(args: Any, kwargs: Any, path: str) -> None:
    queue = gqueue.Queue("q", "memory:")
    task: Any = queue.task(name="t", sensitive=True)(lambda *_args, **_kwargs: None)

    with pytest.raises(BadPayload) as refused:
        task.job(*args, **kwargs)

    assert refused.value.path == path
    assert SECRET not in f"{refused.value} {refused.value!r} {refused.value.__context__!r}"


def scene_of_a_dump() -> dict[str, Any]:
    queue = gqueue.Queue("q", "memory:")
    begun: list[int] = []

    @queue.task(sensitive=True)
    def spawns(secret: str) -> None:
        import gevent
        from gevent.local import local

        class Odd:
            def __repr__(self) -> str:
                return f"<Odd\n{secret}>"

            def wait(self) -> None:
                values.secret = secret
                waits(secret)

        values = local()
        gqueue.spawn(waits, secret, name=secret)
        gevent.spawn(Odd().wait)
        gevent.spawn(functools.partial(waits, secret))
        waits(secret)

    def waits(secret: str, name: str = "") -> None:
        begun.append(1)
        time.sleep(1)

    spawns.enqueue(SECRET)

    def script(_: Any) -> None:
        until(lambda: len(begun) == 4)
        os.kill(os.getpid(), signal.SIGUSR1)
        time.sleep(0.1)

    perform(queue, script)
    return {}


def test_dump_shows_stacks_and_no_arguments() -> None:
    scene = play(scene_of_a_dump)

    assert "spawns" in scene.log
    assert "(...)>" in scene.log
    assert SECRET not in scene.log


def scene_of_strays() -> dict[str, Any]:
    import gevent

    queue = gqueue.Queue("q", "memory:")
    ended: list[str] = []

    def fails(secret: str) -> None:
        ended.append(secret)
        raise ValueError(f"not {secret}")

    def spawns(secret: str) -> None:
        gevent.spawn_later(0.1, fails, secret)  # when the job and this are over

    @queue.task(sensitive=True)
    def hides(secret: str) -> None:
        gevent.spawn(fails, secret).join()
        gevent.spawn(spawns, secret)
        gqueue.spawn(fails, secret).join()
        threading.Thread(target=fails, args=(secret,), name=secret).start()
        gevent.get_hub().loop.run_callback(fails, secret)

    @queue.task
    def tells(text: str) -> None:
        gevent.spawn(fails, text).join()
        thread = threading.Thread(target=fails, args=(text,))
        thread.start()
        thread.join()

    hides.enqueue(SECRET)
    tells.enqueue("open")
    before = threading.excepthook
    perform(queue, lambda _: until(lambda: len(ended) == 7))
    hub = gevent.get_hub()
    return {"restored": threading.excepthook is before and "print_exception" not in vars(hub)}


def test_what_a_sensitive_task_started_and_left_tells_only_where_it_failed() -> None:
    scene = play(scene_of_strays)

    assert scene["restored"]
    assert SECRET not in scene.log
    assert scene.log.count("ValueError: [message withheld: the task is sensitive]") == 5
    assert scene.log.count("ValueError: not open") == 2
    assert "fails(...)> failed with ValueError" in scene.log
    assert "fails('open')" not in scene.log


def scene_of_futures(sensitive: str) -> dict[str, Any]:
    import asyncio
    from concurrent.futures import Future

    queue = gqueue.Queue("q", "memory:")

    def fails(secret: str, *_: object) -> None:
        raise ValueError(f"not {secret}")

    async def bad(secret: str) -> None:
        fails(secret)

    async def main(secret: str) -> None:
        kept = asyncio.create_task(bad(secret))
        asyncio.get_running_loop().call_soon(fails, secret)
        await asyncio.sleep(0.01)
        del kept

    @queue.task(sensitive=bool(sensitive))
    def runs(secret: str) -> None:
        asyncio.run(main(secret))
        future: Future[str] = Future()
        future.add_done_callback(functools.partial(fails, secret))
        future.set_result(secret)

    job = runs.enqueue(SECRET)
    perform(queue, lambda _: job.wait(10))
    kept_on = [name for name in ("asyncio", "concurrent.futures") if logging.getLogger(name).filters]
    return {"succeeded": job.status(), "kept_on": kept_on}


@pytest.mark.parametrize("sensitive", ["yes", ""])
def test_what_a_sensitive_task_left_to_asyncio_tells_only_where_it_failed(sensitive: str) -> None:
    scene = play(scene_of_futures, sensitive)

    assert scene["succeeded"] == "succeeded"
    told = [line for line in scene.log.splitlines() if line.startswith(("asyncio ERROR", "concurrent.futures ERROR"))]
    assert len(told) == 3
    if sensitive:
        assert SECRET not in scene.log
        assert {line.partition("ERROR ")[2] for line in told} == {"[message withheld: the task is sensitive]"}
        assert scene.log.count(", in fails\nValueError: [message withheld: the task is sensitive]\n") == 3
        assert scene["kept_on"] == ["asyncio", "concurrent.futures"]
    else:
        assert scene.log.count(f"ValueError: not {SECRET}\n") == 3
        assert scene["kept_on"] == []


def scene_of_a_child(folder: str) -> dict[str, Any]:
    queue = gqueue.Queue("q", "memory:")

    @queue.task(sensitive=True, max_attempts=1)
    def forks(secret: str) -> None:
        if child := os.fork():
            os.waitpid(child, 0)
            return
        file = os.open(Path(folder) / "stderr", os.O_CREAT | os.O_WRONLY)
        os.dup2(file, 2)
        raise ValueError(secret)

    job = forks.enqueue(SECRET)
    perform(queue, lambda _: job.wait(timeout=10))
    return {"state": job.status(), "said": (Path(folder) / "stderr").read_text()}


@pytest.mark.skipif(sys.platform != "linux", reason="forks")
def test_child_that_a_sensitive_task_forked_does_not_tell_either(tmp_path: Path) -> None:
    scene = play(scene_of_a_child, str(tmp_path))

    assert scene["state"] == "succeeded"
    assert "ValueError: [message withheld" in scene["said"]
    assert SECRET not in scene["said"]
