"""What is right and wrong with a server, as it describes itself.

Decides what breaks a promise of gqueue (bad) and what only endangers one (warn). Facts are INFO and CONFIG as they were
answered, with what was measured; a field that is not there was not told.
"""

import math
from collections.abc import Callable, Mapping, Sequence

from attrs import frozen

from gqueue.core.check.verdict import Line, bad, ok, unknown, warn
from gqueue.core.check.vulnerabilities import known, parse

OLDEST_REDIS = (6, 2)

SETTINGS = (
    "appendfsync",
    "no-appendfsync-on-rewrite",
    "save",
    "stop-writes-on-bgsave-error",
    "min-replicas-to-write",
    "lua-time-limit",
    "maxclients",
    "timeout",
    "tcp-keepalive",
)
"""What is asked by CONFIG GET. `busy-reply-threshold` is the newer name of lua-time-limit, and both are answered."""

SLOW_MS, SLOWEST_MS = 5.0, 50.0
"""Median and p99 of a round trip from which on it is worth a word: a worker makes one at a time for each queue."""

DRIFT_MS = 1_000.0
"""Leases and delays go by the server's clock alone; a worker's is in its log and in a job's deadline."""


@frozen
class SentinelSeen:
    """One sentinel of the URL: the master that it names, "" if it watches none of that name; or why it does not say."""

    shown: str
    master: str = ""
    error: str = ""


@frozen
class ServerFacts:
    """One server. None: not known.

    Args:
        shown: its URL, the password masked.
        local: on this machine: a unix socket, or a loopback address.
        tls: whether the connection is encrypted.
        user: who we are, by ACL WHOAMI.
        password_needed: whether it refuses who gives no password.
        pings_ms, scripts_ms: round trips of PING, and of a script that does nothing.
        drift_ms: how far the server's clock is ahead of this machine's, and *drift_error_ms* how far off that may be.
        unverified: what is not looked at over TLS: "the certificate" (nothing of it), "the host"; "": all is.
        absent: commands of workers and producers that it has not got.
        package: whether Lua's `package` is within reach of scripts.
        flags: whether scripts may begin with flags (`#!lua flags=...`), which Redis 7.0 brought.
        sentinels: all that the URL has, each asked by itself; none: it is the URL of a server.
    """

    shown: str
    software: str
    version: str
    local: bool
    tls: bool
    user: str | None
    password_needed: bool | None
    info: Mapping[str, str]
    config: Mapping[str, str]
    pings_ms: Sequence[float]
    scripts_ms: Sequence[float]
    drift_ms: float | None
    drift_error_ms: float
    package: bool | None
    absent: Sequence[str] = ()
    unverified: str = ""
    flags: bool | None = None
    sentinels: Sequence[SentinelSeen] = ()


def judge_server(facts: ServerFacts) -> list[Line]:
    """Return what there is to say about a server."""
    lines: list[Line] = []
    for judge in _JUDGES:
        lines += judge(facts)
    return lines


def percentile(values: Sequence[float], share: float) -> float:
    """Return the smallest of *values* that *share* of them do not exceed; *values* are not empty."""
    return sorted(values)[max(0, math.ceil(share * len(values)) - 1)]


def _version(facts: ServerFacts) -> list[Line]:
    numbers = parse(facts.version)
    said = f"{facts.software} {facts.version} at {facts.shown}"
    if numbers is None:
        return [unknown("server", f"{facts.shown} does not say what it is")]
    if facts.software == "Redis" and numbers < OLDEST_REDIS:
        return [bad("server", said, "gqueue needs Redis 6.2 or later, or any Valkey: upgrade it")]
    return [ok("server", said)]


def _sentinels(facts: ServerFacts) -> list[Line]:
    if not facts.sentinels:
        return []
    masters = {each.master for each in facts.sentinels if each.master}
    lines = []
    for each in facts.sentinels:
        if each.error:
            advice = "start it, or take it out of the URL: when it is the last, nobody learns of another master"
            lines.append(warn("sentinels", f"{each.shown} does not say where the master is: {each.error}", advice))
        elif not each.master:
            lines.append(warn("sentinels", f"{each.shown} watches no master of this name", "add it: SENTINEL MONITOR"))
    if len(masters) > 1:
        differ = f"they name different masters: {', '.join(sorted(masters))}"
        lines.append(warn("sentinels", differ, "check again: after a failover they agree within seconds"))
    elif masters:
        naming = sum(each.master != "" for each in facts.sentinels)
        lines.append(ok("sentinels", f"{naming} of {len(facts.sentinels)} name {masters.pop()} as the master"))
    return lines


