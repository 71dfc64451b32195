"""Progress: it is sent beside the task, one call at a time, and whatever the store says of it costs no job."""

import time
from typing import Any

import gqueue
from tests.worker.stage import dead, perform, play, tell, until, workers_store


def progress(value: object) -> None:
    """Report, inside a task."""
    current = gqueue.current_job()
    assert current is not None
    current.progress(value)


class Recorder:
    """A queue in memory that notes which reports reach its store; *hook* is called with each before it is kept."""

    def __init__(self, hook: Any = lambda: None) -> None:
        self.queue = gqueue.Queue("q", "memory:", lease=1.5)
        self.sent: list[tuple[str, bytes]] = []
        self.hook, self.most, self._now = hook, 0, 0
        store = workers_store(self.queue)
        self._real = store.report_progress
        store.report_progress = self._report

    def _report(self, worker: str, job_id: str, data: bytes) -> bool:
        self.sent.append((job_id, data))
        self._now += 1
        self.most = max(self.most, self._now)
        try:
            self.hook()
            time.sleep(0.001)
            return self._real(worker, job_id, data)
        finally:
            self._now -= 1


def scene_of_tight_loops() -> dict[str, Any]:
    recorder = Recorder()
    queue = recorder.queue
    seen: list[str] = []

    @queue.task(max_attempts=1)
    def counts() -> str:
        for n in range(20_000):
            progress(n)
        until(lambda: len(seen) == 3)
        return "counted"

    @queue.task(max_attempts=1)
    def says_once() -> str:
        progress("here")
        until(lambda: len(seen) == 3)
        return "said"

    jobs = {job.id: (job, last) for job, last in [(counts.enqueue(), 19_999), (counts.enqueue(), 19_999)]}
    once = says_once.enqueue()
    jobs[once.id] = (once, "here")

    def script(_: Any) -> None:
        for job_id, (job, last) in jobs.items():
            until(lambda job=job, last=last: job.progress() == last)
            seen.append(job_id)
        tell(results=[job.result(timeout=5) for job, _ in jobs.values()])

    code = perform(queue, script)
    return {"code": code, "sent": len(recorder.sent), "most": recorder.most, "first": len(set(recorder.sent[:3]))}


def test_task_that_reports_in_a_tight_loop_has_its_latest_value_kept_and_floods_nobody() -> None:
    scene = play(scene_of_tight_loops)

    assert scene["results"] == ["counted", "counted", "said"]
    assert scene["first"] == 3, "no job is behind another's newer values"
    assert scene["most"] == 1, "one call is in flight"
    assert scene["sent"] < 200, "of 40,001 reports"
    assert scene["code"] == 0


def scene_of_a_full_store() -> dict[str, Any]:
    from gqueue.worker import progress as reports

    reports.PAUSE_S = reports.PAUSE_REFUSED_S = 0.005
    full = [True]

    def refuse() -> None:
        if full[0]:
            raise gqueue.StoreFull("full")

    recorder = Recorder(refuse)
    queue = recorder.queue

    @queue.task(max_attempts=1)
    def reports_on() -> str:
        def say(until_then: Any) -> None:
            until(lambda: (progress("on"), until_then())[1])

        say(lambda: len(recorder.sent) >= 3)
        full[0] = False
        say(lambda: handles[0].progress() == "on")
        full[0], before = True, len(recorder.sent)
        say(lambda: len(recorder.sent) >= before + 3)
        return "done"

    handles = [reports_on.enqueue()]
    code = perform(queue, lambda _: tell(result=handles[0].result(timeout=10)))
    return {"code": code}


def test_full_store_drops_progress_with_one_warning_an_outage_and_the_job_succeeds() -> None:
    scene = play(scene_of_a_full_store)

    assert (scene["result"], scene["code"]) == ("done", 0)
    lines = [line for line in scene.log.splitlines() if "progress" in line]
    assert len(lines) == 2, "there were two outages"
    assert all("gqueue.worker WARNING queue q" in line and "StoreFull" in line for line in lines)
    assert "Traceback" not in scene.log


def scene_of_a_store_that_does_not_answer() -> dict[str, Any]:
    back: list[bool] = []
    recorder = Recorder(lambda: until(lambda: back, 30))
    queue = recorder.queue

    @queue.task(max_attempts=1, timeout=2.0)
    def reports() -> str:
        progress("begun")
        until(lambda: recorder.sent)
        progress("nearly done")
        return "done"

    @queue.task(max_attempts=1)
    def reports_later() -> str:
        progress("later")
        until(lambda: last[0].progress() == "later")
        return "done"

    first = reports.enqueue()
    last: list[Any] = []

    def script(_: Any) -> None:
        results = [first.result(timeout=5)]
        last.append(reports_later.enqueue())
        back.append(True)
        tell(results=[*results, last[0].result(timeout=5)], dead=dead(queue))

    code = perform(queue, script)
    return {"code": code, "sent": [data.decode() for _, data in recorder.sent]}


def test_task_does_not_wait_for_a_store_that_is_silent_and_what_its_attempt_left_is_not_sent() -> None:
    scene = play(scene_of_a_store_that_does_not_answer)

    assert scene["results"] == ["done", "done"]
    assert scene["sent"] == ['"begun"', '"later"']
    assert (scene["dead"], scene["code"]) == ({}, 0)


def scene_of_a_computation() -> dict[str, Any]:
    recorder = Recorder()
    queue = recorder.queue

    @queue.task(max_attempts=1, timeout=20)
    def computes() -> int:
        for n in range(10_000):
            busy_until = time.monotonic() + 0.02
            while time.monotonic() < busy_until:
                pass
            progress(n)
            if len(recorder.sent) >= 3:
                return n
        return 10_000

    job = computes.enqueue()
    return {"code": perform(queue, lambda _: tell(result=job.result(timeout=15)))}


def test_progress_of_a_task_that_only_computes_is_sent_while_it_goes_on() -> None:
    assert play(scene_of_a_computation)["result"] < 40, "of reports every 20 ms; two pauses of 100 ms"


def scene_of_a_bad_payload() -> dict[str, Any]:
    recorder = Recorder()
    queue = recorder.queue

    @queue.task(max_attempts=1)
    def reports() -> str:
        try:
            progress({1, 2})
        except gqueue.BadPayload as bad:
            return str(bad)
        return "taken"

    job = reports.enqueue()
    return {"code": perform(queue, lambda _: tell(result=job.result(timeout=5))), "sent": len(recorder.sent)}


def test_progress_of_a_type_that_cannot_be_sent_is_refused_in_the_task_at_once() -> None:
    scene = play(scene_of_a_bad_payload)

    assert scene["result"].startswith("progress: set")
    assert scene["sent"] == 0
