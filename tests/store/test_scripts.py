"""The scripts' heads tell the truth: about keys, arguments, what the store passes and what the code touches."""

import inspect
import re
import threading
from typing import Any

import pytest
from redis.crc import key_slot

from gqueue.core.model import NewJob, WhenFull
from gqueue.store import scripts
from gqueue.store.audit import audit
from gqueue.store.client import Client
from gqueue.store.connection import Opening
from gqueue.store.keys import DERIVED, KINDS, Keys
from gqueue.store.redis import RedisStore
from gqueue.store.scripts import BadScript, Script, parse
from tests.servers import Server
from tests.store import test_conformance
from tests.store.conftest import RULES

SCRIPTS = scripts.load()
OPERATIONS = [name for name, value in vars(RedisStore).items() if inspect.isfunction(value) and name[0] != "_"]
WAITS = {"wait_hint", "wait_room", "wait_done", "stop_waiting"}
WITHOUT_SCRIPT = {"clone", "close", "parts", "server", "progress", "snapshot", *WAITS}
OF_THE_AUDIT = {name for name in SCRIPTS if name.startswith(("audit_", "repair_"))}

every_script = pytest.mark.parametrize("script", SCRIPTS.values(), ids=lambda script: script.name)


def source(script: Script) -> str:
    """Return the file as written, without its includes: those name locals, not KEYS."""
    folder = scripts.resources.files("gqueue.store") / "lua"
    return (folder / f"{script.name}.lua").read_text("utf-8")


def indexes(array: str, text: str) -> set[int]:
    return {int(number) for number in re.findall(rf"\b{array}\[(\d+)\]", text)}


def test_there_is_a_script_for_every_operation_and_no_other():
    assert set(SCRIPTS) - OF_THE_AUDIT == set(OPERATIONS) - WITHOUT_SCRIPT


@every_script
def test_code_uses_exactly_the_keys_of_its_head(script: Script):
    code = source(script).split("]]", 1)[1]

    assert indexes("KEYS", code) == set(range(1, len(script.keys) + 1))


@every_script
def test_code_uses_exactly_the_arguments_of_its_head(script: Script):
    code = source(script).split("]]", 1)[1]
    single = len(script.arguments) - script.open_ended
    used = indexes("ARGV", code)

    assert set(range(1, single + 1)) <= used <= set(range(1, len(script.arguments) + 1))
    if script.open_ended:
        assert re.search(r"#ARGV|unpack\(ARGV|ARGV, ", code)


@every_script
def test_head_gives_each_key_the_type_it_has(script: Script):
    head = source(script).split("]]", 1)[0]
    stated = dict(re.findall(r"KEYS\[\d+\]\s+(\S+)\s+(\S+)", head))

    assert stated == {kind: KINDS[kind] for kind in script.keys}


@every_script
def test_head_says_what_it_returns_costs_and_models(script: Script):
    head = source(script).split("]]", 1)[0]

    for word in ("Returns", "Model", "Cost"):
        assert f"\n  {word}" in head


@every_script
def test_server_takes_the_script_and_knows_it_by_our_sha(script: Script, server: Server):
    with server.client() as client:
        assert client.script_load(script.text).encode() == script.sha


def test_script_without_head_with_a_gap_or_an_unknown_include_is_refused():
    for text in (
        "return 1",
        "--[[ x\n KEYS[2] ready zset\n]]",
        "--[[ x\n ARGV[1] ids ... many\n ARGV[2] more int\n]]",
        "--[[ x\n]]\n-- include: nothing\n",
    ):
        with pytest.raises(BadScript):
            parse("bad", text, {})


def test_part_included_twice_is_put_in_once():
    parts = {"a": "local a = 1\n-- include: b", "b": "local b = 2"}
    code = parse("x", "--[[ x\n]]\n-- include: a\n-- include: b\nreturn a + b", parts).text

    assert code.endswith(b"local a = 1\nlocal b = 2\n\nreturn a + b\n")


def test_key_names_have_one_hash_tag_and_are_read_back():
    keys = Keys("a.b:c")
    for kind in KINDS:
        key = keys(kind, "w:1")
        assert key.startswith(b"gq:{a.b:c}:")
        assert key.count(b"{") == key.count(b"}") == 1
        assert keys.kind_of(key) == (kind, "w:1" if kind.partition(":")[2].isupper() else "")


def test_names_that_are_no_keys_are_refused():
    keys = Keys("q")
    for kind in ("nothing", "running:WORKER"):
        with pytest.raises(KeyError):
            keys(kind)
    for key in (b"gq:{r}:ready", b"gq:{q}:nothing", b"gq:{q}:running:"):
        with pytest.raises(KeyError):
            keys.kind_of(key)


# What the examples of the conformance suite send, and what the scripts then touch, as MONITOR tells it.


