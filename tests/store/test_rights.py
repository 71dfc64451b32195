"""What a user of Redis lacks for a role, found by trying, which leaves nothing behind."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from gqueue.queue import Queue
from gqueue.store import acl, rights, scripts
from gqueue.store.check import ask, rights_missing
from gqueue.store.keys import is_a_family
from tests.servers import Server

MakeUser = Callable[..., str]
SCRIPTS = scripts.load()
ROOT = "gq:{mail}:"
CHANNEL = ("+publish", "+subscribe")


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


@pytest.mark.parametrize("role", acl.ROLES)
def test_user_of_all_rights_lacks_nothing_and_a_trial_leaves_nothing(role: str, guarded: Server):
    with guarded.client() as client:
        assert rights_missing(guarded.url, "mail", role) == []
        assert client.dbsize() == 0


def rules_of(role: str, selective: bool) -> list[str]:
    """Return the rules that are enough, without the first three, which take all others away."""
    return acl.rules(["mail"], [role], selective=selective)[3:]


@pytest.fixture(scope="module")
def selective(guarded: Server) -> bool:
    with guarded.client() as client:
        return not client.info("server")["redis_version"].startswith("6")


@pytest.mark.parametrize("role", acl.ROLES)
def test_user_of_the_rights_of_a_role_lacks_nothing(role: str, user: MakeUser, selective: bool):
    assert rights_missing(user(*rules_of(role, selective)), "mail", role) == []


@pytest.mark.parametrize("role", acl.ROLES)
def test_each_right_that_is_taken_away_is_named_and_no_other(role: str, user: MakeUser, selective: bool):
    every = rules_of(role, selective)
    for rule in every:
        if rule in ("+ping", "+info", "+select", "+client|setname"):  # of the connection, not of a role
            continue
        lacks = rights_missing(user(*[other for other in every if other != rule]), "mail", role)
        named = [part for each in lacks for part in each.split()]
        if rule in ("+hget", "+hset", "+hdel", "+eval", "+evalsha") or rule.startswith("&") or role == "operator":
            assert rule in named, (rule, lacks)  # others hang on it, and may be named too
        else:
            assert named == [rule.replace("%R~", "~"), *([f"&{ROOT}done"] if rule in CHANNEL else [])], (rule, lacks)


def test_rights_in_another_queue_are_none_in_this(user: MakeUser, selective: bool):
    lacks = rights_missing(user(*rules_of("worker", selective)), "other", "worker")

    assert "~gq:{other}:ready" in lacks


def test_commands_are_named_where_every_key_is_closed_too(user: MakeUser, guarded: Server, selective: bool):
    of_a_reader = user(*rules_of("reader", selective))
    lacks = rights_missing(of_a_reader, "mail", "worker")

    commands = {rule for rule in rules_of("worker", selective) if rule.startswith("+")}
    named = {part for each in lacks for part in each.split() if part.startswith("+")}
    assert named == commands - set(rules_of("reader", selective))
    assert {"+blpop", "+hdel", "+hset", "+zadd"} < named
    assert not guarded.client().keys("*")


@pytest.mark.parametrize("role", acl.ROLES)
def test_user_of_no_key_and_no_command_but_scripts_lacks_all(role: str, user: MakeUser, selective: bool):
    given = ("+ping", "+info", "+select", "+client|setname", "+eval", "+evalsha")
    lacks = rights_missing(user(*given), "mail", role)

    named = {part for each in lacks for part in each.split() if part.startswith("+")}
    assert named == {rule for rule in rules_of(role, selective) if rule.startswith("+")} - set(given)


def test_user_without_scripts_is_told_so_and_no_more(user: MakeUser):
    assert rights_missing(user("~*", "+@all", "-evalsha"), "mail", "reader") == ["+evalsha"]


@pytest.mark.parametrize("role", acl.ROLES)
def test_trial_changes_nothing_of_a_queue_that_is_in_use(role: str, guarded: Server):
    queue = Queue("mail", guarded.url)
    queue.task(lambda: None, name="nothing").enqueue()
    with guarded.client() as client:
        before = {key: client.dump(key) for key in client.keys("*")}
        rights_missing(guarded.url, "mail", role)
        after = {key: client.dump(key) for key in client.keys("*")}
        queue.close()
        client.flushall()
    assert len(before) > 2
    assert after == before


@pytest.mark.parametrize("role", acl.ROLES)
def test_every_command_of_a_role_has_a_form_that_does_nothing(role: str):
    called = {command for name in acl.ROLES[role].scripts for command in SCRIPTS[name].commands}
    assert called <= {*rights.READING, *rights.WRITING, *rights.KEYLESS, "PUBLISH"}
    for name, kind in acl.ROLES[role].commands:
        assert name in (rights.OUTSIDE if kind else {*rights.KEYLESS, *rights.READING, "SUBSCRIBE"})


def test_role_that_has_no_key_of_nobody_has_no_command_that_writes():
    for role in acl.ROLES.values():
        called = [SCRIPTS[name] for name in role.scripts]
        kinds = {kind for script in called for kind in (*script.keys, *script.derived)}
        if not any(is_a_family(kind) or " " in kind for kind in kinds if kind != "result:ID"):
            assert not {command for script in called for command in script.commands} & set(rights.WRITING)


@pytest.mark.parametrize("renamed", ["EVALSHA", "EVAL", "BLPOP", "PUBLISH", "TIME", "HSET"])
def test_command_that_the_server_has_not_got_is_missing_and_no_right(renamed: str, tmp_path: Path):
    conf = tmp_path / "renamed.conf"
    conf.write_text(f'rename-command {renamed} ""\n')
    with Server(include=str(conf)) as server:
        assert rights_missing(server.url, "mail", "worker") == [renamed]
        assert ask(server.url).absent == [renamed]
