"""A worker whose user in Redis lacks a right: at its start, and while it works."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import gqueue
from gqueue.store.acl import rules
from gqueue.store.audit import audit
from tests.cli.conftest import Start
from tests.conftest import wait_until
from tests.servers import Server

pytestmark = pytest.mark.blackbox

APP = """
import gqueue
queue = gqueue.Queue("work", lease=1.5)

@queue.task(max_attempts=2, backoff=gqueue.Backoff(base=0.01, cap=0.01))
def twice(file: str) -> int:
    with open(file, "a+") as opened:
        opened.write("ran\\n")
        opened.seek(0)
        count = len(opened.readlines())
    if count == 1:
        raise RuntimeError("not yet")
    return count

@queue.task(max_attempts=1)
def once(file: str) -> int:
    with open(file, "a") as opened:
        opened.write("ran\\n")
    return 1
"""


class Guarded:
    """A server with a user whose rights are given and taken."""

    def __init__(self, server: Server) -> None:
        self._server, self._admin = server, server.client()
        self.url = f"unix://u:pass@{server.socket}"
        self.queue = gqueue.Queue("work", server.url, lease=1.5)
        self.tasks = {name: self.queue.task(name=name)(lambda file: 0) for name in ("once", "twice")}
        self.old = self._admin.info("server")["redis_version"].startswith("6")

    def allow(self, *rules: str) -> None:
        self._admin.execute_command("ACL", "SETUSER", "u", "reset", "on", ">pass", *rules)

    def change(self, *rules: str) -> None:
        self._admin.execute_command("ACL", "SETUSER", "u", *rules)

    def findings(self) -> list[Any]:
        store = self.queue.open_store()
        try:
            return audit(store)
        finally:
            store.close()

    def close(self) -> None:
        self.queue.close()
        self._admin.close()


@pytest.fixture
def guarded(each_server: str, tmp_path: Path) -> Iterator[Guarded]:
    (tmp_path / "work.py").write_text(APP)
    with Server(program=each_server) as server:
        one = Guarded(server)
        yield one
        one.close()


@pytest.mark.parametrize("lost", ["+set", "~gq:{work}:result:*", "+hset"])
def test_worker_that_lacks_a_right_ends_at_its_start_and_claims_nothing(
    guarded: Guarded, start: Start, tmp_path: Path, lost: str
) -> None:
    given = rules(["work"], ["worker"], selective=not guarded.old)
    guarded.allow(*[rule for rule in given if rule != lost])
    job = guarded.tasks["once"].enqueue(str(tmp_path / "ran"))
    program = start("--app", "work:queue", "--redis", guarded.url)

    assert program.end()[0] == 3, program.said
    line = program.await_line("does not let this user work")
    assert lost in line
    assert "gqueue acl --queue work --role worker" in line
    assert "pass@" not in program.said
    assert job.status() == "ready"
    assert guarded.queue.stats().workers == 0


def test_worker_of_the_printed_rights_starts_without_a_word_of_them(guarded: Guarded, start: Start) -> None:
    guarded.allow(*rules(["work"], ["worker"], selective=not guarded.old))
    program = start("--app", "work:queue", "--redis", guarded.url, "--burst")

    assert program.end()[0] == 0, program.said
    assert "missing" not in program.said


def test_worker_without_channels_says_so_and_does_all_its_jobs(guarded: Guarded, start: Start, tmp_path: Path) -> None:
    guarded.allow("~gq:*", "+@all", "resetchannels")
    again, once = tmp_path / "again", tmp_path / "once"
    jobs = [guarded.tasks["twice"].enqueue(str(again)), guarded.tasks["once"].enqueue(str(once))]
    waits = [guarded.queue.open_store().await_done((job.id,)) for job in jobs]
    assert waits == [(), ()]
    program = start("--app", "work:queue", "--redis", guarded.url)

    assert [job.result(timeout=20) for job in jobs] == [2, 1]
    assert "+publish" in program.await_line("hears of it up to 2 s late")
    assert again.read_text().count("ran") == 2
    assert once.read_text().count("ran") == 1
    assert guarded.findings() == []


def test_rights_that_are_taken_from_a_worker_and_given_back_lose_and_double_no_job(
    guarded: Guarded, start: Start, tmp_path: Path
) -> None:
    guarded.allow(*rules(["work"], ["worker"], selective=not guarded.old))
    program = start("--app", "work:queue", "--redis", guarded.url)
    assert guarded.tasks["once"].enqueue(str(tmp_path / "first")).result(timeout=20) == 1
    guarded.change("-set")
    again, once = tmp_path / "again", tmp_path / "once"
    jobs = [guarded.tasks["twice"].enqueue(str(again)), guarded.tasks["once"].enqueue(str(once))]
    assert "+set" in program.await_line("CallRefused")
    assert wait_until(lambda: once.exists(), 20)
    assert guarded.findings() == []

    guarded.change("+set")
    assert [job.result(timeout=20) for job in jobs] == [2, 1]
    assert again.read_text().count("ran") == 2
    assert once.read_text().count("ran") == 1
    assert "not recorded" not in program.said
    assert guarded.findings() == []
