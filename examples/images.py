"""Thumbnails of PNG pictures: CPU-bound work, spread over processes.

A greenlet that computes lets no other run, so here it is `--processes` that counts, one for each core, with one or two
slots each. Written without any library, so that it runs anywhere and keeps a core busy; for your own pictures use
Pillow in the task, and all else stays as it is.

Workers:   python -m gqueue --app examples.images:queue --workers 1 --processes 2
Producer:  python examples/images.py                (twelve pictures of its own, in a temporary folder)
           python examples/images.py FILE.png ...   (yours: 8 bits, RGB or RGBA, not interlaced)
"""

import argparse
import os
import struct
import tempfile
import time
import zlib
from pathlib import Path

import gqueue

SIGNATURE = b"\x89PNG\r\n\x1a\n"
CHANNELS = {2: 3, 6: 4}  # PNG's colour types RGB and RGBA

queue = gqueue.Queue("images", capacity=100)


@queue.task(timeout=60, max_attempts=2)
def thumbnail(source: str, target: str, width: int = 96) -> list[int]:
    """Write a PNG of this width to *target*; return its width and height.

    Run twice it does the same: the file is put in place as a whole, at the end.
    """
    try:
        picture = Picture.read(Path(source))
    except (FileNotFoundError, ValueError) as error:
        raise gqueue.Reject(f"{source}: {error}") from error
    small = picture.shrunk_to(width)
    partial = Path(f"{target}.{os.getpid()}")
    partial.write_bytes(small.as_png())
    partial.replace(target)
    return [small.width, small.height]


class Picture:
    """Rows of samples, 8 bits each, *channels* (3 or 4) to a pixel."""

    def __init__(self, width: int, channels: int, rows: list[bytes]) -> None:
        self.width, self.height, self.channels, self.rows = width, len(rows), channels, rows

    @classmethod
    def read(cls, path: Path) -> "Picture":
        """Return the picture in a PNG file; raise ValueError if it is of a kind that this example cannot read."""
        data = path.read_bytes()
        if not data.startswith(SIGNATURE):
            raise ValueError("not a PNG")
        position, packed, head = len(SIGNATURE), b"", (0, 0, 0, 0, 0, 0, 0)
        while position < len(data):
            size, kind = struct.unpack_from(">I4s", data, position)
            if kind == b"IHDR":
                head = struct.unpack_from(">IIBBBBB", data, position + 8)
            elif kind == b"IDAT":
                packed += data[position + 8 : position + 8 + size]
            position += size + 12
        width, _height, bits, colour, _, _, interlaced = head
        if bits != 8 or colour not in CHANNELS or interlaced:
            raise ValueError("only 8-bit RGB or RGBA without interlacing")
        return cls(
            width, CHANNELS[colour], unfiltered(zlib.decompress(packed), width * CHANNELS[colour], CHANNELS[colour])
        )

    def shrunk_to(self, width: int) -> "Picture":
        """Return the picture at this width, each new pixel the mean of those it stands for."""
        width = min(width, self.width)
        height = max(1, self.height * width // self.width)
        rows = []
        for y in range(height):
            block = self.rows[y * self.height // height : (y + 1) * self.height // height]
            row = bytearray()
            for x in range(width):
                left, right = x * self.width // width, (x + 1) * self.width // width
                area = len(block) * (right - left)
                for channel in range(self.channels):
                    samples = slice(left * self.channels + channel, right * self.channels, self.channels)
                    row.append(sum(sum(line[samples]) for line in block) // area)
            rows.append(bytes(row))
        return Picture(width, self.channels, rows)

    def as_png(self) -> bytes:
        """Return the picture as the bytes of a PNG file."""
        colour = {channels: colour for colour, channels in CHANNELS.items()}[self.channels]
        head = struct.pack(">IIBBBBB", self.width, self.height, 8, colour, 0, 0, 0)
        pixels = zlib.compress(b"".join(b"\0" + row for row in self.rows))
        return SIGNATURE + chunk(b"IHDR", head) + chunk(b"IDAT", pixels) + chunk(b"IEND", b"")


def chunk(kind: bytes, data: bytes) -> bytes:
    """Return a chunk of a PNG file."""
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def unfiltered(data: bytes, row_bytes: int, step: int) -> list[bytes]:
    """Undo PNG's filters; *step* bytes make a pixel. Source: the PNG specification, section 9."""
    rows, above = [], bytes(row_bytes)
    for start in range(0, len(data), row_bytes + 1):
        kind, row = data[start], bytearray(data[start + 1 : start + 1 + row_bytes])
        if kind:
            for at in range(row_bytes):
                left = row[at - step] if at >= step else 0
                corner = above[at - step] if at >= step else 0
                guess = (0, left, above[at], (left + above[at]) // 2, paeth(left, above[at], corner))[kind]
                row[at] = (row[at] + guess) & 255
        above = bytes(row)
        rows.append(above)
    return rows


def paeth(left: int, above: int, corner: int) -> int:
    """Return whichever of the three neighbours is next to left + above - corner."""
    guess = left + above - corner
    return min((left, above, corner), key=lambda neighbour: abs(guess - neighbour))


def sample(number: int, width: int = 1600, height: int = 1200) -> Picture:
    """Return a picture of coloured bands."""
    band = b"".join(bytes((x & 255, (x // 3 + 20 * number) & 255, (x * x >> 8) & 255)) for x in range(width + height))
    starts = (3 * (y * (number + 1) // 12) for y in range(height))
    return Picture(width, 3, [band[start : start + 3 * width] for start in starts])


def main() -> None:
    """Enqueue a thumbnail for each picture, wait for them, print where they are and how long it took."""
    parser = argparse.ArgumentParser(description="Make thumbnails, of pictures of its own unless FILEs are given.")
    parser.add_argument("files", metavar="FILE.png", nargs="*", type=Path)
    files = parser.parse_args().files
    if not files:
        folder = Path(tempfile.mkdtemp(prefix="gqueue-images-"))
        files = [folder / f"picture{number}.png" for number in range(12)]
        for number, file in enumerate(files):
            file.write_bytes(sample(number).as_png())
    began = time.monotonic()
    targets = [file.with_suffix(".thumbnail.png").resolve() for file in files]
    jobs = [thumbnail.enqueue(str(file.resolve()), str(target)) for file, target in zip(files, targets, strict=True)]
    print(
        f"{len(jobs)} enqueued; start workers: python -m gqueue --app examples.images:queue --workers 1 --processes 2"
    )
    for target, job in zip(targets, jobs, strict=True):
        try:
            width, height = job.result(timeout=120)
            print(f"{target}: {width} x {height}")
        except gqueue.JobFailed as error:
            print(f"{target}: {error.reason}: {error.error}")
    print(f"{len(jobs)} thumbnails took {time.monotonic() - began:.1f} s")


if __name__ == "__main__":
    main()
