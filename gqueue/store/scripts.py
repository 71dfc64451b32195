"""The Lua scripts: read from the package, their includes put in, their heads understood.

A script's head is the one place that says which keys and arguments it takes: calls are built from it, and a test
compares it with what the code uses. A script is named like the operation of the store that it carries out.
"""

import hashlib
import re
from collections.abc import Mapping
from importlib import resources
from types import MappingProxyType

from attrs import frozen

_HEAD = re.compile(r"--\[\[(.*?)\]\]", re.DOTALL)
_LINE = re.compile(r"^\s*(KEYS|ARGV)\[(\d+)\]\s+(\S+)\s+(\S+)", re.MULTILINE)
_INCLUDE = re.compile(r"^-- include: (\w+)[ \t]*$", re.MULTILINE)


class BadScript(Exception):
    """A script of the package breaks the rules of scripts: a fault of gqueue."""


@frozen
class Script:
    """A script as it is sent.

    *keys* are kinds of `keys.KINDS` in the order of KEYS, *arguments* the names of ARGV; *open_ended*: the last of
    these, of kind `...` in the head, stands for any number of them.
    """

    name: str
    text: bytes
    sha: bytes
    keys: tuple[str, ...]
    arguments: tuple[str, ...]
    open_ended: bool


def load() -> Mapping[str, Script]:
    """Return all scripts of the package by name."""
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
    open_ended = False
    for array, index, word, kind in _LINE.findall(head[1]):
        if int(index) != len(named[array]) + 1 or open_ended:
            raise BadScript(f"{name}.lua: {array}[{index}] is out of order in the head")
        named[array].append(word)
        open_ended = kind == "..."
    code = (_include(name, text[head.end() :], parts).strip() + "\n").encode()
    return Script(
        name=name,
        text=code,
        sha=hashlib.sha1(code, usedforsecurity=False).hexdigest().encode(),
        keys=tuple(named["KEYS"]),
        arguments=tuple(named["ARGV"]),
        open_ended=open_ended,
    )


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
