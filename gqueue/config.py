"""Settings: frozen values, built once at the edge and handed down; the only reader of the environment.

Decides defaults, ranges and where a setting comes from. What the command line offers is in `cli`, whose options click
reads from their GQUEUE_ variables; everything else that hangs on the environment is asked for here.
"""

import base64
import binascii
import math
import os
import re
from collections.abc import Mapping, MutableMapping
from datetime import timedelta
from pathlib import Path
from typing import NoReturn
from urllib.parse import parse_qs, parse_qsl, unquote, urlencode, urlsplit

from attrs import evolve, field, frozen

from gqueue.core.durability import Durability, durability
from gqueue.core.model import LONGEST_NAME, Rules
from gqueue.errors import BadSetting

DEFAULT_URL = "redis://localhost:6379/0"
DEFAULT_CAPACITY = 100_000
DEFAULT_LEASE_S = 30.0
DEFAULT_RESULT_TTL_S = 300.0
DEFAULT_TIMEOUT_S = 60.0
DEFAULT_DURABLE_S = 1.0
MAX_DURABLE_S = 60.0
"""The wait holds a connection; and with `retry_for`, 300 s at most, it ends before the record of the call does."""
MAX_SECONDS = 10 * 365 * 86_400.0

Seconds = float | timedelta


URL_FORM = (
    "redis://[[user]:password@]host[:port][/db], rediss://... for TLS, unix://[:password@]/path?db=0, or "
    "redis+sentinel://host,host.../SERVICE[/db]"
)
SENTINEL_FORM = "redis+sentinel://[[user]:password@]host[:26379],host[:26379].../SERVICE[/db], or rediss+sentinel://..."
SENTINEL_PORT = 26379


def redis_url(url: str | None, environ: Mapping[str, str] = os.environ) -> str:
    """Return where Redis is: *url*, else GQUEUE_REDIS_URL, else REDIS_URL, else localhost.

    Raises BadSetting if it is none, naming the variable that it came from; a URL that was given makes the others moot.
    """
    if url or not isinstance(url, str | None):
        return check_url(url)
    for variable in ("GQUEUE_REDIS_URL", "REDIS_URL"):
        if found := environ.get(variable):
            return check_url(found, f" (from {variable})")
    return DEFAULT_URL


def check_url(url: object, source: str = "") -> str:
    """Return *url* if it has the form of a store's URL; raise BadSetting, which shows no password.

    Asks nobody, and loads nothing: options behind the `?`, but for db, are left to redis-py at the first connection.
    """
    if not isinstance(url, str):
        raise BadSetting(f"the URL must be a str, not {type(url).__name__}")
    if url.startswith(("memory:", "embedded:")):
        return url
    wrong = _wrong_in(url)
    if wrong:
        form = SENTINEL_FORM if is_of_sentinels(url) else f"{URL_FORM}; or embedded: or memory:"
        raise BadSetting(
            f"{masked(url)}{source} is no URL of a Redis server: {wrong}; expected {form}; "
            "special characters of a password are written as %XX"
        )
    return url


def _wrong_in(url: str) -> str:
    if is_of_sentinels(url):
        try:
            read_sentinels(url)
        except ValueError as error:
            return str(error)
        return unshowable(masked(url))
    if not url.startswith(("redis://", "rediss://", "unix://")):
        return (
            "it begins with none of redis://, rediss://, unix://, redis+sentinel://, rediss+sentinel://, "
            "embedded:, memory:"
        )
    try:
        parts = urlsplit(url)
        port = parts.port if parts.scheme != "unix" else None
    except ValueError:  # its text may show a part of the password
        return "the host cannot be read, or the port is no number up to 65535"
    if port == 0:
        return "the port is 0"
    if parts.scheme == "unix" and not parts.path:
        return "the path of the unix socket is missing"
    if parts.scheme != "unix" and not re.fullmatch(r"/?[0-9]*", parts.path):
        return "the database must be a number"
    if not all(re.fullmatch("[0-9]+", db) for db in parse_qs(parts.query).get("db", ())):
        return "the database must be a number"
    return unshowable(masked(url))


