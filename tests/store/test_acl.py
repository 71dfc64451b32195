"""The rights that `gqueue acl` prints are enough for each role, and no more: on servers from before and after 7.0."""

import re
from collections.abc import Iterator
from typing import Any

import pytest
import redis

from gqueue.cli.acl import ROLES as OFFERED
from gqueue.cli.main import run
from gqueue.store import scripts
from gqueue.store.acl import ROLES
from gqueue.store.audit import audit
from gqueue.store.check import ask
from gqueue.store.redis import RedisStore
from tests.conftest import wait_until
from tests.hand import Hand
from tests.processes import Process
from tests.servers import Server
from tests.store.conftest import RULES
from tests.store.test_fuzz_scripts import KEYS, SCRIPTS, Bench

PASSWORD = "pass-w0rd"

# What rules cannot tell apart: calls that need no key and no command beyond those that the role needs anyway.
NOT_TOLD_APART = {
    "producer": "audit_line delete_letters inspect letters pause purge redrive repair_line repair_totals "
    "resume set_capacity",
    "worker": "ask audit_jobs audit_line audit_totals audit_workers await_done cancel delete_letters inspect "
    "leave_line pause renew_tickets repair_job repair_line repair_totals repair_worker resume set_capacity "
    "set_priority workers",
    "reader": "audit_totals set_priority",  # the latter of a job that runs, which it leaves as it is
    "operator": "fence leave_line register renew_tickets report_progress settle_and_claim",
}


@pytest.fixture(scope="module")
def bench(each_server: str) -> Iterator[Bench]:
    with Server(program=each_server) as running:
        yield Bench(running)


@pytest.fixture
def printed(bench: Bench, capsys: pytest.CaptureFixture[str]) -> list[str]:
    """Return what `gqueue acl` prints for the queue, made so; each user has a password."""
    version = bench.client.info("server")["redis_version"]
    assert run(["acl", "--queue", "fuzz", "--server", "6.2" if version.startswith("6") else "7.0"]) == 0
    lines = capsys.readouterr().out.splitlines()
    for line in lines:
        bench.client.execute_command(*line.split())
        bench.client.execute_command("ACL", "SETUSER", line.split()[2], f">{PASSWORD}")
        bench.client.execute_command(*line.split())  # once more, which leaves the password
    return lines


def client_of(bench: Bench, role: str) -> Any:
    return redis.Redis(
        unix_socket_path=str(bench.server.socket), username=f"fuzz-{role}", password=PASSWORD, protocol=2
    )


def url_of(bench: Bench, role: str) -> str:
    return f"unix://fuzz-{role}:{PASSWORD}@{bench.server.socket}"


def refused(client: Any, *command: Any) -> bool:
    """Return whether the server refuses *command* for want of rights; any other answer will do."""
    try:
        client.execute_command(*command)
    except redis.ResponseError as error:
        return bool(re.search("NOPERM|executing the script can't|no permission", str(error)))  # 6.2, 7.0 in scripts
    return False


def test_every_script_and_every_role_is_known():
    assert {script for role in ROLES.values() for script in role.scripts} == set(SCRIPTS), (
        "a new script: say in gqueue.store.acl.ROLES whose it is"
    )
    assert tuple(ROLES) == OFFERED


def test_commands_of_a_script_are_all_that_it_calls():
    for script in scripts.load().values():
        code = script.text.decode()
        assert len(re.findall(r"redis\.p?call\(", code)) == len(re.findall(r"redis\.p?call\('[A-Z]+'", code)), (
            script.name
        )


@pytest.mark.parametrize("role", ROLES)
def test_role_may_do_what_it_is_there_for_and_little_else(bench: Bench, printed: list[str], role: str):
    with client_of(bench, role) as client:
        for name, several in bench.calls.items():
            for parts in several:
                bench.refill()
                if name in ROLES[role].scripts:
                    client.execute_command("EVAL", SCRIPTS[name].text, *parts)
        allowed = set()
        for name, several in bench.calls.items():
            bench.refill()
            if not all(refused(client, "EVAL", SCRIPTS[name].text, *parts) for parts in several):
                allowed.add(name)

    assert allowed == {*ROLES[role].scripts, *NOT_TOLD_APART[role].split()}


