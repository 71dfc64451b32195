"""What the process that `gqueue check` starts tells of its interpreter."""

import sys
import sysconfig

import pytest

from gqueue.cli.probe import interpreter


@pytest.mark.parametrize(("built", "free_threaded"), [(None, False), (0, False), (1, True)])
@pytest.mark.parametrize("enabled", [None, True, False])
def test_build_without_the_lock_is_told_and_whether_the_lock_is_on(
    built: int | None, free_threaded: bool, enabled: bool | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sysconfig, "get_config_var", {"Py_GIL_DISABLED": built}.get)
    if enabled is None:  # before 3.13 there is nothing to ask, and the lock
        monkeypatch.delattr(sys, "_is_gil_enabled", raising=False)
    else:
        monkeypatch.setattr(sys, "_is_gil_enabled", lambda: enabled, raising=False)

    told = interpreter()

    assert (told["free_threaded"], told["gil"]) == (free_threaded, enabled is not False)
