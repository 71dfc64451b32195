"""Settings: what is refused is told without showing what must stay secret."""

import base64
import logging

import pytest
from hypothesis import given
from hypothesis import strategies as st

import gqueue
from gqueue import config
from gqueue.config import printable, signing_keys
from gqueue.errors import BadSetting

SECRET = "s3cr3t-s3cr3t-s3cr3t-s3cr3t-s3cr3t"


def test_keys_are_texts_or_bytes_in_two_forms_and_the_first_signs():
    raw = bytes(range(16))
    text = f"a:{SECRET}, b:hex:{raw.hex()},c:base64:{base64.b64encode(raw).decode()},d:base64:_-_-{'A' * 20}"

    keys = signing_keys(text).keys

    assert list(keys) == ["a", "b", "c", "d"]
    assert keys["a"] == SECRET.encode()
    assert keys["b"] == keys["c"] == raw
    assert keys["d"][:3] == b"\xff\xef\xfe"
    assert signing_keys({"a": SECRET, "b": raw}).keys == {"a": SECRET.encode(), "b": raw}


def test_argument_stands_before_the_environment():
    environ = {"GQUEUE_SIGNING_KEYS": f"env:{SECRET}"}

    assert list(signing_keys(None, environ).keys) == ["env"]
    assert list(signing_keys(f"arg:{SECRET}", environ).keys) == ["arg"]
    assert not signing_keys({}, environ)
    assert not signing_keys("", environ)
    assert not signing_keys(None, {})


@pytest.mark.parametrize(
    "given",
    [
        SECRET,  # the id forgotten
        f":{SECRET}",
        f"a b:{SECRET}",
        f"{'x' * 33}:{SECRET}",
        f"a:{SECRET},a:{SECRET}",
        f"a:{SECRET},",
        f"a:{SECRET[:31]}",
        "a:hex:" + "00" * 15,
        "a:hex:s3cr3t" + "0" * 40,
        "a:base64:s3cr3t!" + "A" * 40,
        "a:base64:s3cr3t" + "A" * 40,
        {"a": SECRET.encode()[:15]},
        {"a": 3},
        {3: SECRET},
        [SECRET],
        3,
    ],
)
def test_keys_that_cannot_be_read_are_refused_and_not_shown(given):
    with pytest.raises(BadSetting) as refused:
        signing_keys(given)

    assert "signing_keys" in str(refused.value)
    assert "s3cr3t" not in str(refused.value)


def test_refusal_names_the_variable():
    with pytest.raises(BadSetting, match="GQUEUE_SIGNING_KEYS: the id of key 1"):
        signing_keys(None, {"GQUEUE_SIGNING_KEYS": SECRET})


@pytest.mark.parametrize("empty", ["", "  "])
def test_variable_that_is_set_but_empty_is_refused_and_the_way_to_have_none_is_told(empty):
    with pytest.raises(BadSetting, match=r"GQUEUE_SIGNING_KEYS is set but empty.*unset it, or .*signing_keys=\{\}"):
        signing_keys(None, {"GQUEUE_SIGNING_KEYS": empty})
    assert not signing_keys({}, {"GQUEUE_SIGNING_KEYS": empty})


def test_keys_and_passwords_are_in_no_repr(monkeypatch):
    monkeypatch.setenv("GQUEUE_SIGNING_KEYS", f"from-env:{SECRET}")
    queue = gqueue.Queue("q", "redis://me:pass-w0rd@localhost:1/0")

    shown = " ".join(map(repr, (queue, queue.settings, queue.records, queue.producer, queue.store)))

    assert "from-env" in shown
    assert SECRET not in shown
    assert "pass-w0rd" not in shown


@given(st.text())
def test_printable_text_is_one_line_that_no_terminal_obeys(text):
    shown = printable(text)

    assert shown.isprintable()
    assert len(shown.splitlines()) <= 1
    shown.encode()
    if text.isprintable():
        assert shown == text


def test_what_is_kept_is_kept():
    assert printable("a\n\tb\x1b[0m\r", keep="\n\t") == "a\n\tb\\x1b[0m\\r"


def test_log_of_gqueue_has_one_line_for_each_record_and_the_apps_own_stays_as_it_is(capsys):
    from gqueue.cli import logs

    root = logging.getLogger()
    before = root.handlers[:], root.level
    try:
        logs.set_up("info", "text")
        logging.getLogger("gqueue.jobs").info("job %s", "x\n10:00:00.000 INFO jobs: forged\x1b[2J\u2028\x9b")
        logging.getLogger("app").info("two\nlines")
    finally:
        root.handlers[:], root.level = before
    first, *others = capsys.readouterr().err.splitlines()

    assert first.endswith(r"job x\n10:00:00.000 INFO jobs: forged\x1b[2J\u2028\x9b")
    assert others[1:] == ["lines"]
    assert config.masked("x") == "***"
