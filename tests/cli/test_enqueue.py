"""How the text of a command line becomes arguments, and what is printed of a result."""

import doctest
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from gqueue.cli import enqueue
from gqueue.cli.main import run
from gqueue.core.retry import settle_success
from gqueue.queue import Queue
from gqueue.store.codec import encode_value


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("10", 10),
        ("-1.5", -1.5),
        ("true", True),
        ("null", None),
        ('{"a": [1]}', {"a": [1]}),
        ("ten", "ten"),
        ("", ""),
        ('"10"', "10"),
        ("NaN", "NaN"),
        ("-Infinity", "-Infinity"),
        ("[1,", "[1,"),
        ("https://example.org/?a=b", "https://example.org/?a=b"),
        ("[" * 100_000, "[" * 100_000),
    ],
)
def test_text_that_is_json_is_read_and_all_else_is_text(text: str, value: object) -> None:
    assert enqueue.read_arguments((text,)) == ([value], {})


def test_name_and_value_are_a_keyword_argument() -> None:
    assert enqueue.read_arguments(("1", "deep=true", "name=x=y")) == ([1], {"deep": True, "name": "x=y"})
    assert doctest.testmod(enqueue).failed == 0


SECRET = "hunter2"
APP = """
import gqueue

queue = gqueue.Queue({name!r}, {url!r})

@queue.task(sensitive={sensitive})
def exchange(secret: str) -> str: ...
"""


@pytest.fixture
def settled(redis_url: str, queue_name: str) -> Iterator[None]:
    """Have the first job of the queue succeed with SECRET, once it is there."""
    store = Queue(queue_name, redis_url).open_store()
    ended = threading.Event()

    def work() -> None:
        store.register("w")
        jobs, call = store.settle_and_claim("w", 1, [], [], 1).jobs, 1
        while not jobs and not ended.wait(0.01):
            call += 1
            jobs = store.settle_and_claim("w", call, [], [], 1).jobs
        for job in jobs:
            store.settle_and_claim("w", call + 1, [], [settle_success(job.id, encode_value(SECRET), 60_000)], 0)

    thread = threading.Thread(target=work)
    thread.start()
    yield
    ended.set()
    thread.join()
    store.close()


@pytest.mark.parametrize("sensitive", [True, False])
def test_result_of_a_sensitive_task_is_withheld_and_python_has_it(
    sensitive: bool,
    settled: None,
    redis_url: str,
    queue_name: str,
    root_logger: object,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    app = f"app_{queue_name.replace('-', '_')}"
    (tmp_path / f"{app}.py").write_text(APP.format(name=queue_name, url=redis_url, sensitive=sensitive))
    monkeypatch.syspath_prepend(tmp_path)

    assert run(["enqueue", "--app", f"{app}:queue", "--job-id", "j1", "--wait", "exchange", "x"]) == 0

    said = capsys.readouterr()
    if sensitive:
        assert said.out == "j1\n"
        assert SECRET not in said.err
        assert "it succeeded; the result is withheld" in said.err
        assert "queue.fetch_job('j1').result()" in said.err
    else:
        assert (said.out, said.err) == (f'j1\n"{SECRET}"\n', "")
    queue = Queue(queue_name, redis_url)
    assert queue.fetch_job("j1").result(timeout=5) == SECRET
    queue.close()
