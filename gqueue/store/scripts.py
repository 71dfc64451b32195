"""The Lua scripts: read from the package, their includes put in, their heads understood.

A script's head is the one place that says which keys and arguments it takes: calls are built from it, a test compares
it with what the code uses, and what is sent begins with a check of both against it. Scripts are never rolled back, so
one that meets a wrong argument, or a key of a wrong type, must do so before it writes. A script is named like the
operation of the store that it carries out.
"""

import hashlib
import re
from collections.abc import Mapping
from functools import cache
from importlib import resources
from types import MappingProxyType

from attrs import frozen

_HEAD = re.compile(r"--\[\[(.*?)\]\]", re.DOTALL)
_LINE = re.compile(r"^\s*(KEYS|ARGV)\[(\d+)\]\s+(\S+)\s+(\S+)(.*)", re.MULTILINE)
_RANGE = re.compile(r"(\d+) \.\. (\d+)|>= (\d+)|> (\d+)")
_CHOICE = re.compile(r"\w+(?: \| \w+)+")
_DERIVED = re.compile(r"^\s*(Reads|Writes)\s+(.*)", re.MULTILINE)
_COMMAND = re.compile(r"redis\.p?call\('(\w+)'")
_INCLUDE = re.compile(r"^-- include: (\w+)[ \t]*$", re.MULTILINE)


MOST_INT = 2**53
"""Lua counts in doubles."""

MOST_ARGUMENTS = 10_000
"""Seven of each of MOVE_LIMIT, and what else a call has."""

_LENGTH = {"zset": "ZCARD", "hash": "HLEN", "list": "LLEN", "string": "STRLEN"}
"""What Redis refuses for a key of another type; a fifth of a microsecond, half of what TYPE takes."""

ANY = "; of any type"
"""What a head says of a key that the script bears if its type was changed."""

CHECK = """
local function whole_from(least, most, text)
  local number = tonumber(text)
  return number and number >= least and number <= most and not string.find(text, '%D')
end
local function finite(text)
  local number = tonumber(text)
  return number and number - number == 0 and not string.find(text, '[^%d.eE+-]')
end
local function refuse(what)
  return redis.error_reply('BADARG ' .. what .. ' is missing or wrong')
end
"""
"""What the checks, and the scripts in checks of their own, say it with."""


class BadScript(Exception):
    """A script of the package breaks the rules of scripts: a fault of gqueue."""


@frozen
class Script:
    """A script as it is sent.

    *keys* are kinds of `keys.KINDS` in the order of KEYS, *arguments* the names of ARGV; *open_ended*: the last of
    these, of kind `...` in the head, stands for any number of them. *reads* and *writes* are the kinds of keys that it
    derives from those that are declared.
    """

    name: str
    text: bytes
    sha: bytes
    keys: tuple[str, ...]
    arguments: tuple[str, ...]
    open_ended: bool
    reads: tuple[str, ...] = ()
    writes: tuple[str, ...] = ()

    @property
    def derived(self) -> tuple[str, ...]:
        """Return the kinds of keys that it derives."""
        return self.reads + self.writes

    @property
    def commands(self) -> frozenset[str]:
        """Return the commands that it may call, in capitals."""
        return frozenset(_COMMAND.findall(self.text.decode()))


@cache
def load() -> Mapping[str, Script]:
    """Return all scripts of the package by name; they are read once."""
    folder = resources.files("gqueue.store") / "lua"
    texts = {file.name[:-4]: file.read_text("utf-8") for file in folder.iterdir() if file.name.endswith(".lua")}
    parts = {name[1:]: text for name, text in texts.items() if name.startswith("_")}
    return MappingProxyType(
        {name: parse(name, text, parts) for name, text in sorted(texts.items()) if not name.startswith("_")}
    )