def _commands(facts: ServerFacts) -> list[Line]:
    if not facts.absent:
        return []
    seen = f"the server has no {', '.join(facts.absent)}: renamed or disabled"
    return [bad("commands", seen, "take it out of rename-command in the server's file, and start that anew")]


def _vulnerable(facts: ServerFacts) -> list[Line]:
    lines, numbers = [], parse(facts.version)
    if facts.package:
        lines.append(
            bad(
                "vulnerable",
                "CVE-2022-0543: scripts reach Lua's `package`, and with it the machine",
                "upgrade the package of your distribution: https://www.debian.org/security/2022/dsa-5081",
            )
        )
    for each in known(facts.software, facts.version, tls=facts.tls):
        later = [version for version in each.fixed[facts.software] if version > (numbers or ())]
        fixed = ", ".join(".".join(map(str, version)) for version in later)
        lines.append(
            warn(
                "vulnerable",
                f"{', '.join(each.names)}: {each.about}",
                f"upgrade to {fixed} or later, unless your distribution backported it",
            )
        )
    return lines or [ok("vulnerable", "none is known for this version, in the table of this gqueue")]


def _role(facts: ServerFacts) -> list[Line]:
    info, lines = facts.info, []
    mode = info.get("redis_mode", info.get("server_mode", ""))
    if mode == "sentinel":
        return [bad("role", "a sentinel, which keeps no queues", "give the URL of the server that it watches")]
    role = info.get("role")
    if role is None:
        return [unknown("role", "INFO is not allowed, or does not tell")]
    if role != "master":
        host, port = info.get("master_host", "?"), info.get("master_port", "?")
        where = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
        lines.append(bad("role", "a replica: it takes no writes", f"give the URL of its master, {where}"))
    else:
        lines.append(ok("role", "master" + (", of a cluster" if mode == "cluster" else "")))
    if info.get("loading", "0") != "0":
        lines.append(warn("role", "it is loading its data", "wait: workers and producers do, too"))
    return lines


def _persistence(facts: ServerFacts) -> list[Line]:
    info, config = facts.info, facts.config
    append, save = info.get("aof_enabled"), config.get("save")
    if append is None:
        return [unknown("persistence", "INFO is not allowed, or does not tell")]
    if append == "0":
        if save is None:
            return [unknown("persistence", "no append-only file; whether snapshots are made it does not tell")]
        if not save:
            advice = "set appendonly yes; or live with it, where losing all jobs does no harm"
            return [bad("persistence", "none: all jobs are lost when it ends", advice), *_saved(facts)]
        advice = "set appendonly yes"
        return [
            warn("persistence", f"snapshots only ({save}): what came since the last is lost when it ends", advice),
            *_saved(facts),
        ]
    lines = [_fsync(config.get("appendfsync"))]
    if config.get("no-appendfsync-on-rewrite") == "yes":
        seen = "no-appendfsync-on-rewrite yes: while the file is rewritten, minutes may be lost with the machine"
        lines.append(warn("persistence", seen, "set no-appendfsync-on-rewrite no"))
    return lines + _saved(facts)


def _fsync(policy: str | None) -> Line:
    match policy:
        case "always":
            return ok("persistence", "append-only file, appendfsync always")
        case "everysec":
            return ok("persistence", "append-only file, appendfsync everysec: a crash of the machine may lose 1 to 2 s")
        case "no":
            seen = "append-only file, but appendfsync no: a crash of the machine may lose half a minute"
            return warn("persistence", seen, "set appendfsync everysec, or always")
        case _:
            return unknown("persistence", "append-only file; how often it is synced it does not tell")


