"""Every command and every snippet of the README and of the guide works; the picture is the lifecycle table.

How a block is run: `sh` line by line; a line that ends in & goes on until the end, when SIGTERM must end it with exit
0. `python` blocks are saved, under the name in a first line such as `# reports.py`, and run, unless others import them;
what stands behind a print as a comment must be printed. All in one folder, in the order of the README, on one server.
"""

import os
import re
import runpy
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from gqueue.cli.worker import command
from gqueue.core.lifecycle import TABLE
from tests.test_packaging import RUN, TEST

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()
LIMIT_S = 60


def blocks(text: str) -> list[tuple[str, str]]:
    """Return kind and text of each fenced block."""
    return re.findall(r"^```(\w*)\n(.*?)\n```$", text, re.MULTILINE | re.DOTALL)


def test_picture_of_the_states_is_that_of_the_table():
    assert runpy.run_path(str(ROOT / "docs/states.py"))["with_picture"](README) == README


def test_picture_shows_every_move():
    (picture,) = (text for kind, text in blocks(README) if kind == "mermaid")
    arrows = re.findall(r"^    (\S+) --> (\S+): (.+)$", picture, re.MULTILINE)

    drawn = {(state, move, target) for state, target, moves in arrows for move in moves.split(", ")}

    name = {"unknown": "[*]"}
    assert drawn == {
        (name.get(state.value, state.value), move.value, name.get(target.value, target.value))
        for (state, move), target in TABLE.items()
    }


def test_every_kind_of_block_is_known_here():
    assert {kind for kind, _ in blocks(README)} == {"sh", "python", "mermaid"}
    for page in ("guide", "security"):
        assert {kind for kind, _ in blocks((ROOT / f"docs/{page}.md").read_text())} == {"sh", "python"}


def test_every_option_of_the_worker_is_in_the_table_with_its_variable():
    table = dict(re.findall(r"^\| `(--[a-z-]+)[^|]*` \| `(GQUEUE_\w+)` \|", README, re.MULTILINE))

    options = [each for each in command.params if not each.hidden]

    assert table == {each.opts[0]: each.envvar or "GQUEUE_REDIS_URL" for each in options}


def test_files_and_folders_that_it_names_are_there():
    named = set(re.findall(r"\]\((?!https?:)([^)#]+)\)", README)) | set(
        re.findall(r"`((?:gqueue|examples)/[\w/.]*)`", README)
    )

    assert named
    assert not [path for path in named if not (ROOT / path).exists()]


class Reader:
    """Somebody who does what the README says, in a folder of their own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.background: list[subprocess.Popen[str]] = []
        self.environ = {name: value for name, value in os.environ.items() if not name.startswith("GQUEUE_")} | {
            "GQUEUE_REDIS_URL": "embedded:",
            "XDG_STATE_HOME": str(folder / "state"),
            "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
            "PYTHONPATH": str(ROOT),
        }
        (folder / ".venv").symlink_to(sys.prefix)  # where the first command would have made it

    def shell(self, line: str) -> None:
        if line.endswith("&"):
            self.start(line.removesuffix("&"))
        elif script := re.fullmatch(r"python (\w+\.py)", line):
            self.script(script[1])
        else:
            assert self._end(self._popen(["bash", "-c", line]), line) == 0

    def start(self, line: str) -> None:
        log = self.folder / f"background-{len(self.background)}.log"
        with log.open("w") as file:
            self.background.append(self._popen(["bash", "-c", f"exec {line}"], stdout=file))

    def script(self, name: str) -> None:
        said = self.folder / f"{name}.out"
        with said.open("w") as file:
            process = self._popen([sys.executable, name], stdout=file)
        assert self._end(process, name) == 0, said.read_text()
        lines = iter(said.read_text().splitlines())
        for wanted in re.findall(r"^\s*print\(.*\)  # (.+)$", (self.folder / name).read_text(), re.MULTILINE):
            assert wanted in lines, f"{name} did not print {wanted!r}, but:\n{said.read_text()}"

    def stop(self) -> None:
        for process in self.background:
            process.send_signal(signal.SIGTERM)
        codes = [self._end(process, "background") for process in self.background]
        logs = "\n".join(path.read_text() for path in sorted(self.folder.glob("background-*.log")))
        assert codes == [0] * len(codes), logs

    def _popen(self, command: list[str], stdout: object = None) -> "subprocess.Popen[str]":
        return subprocess.Popen(
            command,
            cwd=self.folder,
            env=self.environ,
            stdout=stdout,
            stderr=subprocess.STDOUT,
            text=True,  # type: ignore[arg-type]
        )

    def _end(self, process: "subprocess.Popen[str]", what: str) -> int:
        try:
            return process.wait(LIMIT_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            pytest.fail(f"{what}: not done after {LIMIT_S} s")


@pytest.fixture
def reader(tmp_path):
    reader = Reader(tmp_path)
    yield reader
    for process in reader.background:
        if process.poll() is None:
            process.kill()
            process.wait()


@pytest.mark.blackbox
@pytest.mark.parametrize("page", ["README.md", "docs/guide.md", "docs/security.md"])
def test_every_command_and_snippet_works(reader, page):
    document = (ROOT / page).read_text()
    imported = set(re.findall(r"^from (\w+) import", document, re.MULTILINE))
    for number, (kind, text) in enumerate(blocks(document)):
        if text == RUN:
            reader.start(RUN.rpartition("&& ")[2])  # installing is what made the environment of this test
        elif kind == "sh" and text != TEST:
            for line in text.splitlines():
                reader.shell(line)
        elif kind == "python":
            named = re.match(r"# (\w+)\.py\n", text)
            name = named[1] if named else f"snippet_{number}"
            (reader.folder / f"{name}.py").write_text(text + "\n")
            # A file that a later command runs by itself runs there.
            if name not in imported and not re.search(rf"^python {name}\.py$", document, re.MULTILINE):
                reader.script(f"{name}.py")
    reader.stop()