@frozen
class Sentinels:
    """What a URL of sentinels says.

    Args:
        server_url: the URL of a server that they name, but for its host and port, which are `named:0`.
        hosts: host and port of each sentinel, in the order given.
        service: the name under which they watch the master.
        username, password: for the sentinels themselves; None: they ask for none.
    """

    server_url: str
    hosts: tuple[tuple[str, int], ...]
    service: str
    username: str | None
    password: str | None


def is_of_sentinels(url: str) -> bool:
    """Return whether *url* names sentinels instead of a server."""
    return url.startswith(("redis+sentinel://", "rediss+sentinel://"))


def read_sentinels(url: str) -> Sentinels:
    """Return what a URL of sentinels says; raise ValueError, which tells what is wrong and shows no password."""
    # By hand: urlsplit refuses an IPv6 address that is not the first host.
    parts = re.fullmatch(r"(rediss?)\+sentinel://(?:([^@/?#]*)@)?([^/?#@]*)(/[^?#]*)?(?:\?([^#]*))?", url, re.DOTALL)
    if parts is None:
        _refuse("it cannot be read")
    scheme, who, hosts, path, query = parts.groups(default="")
    names = [part for part in path.split("/")[1:] if part]
    if not names:
        _refuse("the name of the service is missing, behind the hosts and a /")
    if len(names) > 2 or not all(re.fullmatch("[0-9]+", db) for db in names[1:]):
        _refuse("behind the service only a database may stand, which must be a number")
    options = parse_qsl(query, keep_blank_values=True)
    if not all(re.fullmatch("[0-9]+", value) for name, value in options if name == "db"):
        _refuse("the database must be a number")
    own = {name: value for name, value in options if name in ("sentinel_username", "sentinel_password")}
    rest = urlencode([(name, value) for name, value in options if name not in own])
    return Sentinels(
        server_url=f"{scheme}://{who + '@' if who else ''}named:0/{''.join(names[1:])}{'?' + rest if rest else ''}",
        hosts=tuple(_host(host) for host in hosts.split(",")),
        service=unquote(names[0]),
        username=own.get("sentinel_username"),
        password=own.get("sentinel_password"),
    )


def _host(text: str) -> tuple[str, int]:
    found = re.fullmatch(r"(?:\[([0-9A-Fa-f:.%]+)\]|([^\[\]:\s]+))(?::([0-9]{1,5}))?", text)
    if found is None or not 0 < int(found[3] or SENTINEL_PORT) < 65536:
        _refuse("a sentinel's host cannot be read, or its port is no number from 1 to 65535")
    return found[1] or found[2], int(found[3] or SENTINEL_PORT)


def _refuse(why: str) -> NoReturn:
    raise ValueError(why)


_HIDDEN = "***"

_SHOWABLE = re.compile(
    r"(?P<scheme>(?:rediss?(?:\+sentinel)?|unix)://)(?:(?P<who>[^/?#]*)@)?(?P<hosts>[^/?#@]*)(?P<path>/[^?#@]*)?"
    r"(?:\?(?P<query>[^#@]*))?(?:#[^@]*)?"
)
"""A URL of which parts may be shown. An @ behind the hosts may be of a password with a / ? or # that is not escaped."""

_A_HOST = r"(?:\[[0-9A-Fa-f:.%]+\]|[A-Za-z0-9._-]+)(?::[0-9]{1,5})?"
_HOSTS = re.compile(rf"{_A_HOST}(?:,{_A_HOST})*|")
_PATHS = {
    "unix": re.compile(r"[A-Za-z0-9._/~+ %-]+"),
    "redis": re.compile(r"/?[0-9]{0,9}"),
    "sentinel": re.compile(r"/[A-Za-z0-9._~+%-]+(?:/[0-9]{0,9})?/?"),
}
_USER = re.compile(r"[A-Za-z0-9._~+%-]*")

