"""A queue as its users see it: where tasks are registered, jobs are put in, and the whole is looked after.

Decides settings, names and what an error tells; leaves sending and waiting to this process's `Producer`. Works under
threads and under gevent, and never patches. Constructing a queue does no I/O: it may stand in any module.
"""

import sys
from collections.abc import Callable, Iterable, Mapping
from datetime import timedelta
from functools import partial
from operator import attrgetter
from types import MappingProxyType
from typing import Any, ParamSpec, TypeVar, overload

from gqueue import config
from gqueue.ahead import Ahead
from gqueue.config import (
    DEFAULT_CAPACITY,
    DEFAULT_DURABLE_S,
    DEFAULT_LEASE_S,
    DEFAULT_RESULT_TTL_S,
    QueueSettings,
    Seconds,
    failpoints,
    redis_url,
    shown,
    to_count,
    to_durability,
    to_durable_ms,
    to_ms,
    to_wait_ms,
)
from gqueue.core.model import LONGEST_LEASE_MS, MOVE_LIMIT, Backoff, Rules, Stats, check_name
from gqueue.core.producer import Chunks
from gqueue.errors import BadSetting, DuplicateTask, DurabilityUnconfirmed, QueueFull, StoreFull, StoreUnavailable
from gqueue.failpoints import announce
from gqueue.job import JobHandle, carried
from gqueue.letters import DeadLetters
from gqueue.producer import Batch, Producer, this_process
from gqueue.store import open_store
from gqueue.store.base import Store
from gqueue.store.records import Records
from gqueue.task import PreparedJob, Task, WhenFullName, to_when_full

P = ParamSpec("P")
R = TypeVar("R")