@pytest.mark.parametrize("role", ROLES)
def test_no_role_may_touch_anything_else(bench: Bench, printed: list[str], role: str):
    write = "return redis.call('SET', KEYS[1], '1')"
    with client_of(bench, role) as client:
        for command in (
            ("FLUSHALL",),
            ("FLUSHDB",),
            ("KEYS", "*"),
            ("CONFIG", "GET", "*"),
            ("CONFIG", "SET", "maxmemory", "1"),
            ("ACL", "LIST"),
            ("CLIENT", "LIST"),
            ("MONITOR",),
            ("SHUTDOWN",),
            ("SCRIPT", "FLUSH"),
            ("DEL", KEYS("jobs")),
            ("GET", "other"),
            ("GET", "gq:{other}:result:x"),
            ("HGETALL", "gq:{other}:jobs"),
            ("EVAL", write, "1", "other"),
            ("EVAL", write, "1", "gq:{other}:result:x"),
            ("EVAL", "return redis.call('SET', 'gq:{other}:ready', '1')", "0"),
            ("EVAL", "return redis.call('FLUSHALL')", "0"),
            ("PUBLISH", "gq:{other}:done", "x"),
        ):
            assert refused(client, *command), command
        if role == "reader":
            for parts in (
                ("HSET", KEYS("jobs"), "a", "1"),
                ("SET", KEYS("result:ID", "x"), "1"),
                ("BLPOP", KEYS("wake"), 1),
            ):
                assert refused(client, *parts), parts
                if parts[0] != "BLPOP":  # no script may
                    assert refused(client, "EVAL", "return redis.call(unpack(ARGV))", "0", *parts), parts


def test_worker_and_producer_cannot_do_each_others_part(bench: Bench, printed: list[str]):
    with client_of(bench, "producer") as producer, client_of(bench, "worker") as worker:
        for name, client in (("settle_and_claim", producer), ("register", producer), ("enqueue", worker)):
            for parts in bench.calls[name]:
                bench.refill()
                assert bench.send(name, parts) == ""
                bench.refill()
                assert refused(client, "EVAL", SCRIPTS[name].text, *parts), name
        assert refused(producer, "HGETALL", KEYS("running:WORKER", "w1"))


def test_operator_may_check_and_repair(bench: Bench, printed: list[str]):
    bench.refill()
    store = RedisStore(url_of(bench, "operator"), "fuzz", RULES)
    assert audit(store, repair=True)
    assert audit(store) == []
    store.close()


@pytest.mark.blackbox
def test_queue_works_with_a_user_for_each_role(bench: Bench, capsys: pytest.CaptureFixture[str], tmp_path: Any):
    import gqueue

    bench.client.flushdb()
    server = "6.2" if bench.client.info("server")["redis_version"].startswith("6") else "7.0"
    assert run(["acl", "--queue", "promises", "--server", server]) == 0
    for line in capsys.readouterr().out.splitlines():
        bench.client.execute_command(*line.split(), f">{PASSWORD}")
    urls = {role: f"unix://promises-{role}:{PASSWORD}@{bench.server.socket}" for role in ROLES}
    queues = {role: gqueue.Queue("promises", url) for role, url in urls.items()}
    for queue in queues.values():
        queue.task(name="t")(lambda: None)
    environ = {"GQUEUE_REDIS_URL": urls["worker"], "GQUEUE_TEST_EFFECTS": str(tmp_path / "effects")}
    worker = Process("--app", "tests.effects:queue", **environ)
    try:
        worker.wait_for("tasks")
        job = queues["producer"].tasks["t"].options(max_attempts=1).enqueue()
        with pytest.raises(gqueue.JobFailed):
            job.result(timeout=20)
        delayed = queues["producer"].tasks["t"].options(delay=60).enqueue()
        assert delayed.cancel()
        assert delayed.progress() is None
        assert queues["reader"].stats().workers == 1
        assert [letter.id for letter in queues["reader"].dead.list()] == [job.id]
        queues["operator"].pause()
        queues["operator"].resume()
        assert queues["operator"].dead.redrive([job.id]) == [job.id]
        wait_until(lambda: queues["reader"].stats().dead == 1)
        for role, call in (("reader", "pause"), ("reader", "purge")):
            with pytest.raises(gqueue.GqueueError, match="refused"):
                getattr(queues[role], call)()
        with pytest.raises(gqueue.GqueueError, match="refused"):
            Hand(queues["producer"])
        worker.signal(15)
        assert worker.wait() == 0
        assert PASSWORD not in worker.output()
    finally:
        worker.remove()
        for queue in queues.values():
            queue.close()


def test_every_role_is_told_whether_script_flags_are_known(bench: Bench, printed: list[str]):
    version = bench.client.info("server")["redis_version"]

    for role in ROLES:
        assert ask(url_of(bench, role)).flags is (not version.startswith("6")), role
