"""What a user of Redis lacks for a role, found by trying, which leaves nothing behind."""

from collections.abc import Callable, Iterator

import pytest

from gqueue.queue import Queue
from gqueue.store import rights, scripts
from gqueue.store.check import rights_missing
from gqueue.store.keys import KINDS, Keys, is_a_family
from tests.servers import Server

MakeUser = Callable[..., str]
SCRIPTS = scripts.load()
ROOT = "gq:{mail}:"


@pytest.fixture(scope="module")
def guarded() -> Iterator[Server]:
    """Return a server of this module's own: users are one thing for all databases."""
    with Server() as running:
        yield running


@pytest.fixture
def user(guarded: Server) -> Iterator[MakeUser]:
    """Return what makes a user of these rules, and returns its URL."""
    with guarded.client() as client:

        def make(*rules: str) -> str:
            client.execute_command("ACL", "SETUSER", "u", "reset", "on", ">pass", "resetchannels", *rules)
            return f"unix://u:pass@{guarded.socket}"

        yield make
        client.execute_command("ACL", "DELUSER", "u")


@pytest.mark.parametrize("role", rights.ROLES)
def test_user_of_all_rights_lacks_nothing_and_a_trial_leaves_nothing(role: str, guarded: Server):
    with guarded.client() as client:
        assert rights_missing(guarded.url, "mail", role) == []
        assert client.dbsize() == 0


def rules_of(role: str) -> set[str]:
    """Return rules that are enough: of all scripts of the role, all keys and all commands."""
    called = [SCRIPTS[name] for name in rights.ROLES[role]]
    commands = {command for script in called for command in rights.commands_of(script)}
    commands |= {"EVAL", "EVALSHA", "BLPOP", "LPOP", "HGET", "PING", "SELECT", "SUBSCRIBE"}
    kinds = {kind for script in called for kind in script.keys} | {"room:PRODUCER", "result:ID", "wake", "progress"}
    patterns = {f"~{ROOT}{kind.partition(':')[0] + ':*' if is_a_family(kind) else kind}" for kind in kinds}
    return {*patterns, f"&{ROOT}done", *(f"+{command.lower()}" for command in commands)}


@pytest.mark.parametrize("role", rights.ROLES)
def test_user_of_the_rights_of_a_role_lacks_nothing(role: str, user: MakeUser):
    assert rights_missing(user("-@all", *rules_of(role)), "mail", role) == []


@pytest.mark.parametrize("role", rights.ROLES)
def test_every_right_that_is_taken_away_is_named(role: str, user: MakeUser):
    every = rules_of(role)
    names = {name.removeprefix("+") for name in every if name[0] == "+"} - {"ping", "select"}
    needed = {f"+{command.lower()}" for name in rights.ROLES[role] for command in rights.commands_of(SCRIPTS[name])}
    needed |= {"+eval", "+evalsha", "+blpop", "+lpop"} | ({"+subscribe", "+hget"} if role == "producer" else set())
    for name in sorted(names):
        lacks = rights_missing(user("-@all", *(every - {f"+{name}"})), "mail", role)
        assert (f"+{name}" in {each.partition(" ")[0] for each in lacks}) == (f"+{name}" in needed), (name, lacks)
    for pattern in sorted(rule for rule in every if rule[0] == "~"):
        lacks = rights_missing(user("-@all", *(every - {pattern})), "mail", role)
        assert pattern in lacks or pattern.removeprefix(f"~{ROOT}") in ("wake", "progress"), (pattern, lacks)


def test_channel_that_is_closed_is_named(user: MakeUser):
    for role in rights.ROLES:
        lacks = rights_missing(user("-@all", *(rules_of(role) - {f"&{ROOT}done"})), "mail", role)
        assert any(each.endswith(f" &{ROOT}done") for each in lacks), lacks


def test_rights_in_another_queue_are_none_in_this(user: MakeUser):
    lacks = rights_missing(user("-@all", *rules_of("worker")), "other", "worker")

    assert "~gq:{other}:ready" in lacks


def test_trial_changes_nothing_of_a_queue_that_is_in_use(guarded: Server):
    queue = Queue("mail", guarded.url)
    queue.task(lambda: None, name="nothing").enqueue()
    with guarded.client() as client:
        before = {key: client.dump(key) for key in client.keys("*")}
        for role in rights.ROLES:
            rights_missing(guarded.url, "mail", role)
        after = {key: client.dump(key) for key in client.keys("*")}
        queue.close()
        client.flushall()
    assert len(before) > 2
    assert after == before


def test_every_command_of_a_role_has_a_form_that_does_nothing():
    for role, names in rights.ROLES.items():
        called = {command for name in names for command in rights.commands_of(SCRIPTS[name])}
        assert called <= {*rights.HARMLESS, "TIME", "PUBLISH"}, role


def test_keys_that_are_derived_are_those_that_are_tried():
    tried = {kind for kind, _ in rights._DERIVED.values()}

    assert tried <= set(KINDS)
    assert all(Keys("mail")(kind, "x") for kind in tried)