_NUMBER, _WORD, _FILE = re.compile(r"[0-9.]{1,12}"), re.compile(r"[A-Za-z]{1,8}"), re.compile(r"[A-Za-z0-9._/~+%-]+")
_OPTIONS: Mapping[str, re.Pattern[str]] = {
    "db": _NUMBER,
    "socket_timeout": _NUMBER,
    "socket_connect_timeout": _NUMBER,
    "socket_keepalive": _WORD,
    "ssl_cert_reqs": _WORD,
    "ssl_check_hostname": _WORD,
    "ssl_ca_certs": _FILE,
    "ssl_ca_path": _FILE,
    "ssl_certfile": _FILE,
    "ssl_keyfile": _FILE,
}
"""Options that are shown, and in which form only."""

_NAMED = frozenset({"password", "username", "sentinel_password", "sentinel_username", "ssl_password"})
"""Options of which the name is shown, and never the value: people put passwords in the user's place."""


def masked(url: str) -> str:
    """Return what of *url* is known to be harmless, for people to read: `***` stands for all else.

    That is the scheme, hosts and ports, a database, service or socket, the options of `_OPTIONS`, and the user if a
    password follows. If it cannot be read it may be a password from its first letter on: no more than the scheme is
    shown then.
    """
    if found := re.fullmatch(r"(memory|embedded):([A-Za-z0-9._/-]*)", url):
        return found[0]
    parts = _SHOWABLE.fullmatch(url)
    if parts is not None:
        scheme, who, hosts, path, query = parts.group("scheme", "who", "hosts", "path", "query")
        kind = "sentinel" if is_of_sentinels(url) else "unix" if scheme == "unix://" else "redis"
        one_host = not hosts if kind == "unix" else kind == "sentinel" or "," not in hosts
        if one_host and _HOSTS.fullmatch(hosts) and (not path or _PATHS[kind].fullmatch(path)):
            options = "" if query is None else f"?{'&'.join(map(option_shown, query.split('&')))}"
            return f"{scheme}{_who_shown(who)}{hosts}{path or ''}{options}"
    known = re.match(r"(?:rediss?(?:\+sentinel)?|unix|https?|memory|embedded):(?://)?", url)
    return f"{known[0] if known else ''}{_HIDDEN}"


def _who_shown(who: str | None) -> str:
    if who is None:
        return ""
    user, _, password = who.partition(":")
    return f"{user if password and _USER.fullmatch(user) else _HIDDEN}{':' + _HIDDEN if password else ''}@"


def unshowable(shown: str) -> str:
    """Return what is wrong with a URL of which `masked` shows nothing; "" if it shows where the server is.

    Such a URL is refused: errors of redis-py name the host or the socket, and so would show what is hidden here.
    """
    if not shown.endswith(f"://{_HIDDEN}"):
        return ""
    return (
        "it has an @ behind the host or socket (@ is %40), or a host, socket or service with special characters; "
        "those of a password must not stand unescaped"
    )


def option_shown(option: str) -> str:
    """Return an option of a URL, `name=value`, with what is known to be harmless of it."""
    name, _, value = option.partition("=")
    if name in _OPTIONS and _OPTIONS[name].fullmatch(value):
        return option
    return f"{name}={_HIDDEN}" if name in _NAMED or name in _OPTIONS else _HIDDEN


def url_is_given(url: str | None, environ: Mapping[str, str] = os.environ) -> bool:
    """Return whether anybody said where Redis is: only if not may the demo fall back to the embedded server."""
    return bool(url or environ.get("GQUEUE_REDIS_URL") or environ.get("REDIS_URL"))


URL_FOR_CHILDREN = "GQUEUE_CHILD_URL"
"""How a supervisor hands its --redis on: arguments of a process may be read by every user of the machine."""


