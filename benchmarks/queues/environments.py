"""An environment for each queue, made when it is first wanted, under the user's cache. Needs the package index then.

For Python a venv, for Node a folder of node_modules, for Ruby Debian's packages unpacked: nothing is installed on the
machine itself, and no rights are needed.
"""

import fcntl
import hashlib
import os
import re
import shutil
import subprocess
import sys
import venv
from collections.abc import Callable, Sequence
from pathlib import Path


class CannotInstall(Exception):
    """This queue cannot be had here; the text says why, in one line."""


def python(name: str, installs: Sequence[str]) -> Path:
    """Return the folder of the programs of a venv with *installs*, which are what pip is told."""

    def make(folder: Path) -> None:
        venv.create(folder, with_pip=True, clear=True)
        run([str(folder / "bin" / "python"), "-m", "pip", "install", "--quiet", *installs])

    return made(name, (sys.version, *installs), make) / "bin"


def node(name: str, installs: Sequence[str]) -> Path:
    """Return a folder with *installs*, which are what npm is told, in its node_modules."""
    if not shutil.which("node") or not shutil.which("npm"):
        raise CannotInstall("there is no node with npm on PATH")
    running = f"node@{run(['node', '--version']).strip().removeprefix('v')}"

    def make(folder: Path) -> None:
        (folder / "package.json").write_text("{}")
        run(["npm", "install", "--prefix", str(folder), "--no-audit", "--no-fund", "--loglevel=error", *installs])
        (folder / "versions").write_text("\n".join([*installs, running]))

    return made(name, (running, *installs), make)


def debian(name: str, packages: Sequence[str]) -> Path:
    """Return a folder with Debian's *packages*, unpacked as if it was /; all that they need must be among them."""
    if not shutil.which("apt-get") or not shutil.which("dpkg-deb"):
        raise CannotInstall("this is no Debian")

    def make(folder: Path) -> None:
        run(["apt-get", "download", "-qq", *packages], folder)
        found = []
        for package in packages:
            (file,) = folder.glob(f"{package}_*.deb")  # NAME_VERSION_ARCHITECTURE.deb
            found.append("==".join(file.name.split("_")[:2]))
            run(["dpkg-deb", "--extract", str(file), str(folder)])
            file.unlink()
        (folder / "versions").write_text("\n".join(found))

    return made(name, packages, make)


def versions(folder: Path, installs: Sequence[str], only: Sequence[str] = ()) -> str:
    """Return what an environment is made of, to be read: *installs*, or what their versions turned out to be.

    Args:
        only: names of those that are told, if not all are.
    """
    found = folder / "versions"
    named = found.read_text().splitlines() if found.exists() else installs
    parts = [re.fullmatch(r"([\w.-]+)(?:\[.*\])?(?:==|@)(.+)", each) for each in named]
    return ", ".join(f"{part[1]} {part[2]}" for part in parts if part and (not only or part[1] in only))


def made(name: str, wanted: Sequence[str], make: Callable[[Path], None]) -> Path:
    """Return the folder of what is *wanted*; *make* it if it is not there, one process at a time, in an empty one."""
    base = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "gqueue-peers"
    text = "\n".join(wanted)
    folder = base / f"{name}-{hashlib.sha256(text.encode()).hexdigest()[:12]}"
    base.mkdir(parents=True, exist_ok=True)
    with (base / f"{folder.name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        done = folder / "installed"
        if not done.exists():
            print(f"making an environment for {name} in {folder}", file=sys.stderr)
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir()
            make(folder)
            done.write_text(text)
    return folder


def run(command: Sequence[str], folder: Path | None = None) -> str:
    """Run an installer; return what it says.

    Raises:
        CannotInstall: it failed; with the last that it said.
    """
    ended = subprocess.run(command, cwd=folder, stdin=subprocess.DEVNULL, capture_output=True, text=True)
    if ended.returncode:
        said = (ended.stderr or ended.stdout).strip().splitlines()
        raise CannotInstall(f"{Path(command[0]).name}: {said[-1] if said else f'exit code {ended.returncode}'}")
    return ended.stdout
