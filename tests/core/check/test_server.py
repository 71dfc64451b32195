"""What is said of a server, by what it tells."""

from typing import Any

import pytest
from attrs import evolve
from hypothesis import given
from hypothesis import strategies as st

from gqueue.core.check.server import SETTINGS, SentinelSeen, ServerFacts, judge_server, percentile
from gqueue.core.check.verdict import Line, Verdict, is_bad

INFO = {
    "redis_mode": "standalone",
    "role": "master",
    "loading": "0",
    "aof_enabled": "1",
    "aof_last_write_status": "ok",
    "aof_last_bgrewrite_status": "ok",
    "rdb_last_bgsave_status": "ok",
    "maxmemory": "1073741824",
    "used_memory": "107374182",
    "maxmemory_policy": "noeviction",
    "connected_slaves": "1",
    "connected_clients": "12",
}
CONFIG = {
    "appendfsync": "everysec",
    "no-appendfsync-on-rewrite": "no",
    "save": "3600 1",
    "stop-writes-on-bgsave-error": "yes",
    "min-replicas-to-write": "0",
    "lua-time-limit": "5000",
    "maxclients": "10000",
    "timeout": "0",
    "tcp-keepalive": "300",
}
SOUND = ServerFacts(
    shown="rediss://redis.example:6379/0",
    software="Redis",
    version="8.10.1",
    local=False,
    tls=True,
    user="mail-worker",
    password_needed=True,
    info=INFO,
    config=CONFIG,
    pings_ms=[0.25] * 99 + [1.5],
    scripts_ms=[0.3] * 100,
    drift_ms=-12.0,
    drift_error_ms=0.4,
    package=False,
    flags=True,
)


def with_(info: dict[str, str] | None = None, config: dict[str, str] | None = None, **others: Any) -> list[Line]:
    facts = evolve(SOUND, info={**INFO, **(info or {})}, config={**CONFIG, **(config or {})}, **others)
    return judge_server(facts)


def remarks(lines: list[Line]) -> list[tuple[str, str]]:
    return [(line.topic, line.verdict.value) for line in lines if line.verdict is not Verdict.OK]


def test_sound_server_has_these_lines():
    assert [f"{line.verdict.value} {line.topic}: {line.seen}" for line in judge_server(SOUND)] == [
        "ok server: Redis 8.10.1 at rediss://redis.example:6379/0",
        "ok vulnerable: none is known for this version, in the table of this gqueue",
        "ok role: master",
        "ok persistence: append-only file, appendfsync everysec: a crash of the machine may lose 1 to 2 s",
        "ok memory: maxmemory-policy noeviction",
        "ok memory: 102.4 MiB of 1,024.0 MiB used, 10%",
        "ok replicas: 1",
        "ok latency: PING p50 0.25 ms, p99 0.25 ms of 100",
        "ok latency: a script p50 0.30 ms, p99 0.30 ms of 100",
        "ok clock: the server's is 12 ms behind this machine's, give or take 0",
        "ok scripts: lua-time-limit (busy-reply-threshold) 5,000 ms",
        "ok scripts: script flags are known; gqueue's scripts set none: what drains a queue passes on a full server",
        "ok clients: 12 of at most 10,000 connected",
        "ok access: user mail-worker; it refuses who gives no password",
        "ok access: TLS",
    ]


@pytest.mark.parametrize(
    ("changed", "remarked"),
    [
        ({"info": {"maxmemory_policy": "allkeys-lru"}}, ("memory", "bad")),
        ({"info": {"maxmemory_policy": "volatile-ttl"}}, ("memory", "warn")),
        ({"info": {"used_memory": "1073741824"}}, ("memory", "bad")),
        ({"info": {"used_memory": "900000000"}}, ("memory", "warn")),
        ({"info": {"aof_enabled": "0"}}, ("persistence", "warn")),
        ({"info": {"aof_enabled": "0"}, "config": {"save": ""}}, ("persistence", "bad")),
        ({"config": {"appendfsync": "no"}}, ("persistence", "warn")),
        ({"config": {"no-appendfsync-on-rewrite": "yes"}}, ("persistence", "warn")),
        ({"info": {"aof_last_write_status": "err"}}, ("persistence", "bad")),
        ({"info": {"aof_last_bgrewrite_status": "err"}}, ("persistence", "warn")),
        ({"info": {"rdb_last_bgsave_status": "err"}}, ("persistence", "bad")),
        ({"info": {"rdb_last_bgsave_status": "err"}, "config": {"save": ""}}, ("persistence", "warn")),
        ({"info": {"role": "slave"}}, ("role", "bad")),
        ({"info": {"redis_mode": "sentinel"}}, ("role", "bad")),
        ({"info": {"loading": "1"}}, ("role", "warn")),
        ({"config": {"min-replicas-to-write": "2"}}, ("replicas", "bad")),
        ({"info": {"min_slaves_good_slaves": "0"}, "config": {"min-replicas-to-write": "1"}}, ("replicas", "bad")),
        ({"pings_ms": [6.0]}, ("latency", "warn")),
        ({"scripts_ms": [0.2] * 98 + [80.0] * 2}, ("latency", "warn")),
        ({"drift_ms": 3_600_000.0}, ("clock", "warn")),
        ({"drift_ms": -1_002.0}, ("clock", "warn")),
        ({"config": {"lua-time-limit": "50"}}, ("scripts", "warn")),
        ({"info": {"connected_clients": "9000"}}, ("clients", "warn")),
        ({"config": {"timeout": "5"}}, ("clients", "warn")),
        ({"config": {"tcp-keepalive": "0"}}, ("clients", "warn")),
        ({"password_needed": False}, ("access", "bad")),
        ({"tls": False}, ("access", "warn")),
        ({"unverified": "the certificate"}, ("access", "warn")),
        ({"unverified": "the host"}, ("access", "warn")),
        ({"absent": ["EVALSHA"]}, ("commands", "bad")),
        ({"package": True}, ("vulnerable", "bad")),
        ({"version": "6.0.20"}, ("server", "bad")),
        ({"version": "7.2.10"}, ("vulnerable", "warn")),
    ],
)
def test_one_thing_that_is_wrong_is_remarked_with_what_to_do(changed: dict[str, Any], remarked: tuple[str, str]):
    lines = with_(**changed)

    assert set(remarks(lines)) >= {remarked}
    assert all(topic == remarked[0] or topic == "vulnerable" for topic, _ in remarks(lines))
    assert all(line.advice for line in lines if line.verdict in (Verdict.WARN, Verdict.BAD))


