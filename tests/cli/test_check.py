"""`gqueue check`: its lines, for people and for programs, its exit codes, and what it keeps to itself."""

import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from gqueue.cli.main import run
from gqueue.queue import Queue
from tests.cli.conftest import ROOT
from tests.servers import Server, free_port

pytestmark = pytest.mark.blackbox

PASSWORD = "S3cret-pass"
APPS = {
    "mail": "import gqueue\nprint('loud')\nqueue = gqueue.Queue('mail', capacity=50)\n"
    "@queue.task\ndef send(to): ...\n@queue.task\ndef fetch(): ...\n",
    "idle": "import gqueue\nqueue = gqueue.Queue('idle')\n",
    "raises": "1 / 0\n",
    "exits": "import os\nos._exit(9)\n",
    "undoes": "import gqueue, time\nfrom gevent import monkey\ntime.sleep = monkey.get_original('time', 'sleep')\n"
    "queue = gqueue.Queue('undoes')\n",
    "patches": "from gevent import monkey\nmonkey.patch_all(thread=False)\nimport gqueue\nqueue = gqueue.Queue('q')\n",
}


@pytest.fixture
def app(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, source in APPS.items():
        (tmp_path / f"{name}_app.py").write_text(source)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(ROOT))


@pytest.fixture
def sound() -> Iterator[Server]:
    with Server(appendonly=True, tcp=True) as running:
        yield running


Check = Callable[..., tuple[int, dict[str, list[tuple[str, str]]]]]


@pytest.fixture
def check(app: None, root_logger: object, capsys: pytest.CaptureFixture[str]) -> Check:
    """Return what checks and gives the exit code, and by topic verdict and text."""

    def check_it(*args: str) -> tuple[int, dict[str, list[tuple[str, str]]]]:
        code = run(["check", *args, "--json"])
        shown = capsys.readouterr()
        assert PASSWORD not in shown.out + shown.err
        *lines, counts = [json.loads(line) for line in shown.out.splitlines()]
        assert sum(counts.values()) == len(lines)
        assert (code == 1) == (counts["bad"] > 0)
        topics: dict[str, list[tuple[str, str]]] = {}
        for line in lines:
            topics.setdefault(line["topic"], []).append((line["verdict"], line["seen"]))
        return code, topics

    return check_it


def test_sound_server_and_app_are_0_and_every_line_is_ok_but_for_known_vulnerabilities(check: Check, sound: Server):
    code, topics = check("--app", "mail_app:queue", "--redis", sound.url)

    assert code == 0
    assert {topic for topic, lines in topics.items() for verdict, _ in lines if verdict != "ok"} <= {"vulnerable"}
    assert topics["app"] == [("ok", "mail_app:queue can be imported")]
    assert topics["queue mail"] == [
        ("ok", "the rights of a worker are there"),
        ("ok", "2 tasks: fetch, send"),
        ("ok", "records are not signed: who may write to Redis may have any task run"),
        ("ok", "nobody has used it yet"),
        ("ok", "its keys fit together"),
    ]
    assert sound.client().dbsize() == 0


def test_people_read_a_line_a_thing_and_what_to_do_below(
    app: None, root_logger: object, sound: Server, capsys: pytest.CaptureFixture[str]
):
    sound.client().config_set("maxmemory-policy", "allkeys-lru")

    assert run(["check", "--redis", sound.url]) == 1

    lines = capsys.readouterr().out.splitlines()
    where = lines.index("bad       memory: maxmemory-policy allkeys-lru: it drops jobs when memory is short")
    assert lines[where + 1] == "          -> set maxmemory-policy noeviction"
    assert lines[-1].endswith(" 1 bad, 1 unknown")  # unknown: no app was given
    assert lines[0].startswith(f"ok        python: {sys.version_info[0]}.{sys.version_info[1]}.")


def test_queue_is_looked_at_by_what_is_in_force_and_by_its_keys(check: Check, sound: Server):
    queue = Queue("mail", sound.url, capacity=20)
    queue.task(lambda: None, name="nothing").enqueue()
    queue.pause()
    queue.close()
    sound.client().delete("gq:{mail}:ready")

    code, topics = check("--app", "mail_app:queue", "--redis", sound.url)

    assert code == 1
    assert topics["queue mail"][3:] == [
        ("warn", "it is paused: no job is claimed"),
        ("warn", "capacity 20 came with the last enqueue, but the app has 50"),
        ("bad", "1 finding in its keys: no place 1"),
    ]
    code, topics = check("--queue", "mail", "--redis", sound.url, "--no-keys")
    assert code == 0
    assert topics["queue mail"][-1] == ("unknown", "its keys were not looked through")


