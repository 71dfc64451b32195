"""The program as a whole: which process is patched, what a mistake gets, and that it costs one line."""

import socketserver
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from gqueue.__main__ import is_worker, supervises
from gqueue.cli.main import COMMANDS, run
from tests.servers import free_port


@pytest.mark.parametrize("args", [[], ["--workers", "5"], ["worker"], ["worker", "--app", "a:b"], ["--app", "a:b"]])
def test_worker_is_the_command_where_none_is_named(args: list[str]) -> None:
    assert is_worker(args)


@pytest.mark.parametrize("args", [["enqueue", "task"], ["stats"], ["--help"], ["--version"], ["nonsense"]])
def test_other_commands_run_no_jobs(args: list[str]) -> None:
    assert not is_worker(args)


@pytest.mark.parametrize(
    ("args", "environ", "expected"),
    [
        ([], "", False),
        ([], "2", True),
        (["--processes", "1"], "2", False),
        (["--processes", "2"], "", True),
        (["--processes=2"], "", True),
        (["--processes", "2", "--processes", "1", "--child", "0:5"], "2", False),
        (["--processes"], "", False),
        (["--processes", "x"], "", False),
    ],
)
def test_process_that_supervises_others_is_not_patched(args: list[str], environ: str, expected: bool) -> None:
    assert supervises(args, environ) is expected


def test_importing_the_program_does_nothing_and_no_command_but_the_worker_loads_gevent() -> None:
    look = "import sys, gqueue.__main__; assert not {'gevent', 'click', 'redis'} & set(sys.modules)"
    look += "; sys.argv = ['gqueue', '--help']; gqueue.__main__.main(); assert 'gevent' not in sys.modules"
    assert subprocess.run([sys.executable, "-c", look], capture_output=True, check=True).stdout.startswith(b"Usage")


def test_help_names_every_command_and_each_has_its_own(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["--help"]) == 0
    text = capsys.readouterr().out
    for name in COMMANDS:
        assert f"  {name} " in text
        assert run([name, "--help"]) == 0
        assert f"Usage: gqueue {name}" in capsys.readouterr().out


def test_version_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["--version"]) == 0
    assert capsys.readouterr().out.startswith("gqueue ")


APPS = {
    "no_queue": "x = 1",
    "raises": "def setting():\n    return 1 / 0\n\n\nsetting()",
    "exits": "import sys\nsys.exit(7)",
    "lacks": "import a_library_that_is_not_there",
    "broken": "def f(:\n",
    "good": "import gqueue\nqueue = gqueue.Queue('good')\nboth = [queue, gqueue.Queue('two')]\nnothing = []",
    "twice": "import gqueue\nqueues = gqueue.Queue('a'), gqueue.Queue('a')",
}


@pytest.fixture
def apps(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name, source in APPS.items():
        (tmp_path / f"{name}.py").write_text(source)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", sys.path[:])
    for name in APPS:
        sys.modules.pop(name, None)
    return tmp_path


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (["--wrokers", "5"], "No such option"),
        (["nonsense"], "No such command 'nonsense'"),
        (["worker", "nonsense"], "unexpected extra argument"),
        (["--workers", "0"], "--workers"),
        (["--workers", "many"], "--workers"),
        (["--queue-size", "0"], "--queue-size"),
        (["--lease", "nan"], "--lease"),
        (["--lease", "0.1"], "--lease"),
        (["--grace", "-1"], "--grace"),
        (["--processes", "0"], "--processes"),
        (["--weights", "1,x"], "--weights"),
        (["--weights", "1,2"], "the demo has only one queue"),
        (["--weights", "1,2", "--app", "good:queue"], "there are 1 queues"),
        (["--log-format", "xml"], "--log-format"),
        (["--log-level", "loud"], "--log-level"),
        (["--redis", "localhost"], "is no URL of a Redis server"),
        (["--redis", "redis://localhost/zero"], "the database must be a number"),
        (["--app", "good"], "expected MODULE:ATTR"),
        (["--app", "absent:queue"], "No module named 'absent'"),
        (["--app", "absent.sub:queue"], "No module named 'absent'"),
        (["--app", "good.sub:queue"], "No module named 'good.sub'"),
        (["--app", ".good:queue"], "cannot import '.good'"),
        (["--app", "good:absent"], "good has no 'absent'; it has queue"),
        (["--app", "no_queue:x"], "expected a Queue or a list of them, found int; it has no Queue"),
        (["--app", "good:nothing"], "expected a Queue or a list of them"),
        (["--app", "twice:queues"], "two queues named 'a'"),
        (["enqueue"], "Missing argument 'TASK'"),
        (["enqueue", "absent", "--redis", "redis://localhost:1"], "no task 'absent'; there are: never_ends, sum_first"),
        (["enqueue", "absent", "--app", "good:queue"], "no task 'absent'; there are: none"),
        (["pause", "--app", "good:both", "--queue", "three"], "the app has good, two"),
        (["dead", "delete", "--app", "good:both", "--all"], "which one? Add --queue: good, two"),
        (["dead", "redrive"], "name the jobs by their ids"),
        (["stats", "--queue", "a b"], "'a b' cannot name a queue"),
    ],
)
def test_mistake_is_one_clear_line_and_exit_2(
    args: list[str],
    said: str,
    apps: Path,
    capsys: pytest.CaptureFixture[str],
    root_logger: object,
    redis_url: str,
    monkeypatch,
) -> None:
    monkeypatch.setenv("GQUEUE_REDIS_URL", redis_url)
    assert run(args) == 2
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1
    assert lines[0].startswith("gqueue: ")
    assert said in lines[0]