def url_for_child(environ: MutableMapping[str, str] = os.environ) -> str | None:
    """Return the URL that the supervisor was given for its children; its tasks' own children do not inherit it."""
    return environ.pop(URL_FOR_CHILDREN, None)


def state_folder(environ: Mapping[str, str] = os.environ) -> Path:
    """Return where the embedded server keeps its data: gqueue in $XDG_STATE_HOME (if absolute), else ~/.local/state."""
    base = Path(environ.get("XDG_STATE_HOME", ""))
    return (base if base.is_absolute() else Path("~/.local/state").expanduser()) / "gqueue"


def to_ms(name: str, value: Seconds, *, least: float = 0.0, most: float = MAX_SECONDS) -> int:
    """Return seconds or a timedelta as whole milliseconds; raise BadSetting outside [least, most] seconds."""
    seconds: object = value.total_seconds() if isinstance(value, timedelta) else value
    # Compared, which is exact for an int of any size; math.isfinite would overflow.
    if isinstance(seconds, bool) or not isinstance(seconds, int | float) or not -math.inf < seconds < math.inf:
        raise BadSetting(f"{name} must be seconds (a number) or a timedelta, not {value!r}")
    if not least <= seconds <= most:
        raise BadSetting(f"{name} must be from {least:g} to {most:g} seconds, not {_short(seconds)}")
    return math.ceil(seconds * 1000)


def _short(seconds: float) -> str:
    try:
        return f"{seconds:g}"
    except OverflowError:
        return "far more"


def to_wait_ms(value: Seconds | None, default: int | None = None) -> int | None:
    """Return a wait_timeout as whole milliseconds, None (of math.inf) if it is for ever; *default* stands for None."""
    if value is None:
        return default
    return None if value == math.inf else to_ms("wait_timeout", value)


def to_durability(
    wanted: str | None, timeout: Seconds | None, default: Durability | None, default_timeout_ms: int
) -> Durability | None:
    """Return what `durable` and `durable_timeout` ask for, None for nothing; None of both stands for the defaults."""
    timeout_ms = default_timeout_ms if timeout is None else to_durable_ms(timeout)
    if wanted is not None:
        return durability(wanted, timeout_ms)
    return default and evolve(default, timeout_ms=timeout_ms)


def to_durable_ms(timeout: Seconds) -> int:
    """Return a durable_timeout as whole milliseconds; raise BadSetting."""
    return to_ms("durable_timeout", timeout, least=0.001, most=MAX_DURABLE_S)


def to_count(name: str, value: object, *, least: int = 1, most: int = 2**31 - 1) -> int:
    """Return *value* if it is an int in [least, most]; raise BadSetting."""
    if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
        raise BadSetting(f"{name} must be a whole number from {least:,} to {most:,}, not {shown(value)}")
    return value


SIGNING_FORM = "ID:KEY,ID:KEY,..., where KEY is hex:... or base64:... of 16 bytes or more, or a text of 32 or more"
_KEY_ID = re.compile(r"[A-Za-z0-9._-]{1,32}")
LEAST_KEY_BYTES, LEAST_KEY_CHARACTERS = 16, 32
"""Half of what SHA-256 gives; a text has half as much chance in each byte, or less."""


@frozen(repr=False, eq=False)
class SigningKeys:
    """Keys by their ids; the first signs, all verify. Never shown: its repr names the ids."""

    keys: Mapping[str, bytes]

    def __bool__(self) -> bool:
        """Return whether there is any."""
        return bool(self.keys)

    def __repr__(self) -> str:
        return f"<SigningKeys {', '.join(self.keys) or 'none'}>"


