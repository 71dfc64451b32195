"""Known vulnerabilities of servers by their version.

Decides which a version has by upstream's numbers alone: distributions mend old versions without another number. Listed
is what has a CVE id and reaches a server through what its clients send; not what needs the machine itself, 32 bits, the
bus of a cluster, a replica that takes writes, sizes set far above their defaults, the right to give rights or to debug
scripts, or modules, RESTORE, streams and HyperLogLogs with rights that no role of gqueue has. A new entry names its
source beside it.
"""

import re
from collections.abc import Mapping

from attrs import field, frozen

Version = tuple[int, ...]


@frozen
class Vulnerability:
    """One, or several that were mended together.

    Args:
        names: CVE ids.
        about: what an attacker may do, and who that is.
        fixed: software -> the first version without it of each branch, which is the first two numbers.
        since: software -> the first version with it; none: all before the first without.
        tls: only servers that speak TLS have it.
    """

    names: tuple[str, ...]
    about: str
    fixed: Mapping[str, tuple[Version, ...]]
    since: Mapping[str, Version] = field(factory=dict)
    tls: bool = False


def parse(version: str) -> Version | None:
    """Return the numbers of *version*; None if it does not begin with any."""
    found = re.match(r"\d+(?:\.\d+)+", version)
    return tuple(map(int, found[0].split("."))) if found else None


def known(software: str, version: str, *, tls: bool) -> list[Vulnerability]:
    """Return those of the table that *version* of *software* has, as far as its number tells.

    A branch for which no mended version is listed has it if it is older than one for which there is.
    """
    numbers = parse(version)
    if numbers is None:
        return []
    return [each for each in TABLE if (tls or not each.tls) and _has(each, software, numbers)]


def _has(vulnerability: Vulnerability, software: str, version: Version) -> bool:
    fixed = vulnerability.fixed.get(software, ())
    if not fixed or version < vulnerability.since.get(software, (0,)):
        return False
    of_branch = [first for first in fixed if first[:2] == version[:2]]
    return version < (of_branch[0] if of_branch else max(fixed))


def _branches(text: str) -> tuple[Version, ...]:
    return tuple(tuple(map(int, version.split("."))) for version in text.split())