def test_keys_of_signatures_are_told_by_their_ids_alone(check: Check, sound: Server, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("GQUEUE_SIGNING_KEYS", f"k2:hex:{'ab' * 16},k1:{PASSWORD * 3}")

    _, topics = check("--app", "mail_app:queue", "--redis", sound.url)

    assert ("ok", "records are signed, by key k2 of 2") in topics["queue mail"]


def test_user_of_few_rights_sees_what_is_missing_for_the_role_and_the_rest_is_unknown(check: Check, sound: Server):
    rules = ["on", f">{PASSWORD}", "~gq:{mail}:*", "&gq:{mail}:*", "+@all", "-@admin", "-info", "-scan", "-zadd"]
    sound.client().execute_command("ACL", "SETUSER", "u", "resetchannels", *rules)
    url = f"redis://u:{PASSWORD}@127.0.0.1:{sound.port}"

    code, topics = check("--app", "mail_app:queue", "--redis", url, "--role", "worker", "--role", "producer")

    assert code == 1
    assert topics["queue mail"][:2] == [
        ("bad", "the rights of a worker are not there: +zadd"),
        ("bad", "the rights of a producer are not there: +zadd"),
    ]
    assert topics["queue mail"][-1][0] == "unknown"
    assert {verdict for topic in ("server", "role", "persistence", "clients") for verdict, _ in topics[topic]} == {
        "unknown"
    }


def test_password_is_shown_nowhere(check: Check, sound: Server):
    sound.client().config_set("requirepass", PASSWORD)
    url = f"redis://:{PASSWORD}@127.0.0.1:{sound.port}"

    code, topics = check("--app", "mail_app:queue", "--redis", url)
    assert code == 0
    assert topics["access"][0] == ("ok", "user default; it refuses who gives no password")

    code, topics = check("--app", "mail_app:queue", "--redis", url.replace(PASSWORD, f"{PASSWORD}no"))
    assert code == 1
    assert topics["server"][0][0] == "bad"


def test_server_that_is_not_there_is_bad_and_the_rest_is_looked_at_all_the_same(check: Check):
    code, topics = check("--app", "mail_app:queue", "--redis", f"redis://:{PASSWORD}@127.0.0.1:{free_port()}")

    assert code == 1
    ((verdict, seen),) = topics["server"]
    assert verdict == "bad"
    assert "is not reachable" in seen
    assert topics["app"][0][0] == "ok"
    assert ("ok", "2 tasks: fetch, send") in topics["queue mail"]


@pytest.mark.parametrize(
    ("app_name", "topic", "line"),
    [
        ("raises_app:queue", "app", ("bad", "--app raises_app:queue: raises_app raised ZeroDivisionError when it was")),
        ("exits_app:queue", "app", ("bad", "the process that was to import it ended with 9, and told nothing")),
        ("exits_app:queue", "patching", ("unknown", "the process that was to tell told nothing")),
        ("mail_app:no", "app", ("bad", "--app mail_app:no: mail_app has no 'no'; it has queue")),
        ("idle_app:queue", "queue idle", ("warn", "the app has no task for it: its jobs would die as unknown_task")),
        ("undoes_app:queue", "patching", ("bad", "not patched after the import of the app: time: they block all")),
        ("patches_app:queue", "patching", ("warn", "gevent says: ")),
    ],
)
def test_app_that_would_not_do_is_told(app_name: str, topic: str, line: tuple[str, str], check: Check, sound: Server):
    _, topics = check("--app", app_name, "--redis", sound.url)

    verdict, seen = line
    assert any(each[0] == verdict and each[1].startswith(seen) for each in topics[topic]), topics[topic]


def test_queue_in_memory_has_no_server(check: Check):
    code, topics = check("--app", "mail_app:queue", "--redis", "memory:")

    assert code == 0
    assert topics["server"] == [("ok", "the memory of one process: there is nothing to ask")]
