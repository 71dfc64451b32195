"""A redis-server whose wall clock is stepped at will: clock.c, compiled with gcc and preloaded into it."""

import shutil
import subprocess
import sys
from functools import cache
from pathlib import Path

from tests.servers import Server, executable

SOURCE = Path(__file__).with_name("clock.c")


@cache
def lacking() -> str:
    """Return why there is no such clock here; "" if there is."""
    if not sys.platform.startswith("linux"):
        return "a preloaded clock is for Linux"
    if shutil.which("gcc") is None:
        return "there is no gcc to compile a clock with"
    linked = subprocess.run(["ldd", executable()], capture_output=True, text=True)
    if linked.returncode or "libc.so" not in linked.stdout:
        return f"{executable()} is linked statically: no clock can be preloaded"
    return ""


class Clock:
    """The wall clock of *server* from its next start on. Its files lie in the server's folder."""

    def __init__(self, server: Server) -> None:
        self._offset = server.folder / "clock"
        library = server.folder / "clock.so"
        self.step(0)
        command = ["gcc", "-O2", "-shared", "-fPIC", "-o", str(library), str(SOURCE), "-ldl"]
        subprocess.run(command, check=True, stdin=subprocess.DEVNULL, capture_output=True, timeout=60)
        server.environ |= {"LD_PRELOAD": str(library), "CLOCK_OFFSET": str(self._offset)}

    def step(self, seconds: float) -> None:
        """Have it be *seconds* ahead of the true time, or behind it, from now on."""
        with self._offset.open("r+b" if self._offset.exists() else "w+b", buffering=0) as file:
            file.write(int(seconds * 1e6).to_bytes(8, sys.byteorder, signed=True))
