"""How many jobs a second one worker process runs, by the number of its slots: `python -m benchmarks.pool_sizes`.

For each pool size and each kind of job (a no-op, 10 ms and 100 ms of I/O), with results kept and without: a producer
puts the jobs into a private redis-server, then a worker, a process of its own, is started to run them all. The rate
counts from the start of the first job to the end of the last, in the worker (see tasks.py); warm-up jobs run before and
are not counted. A run in which a job did not run exactly once, or that leaves anything behind, is an error. Every run
goes into the JSON file, from which `--report` draws plot and page again.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from itertools import product
from pathlib import Path
from typing import Any

import gqueue
from benchmarks import measure, page

SIZES = (1, 5, 10, 50, 100, 500, 1_000)
QUICK_SIZES = (1, 50, 500)
KINDS = {"no-op": 0.0, "10 ms": 0.010, "100 ms": 0.100}
SECONDS = 4.0
"""How long a run of I/O jobs takes if the pool is ideal: 40 turns of the pool at 100 ms."""

MOST_JOBS = 100_000
"""Jobs in a run of no-ops, and most in any: 1 to 3 s of work."""


def job_count(kind: str, size: int, quick: bool) -> int:
    """Return how many jobs to measure: of I/O full turns of the pool, so that no slot is idle at the end."""
    part = 5 if quick else 1
    if not KINDS[kind]:
        return (MOST_JOBS if size >= 10 else MOST_JOBS // 4) // part
    turns = round(SECONDS / KINDS[kind] / part)
    return size * max(4, min(turns, MOST_JOBS // part // size))


def run_once(kind: str, size: int, results: bool, quick: bool) -> dict[str, Any]:
    """Measure one cell once, on a server of its own. Ends the program if a job was lost or ran twice."""
    count = job_count(kind, size, quick)
    with measure.private_server() as url, tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "report.json"
        environ = os.environ | {
            "GQUEUE_REDIS_URL": url,
            "GQUEUE_BENCH_COUNT": str(count),
            "GQUEUE_BENCH_REPORT": str(report),
        }
        python = [sys.executable, "-m"]
        warm_up = size if KINDS[kind] else 5_000
        produce = ["benchmarks.tasks", kind, "results" if results else "", str(count), str(warm_up)]
        subprocess.run([*python, *produce], env=environ, check=True)
        ping = measure.ping_rate(url)
        work = [
            "gqueue",
            "--app",
            "benchmarks.tasks:queue",
            "--workers",
            str(size),
            "--burst",
            "--log-level",
            "WARNING",
        ]
        subprocess.run([*python, *work], env=environ, check=True, timeout=600)
        measured = json.loads(report.read_text()) if report.exists() else {"exactly_once": False}
        stats = gqueue.Queue("bench", url=url).stats()
    left = stats.depth + stats.running + stats.dead
    if left or not measured["exactly_once"]:
        sys.exit(f"{kind}, {size} slots: a job was lost or ran twice ({left} are left)")
    seconds = measured["seconds"]
    return {
        "kind": kind,
        "slots": size,
        "results": results,
        "jobs": count,
        "seconds": round(seconds, 4),
        "jobs_per_s": round(count / seconds, 1),
        "ping_per_s": round(ping),
    }


def main() -> None:
    """Measure, print each run, then write JSON, plot and page."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=int, default=3, help="of each cell (default 3)")
    parser.add_argument("--sizes", type=int, nargs="+", default=None, help=f"slots (default {SIZES})")
    parser.add_argument("--kinds", nargs="+", choices=KINDS, default=list(KINDS), help="kinds of job (default all)")
    parser.add_argument(
        "--quick", action="store_true", help=f"one short run of each, sizes {QUICK_SIZES}; writes nothing"
    )
    parser.add_argument("--out", type=Path, default=None, help="write the JSON here, and neither plot nor page")
    parser.add_argument("--report", action="store_true", help="measure nothing: draw plot and page from the JSON files")
    options = parser.parse_args()
    if options.report:
        page.write()
        return
    sizes = options.sizes or (QUICK_SIZES if options.quick else SIZES)
    runs = 1 if options.quick else options.runs
    about = measure.machine() | {"runs": runs, "ping by": measure.ping_by()}
    print("\n".join(f"{name}: {value}" for name, value in about.items()))

    done = []
    # Runs outermost: a slow minute of the machine hits all cells alike, and not one of them three times.
    for _, kind, results, size in product(range(runs), options.kinds, (False, True), sizes):
        run = run_once(kind, size, results, options.quick)
        done.append(run)
        print(
            f"{kind:>6}, {size:5} slots, results {'on ' if results else 'off'}: {run['jobs_per_s']:9,.0f} jobs/s, "
            f"{run['jobs_per_s'] / run['ping_per_s']:5.2f} x PING ({run['ping_per_s']:7,}/s)",
            flush=True,
        )
    data = {"about": about, "runs": done}
    print(page.pool_table(data))
    if options.out:
        options.out.write_text(json.dumps(data, indent=1) + "\n")
    elif not options.quick:
        page.save("pool_sizes", data)
        page.write()


if __name__ == "__main__":
    main()
