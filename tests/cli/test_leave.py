"""A signal to a worker that has not begun: it ends with 0 at once, whatever it is doing, and leaves nothing behind."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from gqueue.embedded import PrivateServer
from tests.cli.conftest import ROOT, Start
from tests.conftest import wait_until

pytestmark = [pytest.mark.blackbox, pytest.mark.slow]

PATCHING = """
import os, sys
from gevent import monkey
from gqueue.__main__ import main

module, number = sys.argv.pop(), int(sys.argv.pop())

def on_call(frame, event, _):
    if frame.f_code.co_name == "patch_item" and frame.f_locals["module"].__name__ == module:
        sys.settrace(None)
        print("signalled", flush=True)
        os.kill(os.getpid(), number)

sys.settrace(on_call)
main()
"""

IMPORTING = {
    "catches everything": """
try: end()
except BaseException: pass
""",
    "is in a finalizer": """
class Last:
    def __del__(self): end()
Last()
""",
    "waits on the hub": """
import gevent
gevent.spawn(end)
""",
    "writes": """
class Output:
    def write(self, text): end()
    def flush(self): raise RuntimeError("reentrant call")
sys.stdout = Output()
print("text")
""",
}
"""What an app may be doing when the signal comes; `end` sends it."""

PRELUDE = """
import os, signal, sys, time
import gqueue
from gqueue import embedded

def end(*_):
    os.kill(os.getpid(), signal.SIGTERM)
    for _ in range(100): pass

{body}
time.sleep(60)
queue = gqueue.Queue("work")
"""

SERVING = {
    "uses it": "embedded.serve()\nend()",
    "uses it, and waits on the hub": "import gevent\nembedded.serve()\ngevent.spawn(end)",
    "waits for its turn": "embedded.PrivateServer._answers = lambda *_: end()\nembedded.serve()",
    "is about to start it": "embedded.find_server = end\nembedded.serve()",
    "has just started it": "embedded.subprocess.run = lambda *a, run=embedded.subprocess.run, **k: (run(*a, **k), "
    "'--daemonize' in a[0] and end())[0]\nembedded.serve()",
    "is starting it": "embedded.subprocess.run = lambda *a, run=embedded.subprocess.run, **k: "
    "(embedded.subprocess.Popen(a[0], pass_fds=k['pass_fds']), end()) if '--daemonize' in a[0] else run(*a, **k)\n"
    "embedded.serve()",
}
"""How far an app may be with the embedded server."""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize("module", ["time", "threading", "socket", "select"])
def test_signal_in_the_midst_of_the_patching_ends_it(module: str, number: int) -> None:
    command = [sys.executable, "-c", PATCHING, str(int(number)), module]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        try:
            out, err = process.communicate(timeout=10)
        finally:
            process.kill()
    assert (process.returncode, out, err) == (0, "signalled\n", "")


@pytest.mark.parametrize("doing", IMPORTING)
def test_signal_while_the_app_is_imported_ends_it_whatever_the_app_does(
    doing: str, start: Start, tmp_path: Path
) -> None:
    (tmp_path / "app.py").write_text(PRELUDE.format(body=IMPORTING[doing]))
    program = start("--app", "app:queue", "--redis", "redis://127.0.0.1:1/0")
    assert program.end() == (0, ""), program.said
    assert program.said == ""


def test_what_was_printed_is_not_lost(start: Start, tmp_path: Path) -> None:
    (tmp_path / "app.py").write_text(PRELUDE.format(body="print('before', end='')\nend()"))
    program = start("--app", "app:queue", "--redis", "redis://127.0.0.1:1/0", PYTHONUNBUFFERED="")
    assert program.end() == (0, "before"), program.said


def test_process_that_the_app_forked_is_ended_as_any_other(start: Start, tmp_path: Path) -> None:
    body = "there, here = os.pipe()\npid = os.fork()\n"
    body += "if not pid:\n    os.write(here, b'.')\n    time.sleep(20)\n    os._exit(1)\n"
    body += "os.read(there, 1)\nos.kill(pid, signal.SIGTERM)\n"
    body += "print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), flush=True)\nend()"
    (tmp_path / "app.py").write_text(PRELUDE.format(body=body))
    program = start("--app", "app:queue", "--redis", "redis://127.0.0.1:1/0")
    assert program.end() == (0, f"{-signal.SIGTERM}\n"), program.said


@pytest.mark.parametrize("doing", SERVING)
def test_embedded_server_is_shut_down_by_the_last_however_far_it_was(
    doing: str, start: Start, tmp_path: Path, state_home: Path
) -> None:
    (tmp_path / "app.py").write_text(PRELUDE.format(body=SERVING[doing]))
    program = start("--app", "app:queue")
    assert program.end()[0] == 0, program.said
    server = PrivateServer(state_home / "gqueue")
    wait_until(lambda: not server._lives())
    assert "Traceback" not in program.said


def test_embedded_server_that_others_use_goes_on(start: Start, tmp_path: Path, state_home: Path) -> None:
    server = PrivateServer(state_home / "gqueue")
    server.serve()
    try:
        (tmp_path / "app.py").write_text(PRELUDE.format(body=SERVING["uses it"]))
        program = start("--app", "app:queue")
        assert program.end()[0] == 0, program.said
        os.kill(int((state_home / "gqueue" / "redis.pid").read_text()), 0)
        assert server._lives()
    finally:
        server.release()
    assert not server._lives()
