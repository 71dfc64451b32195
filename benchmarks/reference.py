"""The reference beside each run: what the same server does for others, measured just before.

Round trips to Redis depend on where the scheduler puts both ends, up to tenfold on one machine, and all else on what
else the machine does; a ratio to what was measured in the same minute survives more of that than a rate. PING of one
client that waits for each reply is the reference of what waits for round trips; ZADD and ZPOPMIN, 64 a round trip from
two clients, of what is sent in batches.
"""

import shutil
import socket
import statistics
import subprocess
import time
from collections.abc import Callable, Sequence

from benchmarks.benchmark import Record, group, spread, values
from benchmarks.server import Server

PINGS = 14_000
PIPELINED = 180_000
"""A second and a half in all. It varies more than what is measured beside it, so a page has the median of a round."""

BATCH = 64

NAMES = {"ping_per_s": "PING", "zadd_per_s": "ZADD", "zpopmin_per_s": "ZPOPMIN"}
"""Value of a record -> what it is the rate of."""


def measure(server: Server) -> dict[str, float]:
    """Return the reference rates, each a second; the server is empty afterwards."""
    measured = {
        "ping_per_s": _rate(server, "ping_mbulk", PINGS),
        "zadd_per_s": _rate(server, "zadd", PIPELINED, "-c", "2", "-P", str(BATCH), "-r", "1000000000"),
        "zpopmin_per_s": _rate(server, "zpopmin", PIPELINED, "-c", "2", "-P", str(BATCH)),
    }
    server.empty()
    return {name: round(rate) for name, rate in measured.items()}


def of_rounds(records: Sequence[Record]) -> list[Record]:
    """Return the records, each with the medians of all references of its round in the place of its own.

    A record that does not know its round keeps its own.
    """
    found = {
        number: {name: statistics.median(values(runs, name)) for name in NAMES if all(name in run for run in runs)}
        for (number,), runs in group(records, "round").items()
        if number is not None
    }
    return [{**record, **found.get(record.get("round"), {})} for record in records]


def spreads(records: Sequence[Record]) -> str:
    """Return the median and the range of each reference beside these records."""
    rates = {what: [record[name] for record in records if name in record] for name, what in NAMES.items()}
    return ", ".join(f"{what} {spread(of)}/s" for what, of in rates.items() if of)


def measured_by() -> str:
    """Return what `measure` measures with."""
    if shutil.which("redis-benchmark"):
        return f"redis-benchmark: PING -c 1 -P 1; ZADD, ZPOPMIN -c 2 -P {BATCH}"
    return f"a loop over one plain socket, in Python: PING; ZADD, ZPOPMIN, {BATCH} a round trip"


def _rate(server: Server, test: str, count: int, *options: str) -> float:
    program = shutil.which("redis-benchmark")
    if not program:
        return _own_rate(server.port, test, count)
    command = [program, "-p", str(server.port), "-t", test, "-n", str(count), "--csv", *(options or ("-c", "1"))]
    out = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    return float(out.splitlines()[-1].split(",")[1].strip('"'))


def _own_rate(port: int, test: str, count: int) -> float:
    commands: dict[str, Callable[[int], str]] = {
        "ping_mbulk": lambda _: "PING",
        "zadd": lambda number: f"ZADD myzset 0 element:{number:012d}",
        "zpopmin": lambda _: "ZPOPMIN myzset",
    }
    batch = 1 if test == "ping_mbulk" else BATCH
    sent = [
        "".join(f"{commands[test](number)}\r\n" for number in range(first, first + batch)).encode()
        for first in range(0, count, batch)
    ]
    lines = {"ping_mbulk": 1, "zadd": 1, "zpopmin": 5}[test] * batch
    with socket.create_connection(("127.0.0.1", port)) as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        start = time.perf_counter()
        for part in sent:
            connection.sendall(part)
            left = lines
            while left > 0:
                left -= connection.recv(65_536).count(b"\n")
        return len(sent) * batch / (time.perf_counter() - start)
