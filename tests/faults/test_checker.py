"""The checker finds nothing in a correct history, and exactly what was planted in one that is not.

A history is made of jobs of few shapes: refused, indeterminate, done at once, killed before or after the effect, dead.
Each attempt that is killed runs in a process of its own, the others share two; what is expected is counted while the
jobs are made.
"""

from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest
from attrs import define, field
from hypothesis import given
from hypothesis import strategies as st

from tests.faults.checker import SHOWN, STALE, Verdict, check, check_folder, quantile_s
from tests.faults.history import Depth, Event, Expect, Kind, Recorder, Run, write_run
from tests.faults.scenarios.names import NAMES

MS = 1_000_000
BOUND_S = 3.0
RUN = Run(
    scenario=str(NAMES[1]), seed=1, short=True, lease_s=1.5, capacity=10, slots=20, workers=2, started="",
    python="", redis="", gqueue_commit="", seconds=1, expect=Expect(), reached={STALE: 3, "fault": 1}, fsck=[],
)  # fmt: skip
PRODUCER, RIG, ALIVE = 100, 200, (1, 2)
LEAST = 9.0
"""The priority of a job that never starts and is to be overtaken by nobody."""


@define
class Story:
    """A history under construction, and what must come of it."""

    events: list[Event] = field(factory=list)
    samples: list[Depth] = field(factory=list)
    run: Run = RUN
    killed: int = 1000
    duplicated: int = 0
    recovered: int = 0
    dead: int = 0
    results: int = 0
    refused: int = 0
    indeterminate: int = 0
    started: int = 1

    def tell(self, at_ms: int, e: Kind, pid: int, **fields: object) -> None:
        self.events.append(Event(t=at_ms * MS, pid=pid, e=e, **fields))  # type: ignore[arg-type]

    def admit(self, job: str, at_ms: int, priority: float = 0.0, kept: float = 0.0) -> None:
        self.tell(at_ms, "attempt", PRODUCER, job=job, priority=priority, kept=kept)
        self.tell(at_ms + 1, "ack", PRODUCER, job=job, id=f"id-{job}")

    def doom(self, job: str, at_ms: int) -> None:
        """Enqueue a job of which both attempts raise."""
        self.tell(at_ms, "attempt", PRODUCER, job=job, priority=LEAST, doomed="failed")
        self.tell(at_ms + 1, "ack", PRODUCER, job=job, id=f"id-{job}")
        for attempt in (1, 2):
            self.tell(at_ms + 100 * attempt, "start", 1, job=job, attempt=attempt)
            self.tell(at_ms + 100 * attempt + 10, "end", 1, job=job, attempt=attempt, how="raised")

    def do(self, job: str, at_ms: int, pid: int, attempt: int = 1, for_ms: int = 10) -> None:
        self.tell(at_ms, "start", pid, job=job, attempt=attempt)
        self.tell(at_ms + for_ms - 1, "effect", pid, job=job, attempt=attempt)
        self.tell(at_ms + for_ms, "end", pid, job=job, attempt=attempt, how="returned")

    def kill(self, job: str, at_ms: int, attempt: int, *, after_effect: bool) -> int:
        """Start an attempt in a process of its own, and kill that 20 ms later; return its pid."""
        self.killed += 1
        self.tell(at_ms, "start", self.killed, job=job, attempt=attempt)
        if after_effect:
            self.tell(at_ms + 10, "effect", self.killed, job=job, attempt=attempt)
        self.tell(at_ms + 20, "fault", self.killed, what="kill -9")
        self.tell(at_ms + 25, "died", self.killed, how="-9")
        return self.killed

    def expect(self, **changes: object) -> None:
        import msgspec

        self.run = msgspec.structs.replace(self.run, expect=msgspec.structs.replace(self.run.expect, **changes))

    def verdict(self) -> Verdict:
        return check(sorted(self.events, key=lambda event: event.t), self.run, self.samples)