class Queue:
    """A priority queue of jobs in Redis, and the tasks that its jobs may call.

    Args:
        name: of the queue in Redis; all processes that use this name and server share it.
        url: redis://, rediss:// or unix://; redis+sentinel://HOST,HOST,.../SERVICE for a master that sentinels watch;
            `embedded:` for a private server; `memory:` for this process alone. None: GQUEUE_REDIS_URL, else REDIS_URL,
            else redis://localhost:6379/0.
        capacity: most jobs that may wait (ready, scheduled, retried); an operator's `set_capacity` overrules it.
        lease: seconds that a worker may be silent before its jobs run elsewhere.
        result_ttl: seconds that results are kept unless task or job say otherwise; 0: not at all.
        max_payload_bytes: largest record of a job, which holds its arguments.
        max_crashes: a job that lost so many workers is dead.
        aging_per_second: how much a job's priority gains on those enqueued later, a second; 0: order is strict.
        retry_for: seconds that a call goes on when Redis does not answer, or all connections are busy and none is
            given back, before it raises StoreUnavailable; an enqueue with a wait_timeout too, while one without goes
            on until Redis is back.
        wait_timeout: seconds that an enqueue waits for room at most, then QueueFull, unless its options say otherwise;
            None (or math.inf): for ever, through an outage of Redis too. Give one where someone waits, as in a web
            view.
        signing_keys: keys with which records are signed, so that workers run no job of anybody else's: a dict of id ->
            key, or the text ID:KEY,ID:KEY; the first signs, all verify. A key is bytes (16 or more), or a text:
            hex:..., base64:..., or any of 32 characters or more. None: those of GQUEUE_SIGNING_KEYS; {}: none.
        durable: what must have a job before its enqueue is done, unless its options say otherwise: 'replicas:N',
            'fsync' or 'fsync+replicas:N'; None: the server's answer is enough.
        durable_timeout: seconds to wait for that, at most 60, then DurabilityUnconfirmed.
        letters_max, letters_ttl, shed_max: how many dead letters are kept, how long, and how many that were shed.

    Raises:
        BadName, BadSetting: also for a URL that is none; whether anything answers there is not asked here.
    """

    def __init__(
        self,
        name: str,
        url: str | None = None,
        *,
        capacity: int = DEFAULT_CAPACITY,
        lease: Seconds = DEFAULT_LEASE_S,
        result_ttl: Seconds = DEFAULT_RESULT_TTL_S,
        max_payload_bytes: int = 1024 * 1024,
        max_crashes: int = 3,
        aging_per_second: float = 0.0,
        retry_for: Seconds = 10.0,
        wait_timeout: Seconds | None = None,
        signing_keys: Mapping[str, str | bytes] | str | None = None,
        durable: str | None = None,
        durable_timeout: Seconds = DEFAULT_DURABLE_S,
        letters_max: int = 10_000,
        letters_ttl: Seconds = timedelta(days=30),
        shed_max: int = 1_000,
    ) -> None:
        if not 0 <= aging_per_second <= sys.float_info.max:
            raise BadSetting(f"aging_per_second must be a finite number of at least 0, not {shown(aging_per_second)}")
        rules = Rules(
            lease_ms=to_ms("lease", lease, least=0.5, most=LONGEST_LEASE_MS / 1000),
            max_crashes=to_count("max_crashes", max_crashes),
            letters_max=to_count("letters_max", letters_max),
            letters_ms=to_ms("letters_ttl", letters_ttl, least=0.001),
            shed_max=to_count("shed_max", shed_max),
            result_ttl_ms=to_ms("result_ttl", result_ttl),
            aging_per_second=float(aging_per_second),
        )
        durable_ms = to_durable_ms(durable_timeout)
        self.settings = QueueSettings(
            name=check_name("queue", name),
            url=redis_url(url),
            capacity=to_count("capacity", capacity),
            rules=rules,
            max_payload_bytes=to_count("max_payload_bytes", max_payload_bytes, most=64 * 1024 * 1024),
            # Well below the time for which the store knows a call again.
            retry_for_ms=to_ms("retry_for", retry_for, most=300),
            wait_ms=to_wait_ms(wait_timeout),
            failpoints=failpoints(),
            signing_keys=config.signing_keys(signing_keys),
            durable=to_durability(durable, None, None, durable_ms),
            durable_ms=durable_ms,
        )
        self.dead = DeadLetters(self)
        self._records = (self.settings, _records(self.settings))
        self._tasks: dict[str, Task[..., Any]] = {}
        self._producers: dict[tuple[int, int], Producer] = {}

    @property
    def name(self) -> str:
        """Return the queue's name."""
        return self.settings.name

    @property
    def url(self) -> str:
        """Return where its Redis is."""
        return self.settings.url

    # Tasks.

    @property
    def tasks(self) -> Mapping[str, Task[..., Any]]:
        """Return the registered tasks by name."""
        return MappingProxyType(self._tasks)

    @overload
    def task(self, function: Callable[P, R], /) -> Task[P, R]: ...

    @overload
    def task(
        self,
        /,
        *,
        name: str | None = None,
        priority: float = 0.0,
        timeout: Seconds = timedelta(minutes=1),
        max_attempts: int = 3,
        backoff: Backoff | None = None,
        result_ttl: Seconds | None = None,
        sensitive: bool = False,
    ) -> Callable[[Callable[P, R]], Task[P, R]]: ...

    def task(
        self,
        function: Callable[..., Any] | None = None,
        /,
        *,
        name: str | None = None,
        priority: float = 0.0,
        timeout: Seconds = timedelta(minutes=1),
        max_attempts: int = 3,
        backoff: Backoff | None = None,
        result_ttl: Seconds | None = None,
        sensitive: bool = False,
    ) -> Any:
        """Register a function as a task; bare (`@queue.task`) or with options (`@queue.task(priority=-1)`).

        Args:
            name: the function's own unless given.
            priority: of its jobs; lower runs first.
            timeout: seconds (or a timedelta) that an attempt may take.
            max_attempts: attempts before a job is dead.
            backoff: how long to wait between them.
            result_ttl: seconds that results are kept; None: as the queue says.
            sensitive: its arguments and results are shown nowhere: no log line, dead letter or error tells them, and
                of exceptions only types and places are kept.

        Raises:
            NotATask: an `async def`, a generator, a lambda without a name.
            DuplicateTask: the queue has one of that name.
            BadName, BadSetting.
        """

        def register(function: Callable[..., Any]) -> Task[..., Any]:
            task = Task(
                self,
                function,
                name=name,
                priority=priority,
                timeout=timeout,
                max_attempts=max_attempts,
                backoff=backoff,
                result_ttl=result_ttl,
                sensitive=sensitive,
            )
            if self._tasks.setdefault(task.name, task) is not task:
                raise DuplicateTask(f"queue {self.name!r} has a task {task.name!r} already: give one another name=")
            return task

        return register if function is None else register(function)

    # Jobs.

    def enqueue(self, job: PreparedJob[R]) -> JobHandle[R]:
        """Put a prepared job in, by its own policy; `task.enqueue(...)` prepares and enqueues in one.

        Raises QueueFull, StoreFull, DurabilityUnconfirmed; StoreUnavailable, but not if it may wait for ever.
        """
        self._check_own(job)
        when_full, wait_ms, durable = job.terms
        self.producer.admit(Batch((job.new,), durable=durable), when_full, wait_ms)
        return JobHandle(self, job.new.id)

    def enqueue_many(
        self,
        jobs: Iterable[PreparedJob[R]],
        *,
        when_full: WhenFullName | None = None,
        wait_timeout: Seconds | None = None,
        durable: str | None = None,
        durable_timeout: Seconds | None = None,
    ) -> list[JobHandle[R]]:
        """Put many jobs in, in order, one round trip for each 500 jobs or 2 MiB; return their handles.

        *jobs* may be a generator: what one round trip takes along is held at a time, and, of one that is quick and
        not asked inside a task, as much again that it is asked for while that is under way, unless as many as 8 others
        are. It may use the queue.

        Args:
            when_full: for all of them; None: each as prepared.
            wait_timeout: seconds to wait without any of the jobs getting in, then QueueFull; with *when_full* only,
                else it is as prepared. None: as the queue says, which is for ever unless given; math.inf: for ever.
            durable: what must have each round trip's jobs before the next; None: as prepared. See Task.options.
            durable_timeout: seconds to wait for that; with *durable* only.

        Raises:
            QueueFull, StoreFull, StoreUnavailable, DurabilityUnconfirmed: `admitted` holds the ids of those that are
                in. What comes after those that it is about was not sent, be it taken from *jobs* or not. Any other
                error, also one of *jobs* itself, has a note that tells how many are.
        """
        policy = None if when_full is None else to_when_full(when_full)
        if policy is None and wait_timeout is not None:
            raise BadSetting(
                "enqueue_many: give when_full with wait_timeout; else each job waits as it was prepared to"
            )
        if durable is None and durable_timeout is not None:
            raise BadSetting(
                "enqueue_many: give durable with durable_timeout; else each job is as it was prepared to be"
            )
        wait_ms = to_wait_ms(wait_timeout, self.settings.wait_ms)
        safe = to_durability(durable, durable_timeout, None, self.settings.durable_ms)
        handles: list[JobHandle[R]] = []
        producer = self.producer
        try:
            own = map(self._check_own, jobs)
            runs = Ahead(Chunks(own, lambda job: len(job.new.record), attrgetter("terms")))
            for run in runs:
                prepared_policy, prepared_ms, prepared_durable = run[0].terms
                wanted = prepared_durable if durable is None else safe
                batch = Batch([job.new for job in run], handles, wanted, runs.take, runs.taken)
                if policy is None:
                    producer.admit(batch, prepared_policy, prepared_ms)
                else:
                    producer.admit(batch, policy, wait_ms)
                handles.extend(JobHandle(self, job.id) for job in batch.jobs)
        except (QueueFull, StoreFull, StoreUnavailable, DurabilityUnconfirmed):
            raise
        except BaseException as error:
            if handles:
                last = handles[-1].id
                error.add_note(f"gqueue: {len(handles):,} jobs of the batch went in before, the last is {last}")
            raise
        return handles

    def _check_own(self, job: PreparedJob[R]) -> PreparedJob[R]:
        if not isinstance(job, PreparedJob):
            raise BadSetting(f"queue {self.name!r}: {job!r} is not a job; prepare one with task.job(...)")
        if job.queue is not self:
            raise BadSetting(f"queue {self.name!r}: job {job.id} was prepared for queue {job.queue.name!r}")
        return job

    def fetch_job(self, job_id: str) -> JobHandle[Any]:
        """Return the handle of a job by its id; nothing is asked of Redis, so the job need not exist."""
        return JobHandle(self, check_name("job", job_id))

    # Looking after it.

    def stats(self) -> Stats:
        """Return the queue in numbers."""
        return carried(self.store.stats)

    def pause(self) -> None:
        """Let no more jobs be claimed; running ones go on, and producers may enqueue."""
        carried(self.store.pause)

    def resume(self) -> None:
        """Undo pause."""
        carried(self.store.resume)

    def set_capacity(self, capacity: int | None) -> None:
        """Put a capacity in force over what the producers bring; None: theirs again."""
        value = None if capacity is None else to_count("capacity", capacity)
        carried(partial(self.store.set_capacity, value))

    def purge(self) -> None:
        """Drop the jobs that wait (ready and scheduled), the least urgent first; running ones go on."""
        purge = partial(self.store.purge, MOVE_LIMIT)
        left = carried(purge)
        for _ in range(left // MOVE_LIMIT + 1):  # bounded: producers may be as fast
            if left == 0:
                break
            left = carried(purge)

    # This process's part.

    @property
    def producer(self) -> Producer:
        """Return this process's part; a forked child starts anew. Kept for each process: no lock to be forked."""
        process = this_process()
        producer = self._producers.get(process)
        if producer is None:
            producer = self._producers.setdefault(process, Producer(self.settings, self.open_store))
        return producer

    @property
    def store(self) -> Store:
        """Return this process's store, opened on first use."""
        return self.producer.store

    @property
    def records(self) -> Records:
        """Return how its records are written and read, by the settings that it has now."""
        settings, records = self._records
        if settings is not self.settings:
            records = _records(self.settings)
            self._records = self.settings, records
        return records

    def open_store(self) -> Store:
        """Return a store of one's own, with its own connections; the caller closes it."""
        announce(self.settings.failpoints)
        return open_store(self.url, self.name, self.settings.rules, retry_for_ms=self.settings.retry_for_ms)

    def close(self) -> None:
        """Drop this process's connections and end its threads; the next use opens them anew."""
        producer = self._producers.pop(this_process(), None)
        if producer is not None:
            producer.close()

    def __repr__(self) -> str:
        return f"<Queue {self.name!r}>"


def _records(settings: QueueSettings) -> Records:
    return Records(settings.name, settings.max_payload_bytes, settings.signing_keys)