def test_replica_names_its_master_by_host_and_port():
    for host, place in (("10.0.0.7", "10.0.0.7:6380"), ("fd00::7", "[fd00::7]:6380")):
        lines = with_(info={"role": "slave", "master_host": host, "master_port": "6380"})
        assert [line.advice for line in lines if line.topic == "role"] == [f"give the URL of its master, {place}"]


def test_clock_that_is_only_far_away_is_not_said_to_be_off():
    assert remarks(with_(drift_ms=1_400.0, drift_error_ms=500.0)) == []


def test_open_server_without_tls_is_fine_on_this_machine():
    assert remarks(with_(local=True, tls=False, password_needed=False)) == []


@given(
    told=st.sets(st.sampled_from(sorted(INFO))),
    settings=st.sets(st.sampled_from(SETTINGS)),
)
def test_what_is_not_told_is_never_bad(told: set[str], settings: set[str]):
    lines = judge_server(
        evolve(
            SOUND,
            info={name: INFO[name] for name in told},
            config={name: CONFIG[name] for name in settings},
            user=None,
            password_needed=None,
            package=None,
            flags=None,
            drift_ms=None,
            pings_ms=[],
        )
    )

    assert not is_bad(lines)


def test_script_flags_are_no_matter_to_scripts_without():
    for flags, said in ((True, "ok are known;"), (False, "ok are not known, as before Redis 7.0;"), (None, "unknown")):
        lines = [f"{line.verdict.value} {line.seen}" for line in with_(flags=flags) if "script flags" in line.seen]
        assert len(lines) == 1
        assert lines[0].replace("script flags ", "").startswith(said)


def test_upgrade_that_is_advised_is_none_to_an_older_version():
    (line,) = [line for line in with_(version="7.2.10") if "CVE-2025-49844" in line.seen]

    assert line.advice == "upgrade to 7.2.11, 7.4.6, 8.0.4, 8.2.2 or later, unless your distribution backported it"


@given(st.lists(st.floats(0, 100), min_size=1))
def test_percentile_is_one_of_the_values_that_so_many_do_not_exceed(values: list[float]):
    for share in (0.5, 0.99, 1.0):
        found = percentile(values, share)
        assert found in values
        assert sum(each <= found for each in values) >= share * len(values)


A, B = SentinelSeen("a:26379", "m:6379"), SentinelSeen("b:26379", "m:6379")


@pytest.mark.parametrize(
    ("sentinels", "said"),
    [
        ([A, B], ["ok 2 of 2 name m:6379 as the master"]),
        (
            [A, SentinelSeen("b:26379", error="Connection refused")],
            [
                "warn b:26379 does not say where the master is: Connection refused",
                "ok 1 of 2 name m:6379 as the master",
            ],
        ),
        (
            [A, SentinelSeen("b:26379")],
            ["warn b:26379 watches no master of this name", "ok 1 of 2 name m:6379 as the master"],
        ),
        ([A, SentinelSeen("b:26379", "n:6379")], ["warn they name different masters: m:6379, n:6379"]),
        ([], []),
    ],
)
def test_sentinels_that_are_silent_or_differ_are_warned_of(sentinels: list[SentinelSeen], said: list[str]):
    lines = [line for line in with_(sentinels=sentinels) if line.topic == "sentinels"]

    assert [f"{line.verdict.value} {line.seen}" for line in lines] == said
    assert all(line.advice for line in lines if line.verdict is not Verdict.OK)
