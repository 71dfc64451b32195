"""What `import gqueue` costs and loads, and that every public name is there."""

import subprocess
import sys

import pytest

import gqueue
from gqueue import errors

NOT_LOADED = ["gevent", "redis", "hiredis", "attr", "attrs", "msgspec", "click"]


def python(code: str) -> str:
    return subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout.strip()


def test_import_loads_nothing_that_it_need_not():
    assert python(f"import sys, gqueue; print([n for n in {NOT_LOADED} if n in sys.modules])") == "[]"


def test_import_takes_under_30_ms():
    code = "import time; t = time.perf_counter(); import gqueue; print(time.perf_counter() - t)"

    assert min(float(python(code)) for _ in range(3)) < 0.030


def test_a_queue_of_tasks_loads_neither_gevent_nor_redis_and_starts_no_thread():
    code = """
import sys, threading, gqueue
queue = gqueue.Queue("reports", "redis://192.0.2.1:1/0")
@queue.task
def add(a, b): return a + b
add.job(1, 2); queue.fetch_job("x")
print([n for n in ("gevent", "redis", "hiredis") if n in sys.modules], threading.active_count())
"""

    assert python(code) == "[] 1"


def test_every_public_name_is_there_and_listed():
    for name in gqueue.__all__:
        assert getattr(gqueue, name).__name__ == name
    assert set(gqueue.__all__) <= set(dir(gqueue))
    assert gqueue.__all__ == sorted(gqueue.__all__, key=lambda name: (name[0].islower(), name))


def test_every_error_is_public():
    raised = {name for name, value in vars(errors).items() if isinstance(value, type)}

    assert raised <= set(gqueue.__all__)


def test_a_name_that_is_not_there_is_an_attribute_error():
    with pytest.raises(AttributeError, match="no_such_name"):
        gqueue.no_such_name  # noqa: B018