TABLE: tuple[Vulnerability, ...] = (
    # https://www.cve.org/CVERecord?id=CVE-2026-130822 and https://github.com/valkey-io/valkey/releases/tag/8.1.12
    Vulnerability(
        ("CVE-2026-130822",),
        "a use after free when clients are evicted (maxmemory-clients): the server may be ended by users",
        {"Valkey": _branches("7.2.16 8.0.13 8.1.12 9.0.8 9.1.4")},
    ),
    # https://www.cve.org/CVERecord?id=CVE-2026-136156 and https://github.com/valkey-io/valkey/releases/tag/8.1.11
    Vulnerability(
        ("CVE-2026-136156",),
        "a message of 4 GiB in a cluster overflows a buffer: code may be run by users who may PUBLISH",
        {"Valkey": _branches("7.2.15 8.0.12 8.1.11 9.0.7 9.1.3")},
    ),
    # https://www.cve.org/CVERecord?id=CVE-2026-81934
    Vulnerability(
        ("CVE-2026-81934",),
        "a use after free in TLS: code may be run by anybody who can connect",
        {"Redis": _branches("6.2.24 7.2.16 7.4.11 8.2.9 8.4.6 8.6.6 8.8.2 8.10.1")},
        tls=True,
    ),
    # https://github.com/valkey-io/valkey/releases/tag/8.1.9 and the same of 9.0.5 and 9.1.1
    Vulnerability(
        ("CVE-2026-56684",),
        "a use after free in TLS: code may be run by users who may use CLIENT KILL",
        {"Valkey": _branches("8.1.9 9.0.5 9.1.1")},
        since={"Valkey": (8, 1)},
        tls=True,
    ),
    # https://github.com/redis/redis/security/advisories/GHSA-93m2-935m-8rj3 (7.2.0 until 8.6.3); the other branches:
    # https://github.com/redis/redis/releases/tag/7.2.14 and https://github.com/redis/docs/pull/3292.
    # Valkey: https://packages.fedoraproject.org/pkgs/valkey/valkey-devel/ of 8.1.7 and 9.0.4.
    Vulnerability(
        ("CVE-2026-23479",),
        "a use after free when a blocked client is served: code may be run by users who block",
        {"Redis": _branches("7.2.14 7.4.9 8.2.6 8.4.3 8.6.3"), "Valkey": _branches("8.1.7 9.0.4")},
        since={"Redis": (7, 2), "Valkey": (8, 1)},
    ),
    # https://www.cve.org/CVERecord?id=CVE-2026-27623
    Vulnerability(
        ("CVE-2026-27623",),
        "a malformed request ends the server: may be done by anybody who can connect",
        {"Valkey": _branches("9.0.3")},
        since={"Valkey": (9, 0)},
    ),
    # https://www.cve.org/CVERecord?id=CVE-2025-67733, where the last is 9.0.2; the release notes of 9.0.3 tell of it.
    Vulnerability(
        ("CVE-2025-67733",),
        "errors of scripts can forge replies: may be done by users who may send scripts",
        {"Valkey": _branches("7.2.12 8.0.7 8.1.6 9.0.3")},
    ),
    # https://github.com/redis/redis/security/advisories/GHSA-4789-qfc9-5f9q and the release notes of each version;
    # Valkey: https://github.com/valkey-io/valkey/releases/tag/8.1.4 and the same of 8.0.6.
    Vulnerability(
        ("CVE-2025-49844", "CVE-2025-46817", "CVE-2025-46818", "CVE-2025-46819"),
        "flaws of Lua: code may be run by users who may send scripts",
        {"Redis": _branches("6.2.20 7.2.11 7.4.6 8.0.4 8.2.2"), "Valkey": _branches("8.0.6 8.1.4")},
        since={"Valkey": (8,)},
    ),
    # The release notes of 6.2.19, 7.2.10, 7.4.5 and 8.0.3; Valkey: of 8.1.3.
    Vulnerability(
        ("CVE-2025-48367",),
        "an error of one connection keeps others out: may be done by anybody who can connect",
        {"Redis": _branches("6.2.19 7.2.10 7.4.5 8.0.3"), "Valkey": _branches("8.1.3")},
        since={"Valkey": (8, 1)},
    ),
    # https://github.com/redis/redis/security/advisories/GHSA-r67f-p999-2gff
    Vulnerability(
        ("CVE-2025-21605",),
        "replies that are not read fill the memory: may be done by anybody who can connect",
        {"Redis": _branches("6.2.18 7.2.8 7.4.3")},
    ),
    # https://github.com/redis/redis/security/advisories/GHSA-39h2-x6c4-6w4c
    Vulnerability(
        ("CVE-2024-46981",),
        "a flaw of Lua: code may be run by users who may send scripts",
        {"Redis": _branches("6.2.17 7.2.7 7.4.2")},
    ),
    # https://redis.io/blog/security-advisory-cve-2024-31449-cve-2024-31227-cve-2024-31228/
    Vulnerability(
        ("CVE-2024-31449", "CVE-2024-31228"),
        "a flaw of Lua and one of patterns: code may be run, or the server ended, by users",
        {"Redis": _branches("6.2.16 7.2.6 7.4.1")},
    ),
    # https://github.com/redis/redis/security/advisories/GHSA-xr47-pcmx-fq2m
    Vulnerability(
        ("CVE-2023-41056",),
        "buffers that overflow: code may be run by users",
        {"Redis": _branches("7.0.15 7.2.4")},
        since={"Redis": (7, 0, 9)},
    ),
    # https://github.com/redis/redis/security/advisories/GHSA-q4jr-5p56-4xwc
    Vulnerability(
        ("CVE-2023-41053",),
        "SORT_RO reads keys that the rights of its user do not cover",
        {"Redis": _branches("7.0.13 7.2.1")},
        since={"Redis": (7, 0)},
    ),
    # https://github.com/redis/redis/security/advisories/GHSA-4cfx-h9gq-xpx3
    Vulnerability(
        ("CVE-2023-36824",),
        "a buffer overflows where names of keys are checked: code may be run by users whose keys are limited by rules",
        {"Redis": _branches("7.0.12")},
        since={"Redis": (7, 0)},
    ),
    # https://github.com/redis/redis/security/advisories/GHSA-p8x2-9v9q-c838
    Vulnerability(
        ("CVE-2022-24834",),
        "a flaw of Lua: code may be run by users who may send scripts",
        {"Redis": _branches("6.2.13 7.0.12")},
    ),
    # https://github.com/redis/redis/security/advisories/GHSA-hjv8-vjf6-wcr6
    Vulnerability(
        ("CVE-2023-28856",),
        "a field that HINCRBYFLOAT made ends the server when it is read: may be done by users",
        {"Redis": _branches("6.2.12 7.0.11")},
    ),
    # https://www.cve.org/CVERecord?id=CVE-2023-28425
    Vulnerability(
        ("CVE-2023-28425",),
        "MSETNX ends the server: may be done by users",
        {"Redis": _branches("7.0.10")},
        since={"Redis": (7, 0, 8)},
    ),
    # https://www.cve.org/CVERecord?id=CVE-2022-36021 and the same of CVE-2023-25155
    Vulnerability(
        ("CVE-2022-36021", "CVE-2023-25155"),
        "a pattern, as of SCAN, keeps the server busy, and SRANDMEMBER and its like end it: may be done by users",
        {"Redis": _branches("6.2.11 7.0.9")},
    ),
    # https://www.cve.org/CVERecord?id=CVE-2022-35977 and the same of CVE-2023-22458
    Vulnerability(
        ("CVE-2022-35977", "CVE-2023-22458"),
        "SETRANGE, SORT, HRANDFIELD and ZRANDMEMBER end the server: may be done by users",
        {"Redis": _branches("6.2.9 7.0.8")},
    ),
    # https://github.com/redis/redis/releases/tag/6.2.7 and the release notes of 7.0.0
    Vulnerability(
        ("CVE-2022-24735", "CVE-2022-24736"),
        "flaws of Lua: code may be run with the rights of another user",
        {"Redis": _branches("6.2.7 7.0.0")},
    ),
    # https://www.cve.org/CVERecord?id=CVE-2021-32626
    Vulnerability(
        ("CVE-2021-32626",),
        "a flaw of Lua: code may be run by users who may send scripts",
        {"Redis": _branches("6.2.6")},
    ),
    # https://www.cve.org/CVERecord?id=CVE-2021-32675
    Vulnerability(
        ("CVE-2021-32675",),
        "requests of many elements fill the memory: may be done by anybody who can connect",
        {"Redis": _branches("6.2.6")},
    ),
    # https://www.cve.org/CVERecord?id=CVE-2021-29477
    Vulnerability(
        ("CVE-2021-29477",),
        "STRALGO LCS overflows a buffer: code may be run by users",
        {"Redis": _branches("6.2.3")},
    ),
)
"""The newest first."""
