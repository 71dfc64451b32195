"""What a server tells of itself, asked of real ones, and what comes of that."""

from collections.abc import Iterator

import pytest
from redis.exceptions import AuthenticationError, BusyLoadingError, ResponseError
from redis.exceptions import ConnectionError as LinkBroken

from gqueue.core.check.server import judge_server
from gqueue.core.check.verdict import Verdict
from gqueue.errors import StoreUnavailable
from gqueue.queue import Queue
from gqueue.store import scripts
from gqueue.store.advice import advice
from gqueue.store.check import NotReached, ask, is_local, parser, rights_missing, settings_in_force, without_user
from gqueue.store.keys import Keys
from gqueue.store.outage import UnknownService
from tests.servers import Sentinels, Server, free_port, version

PASSWORD = "S3cret-pass"


@pytest.fixture
def own() -> Iterator[Server]:
    """Return a server whose settings the test may change."""
    with Server(tcp=True) as running:
        yield running


def remarks(url: str) -> set[tuple[str, str]]:
    """Return what is not ok, but for known vulnerabilities, which hang on the version that is there."""
    lines = judge_server(ask(url))
    assert PASSWORD not in repr(lines)
    return {(line.topic, line.verdict.value) for line in lines if line.verdict is not Verdict.OK} - {
        ("vulnerable", "warn")
    }


def test_server_of_all_rights_tells_everything():
    with Server(appendonly=True, tcp=True) as server:
        facts = ask(server.tcp_url)

        assert (facts.software, facts.local, facts.tls, facts.user) == ("Redis", True, False, "default")
        assert facts.password_needed is False
        assert facts.package is False
        assert len(facts.pings_ms) == len(facts.scripts_ms) == 200
        assert facts.drift_ms is not None
        assert abs(facts.drift_ms) < 1_000  # this machine's own clock
        assert facts.info["aof_enabled"] == "1"
        assert facts.config["appendfsync"] == "always"
        assert remarks(server.tcp_url) == set()
        assert remarks(server.url) == set()


def test_each_sentinel_of_the_url_is_asked_by_itself():
    with Sentinels() as sentinels:
        gone, *_ = sentinels.ports
        sentinels.stop_sentinel(0)
        master = f"127.0.0.1:{sentinels.servers[0].port}"

        seen = {line.seen: line.verdict for line in judge_server(ask(sentinels.url)) if line.topic == "sentinels"}

    assert seen.pop(f"2 of 3 name {master} as the master") is Verdict.OK
    ((silent, verdict),) = seen.items()
    assert silent.startswith(f"127.0.0.1:{gone} does not say where the master is: ")
    assert verdict is Verdict.WARN


def test_script_that_drains_passes_on_a_full_server_because_it_sets_no_flags(each_server: str):
    fence = scripts.load()["fence"]
    keys = [Keys("mail")(kind) for kind in fence.keys]
    with Server(program=each_server) as server, server.client() as client:
        known = ask(server.url).flags
        assert known is (version(each_server) >= (7, 0))
        client.config_set("maxmemory", "1")

        assert client.eval(fence.text, len(keys), *keys, "", "10")[0] == b"ok"
        refusal = "not allowed when used memory" if known else "unexpected symbol near '#'"
        with pytest.raises(ResponseError, match=refusal):
            client.eval(b"#!lua\n" + fence.text, len(keys), *keys, "", "10")


def test_no_script_of_gqueue_sets_flags():
    assert not [script.name for script in scripts.load().values() if script.text.startswith(b"#!")]


def test_server_that_evicts_and_keeps_nothing_is_bad(own: Server):
    own.client().config_set("maxmemory-policy", "allkeys-lru")

    assert remarks(own.url) == {("memory", "bad"), ("persistence", "bad")}


def test_replica_is_no_server_for_queues(own: Server):
    own.client().config_set("save", "3600 1")
    own.client().execute_command("REPLICAOF", "127.0.0.1", str(free_port()))

    assert remarks(own.url) == {("role", "bad"), ("persistence", "warn")}


def test_master_that_refuses_writes_for_want_of_replicas_is_bad(own: Server):
    own.client().config_set("min-replicas-to-write", "1")

    assert ("replicas", "bad") in remarks(own.url)


def test_password_is_known_to_be_needed_and_never_told(own: Server):
    own.client().config_set("requirepass", PASSWORD)
    url = own.tcp_url.replace("//", f"//:{PASSWORD}@")
    facts = ask(url)

    assert facts.password_needed is True
    assert PASSWORD not in repr(facts)
    for wrong in (own.tcp_url, url.replace(PASSWORD, PASSWORD + "no")):
        with pytest.raises(StoreUnavailable) as refused:
            ask(wrong)
        assert PASSWORD not in str(refused.value)