def signing_keys(
    given: "str | Mapping[str, str | bytes] | SigningKeys | None", environ: Mapping[str, str] = os.environ
) -> SigningKeys:
    """Return the keys *given*, as text or as id -> key; "" or {}: no keys; None: those of GQUEUE_SIGNING_KEYS, if set.

    A variable that is set and empty is refused: it is more often a secret that did not arrive than the wish for none.
    Raises BadSetting, which shows no part of a key: what was taken for an id may be one.
    """
    source = "signing_keys"
    if given is None:
        given, source = environ.get("GQUEUE_SIGNING_KEYS", {}), "GQUEUE_SIGNING_KEYS"
        if isinstance(given, str) and not given.strip():
            raise BadSetting(
                "GQUEUE_SIGNING_KEYS is set but empty, and would switch signing off: expected "
                f"{SIGNING_FORM}. To work without keys, unset it, or make the queue with signing_keys={{}}"
            )
    if isinstance(given, SigningKeys):
        return given
    pairs: list[tuple[object, object]]
    if isinstance(given, str):
        parts = [part.partition(":") for part in given.split(",")] if given.strip() else []
        pairs = [(key_id.strip(), key.strip()) for key_id, _, key in parts]
    elif isinstance(given, Mapping):
        pairs = list(given.items())
    else:
        raise BadSetting(f"{source} must be a str ({SIGNING_FORM}) or a dict of them, not {type(given).__name__}")
    keys: dict[str, bytes] = {}
    for number, (key_id, key) in enumerate(pairs, 1):
        if not isinstance(key_id, str) or not _KEY_ID.fullmatch(key_id) or key_id in keys:
            raise BadSetting(
                f"{source}: the id of key {number} is missing, there twice, or not 1 to 32 characters of "
                f"A-Z a-z 0-9 . _ -; expected {SIGNING_FORM}"
            )
        found = _key_of(key)
        if found is None:
            raise BadSetting(f"{source}: key {number} is too short, or cannot be read; expected {SIGNING_FORM}")
        keys[key_id] = found
    return SigningKeys(keys)


def _key_of(key: object) -> bytes | None:
    if isinstance(key, bytes):
        return key if len(key) >= LEAST_KEY_BYTES else None
    if not isinstance(key, str):
        return None
    form, _, rest = key.partition(":")
    try:
        if form == "hex":
            decoded = bytes.fromhex(rest)
        elif form == "base64":
            decoded = base64.b64decode(rest.translate({ord("-"): "+", ord("_"): "/"}), validate=True)
        else:
            return key.encode() if len(key) >= LEAST_KEY_CHARACTERS else None
    except (ValueError, binascii.Error):
        return None
    return decoded if len(decoded) >= LEAST_KEY_BYTES else None


def printable(text: str, keep: str = "") -> str:
    """Return *text* with control characters escaped, but for *keep*: so that it cannot forge lines of a log.

    Escaped are all that a terminal may obey, and what ends a line anywhere; what UTF-8 cannot hold, too.
    """
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() or c in keep else ascii(c)[1:-1] for c in text)


def name_shown(name: str) -> str:
    """Return a name that Redis gave for a log or a terminal: as it is if it can be one, else escaped and cut."""
    if not name:
        return "''"
    return printable(name if len(name) <= LONGEST_NAME else name[: LONGEST_NAME - 3] + "...")


def shown(value: object) -> str:
    """Return the repr of *value*, for messages, cut where it is long; Python does not print an int of any size."""
    try:
        text = repr(value)
    except ValueError:
        return "an int of thousands of digits"
    return text if len(text) <= 100 else text[:97] + "..."


PLACES = ("enqueue", "enqueued", "settle", "settled", "claimed", "registered", "leave", "beat", "reap")
"""Where GQUEUE_FAILPOINTS may strike; CONTRIBUTING.md tells of each."""

_FAILPOINT = re.compile(
    r"(?P<place>\w+)=(?P<action>kill|exit|sleep|raise)(?::(?P<argument>\d+(?:\.\d+)?))?"
    r"(?:@(?P<time>\d+)|%(?P<share>\d+(?:\.\d+)?))?"
)