@pytest.mark.parametrize(
    ("app", "shown"),
    [
        ("raises", "return 1 / 0"),
        ("exits", "sys.exit(7)"),
        ("lacks", "import a_library_that_is_not_there"),
        ("broken", "def f(:"),
    ],
)
def test_error_of_the_users_own_code_is_shown_with_its_traceback_and_nothing_of_ours(
    app: str, shown: str, apps: Path, capsys: pytest.CaptureFixture[str], root_logger: object
) -> None:
    assert run(["--app", f"{app}:queue"]) == 2
    said = capsys.readouterr().err
    assert shown in said
    assert said.splitlines()[-1].startswith(f"gqueue: --app {app}:queue: {app} raised ")
    assert "importlib" not in said
    assert "cli/app.py" not in said


@pytest.mark.parametrize("command", [["worker"], ["enqueue", "sum_first", "1"], ["stats"], ["pause"], ["dead", "list"]])
def test_redis_that_cannot_be_reached_is_one_line_with_its_url_and_exit_3(
    command: list[str], capsys: pytest.CaptureFixture[str], root_logger: object, state_home: Path
) -> None:
    url = f"redis://user:secret@127.0.0.1:{free_port()}/0"
    assert run([*command, "--redis", url]) == 3
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"gqueue: Redis at {url.replace('secret', '***')} is not reachable: ")
    assert "refused" in line
    assert not (state_home / "gqueue").exists()  # never the embedded server


def test_url_of_the_environment_that_does_not_answer_is_an_error_too(
    capsys: pytest.CaptureFixture[str], root_logger: object, state_home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("GQUEUE_REDIS_URL", "REDIS_URL"):
        monkeypatch.setenv(name, f"redis://127.0.0.1:{free_port()}")
        assert run([]) == 3
        assert "is not reachable" in capsys.readouterr().err
        monkeypatch.delenv(name)
    assert not (state_home / "gqueue").exists()


def test_server_that_answers_with_an_error_is_not_reachable(own_server, capsys, root_logger) -> None:
    own_server.client().config_set("requirepass", "secret")
    assert run(["stats", "--redis", own_server.tcp_url]) == 3
    assert "Authentication required" in capsys.readouterr().err


def test_server_that_is_too_old_is_refused_with_the_version_needed(capsys, root_logger, old_server: str) -> None:
    assert run(["stats", "--redis", old_server]) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert "is Redis 5.0.7; gqueue needs Redis 6.2 or later, or any Valkey" in line


@pytest.fixture
def old_server() -> Iterator[str]:
    class Answer(socketserver.StreamRequestHandler):
        def handle(self) -> None:
            while head := self.rfile.readline():
                words = [self.rfile.read(int(self.rfile.readline()[1:]) + 2)[:-2] for _ in range(int(head[1:]))]
                info = b"redis_version:5.0.7\r\n"
                self.wfile.write(b"$%d\r\n%s\r\n" % (len(info), info) if words[0] == b"INFO" else b"+PONG\r\n")

    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Answer) as server:
        server.daemon_threads = True
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"redis://127.0.0.1:{server.server_address[1]}"
        server.shutdown()