def test_what_a_user_of_few_rights_may_not_ask_is_unknown(own: Server):
    own.client().execute_command(
        "ACL", "SETUSER", "u", "on", f">{PASSWORD}", "~gq:*", "+ping", "+eval", "+evalsha", "+time"
    )
    url = f"unix://u:{PASSWORD}@{own.socket}"
    facts = ask(url)

    assert (facts.info, facts.config, facts.user) == ({}, {}, None)
    assert facts.password_needed is False  # the default user stands open
    assert {verdict for _, verdict in remarks(url)} == {"unknown"}
    assert settings_in_force(url, "mail") is None
    assert "+zadd" in rights_missing(url, "mail", "worker")


def test_settings_in_force_are_those_of_the_queue(own: Server):
    assert settings_in_force(own.url, "mail") == {}
    queue = Queue("mail", own.url, capacity=7)
    queue.task(lambda: None, name="nothing").enqueue()
    queue.close()

    found = settings_in_force(own.url, "mail")
    assert found is not None
    assert found["capacity"] == "7"


def test_server_that_is_not_there_is_told_by_its_url_without_the_password():
    url = f"redis://u:{PASSWORD}@127.0.0.1:{free_port()}/0"
    for call in (ask, lambda url: settings_in_force(url, "q"), lambda url: rights_missing(url, "q", "worker")):
        with pytest.raises(StoreUnavailable, match=r"Redis at redis://u:\*\*\*@127\.0\.0\.1:\d+/0 is not reachable"):
            call(url)


def test_advice_goes_by_what_went_wrong(own: Server):
    client = own.client()
    client.execute_command("ACL", "SETUSER", "u", "on", f">{PASSWORD}", "~*", "+@all", "-ping")
    at = f"127.0.0.1:{own.port}"
    for url, said, advised in [
        (
            f"redis://u:no@{at}",
            "answers, but does not let us in: AuthenticationError",
            "look at the user and the passw",
        ),
        (f"redis://u:{PASSWORD}@{at}", "answers, but does not let us in: NoPermission", "allow the user +ping"),
        (f"redis://{at}/99", "answers, but does not let us in", "it has fewer databases"),
        (f"rediss://{at}?ssl_ca_certs=/none/ca.crt", "ssl_ca_certs=/none/ca.crt cannot be read", "look at that path"),
        (f"redis://127.0.0.1:{free_port()}", "is not reachable", "start it, or give another URL"),
    ]:
        with pytest.raises(NotReached) as refused:
            ask(url)
        assert said in str(refused.value)
        assert refused.value.advice.startswith(advised)


def test_advice_about_what_no_server_says_here():
    for error, advised in [
        (UnknownService("no sentinel watches a service 'x'"), "look at the name of the service"),
        (AuthenticationError("the sentinels want other credentials (sentinel_password)"), "look at sentinel_username"),
        (LinkBroken("[SSL: CERTIFICATE_VERIFY_FAILED] certificate verify failed"), "look at ssl_ca_certs"),
        (LinkBroken("Error -2 connecting to x:1. Name or service not known."), "look at the name of the host"),
        (BusyLoadingError("LOADING"), "it is loading its data"),
        (LinkBroken("max number of clients reached"), "raise its maxclients"),
    ]:
        assert advice(error).startswith(advised)


@pytest.mark.parametrize(
    ("url", "local"),
    [
        ("unix:///run/redis.sock", True),
        ("redis://localhost:6379", True),
        ("redis://127.8.0.1", True),
        ("redis://[::1]:6379/1", True),
        ("redis://", True),
        ("redis://10.0.0.1", False),
        ("rediss://u:p@localhost.example.com/0", False),
    ],
)
def test_url_is_local_if_it_stays_on_this_machine(url: str, local: bool):
    assert is_local(url) is local


@pytest.mark.parametrize(
    ("url", "without"),
    [
        ("redis://u:p@h:1/2", "redis://h:1/2"),
        ("redis://:p@h?db=3", "redis://h?db=3"),
        ("redis://h?password=p&db=3&username=u", "redis://h?db=3"),
        ("unix://u:p@/run/s?db=1", "unix:///run/s?db=1"),
    ],
)
def test_url_without_user_keeps_the_rest(url: str, without: str):
    assert without_user(url) == without


def test_replies_are_read_by_hiredis():
    assert parser() == "hiredis"
