"""The scenarios of the fault campaign by number: name, title, and what bounds them.

The rig, the report and the page of promises take the names from here. A name, `NN-slug`, stands in stored results: it
does not change. `RECOVERED` is how soon a job runs again that its worker lost, counted from the fault; where Redis was
away, from its return.
"""

from attrs import frozen

RECOVERED = "lease + lease/3 + 1 s"


@frozen
class Name:
    """How a scenario is called, and in one line what must hold."""

    number: int
    slug: str
    title: str
    bound: str

    def __str__(self) -> str:
        return f"{self.number:02}-{self.slug}"


NAMES: dict[int, Name] = {
    name.number: name
    for name in (
        Name(1, "kill-workers", "`kill -9` of a worker every 2 s", f"lost 0; recovered within {RECOVERED}"),
        Name(
            2,
            "kill-after-effect",
            "killed after the effect, before it settled",
            f"lost 0; such a job is done twice; recovered within {RECOVERED}",
        ),
        Name(
            3,
            "kill-after-claim",
            "killed after the claim, before the start",
            f"lost 0; done twice only what ran beside it; recovered within {RECOVERED}",
        ),
        Name(
            4,
            "stop-worker",
            "SIGSTOP beyond the lease, then SIGCONT",
            f"its settlements are refused, its jobs interrupted; recovered within {RECOVERED}",
        ),
        Name(5, "cpu-job", "a pure-Python job of 3 leases", "no lease is lost: nothing is done twice"),
        Name(
            6,
            "gil-held",
            "a C call that holds the GIL for 3 leases",
            f"lost 0; what ends after the lease is not recorded; recovered within {RECOVERED}",
        ),
        Name(7, "poison-job", "a job that kills its worker, among 1,000", "it alone is dead, as worker_lost"),
        Name(
            8,
            "swallowed-timeout",
            "a job that swallows its time-out",
            "it alone is dead; its slot is written off, never used again",
        ),
        Name(
            9,
            "sigterm",
            "SIGTERM with jobs shorter and longer than the grace; a second SIGTERM",
            "lost 0; what is given back keeps its place; exit 0",
        ),
        Name(
            10,
            "kill-redis-always",
            "`kill -9` of redis-server, appendfsync always",
            "lost 0; no lease is lost: nothing is done twice",
        ),
        Name(
            11,
            "kill-redis-everysec",
            "`kill -9` of redis-server, appendfsync everysec",
            "lost 0: the kernel keeps what was written; no lease is lost: nothing is done twice",
        ),
        Name(
            12,
            "power-loss",
            "power loss: the AOF rolled back by 2 s",
            "lost: only what was acknowledged in the last 2 s of the AOF",
        ),
        Name(
            13, "cut-aof", "the AOF cut in the middle of a command", "lost: only what was acknowledged in the cut tail"
        ),
        Name(
            14,
            "empty-restart",
            "restart with an empty data set",
            "lost: what was in the queue; what is enqueued afterwards is done",
        ),
        Name(15, "debug-sleep", "`DEBUG SLEEP 10` under load", "lost 0; no lease is lost: nothing is done twice"),
        Name(
            16, "stop-redis", "SIGSTOP of redis-server for 3 leases", "lost 0; no lease is lost: nothing is done twice"
        ),
        Name(17, "client-kill", "`CLIENT KILL TYPE normal` every 200 ms", "lost 0, duplicated 0"),
        Name(18, "client-pause", "`CLIENT PAUSE`", "lost 0; nothing is done twice"),
        Name(19, "latency", "latency of 200 ± 150 ms", "lost 0, duplicated 0"),
        Name(
            20, "lost-replies", "the reply lost after the request was carried out, 5% of calls", "lost 0, duplicated 0"
        ),
        Name(
            21,
            "blackhole",
            "a black hole of 15 s: both ways, replies, requests",
            f"lost 0; settlements from after the lease are refused; recovered within {RECOVERED}",
        ),
        Name(
            22,
            "slicer",
            "replies in slices of a few bytes; greenlets that use a Redis client timed out and killed",
            "lost 0; no reply reaches another's caller",
        ),
        Name(23, "cut-bulk-reply", "the connection cut inside a bulk reply", "lost 0, duplicated 0"),
        Name(24, "script-flush", "`SCRIPT FLUSH` every 100 ms", "lost 0, duplicated 0"),
        Name(
            25,
            "sentinel-failover",
            "Sentinel: failover by command, and `kill -9` of the master",
            "lost: only what was acknowledged and not yet replicated",
        ),
        Name(
            26,
            "replica-gone",
            "`min-replicas-to-write 1` with the replica gone",
            "lost 0; enqueues are refused clearly or wait",
        ),
        Name(27, "maxmemory", "maxmemory below what is used", "lost 0; enqueue refused clearly, workers drain on"),
        Name(28, "evicting-policy", "an evicting policy, set at start and live", "warned; lost: whatever is evicted"),
        Name(
            29,
            "refusing-redis",
            "BUSY script, LOADING, MISCONF, READONLY",
            "lost 0; work goes on when Redis serves again",
        ),
        Name(
            30,
            "full-queue",
            "capacity 10, 60 blocked producers, half of them killed, capacity changed",
            "lost 0; depth never above capacity + what was running",
        ),
        Name(31, "maxclients", "maxclients reached", "lost 0; clients wait, and go on when there is room"),
        Name(
            32,
            "clock-steps",
            "the server's clock stepped by an hour either way",
            f"lost 0; no lease is lost to it; what a killed worker ran is recovered within {RECOVERED}",
        ),
        Name(
            33,
            "purge",
            "a million jobs purged while others work",
            "lost 0 of the others, no lease is lost: in another queue, in steps between which others are served",
        ),
        Name(
            34,
            "tampered-records",
            "records tampered with, oversized, deeply nested",
            "each is dead, as bad_record; the worker goes on",
        ),
        Name(35, "forking-task", "a task that forks", "lost 0, duplicated 0: the child settles nothing"),
    )
}

COMPARED = {1: "`kill -9` of a worker every 5 s"}
"""What is another fault in the comparison with other queues: its title there."""