@st.composite
def stories(draw: st.DrawFn) -> Story:
    """Return a correct history of up to five jobs, `j0` among them: done, in one attempt."""
    story = Story()
    story.admit("j0", 5_000)
    story.do("j0", 5_010, 1)
    for number in range(1, draw(st.integers(1, 5))):
        job, at_ms = f"j{number}", draw(st.integers(1, 300)) * 10  # 0 is never
        shape = draw(st.sampled_from(["refused", "unknown", "silent", "ran", "done", "done", "dead"]))
        if shape == "refused":
            story.tell(at_ms, "attempt", PRODUCER, job=job)
            story.tell(at_ms + 1, "refused", PRODUCER, job=job, why="QueueFull")
            story.refused += 1
            continue
        if shape in {"unknown", "silent", "ran"}:
            story.tell(at_ms, "attempt", PRODUCER, job=job)
            if shape == "unknown":
                story.tell(at_ms + 1, "unknown", PRODUCER, job=job, why="StoreUnavailable")
            story.indeterminate += 1
        else:
            kept = draw(st.sampled_from([0.0, 600.0]))
            story.admit(job, at_ms, kept=kept)
            if kept:
                story.tell(
                    70_000, "result", RIG, job=job, id=f"id-{job}", how="right" if shape == "done" else "missing"
                )
                story.results += shape == "done"
        if shape in {"unknown", "silent"}:
            continue
        story.started += 1
        at_ms += draw(st.integers(0, 90)) * 10
        effects = 0
        attempts = 3 if shape == "dead" else draw(st.integers(1, 3))
        for attempt in range(1, attempts + (shape == "dead")):
            after_effect = draw(st.booleans())
            story.kill(job, at_ms, attempt, after_effect=after_effect)
            effects += after_effect
            story.recovered += attempt < 3 or shape != "dead"
            at_ms += 20 + draw(st.integers(3, int(BOUND_S * 100))) * 10
        if shape == "dead":
            story.tell(60_000, "dead", RIG, job=job, id=f"id-{job}", reason="worker_lost")
            story.dead += 1
        else:
            story.do(job, at_ms, draw(st.sampled_from(ALIVE)), attempts)
            effects += 1
        story.duplicated += effects > 1
    depth = st.integers(0, 12)
    story.samples = [Depth(t, draw(depth), 2, 10) for t in range(draw(st.integers(1, 3)))]
    story.expect(
        duplicated=story.duplicated, dead={"worker_lost": story.dead}, depth_over=2,
        recovery_s=BOUND_S if story.recovered else None,
        inversions=0, reached=("fault",),
    )  # fmt: skip
    return story


@given(stories())
def test_a_correct_history_has_no_finding_and_is_counted(story: Story) -> None:
    verdict = story.verdict()

    assert verdict.findings == ()
    assert verdict.ok
    assert verdict.duplicated == story.duplicated
    assert len(verdict.recovery_ms) == story.recovered
    assert all(value <= BOUND_S * 1000 for value in verdict.recovery_ms)
    assert (verdict.refused, verdict.indeterminate) == (story.refused, story.indeterminate)
    assert verdict.started == story.started
    assert verdict.max_depth == max(sample.depth for sample in story.samples)
    assert verdict.attempted == verdict.refused + verdict.indeterminate + verdict.acknowledged
    assert verdict.dead == ({"worker_lost": story.dead} if story.dead else {})
    assert (verdict.results, verdict.missing_results, verdict.wrong_results) == (story.results, 0, 0)
    assert verdict.stale_refused == 3
    assert verdict.faults == ({"kill -9": story.killed - 1000} if story.killed > 1000 else {})


def lost(story: Story) -> str:
    story.admit("x", 100, LEAST)
    return "lost: x (id-x)"


def lost_after_its_start(story: Story) -> str:
    story.admit("x", 100)
    story.kill("x", 200, 1, after_effect=False)
    return "lost: x (id-x)"


def lost_that_was_done_by_its_producers_word_only(story: Story) -> str:
    story.admit("x", 100)
    story.tell(200, "start", 1, job="x", attempt=1)
    story.tell(210, "end", 1, job="x", attempt=1, how="returned")
    return "lost: x (id-x)"


def lost_long_before_any_fault(story: Story) -> str:
    story.expect(lost=None, lost_within_s=2.0)
    story.admit("x", 50_000)
    story.admit("y", 50_500)
    story.tell(52_100, "fault", 0, what="power loss")
    return "lost of old: x (id-x)"


def lost_after_the_last_fault_was_over(story: Story) -> str:
    story.expect(lost=None, lost_within_s=86_400.0)
    story.tell(80_000, "fault", 0, what="emptied")
    story.tell(80_050, "attempt", PRODUCER, job="w")
    story.tell(80_100, "heal", RIG, what="emptied")
    story.tell(80_101, "ack", PRODUCER, job="w", id="id-w")  # called for while it lasted: may be lost
    story.admit("x", 80_200)
    return "lost of old: x (id-x)"


def lost_long_after_any_fault(story: Story) -> str:
    story.expect(lost=None, lost_within_s=2.0, lost_after_s=1.5)
    story.tell(50_000, "fault", 0, what="failover")
    story.tell(51_000, "heal", 0, what="failover")
    story.admit("x", 52_501)
    story.admit("y", 52_400)
    return "lost of old: x (id-x)"


