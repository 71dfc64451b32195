"""The append-only file of a stopped redis-server: how long it is, and a copy of it as it was at an earlier length.

Commands stand in it one after another, each `*N` and N times `$LENGTH`, data; a script's writes between MULTI and
EXEC, of which Redis drops the begun ones when it loads. Redis 6.2 keeps one file, later ones a folder, of which the
last increment grows. The file must not be rewritten meanwhile, see `SETTINGS`.
"""

from collections.abc import Iterator
from pathlib import Path

SETTINGS = {"auto_aof_rewrite_percentage": "0"}


def growing(folder: Path) -> Path:
    """Return the file that the server of *folder* appends to."""
    increments = sorted(
        (folder / "appendonlydir").glob("*.incr.aof"), key=lambda path: int(path.name.rsplit(".", 3)[1])
    )
    return increments[-1] if increments else folder / "appendonly.aof"


def size(folder: Path) -> int:
    """Return how many bytes have been appended so far, whether the server runs or not."""
    return growing(folder).stat().st_size


def cut(folder: Path, length: int, *, inside: bool) -> int:
    """Cut the file after the last command that ends within *length* bytes; return how many bytes went.

    *inside*: in the middle of the command that follows.
    """
    path = growing(folder)
    data = path.read_bytes()
    end, after = 0, 0
    for after in ends(data):
        if after > length:
            break
        end = after
    keep = (end + after) // 2 if inside and after > end else end
    with path.open("r+b") as file:
        file.truncate(keep)
    return len(data) - keep


def ends(data: bytes) -> Iterator[int]:
    """Yield where each whole command ends, in order."""
    at = 0
    while data[at : at + 1] == b"*":
        line = data.find(b"\r\n", at)
        if line < 0:
            return
        parts, at = int(data[at + 1 : line]), line + 2
        for _ in range(parts):
            line = data.find(b"\r\n", at)
            if line < 0:
                return
            at = line + 2 + int(data[at + 1 : line]) + 2
        if at > len(data):
            return
        yield at
