"""How many jobs a second one producer enqueues: `python -m benchmarks.enqueue`.

One at a time (`task.enqueue`, a round trip each) and in bulk (`queue.enqueue_many`), from one thread of one process,
into a private redis-server with no worker. Checked after each run: the queue holds every job. Every run goes into the
JSON file.
"""

import argparse
import json
import time
from pathlib import Path
from typing import Any

import gqueue
from benchmarks import measure, page

COUNTS = {"single": 20_000, "bulk": 200_000}


def run_once(how: str, count: int) -> dict[str, Any]:
    """Enqueue *count* jobs in one way, into a server of its own."""
    with measure.private_server() as url:
        queue = gqueue.Queue("bench", url=url, capacity=10_000_000)

        @queue.task(result_ttl=0)
        def no_op(number: int) -> None:
            """Do nothing."""

        queue.enqueue_many(no_op.job(-1) for _ in range(1_000))
        no_op.enqueue(-1)
        ping = measure.ping_rate(url)
        start = time.perf_counter()
        if how == "single":
            for number in range(count):
                no_op.enqueue(number)
        else:
            queue.enqueue_many(no_op.job(number) for number in range(count))
        seconds = time.perf_counter() - start
        waiting = queue.stats().depth
        if waiting != count + 1_001:
            raise SystemExit(f"{how}: enqueued {count + 1_001:,} jobs, the queue holds {waiting:,}")
        queue.store.close()
    return {
        "how": how,
        "jobs": count,
        "seconds": round(seconds, 4),
        "jobs_per_s": round(count / seconds, 1),
        "ping_per_s": round(ping),
    }


def main() -> None:
    """Measure, print each run, then write JSON and page."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=int, default=5, help="of each (default 5)")
    parser.add_argument("--quick", action="store_true", help="one run of a tenth; writes nothing")
    parser.add_argument("--out", type=Path, default=None, help="write the JSON here, and no page")
    options = parser.parse_args()
    runs, part = (1, 10) if options.quick else (options.runs, 1)
    about = measure.machine() | {"runs": runs, "ping by": measure.ping_by()}
    print("\n".join(f"{name}: {value}" for name, value in about.items()))

    done = []
    for how in [*COUNTS] * runs:
        run = run_once(how, COUNTS[how] // part)
        done.append(run)
        print(
            f"{how:>6}: {run['jobs_per_s']:9,.0f} jobs/s, {run['jobs_per_s'] / run['ping_per_s']:5.2f} x PING",
            flush=True,
        )
    data = {"about": about, "runs": done}
    print(page.enqueue_table(data))
    if options.out:
        options.out.write_text(json.dumps(data, indent=1) + "\n")
    elif not options.quick:
        page.save("enqueue", data)
        page.write()


if __name__ == "__main__":
    main()