def lost_of_those_that_must_not_be(story: Story) -> str:
    story.expect(lost=None, never_lost="d")
    story.admit("x", 100, LEAST)
    story.admit("d1", 100, LEAST)
    return "lost though kept: d1 (id-d1)"


def phantom(story: Story) -> str:
    story.do("x", 100, 1)
    return "phantom: x"


def acknowledged_out_of_nothing(story: Story) -> str:
    story.tell(100, "ack", PRODUCER, job="x", id="id-x")
    story.do("x", 200, 1)
    return "phantom: x (id-x)"


def duplicated(story: Story) -> str:
    story.expect(unexplained=None)
    story.do("j0", 5_100, 2, attempt=2)
    return "duplicated: "


def unexplained(story: Story) -> str:
    story.expect(duplicated=None)
    story.do("j0", 5_100, 2, attempt=2)
    return "unexplained: j0 (id-j0): effects in process 1 at "


def done_twice_after_it_was_taken_back(story: Story) -> str:
    story.expect(duplicated=None)
    story.admit("x", 100)
    story.kill("x", 200, 1, after_effect=True)
    story.do("x", 1_000, 1, attempt=2)
    story.do("x", 1_100, 2, attempt=3)
    return "unexplained: x (id-x): effects in process 1 at "


def overlapping(story: Story) -> str:
    story.tell(5_015, "start", 2, job="j0", attempt=2)
    story.tell(5_018, "end", 2, job="j0", attempt=2, how="interrupted")
    return "overlapping: j0 (id-j0): started in process 2"


def overlapping_with_one_that_is_stopped(story: Story) -> str:
    story.expect(recovery_s=None)
    story.admit("x", 100)
    story.tell(200, "start", 7, job="x", attempt=1)
    story.tell(210, "fault", 7, what="SIGSTOP")
    story.do("x", 2_000, 1, attempt=2)
    story.tell(3_000, "heal", 0, what="SIGSTOP")
    story.tell(3_001, "end", 7, job="x", attempt=1, how="interrupted")
    return "overlapping: x (id-x): started in process 1"


def wrong(story: Story) -> str:
    story.tell(100, "attempt", PRODUCER, job="x")
    story.tell(101, "refused", PRODUCER, job="x", why="QueueFull")
    story.do("x", 200, 1)
    return "wrong: x: refused (QueueFull), and started"


def unfinished(story: Story) -> str:
    story.admit("x", 100, LEAST)
    story.tell(60_000, "waiting", RIG, job="x")
    return "unfinished: x (id-x)"


def deeper(story: Story) -> str:
    story.samples.append(Depth(10, 13, 2, 10))
    return "depth: 3 jobs above the capacity, at most 2"


def nothing_recovered(story: Story) -> str:
    story.events = [event for event in story.events if event.job == "j0" and event.e != "result"]
    story.expect(recovery_s=BOUND_S)
    return "no recovery: no job was hit"


def late(story: Story) -> str:
    story.expect(recovery_s=BOUND_S)
    story.admit("w", 50)
    story.do("w", 60, 2)
    story.admit("x", 100)
    story.kill("x", 200, 1, after_effect=False)
    story.do("x", 220 + 3_010, 1, attempt=2)
    return "late: x (id-x): hit by kill -9"


def late_after_all_were_hit(story: Story) -> str:
    story.expect(recovery_s=BOUND_S)
    story.admit("x", 100)
    story.tell(200, "start", 1, job="x", attempt=1)
    story.tell(210, "fault", 0, what="kill redis")
    story.tell(900, "end", 1, job="x", attempt=1, how="interrupted")
    story.tell(1_000, "heal", 0, what="kill redis")
    story.do("x", 1_000 + 3_010, 1, attempt=2)
    return "late: x (id-x): hit by kill redis"


def not_reached(story: Story) -> str:
    story.run = evolve_run(story.run, reached={"fault": 0})
    return "not reached: fault"


def dead_and_not_expected(story: Story) -> str:
    story.admit("x", 100, LEAST)
    story.tell(60_000, "dead", RIG, job="x", id="id-x", reason="failed")
    return "dead as failed: x (id-x)"


def dead_too_often(story: Story) -> str:
    story.expect(dead={"worker_lost": story.dead, "failed": 1})
    for job in ("x", "y"):
        story.admit(job, 100, LEAST)
        story.tell(60_000, "dead", RIG, job=job, id=f"id-{job}", reason="failed")
    return "dead as failed: "