@frozen
class Failpoint:
    """One thing that is to go wrong, for tests.

    Args:
        place: one of PLACES.
        action: kill (SIGKILL itself), exit (with the code *argument*), sleep (*argument* seconds), raise.
        time: at the n-th time only; 0: each time.
        share: of the times, by chance: 0 < share <= 1.
    """

    place: str
    action: str
    argument: float = 0.0
    time: int = 0
    share: float = 1.0

    def __str__(self) -> str:
        """Return it as it is written in GQUEUE_FAILPOINTS."""
        argument = f":{self.argument:g}" if self.action in ("exit", "sleep") else ""
        when = f"@{self.time}" if self.time else f"%{self.share:g}" if self.share < 1 else ""
        return f"{self.place}={self.action}{argument}{when}"


def failpoints(environ: Mapping[str, str] = os.environ) -> tuple[Failpoint, ...]:
    """Return what GQUEUE_FAILPOINTS asks for, as in "claimed=kill@3;settle=kill%0.05;beat=sleep:2@1"; () if unset.

    Raises BadSetting, which names the variable and what cannot be read.
    """
    text = environ.get("GQUEUE_FAILPOINTS")
    return tuple(map(_failpoint, filter(None, map(str.strip, text.split(";"))))) if text else ()


def _failpoint(text: str) -> Failpoint:
    read = _FAILPOINT.fullmatch(text)
    if read is None:
        raise _bad_failpoint(text, "expected PLACE=ACTION, ACTION one of kill, exit:N, sleep:S, raise, then @N or %P")
    place, action, argument = read["place"], read["action"], read["argument"]
    time, share = int(read["time"] or 0), float(read["share"] or 1)
    if place not in PLACES:
        raise _bad_failpoint(text, f"the places are {', '.join(PLACES)}")
    if (argument is None) is (action in ("exit", "sleep")):
        raise _bad_failpoint(text, "exit takes a code and sleep takes seconds, kill and raise take nothing")
    if action == "exit" and (not argument.isdecimal() or int(argument) > 255):
        raise _bad_failpoint(text, "an exit code is a whole number up to 255")
    if (read["time"] and time == 0) or not 0 < share <= 1:
        raise _bad_failpoint(text, "@N counts from 1, and %P is above 0 and at most 1")
    return Failpoint(place, action, float(argument or 0), time, share)


def _bad_failpoint(text: str, why: str) -> BadSetting:
    return BadSetting(f"GQUEUE_FAILPOINTS: {shown(text)} cannot be read: {why}")


@frozen
class QueueSettings:
    """What a Queue is made with; see `gqueue.Queue` for the meaning of each."""

    name: str
    url: str = field(repr=masked)
    capacity: int
    rules: Rules
    max_payload_bytes: int = 1024 * 1024
    retry_for_ms: int = 10_000
    wait_ms: int | None = None
    failpoints: tuple[Failpoint, ...] = ()
    signing_keys: SigningKeys = SigningKeys({})
    durable: Durability | None = None
    durable_ms: int = 1_000


@frozen
class WorkerOptions:
    """How a worker process runs.

    Args:
        slots: greenlets that run jobs, shared by all queues of the process; >= 1.
        grace_ms: how long a drain lets running jobs go on.
        burst: end when the queues are empty.
        weights: shares of the queues, in their order; None: strictly in the order given.
        stuck_after_ms: a hub that has not turned for so long beyond a job's limit ends the process (exit 4).
        log_jobs: one line a job at INFO; at DEBUG they come anyway.
        stuck_share: a process that lost this share of its slots to stuck jobs is replaced (exit 4); in (0, 1].
        max_jobs: after so many jobs, or up to a tenth less, the process drains and ends, to be replaced; None: never.
        max_rss_bytes: with so much resident memory it does, too.
    """

    slots: int = 50
    grace_ms: int = 30_000
    burst: bool = False
    weights: tuple[int, ...] | None = None
    stuck_after_ms: int = 30_000
    log_jobs: bool = False
    stuck_share: float = 0.25
    max_jobs: int | None = None
    max_rss_bytes: int | None = None
