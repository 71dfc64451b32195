"""The smallest application: one queue, one task, and a producer.

Worker:    python -m gqueue --app examples.reports:queue --workers 50
Producer:  python examples/reports.py
"""

import gqueue

queue = gqueue.Queue("reports")


@queue.task(timeout=5, max_attempts=3)
def sum_first(n: int) -> int:
    """Return the sum of the first *n* natural numbers."""
    return n * (n + 1) // 2


def main() -> None:
    """Enqueue ten sums, the larger ones first; print the results as they were asked for."""
    jobs = [sum_first.options(priority=-n).enqueue(n) for n in range(10)]
    for n, job in enumerate(jobs):
        print(f"sum_first({n}) = {job.result(timeout=30)}")


if __name__ == "__main__":
    main()