def out_of_order(story: Story) -> str:
    story.admit("x", 20_000)
    story.admit("y", 20_000, priority=5)
    story.do("y", 21_002, 1)
    story.do("x", 21_503, 1)
    return "order: 1 jobs overtook a better one, 0 expected; first y (id-y) before x (id-x)"


def last_in_first_out(story: Story) -> str:
    story.admit("x", 20_000)
    story.admit("y", 20_002)
    story.do("y", 21_003, 1)
    story.do("x", 21_504, 1)
    return "order: 1 jobs overtook a better one, 0 expected; first y (id-y) before x (id-x)"


def earlier_than_its_delay(story: Story) -> str:
    story.tell(20_000, "attempt", PRODUCER, job="x", delay=0.5)
    story.tell(20_001, "ack", PRODUCER, job="x", id="id-x")
    story.do("x", 20_400, 1)
    return "early: x (id-x): started at "


def earlier_than_it_asked_for(story: Story) -> str:
    story.admit("x", 20_000)
    story.tell(20_100, "start", 1, job="x", attempt=1)
    story.tell(20_110, "end", 1, job="x", attempt=1, how="raised", delay=0.1)
    story.do("x", 20_200, 1, attempt=2)
    return "early: x (id-x): started at "


def no_back_off(story: Story) -> str:
    for number in range(20):
        job, at_ms = f"x{number}", 20_000 + 100 * number
        story.admit(job, at_ms)
        story.tell(at_ms + 2, "start", 1, job=job, attempt=1)
        story.tell(at_ms + 10, "end", 1, job=job, attempt=1, how="raised", backoff=0.05)
        story.do(job, at_ms + (34 if number else 36), 1, attempt=2)
    return "early: 19 of 20 attempts"


def result_missing(story: Story) -> str:
    story.admit("x", 100, kept=60.0)
    story.do("x", 200, 1)
    story.tell(60_200, "result", RIG, job="x", id="id-x", how="missing")
    return "missing result: x (id-x)"


def result_that_nobody_asked_for(story: Story) -> str:
    story.admit("x", 100, kept=60.0)
    story.do("x", 200, 1)
    return "missing result: x (id-x)"


def result_wrong(story: Story) -> str:
    story.expect(missing=None)
    story.admit("x", 100, kept=60.0)
    story.do("x", 200, 1)
    story.tell(60_200, "result", RIG, job="x", id="id-x", how="wrong")
    return "wrong result: x (id-x)"


def keys_amiss(story: Story) -> str:
    story.run = evolve_run(story.run, fsck=["job j0 is in ready and running"])
    return "fsck: job j0"


def keys_not_looked_at(story: Story) -> str:
    story.run = evolve_run(story.run, fsck=None)
    return "fsck: nobody audited the keys"


def depth_not_looked_at(story: Story) -> str:
    story.samples.clear()
    return "depth: nobody looked at it"


def not_as_it_must(story: Story) -> str:
    story.run = evolve_run(story.run, problems=["worker 1 ended by itself with 1"])
    return "problem: worker 1"


def buried_for_another_reason(story: Story) -> str:
    story.doom("x", 100)
    story.tell(60_000, "dead", RIG, job="x", id="id-x", reason="timed_out")
    return "dead as timed_out: x (id-x)"


def lost_after_its_last_attempt(story: Story) -> str:
    story.doom("x", 100)
    return "lost: x (id-x)"


def tardy_after_its_delay(story: Story) -> str:
    story.expect(tardy_s=2.0)
    story.tell(20_000, "attempt", PRODUCER, job="x", delay=0.5)
    story.tell(20_001, "ack", PRODUCER, job="x", id="id-x")
    story.do("x", 22_510, 1)
    return "tardy: x (id-x): started at "


def tardy_after_it_asked_for_another(story: Story) -> str:
    story.expect(tardy_s=2.0)
    story.admit("x", 20_000)
    story.tell(20_100, "start", 1, job="x", attempt=1)
    story.tell(20_110, "end", 1, job="x", attempt=1, how="raised", delay=0.1, backoff=0.1)
    story.do("x", 22_320, 1, attempt=2)
    return "tardy: x (id-x): started at "


def evolve_run(run: Run, **changes: object) -> Run:

    return msgspec.structs.replace(run, **changes)


