"""Passwords and keys are in no message, log, help, traceback or argument of a process."""

import pickle
import traceback
from pathlib import Path
from typing import Any

import pytest

import gqueue
from gqueue.cli.main import run
from gqueue.cli.worker import _without_url
from gqueue.errors import GqueueError
from tests.cli.conftest import Start
from tests.servers import Server

pytestmark = pytest.mark.usefixtures("root_logger")

SECRET = "pass-w0rd"

URLS = [
    f"redis://me:{SECRET}@127.0.0.1:1/0",
    f"redis://:{SECRET}@127.0.0.1:1/0",
    f"redis://me:{SECRET}@nowhere.invalid:6379/0",
    f"rediss://me:{SECRET}@127.0.0.1:1/0",
    f"unix://me:{SECRET}@/nowhere/at/all",
    f"redis://127.0.0.1:1/0?password={SECRET}",
    f"redis://127.0.0.1:1/0?username=me&password={SECRET}",
    f"redis://{SECRET}@127.0.0.1:1/0",
    f"redis://127.0.0.1:1/0?pass%77ord={SECRET}",
    f"redis+sentinel://me:{SECRET}@127.0.0.1:1/name?sentinel_username={SECRET}&sentinel_password={SECRET}",
]
BAD_URLS = [
    f"redis://me:{SECRET}@host:port/0",
    f"redis://me:{SECRET}@host:6379/name",
    f"redis://me:{SECRET}/x@host:6379/0",
    f"me:{SECRET}@host",
    f"http://me:{SECRET}@host",
    f"redis://me:{SECRET}@host:99999",
    f"redis://me:{SECRET}@[host/0",
    f"redis://me/{SECRET}:x@host",
    f"redis://me:x?{SECRET}@host",
    f"redis://me:x#{SECRET}@host",
    f"redis://host/0?db=0;password={SECRET}",
    f"redis+sentinel://me:a/{SECRET}@host/name",
    f"redis+sentinel://me:1/{SECRET}@host/0",
    f"redis+sentinel://me:1/name?{SECRET}@host",
    f"unix://me:abc/{SECRET}@/tmp/none.sock",
    f"unix:///{SECRET}@/tmp/none.sock",
    f"unix://me:abc?{SECRET}@/tmp/none.sock",
    f"redis://me:1?{SECRET}@host",
    f"redis://me:1#{SECRET}@host/0",
    f"redis://{SECRET}!",
    f"unix://{SECRET}/tmp/none.sock",
    SECRET,
    f" redis://me:{SECRET}@host",
]


@pytest.fixture
def locked() -> Any:
    with Server(tcp=True) as server:
        server.client().config_set("requirepass", SECRET + "!")
        yield server


def told(error: BaseException) -> str:
    """Return all that an error may show, here and after it was sent elsewhere."""
    again = pickle.loads(pickle.dumps(error))
    return "".join(traceback.format_exception(error)) + repr(error) + str(again) + repr(vars(error))


@pytest.mark.parametrize("url", URLS)
def test_errors_of_a_queue_do_not_show_the_password(url: str) -> None:
    queue = gqueue.Queue("q", url, retry_for=0.01, wait_timeout=0.01)
    queue.task(name="t")(lambda: None)
    for call in (queue.stats, queue.tasks["t"].enqueue, queue.fetch_job("x").status, queue.pause):
        with pytest.raises(GqueueError) as refused:
            call()
        assert SECRET not in told(refused.value)
    assert SECRET not in repr(queue.settings) + repr(queue) + repr(queue.store)
    queue.close()


@pytest.mark.parametrize("url", BAD_URLS)
def test_urls_that_are_none_do_not_show_the_password(url: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(gqueue.GqueueError) as refused:
        gqueue.Queue("q", url)
    assert SECRET not in told(refused.value)
    assert run(["stats", "--queue", "q", "--redis", url]) == 2
    said = capsys.readouterr()
    assert SECRET not in said.out + said.err


@pytest.mark.parametrize("url", ["redis://me:1?x@localhost", "unix://me:a/b@/tmp/s", "redis+sentinel://me:1/b@host/0"])
def test_password_with_an_unescaped_character_is_refused_with_the_way_to_write_it(url: str) -> None:
    with pytest.raises(gqueue.BadSetting, match="special characters of a password are written as %XX"):
        gqueue.Queue("q", url)


@pytest.mark.parametrize(
    "url",
    ["unix:///run/redis%40main/a+b.sock?db=1", "redis://me:p%2F%40x@host/0?password=p%40q", "redis://[::1]:6379/1#x"],
)
def test_escaped_characters_are_taken(url: str) -> None:
    assert gqueue.Queue("q", url).url == url


@pytest.mark.parametrize("query", ["Password={}", "x=1&amp;password={}", "password=a&{}=b", "credential_provider={}"])
def test_options_that_are_none_do_not_show_the_password(query: str) -> None:
    queue = gqueue.Queue("q", f"redis://127.0.0.1:1/0?{query.format(SECRET)}", retry_for=0.01)
    with pytest.raises(GqueueError) as refused:
        queue.stats()
    assert SECRET not in told(refused.value) + repr(queue.settings)
    queue.close()


def test_wrong_password_is_not_shown(locked: Any, capsys: pytest.CaptureFixture[str]) -> None:
    url = f"redis://me:{SECRET}@127.0.0.1:{locked.port}"
    queue = gqueue.Queue("q", url, retry_for=0.01)
    with pytest.raises(GqueueError) as refused:
        queue.stats()
    assert SECRET not in told(refused.value)
    assert run(["stats", "--queue", "q", "--redis", url]) == 3
    said = capsys.readouterr()
    assert SECRET not in said.out + said.err
    queue.close()


@pytest.mark.parametrize("command", [[], ["worker"], ["stats"], ["enqueue"], ["dead", "list"], ["acl"], ["fsck"]])
def test_help_shows_no_value_of_the_environment(
    command: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for variable in ("GQUEUE_REDIS_URL", "REDIS_URL"):
        monkeypatch.setenv(variable, URLS[0])
    monkeypatch.setenv("GQUEUE_SIGNING_KEYS", f"a:{SECRET * 4}")

    assert run([*command, "--help"]) == 0

    assert SECRET not in capsys.readouterr().out


def test_supervisor_takes_the_url_out_of_the_arguments_of_its_children() -> None:
    args = ["--workers", "5", "--redis", URLS[0], "--burst", f"--redis={URLS[1]}", "--jobs=3"]

    assert _without_url(args) == ["--workers", "5", "--burst", "--jobs=3"]


@pytest.mark.blackbox
def test_processes_find_the_server_and_show_no_password(locked: Any, start: Start, tmp_path: Path) -> None:
    (tmp_path / "app.py").write_text(
        "import os, gqueue\n"
        "queue = gqueue.Queue('q', 'redis://localhost:1')\n"
        "@queue.task\n"
        "def tells() -> str: return ' '.join(os.environ) + open('/proc/self/cmdline').read()\n"
    )
    url = f"redis://:{SECRET}!@127.0.0.1:{locked.port}"
    keys = f"a:{SECRET * 4}"
    queue = gqueue.Queue("q", url, signing_keys=keys)
    job: Any = queue.task(name="tells")(lambda: "").enqueue()
    program = start("--app", "app:queue", "--processes", "2", "--redis", url, GQUEUE_SIGNING_KEYS=keys)
    program.await_lines("tasks tells", 2)

    said = job.result(timeout=20)

    assert SECRET not in said
    assert "GQUEUE_CHILD_URL" not in said
    program.send(15)
    assert program.end()[0] == 0
    assert SECRET not in program.said
    queue.close()
