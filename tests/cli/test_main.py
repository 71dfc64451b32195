"""The program as a whole: which process is patched, what a mistake gets, and that it costs one line."""

import socketserver
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from gqueue.__main__ import is_worker, supervises
from gqueue.cli.main import COMMANDS, run
from gqueue.queue import Queue
from tests.cli.conftest import Start
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
        (["dead", "redrive", "--all"], "which queue? Give --app MODULE:ATTR or --queue NAME"),
        (["dead", "delete", "id"], "which queue?"),
        (["pause"], "which queue?"),
        (["resume"], "which queue?"),
        (["dead"], "dead: list, redrive or delete?"),
        (["dead", "nonsense"], "No such command 'nonsense'"),
        (["--workers", "x"], "'x' is no whole number"),
        (["--workers", "1.5"], "'1.5' is no whole number"),
        (["--processes", "x"], "'x' is no whole number"),
        (["--app", "good.py:queue"], "did you mean good:queue?"),
        (["--app", "sub/good.py:queue"], "did you mean sub.good:queue?"),
        (["--app", "./good.py:queue"], "did you mean good:queue?"),
        (["--app", "good.py"], "did you mean good:queue?"),
        (["--app", "good:queue", "--redis", "redis://host:port"], "is no URL of a Redis server"),
        (["enqueue", "sum_first", "-5"], "-5 is no option; put -- before arguments that begin with a dash"),
        (["enqueue", "sum_first", "--depth=5"], "put -- before arguments that begin with a dash"),
        (["enqueue", "sum_first", "--priorty", "5"], "Did you mean"),
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


@pytest.mark.parametrize(
    "command",
    [["worker"], ["enqueue", "sum_first", "1"], ["stats"], ["pause", "--queue", "q"], ["dead", "list"]],
)
def test_redis_that_cannot_be_reached_is_one_line_with_its_url_and_exit_3(
    command: list[str], capsys: pytest.CaptureFixture[str], root_logger: object, state_home: Path
) -> None:
    url = f"redis://user:secret@127.0.0.1:{free_port()}/0"
    assert run([*command, "--redis", url]) == 3
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"gqueue: Redis at {url.replace('secret', '***')} is not reachable: ")
    assert "refused" in line
    assert not (state_home / "gqueue").exists()  # never the embedded server


def test_error_that_all_processes_meet_is_told_once(start: Start) -> None:
    program = start("--processes", "3", "--redis", f"redis://127.0.0.1:{free_port()}")
    assert program.end()[0] == 3
    assert program.count("is not reachable") == 1, program.said
    assert program.count("giving up") == 1, program.said


def test_traceback_of_an_app_is_shown_once_for_all_processes(start: Start, apps: Path) -> None:
    program = start("--processes", "2", "--app", "raises:queue")
    assert program.end()[0] == 2
    assert program.count("Traceback") == program.count("raises raised ZeroDivisionError") == 1, program.said


@pytest.mark.parametrize("args", [["enqueue", "sum_first", "1"], ["stats"], ["--help"]])
def test_interrupt_while_the_command_is_imported_is_silent_and_130(args: list[str], start: Start) -> None:
    interrupt = "import os, signal; os.kill(os.getpid(), signal.SIGINT)"
    code = f"import sys, builtins; sys.argv[1:] = {args!r}\n"
    code += "from gqueue.__main__ import main\nbefore = builtins.__import__\n"
    code += f"def slow(name, *rest):\n    if name == 'click': {interrupt}\n    return before(name, *rest)\n"
    code += "builtins.__import__ = slow\nsys.exit(main())"
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=30)
    assert (ended.returncode, ended.stdout, ended.stderr) == (130, "", "")


def test_stats_of_a_queue_that_nobody_has_used_are_not_made_up(
    capsys: pytest.CaptureFixture[str], root_logger: object, redis_url: str, queue_name: str
) -> None:
    asked = ["stats", "--redis", redis_url, "--queue", queue_name]
    for form in ([], ["--json"]):
        assert run([*asked, *form]) == 1
        shown = capsys.readouterr()
        assert shown.out == ""
        assert shown.err.startswith(f"gqueue: nothing is known of a queue '{queue_name}' at {redis_url}")
    with closing(Queue(queue_name, redis_url)) as queue:
        queue.task(min).enqueue(1, 2)
        assert run(asked) == 0
        queue.purge()
    assert run(asked) == 0  # its counters are there
    assert capsys.readouterr().err == ""


def test_stats_of_an_apps_queue_are_shown_before_its_first_job(
    apps: Path, capsys: pytest.CaptureFixture[str], root_logger: object, redis_url: str
) -> None:
    assert run(["stats", "--redis", redis_url, "--app", "good:queue"]) == 0
    assert "good: 0 of ? wait" in capsys.readouterr().out


@pytest.mark.parametrize("named", [["--queue", "demo"], []])
def test_demos_queue_is_looked_for_where_the_demo_is(
    named: list[str], capsys: pytest.CaptureFixture[str], root_logger: object, redis_url: str, monkeypatch
) -> None:
    monkeypatch.setattr("gqueue.cli.reach.find_for_demo", lambda url: redis_url)
    assert run(["dead", "list", *named]) == 0
    assert (run(["pause", *named]), run(["resume", *named])) == ((0, 0) if named else (2, 2))


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