PLANTS: list[Callable[[Story], str]] = [
    lost, lost_after_its_start, lost_that_was_done_by_its_producers_word_only, lost_long_before_any_fault,
    lost_long_after_any_fault, lost_after_the_last_fault_was_over, lost_of_those_that_must_not_be, phantom,
    acknowledged_out_of_nothing, duplicated, unexplained, done_twice_after_it_was_taken_back,
    overlapping, overlapping_with_one_that_is_stopped, wrong, unfinished,
    deeper, nothing_recovered, late, late_after_all_were_hit, not_reached, dead_and_not_expected,
    dead_too_often, out_of_order, last_in_first_out, earlier_than_its_delay, earlier_than_it_asked_for, no_back_off,
    result_missing, result_that_nobody_asked_for, result_wrong, keys_amiss, keys_not_looked_at, depth_not_looked_at,
    not_as_it_must, buried_for_another_reason, lost_after_its_last_attempt, tardy_after_its_delay,
    tardy_after_it_asked_for_another,
]  # fmt: skip


@pytest.mark.parametrize("plant", PLANTS)
@given(story=stories())
def test_what_was_planted_is_found_and_nothing_else(plant: Callable[[Story], str], story: Story) -> None:
    expected = plant(story)

    verdict = story.verdict()

    assert not verdict.ok
    assert any(finding.startswith(expected) for finding in verdict.findings), verdict.findings
    kind = expected.split(":")[0]
    assert {finding.split(":")[0] for finding in verdict.findings} == {kind}


def test_empty_run_is_a_finding() -> None:
    assert check([], RUN).findings == ("empty: no job was acknowledged, so the run shows nothing",)


def test_of_many_findings_of_a_kind_the_first_are_told_and_all_are_counted() -> None:
    story = Story()
    for number in range(SHOWN + 3):
        story.admit(f"j{number}", number)

    findings = story.verdict().findings

    assert len(findings) == SHOWN + 1
    assert findings[-1] == f"lost: {SHOWN + 3} jobs in all, at most 0 expected"


def test_recovery_is_judged_of_those_that_wait_for_no_more_urgent_ones() -> None:
    story = Story()
    story.expect(recovery_s=BOUND_S)
    for job, priority, back_ms in (("x", 0.0, 3_010), ("y", -1.0, 2_990)):
        story.admit(job, 100, priority)
        story.kill(job, 200, 1, after_effect=False)
        story.do(job, 220 + back_ms, 1, attempt=2)

    assert (story.verdict().findings, len(story.verdict().recovery_ms)) == ((), 1)


def test_what_may_be_lost_is_counted_and_is_no_finding() -> None:
    story = Story()
    story.admit("x", 100)
    story.tell(2_000, "fault", 0, what="power loss")
    story.expect(lost=None, lost_within_s=2.0)

    verdict = story.verdict()

    assert (verdict.ok, verdict.lost) == (True, 1)


@pytest.mark.parametrize(("asked_ms", "missing"), [(60_208, 1), (60_210, 0)])
def test_result_whose_time_has_passed_is_not_missed(asked_ms: int, missing: int) -> None:
    story = Story()
    story.admit("x", 100, kept=60.0)
    story.do("x", 200, 1)
    story.tell(asked_ms, "result", RIG, job="x", id="id-x", how="missing")

    assert story.verdict().missing_results == missing


def test_jobs_that_wait_when_the_capacity_is_lowered_are_not_above_it_and_what_comes_in_is() -> None:
    story = Story()
    story.admit("x", 100)
    story.do("x", 200, 1)
    story.expect(depth_over=0)
    story.samples = [Depth(1, 80, 0, 100), Depth(2, 81, 0, 10), Depth(3, 60, 0, 10), Depth(4, 5, 0, 10)]
    assert story.verdict().ok

    story.samples.insert(3, Depth(4, 61, 0, 10))
    assert [finding.split(":")[0] for finding in story.verdict().findings] == ["depth"]


@pytest.mark.parametrize(
    ("times", "share", "expected"),
    [((), 0.5, None), ((1000,), 0.99, 1.0), ((1000, 2000, 3000), 0.5, 2.0), (tuple(range(1, 101)), 0.99, 0.099)],
)
def test_quantile_is_a_time_that_was_measured(times: tuple[int, ...], share: float, expected: float | None) -> None:
    assert quantile_s(times, share) == expected


def test_folder_of_a_run_is_judged(tmp_path: Path) -> None:
    producer, worker = Recorder(tmp_path, "producer"), Recorder(tmp_path, "worker")
    producer.attempt("a")
    producer.ack("a", "id-a")
    with worker.running("a", 1):
        worker.effect("a", 1)
    write_run(tmp_path, RUN)

    verdict = check_folder(tmp_path)

    assert (verdict.ok, verdict.succeeded) == (True, 1)
    assert msgspec.json.decode(msgspec.json.encode(verdict), type=Verdict) == verdict