def _saved(facts: ServerFacts) -> list[Line]:
    info, lines = facts.info, []
    if info.get("aof_last_write_status", "ok") != "ok":
        lines.append(
            bad("persistence", "the last write of the append-only file failed", "look at its log, and at the disk")
        )
    if info.get("aof_last_bgrewrite_status", "ok") != "ok":
        seen = "the last rewrite of the append-only file failed: it grows"
        lines.append(warn("persistence", seen, "look at its log: often memory for the fork is short, or the disk full"))
    if info.get("rdb_last_bgsave_status", "ok") != "ok":
        stops = bool(facts.config.get("save")) and facts.config.get("stop-writes-on-bgsave-error", "yes") == "yes"
        seen = "the last snapshot failed" + (", and it refuses writes since" if stops else "")
        judge = bad if stops else warn
        lines.append(
            judge("persistence", seen, "look at its log: often memory for the fork is short, or the disk full")
        )
    return lines


def _memory(facts: ServerFacts) -> list[Line]:
    info, lines = facts.info, []
    policy = info.get("maxmemory_policy")
    if policy is None:
        lines.append(unknown("memory", "what it evicts it does not tell"))
    elif policy == "noeviction":
        lines.append(ok("memory", "maxmemory-policy noeviction"))
    elif policy.startswith("allkeys-"):
        seen = f"maxmemory-policy {policy}: it drops jobs when memory is short"
        lines.append(bad("memory", seen, "set maxmemory-policy noeviction"))
    else:
        seen = f"maxmemory-policy {policy}: it drops results, and what keeps calls from being applied twice"
        lines.append(warn("memory", seen, "set maxmemory-policy noeviction"))
    most, used = _number(info, "maxmemory"), _number(info, "used_memory")
    if most is None or used is None:
        lines.append(unknown("memory", "how much it uses it does not tell"))
    elif not most:
        lines.append(ok("memory", f"{_mib(used)} used, no maxmemory"))
    else:
        seen = f"{_mib(used)} of {_mib(most)} used, {used / most:.0%}"
        if used >= most:
            lines.append(bad("memory", f"{seen}: producers get StoreFull", "raise maxmemory, or drain the queues"))
        elif used >= 0.8 * most:
            lines.append(warn("memory", seen, "raise maxmemory, or lower the capacity of the queues"))
        else:
            lines.append(ok("memory", seen))
    return lines


def _replicas(facts: ServerFacts) -> list[Line]:
    count, wanted = _number(facts.info, "connected_slaves"), _number(facts.config, "min-replicas-to-write")
    if count is None:
        return [unknown("replicas", "INFO is not allowed, or does not tell")]
    good = _number(facts.info, "min_slaves_good_slaves")
    good = count if good is None else good
    if wanted and good < wanted:
        seen = f"{good:.0f} in touch, and min-replicas-to-write is {wanted:.0f}: it refuses writes"
        return [bad("replicas", seen, "bring the replicas back, or lower min-replicas-to-write")]
    asks = f", min-replicas-to-write {wanted:.0f}" if wanted else ""
    return [ok("replicas", f"{count:.0f}{asks}" if count else "none")]


def _latency(facts: ServerFacts) -> list[Line]:
    lines = []
    for what, times in (("PING", facts.pings_ms), ("a script", facts.scripts_ms)):
        if not times:
            lines.append(unknown("latency", f"{what} was not answered"))
            continue
        middle, high = percentile(times, 0.5), percentile(times, 0.99)
        seen = f"{what} p50 {middle:.2f} ms, p99 {high:.2f} ms of {len(times)}"
        if middle > SLOW_MS or high > SLOWEST_MS:
            lines.append(warn("latency", seen, "look at the way there, at SLOWLOG, and at the load of the server"))
        else:
            lines.append(ok("latency", seen))
    return lines


def _clock(facts: ServerFacts) -> list[Line]:
    drift = facts.drift_ms
    if drift is None:
        return [unknown("clock", "TIME is not allowed")]
    side = "ahead of" if drift > 0 else "behind"
    seen = f"the server's is {abs(drift):,.0f} ms {side} this machine's, give or take {facts.drift_error_ms:.0f}"
    if abs(drift) - facts.drift_error_ms > DRIFT_MS:
        return [warn("clock", seen, "set both by NTP: leases and delays go by the server's, logs by this one's")]
    return [ok("clock", seen)]