def parse(name: str, text: str, parts: Mapping[str, str]) -> Script:
    """Return the script in *text*; raise BadScript if its head is missing, has gaps or an include is unknown."""
    head = _HEAD.match(text)
    if head is None:
        raise BadScript(f"{name}.lua does not begin with a head --[[ ... ]]")
    named: dict[str, list[str]] = {"KEYS": [], "ARGV": []}
    open_ended, types, checks = False, [], []
    plain: list[tuple[int, str]] = []
    for array, index, word, kind, about in _LINE.findall(head[1]):
        if int(index) != len(named[array]) + 1 or open_ended:
            raise BadScript(f"{name}.lua: {array}[{index}] is out of order in the head")
        named[array].append(word)
        open_ended = kind == "..."
        if array == "KEYS":
            length = _length(name, kind)
            if ANY not in about:
                types.append(f"redis.call('{length}', KEYS[{index}])")
        else:
            check = _check(int(index), word, kind, about)
            if kind == "int" and "''" not in about and not _RANGE.search(about):
                plain.append((int(index), check))
            else:
                checks.append(check)
    derived = {how: tuple(line.split(", ")) for how, line in _DERIVED.findall(head[1])}
    if any(
        " " in kind for kinds in derived.values() for kind in kinds
    ):  # any key: such a one is there for keys of a wrong type
        types = []
    if "call" in named["ARGV"]:  # on the way of each job: the types are looked at in the first call of a caller
        types = [f"if ARGV[{named['ARGV'].index('call') + 1}] == '1' then", *types, "end"]
    before = _before(
        len(named["KEYS"]), len(named["ARGV"]) - open_ended, open_ended, [*_all_plain(plain), *checks, *types]
    )
    code = (before + _include(name, text[head.end() :], parts).strip() + "\n").encode()
    return Script(
        name=name,
        text=code,
        sha=hashlib.sha1(code, usedforsecurity=False).hexdigest().encode(),
        keys=tuple(named["KEYS"]),
        arguments=tuple(named["ARGV"]),
        open_ended=open_ended,
        reads=derived.get("Reads", ()),
        writes=derived.get("Writes", ()),
    )


def _length(name: str, kind: str) -> str:
    if kind not in _LENGTH:
        raise BadScript(f"{name}.lua: {kind} is no type of a key")
    return _LENGTH[kind]


def _check(index: int, word: str, kind: str, about: str) -> str:
    """Return the line of Lua that refuses an argument which is not what the head says of it; "" if it says nothing."""
    given, found = f"ARGV[{index}]", _RANGE.search(about)
    least, most = 0, MOST_INT
    if found:
        first, last, from_, above = found.groups()
        least = int(first or from_ or int(above) + 1)
        most = int(last) if last else MOST_INT
    match kind:
        case "int":
            test = f"whole_from({least}, {most}, {given})"
        case "float":
            test = f"{given} == '0' or finite({given})"
        case "str" if choice := _CHOICE.search(about):
            test = " or ".join(f"{given} == '{one}'" for one in choice[0].split(" | "))
        case "..." if "then" in about:  # of more than one sort: the script itself knows how many of each
            test = f"#ARGV <= {MOST_ARGUMENTS}"
        case "..." if found:
            each = re.search(r"(\d+) each", about)
            given = f"(#ARGV - {index - 1}) / {each[1] if each else 1}"
            test = f"{given} % 1 == 0 and {given} >= {least} and {given} <= {most}"
        case _:
            return ""
    if "''" in about:
        test = f"{given} == '' or {test}"
    return f"if not ({test}) then return refuse('{word}') end"


def _all_plain(plain: list[tuple[int, str]]) -> list[str]:
    """Return the checks of whole numbers without bounds, behind one that lets them all pass, in a fifth of the time."""
    checks = [check for _, check in plain]
    if len(plain) < 2:
        return checks
    joined = " .. ' ' .. ".join(f"ARGV[{index}]" for index, _ in plain)
    pattern = " ".join(["%d+"] * len(plain))
    return [
        f"local joined = {joined}",
        f"if not string.find(joined, '^{pattern}$') or string.find(joined, '{'%d' * 16}') then",
        *checks,
        "end",
    ]


def _before(keys: int, arguments: int, open_ended: bool, checks: list[str]) -> str:
    """Return what a script begins with."""
    count = f"#ARGV < {arguments}" if open_ended else f"#ARGV ~= {arguments}"
    numbers = f"if #KEYS ~= {keys} or {count} then return refuse('the number of keys or arguments') end"
    return "\n".join([CHECK.strip(), numbers, *filter(None, checks)]) + "\n"


def _include(name: str, code: str, parts: Mapping[str, str]) -> str:
    done: set[str] = set()

    def part(match: re.Match[str]) -> str:
        wanted = match[1]
        if wanted not in parts:
            raise BadScript(f"{name}.lua includes _{wanted}.lua, which is not there")
        if wanted in done:
            return ""
        done.add(wanted)
        return _INCLUDE.sub(part, _HEAD.sub("", parts[wanted], count=1).strip())

    return _INCLUDE.sub(part, code)