class Monitor:
    """Everything a server is told, from the moment of its making; the scripts' own commands too."""

    def __init__(self, server: Server) -> None:
        self.client = server.client()
        self.lines: list[tuple[bool, list[str]]] = []
        self._monitor = self.client.monitor().__enter__()
        self._thread = threading.Thread(target=self._listen, daemon=True)
        self._thread.start()

    def _listen(self) -> None:
        while True:
            line = self._monitor.connection.read_response()
            text = line.decode("utf-8", "replace")
            words = [word.replace('\\"', '"') for word in re.findall(r'"((?:[^"\\]|\\.)*)"', text)]
            self.lines.append((" lua]" in text.split('"', 1)[0], words))
            if words == ["ECHO", "the end"]:
                return

    def end(self) -> list[tuple[bool, list[str]]]:
        self.client.echo("the end")
        self._thread.join(10)
        assert not self._thread.is_alive()
        return self.lines


def damage_and_repair(store: RedisStore) -> None:
    """Damage something that each script of the audit is for, and repair it."""
    client, keys = store.parts()
    store.register("w1")
    store.enqueue("l1", 1, [NewJob("a", 0.0, 0, b"{}")], when_full=WhenFull.REJECT, capacity=9)
    for kind, command in (
        ("calls", ("HSET", "w9", "1")),
        ("result:ID", ("SET", "{}")),
        ("waiters", ("ZADD", "0", "0000000000001p.1")),
        ("running:WORKER", ("HSET", "b", "1 1")),
        ("meta", ("HDEL", "sequence")),
    ):
        client.call("damage", (command[0], keys(kind, "w9"), *command[1:]))
    audit(store, repair=True)


@pytest.fixture(scope="module")
def sent() -> list[tuple[Script, list[Any], list[Any], list[list[str]]]]:
    """Return each call of a script that the conformance suite makes: script, keys, arguments, its own commands."""
    examples = [
        example
        for name, example in vars(test_conformance).items()
        if name.startswith("test_") and list(inspect.signature(example).parameters) == ["store"]
    ]
    assert len(examples) > 40
    examples += [damage_and_repair] * 2
    calls: list[tuple[Script, list[Any], list[Any]]] = []
    original = Client.call

    def spy(self: Client, operation: str, parts: Any, opening: Opening | None = None, *rest: Any, **more: Any) -> Any:
        if opening is not None:
            calls.append((opening.script, list(opening.keys), list(parts)))
        return original(self, operation, parts, opening, *rest, **more)

    with Server() as server, pytest.MonkeyPatch.context() as patch:
        for script in SCRIPTS.values():
            server.client().script_load(script.text)
        monitor = Monitor(server)
        patch.setattr(Client, "call", spy)
        for number, example in enumerate(examples):
            store = RedisStore(server.url, f"q{number}", RULES)
            example(store)
            store.close()
        lines = monitor.end()
    touched: list[list[list[str]]] = []
    for by_script, words in lines:
        if by_script:
            touched[-1].append(words)
        elif words[0] == "EVALSHA":
            touched.append([])
    assert len(touched) == len(calls)
    return [(*call, commands) for call, commands in zip(calls, touched, strict=True)]


def test_examples_go_through_every_script(sent):
    assert {script.name for script, *_ in sent} == set(SCRIPTS)


def test_store_passes_as_many_keys_and_arguments_as_the_heads_say(sent):
    for script, keys, arguments, _ in sent:
        assert len(keys) == len(script.keys), script.name
        least = len(script.arguments) - script.open_ended
        assert len(arguments) >= least, script.name
        assert script.open_ended or len(arguments) == least, script.name


def test_scripts_touch_declared_keys_only_and_those_they_may_derive(sent):
    derivable = tuple(kind.partition(":")[0] for kind in DERIVED)
    for script, keys, _, commands in sent:
        # The audit derives who may hold a job from the workers that there are; keys as a whole from their names.
        derived = derivable if script.name not in OF_THE_AUDIT else (*derivable, "running")
        if script.name in ("audit_keys", "repair_key"):
            derived = tuple(kind.partition(":")[0] for kind in KINDS)
        declared = {key.decode() for key in keys}
        prefix = keys[0].decode().rpartition("}:")[0] + "}:"
        for command, *words in commands:
            name = command.upper()
            touched = words if name in ("EXISTS", "UNLINK", "DEL") else words[:1]
            for key in [] if name in ("TIME", "PUBLISH") else touched:
                assert key in declared or key.startswith(tuple(prefix + d for d in derived)), (script.name, key)
            assert name != "PUBLISH" or words[0] == f"{prefix}done"


def test_all_keys_of_a_queue_are_in_one_hash_slot():
    keys = Keys("a/b:c@d")

    assert len({key_slot(keys(kind, "x:y")) for kind in KINDS}) == 1