def _scripts(facts: ServerFacts) -> list[Line]:
    return [*_time_limit(facts), _flags(facts)]


def _time_limit(facts: ServerFacts) -> list[Line]:
    limit = _number(facts.config, "lua-time-limit")
    if limit is None:
        return [unknown("scripts", "lua-time-limit it does not tell")]
    seen = f"lua-time-limit (busy-reply-threshold) {limit:,.0f} ms"
    if 0 < limit < 100:
        return [warn("scripts", f"{seen}: others get BUSY soon", "set it to 5000, its default")]
    return [ok("scripts", seen if limit > 0 else f"{seen}: a script of others may run for ever")]


def _flags(facts: ServerFacts) -> Line:
    # A full Redis 7 refuses a script with flags, none of which is allow-oom, before it begins; one without may go on
    # from a first write that needs no memory, as on 6.2, which cannot read a script that begins with `#!`.
    if facts.flags is None:
        return unknown("scripts", "whether script flags are known it does not tell")
    known = "script flags are known" if facts.flags else "script flags are not known, as before Redis 7.0"
    return ok("scripts", f"{known}; gqueue's scripts set none: what drains a queue passes on a full server")


def _clients(facts: ServerFacts) -> list[Line]:
    count, most = _number(facts.info, "connected_clients"), _number(facts.config, "maxclients")
    most = _number(facts.info, "maxclients") if most is None else most
    lines = []
    if count is None or not most:
        lines.append(unknown("clients", "how many there may be it does not tell"))
    else:
        seen = f"{count:,.0f} of at most {most:,.0f} connected"
        tight = count >= 0.8 * most
        lines.append(warn("clients", seen, "raise maxclients") if tight else ok("clients", seen))
    idle = _number(facts.config, "timeout")
    if idle and idle < 60:
        seen = f"timeout {idle:.0f}: connections that are idle for so many seconds are closed"
        lines.append(warn("clients", seen, "set timeout 0: gqueue holds connections, and must open them anew"))
    if not facts.local and _number(facts.config, "tcp-keepalive") == 0:
        seen = "tcp-keepalive 0: connections of machines that are gone stay for ever"
        lines.append(warn("clients", seen, "set tcp-keepalive 300, its default"))
    return lines


def _access(facts: ServerFacts) -> list[Line]:
    lines = []
    who = f"user {facts.user}" if facts.user else "a user that it does not tell"
    if facts.password_needed is None:
        lines.append(unknown("access", f"{who}; whether it needs a password is not known"))
    elif facts.password_needed:
        lines.append(ok("access", f"{who}; it refuses who gives no password"))
    elif facts.local:
        lines.append(ok("access", f"{who}; no password is needed, and this machine is asked"))
    else:
        seen = f"{who}; anybody who can connect may do anything, over the network"
        lines.append(bad("access", seen, "set a password (requirepass, or ACL SETUSER), and let only your machines in"))
    if facts.tls and facts.unverified == "the certificate":
        seen = "TLS, but the server's certificate is not verified: who is in between can read and change all"
        advice = "take ssl_cert_reqs out of the URL, and give ssl_ca_certs if the authority is your own"
        lines.append(warn("access", seen, advice))
    elif facts.tls and facts.unverified:
        seen = "TLS, but the certificate may be that of any other host: whoever has one of that authority can pretend"
        lines.append(warn("access", seen, "set ssl_check_hostname=true in the URL"))
    elif facts.tls:
        lines.append(ok("access", "TLS"))
    elif facts.local:
        lines.append(ok("access", "no TLS, on this machine"))
    else:
        seen = "no TLS: passwords and jobs can be read on the way"
        lines.append(warn("access", seen, "use rediss://, unless the network is yours alone"))
    return lines


_JUDGES: tuple[Callable[[ServerFacts], list[Line]], ...] = (
    _version,
    _sentinels,
    _commands,
    _vulnerable,
    _role,
    _persistence,
    _memory,
    _replicas,
    _latency,
    _clock,
    _scripts,
    _clients,
    _access,
)


def _number(fields: Mapping[str, str], name: str) -> float | None:
    try:
        return float(fields[name])
    except (KeyError, ValueError):
        return None


def _mib(size: float) -> str:
    return f"{size / 2**20:,.1f} MiB"
