"""What fits together and what does not, as values; nothing is found in the model, whatever it went through."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gqueue.core.audit import (
    IMPOSSIBLE_SEQUENCE,
    REPAIRS,
    Flaw,
    Held,
    JobSeen,
    KeySeen,
    PlaceSeen,
    TotalsSeen,
    WorkerSeen,
    balance,
    judge_job,
    judge_key,
    judge_place,
    judge_totals,
    judge_worker,
    places_of,
)
from gqueue.core.order import member
from gqueue.core.retry import MAX_DELAY_MS
from gqueue.store.memory import MemoryStore
from tests.programs import Life, programs
from tests.strategies import RULES

WALKS = ("jobs", "ready", "suspects", "scheduled", "dead:jobs", "dead", "shed", "attempts", "crashes")


def all_findings(snapshot, now_ms):
    """Return what the judges say of a snapshot, walk by walk as the audit does it."""
    found = [f for seen in jobs_seen(snapshot) for f in judge_job(seen)]
    held = {worker: len(runs) for worker, runs in snapshot["running"].items()}
    for worker in {
        *snapshot["workers"],
        *snapshot["lapsed"],
        *snapshot["calls"],
        *snapshot["asked"],
        *snapshot["leases"],
        *held,
    }:
        call = snapshot["calls"].get(worker)
        seen = WorkerSeen(
            worker,
            snapshot["workers"].get(worker),
            snapshot["lapsed"].get(worker),
            None if call is None else str(call),
            snapshot["asked"].get(worker),
            held.get(worker, 0),
            None if (lease := snapshot["leases"].get(worker)) is None else str(lease),
        )
        found += judge_worker(seen, now_ms=now_ms, lease_ms=snapshot["meta"]["lease"])
    for rank, number, name, until in snapshot["line"]:
        found += judge_place(PlaceSeen(member(number, name), rank, until))
    meta = {name: str(int(value)) for name, value in snapshot["meta"].items() if value is not None}
    stats = {name: str(total) for name, total in snapshot["counters"].items()}
    sequences = [entry[0] for entry in snapshot["jobs"].values()] + [d[5][0] for d in snapshot["letters"].values()]
    places = [number for _, number, _, _ in snapshot["line"]]
    totals = TotalsSeen(meta, stats, len(snapshot["jobs"]), max(sequences, default=0), max(places, default=0))
    return found + judge_totals(totals)


def jobs_seen(snapshot):
    """Return each job as each walk meets it."""
    scores = {kind: {name: score for score, name in snapshot[kind]} for kind in ("ready", "suspects", "scheduled")}
    names = {
        **{kind: scores[kind] for kind in scores},
        **{kind: snapshot[kind] for kind in ("jobs", "attempts", "crashes", "cancels", "progress")},
        "dead:jobs": snapshot["letters"],
        **{f"running:{worker}": runs for worker, runs in snapshot["running"].items()},
    }
    for walk, met in names.items():
        for name in met:
            job = name[13:] if walk in ("ready", "suspects") else name
            sequence, rank, record = snapshot["jobs"].get(job, (0, 0.0, None))
            letter = snapshot["letters"].get(job)
            shed = letter is not None and letter[1] == "shed"
            yield JobSeen(
                walk,
                name,
                job,
                present=True,
                record="" if record is None else "ok",
                sequence=sequence,
                rank=rank,
                ready=scores["ready"].get(member(sequence, job)),
                suspects=scores["suspects"].get(member(sequence, job)),
                scheduled=scores["scheduled"].get(job),
                runs=tuple(
                    Held(
                        worker, f"{runs[job][0]} {runs[job][1]}", "registered" if worker in snapshot["workers"] else ""
                    )
                    for worker, runs in snapshot["running"].items()
                    if job in runs
                ),
                letter=letter[1] if letter else None,
                dead=letter[0] if letter and not shed else None,
                shed=letter[0] if letter and shed else None,
                attempts=str(snapshot["attempts"][job]) if job in snapshot["attempts"] else None,
                crashes=str(snapshot["crashes"][job]) if job in snapshot["crashes"] else None,
                numbers=(letter[2], letter[3], letter[0]) if letter else (),
            )


@given(program=programs)
def test_nothing_is_found_in_the_model_after_any_operations(program):
    store = MemoryStore("q", RULES)
    life = Life(store)
    life.go(program)

    assert all_findings(store.snapshot(), life.now_ms) == []


SOUND = JobSeen("jobs", "a", "a", True, "ok", 5, 1.0, ready=1.0)
RUN, LAPSED, LOST = Held("w1", "1 5", "registered"), Held("w2", "1 9", "lapsed"), Held("w3", "1 9", "")


@given(
    runs=st.lists(st.sampled_from([RUN, LAPSED, LOST]), unique=True),
    waiting=st.sets(st.sampled_from(["ready", "suspects", "scheduled"])),
    letter=st.sampled_from([None, "failed"]),
)
def test_job_in_one_living_place_is_sound_and_no_other_is(runs, waiting, letter):
    seen = JobSeen("jobs", "a", "a", True, "ok", 5, 1.0, runs=tuple(runs), letter=letter)
    seen = seen._replace(**dict.fromkeys(waiting, 1.0))
    living = len(runs) + len(waiting)

    flaws = [finding.flaw for finding in judge_job(seen)]

    if living == 0:
        assert flaws == [Flaw.NO_PLACE]
    elif living > 1 or letter:
        assert flaws == [Flaw.TWO_PLACES]
    else:
        assert flaws == []


def test_place_that_is_kept_is_the_one_that_goes_on():
    everywhere = SOUND._replace(runs=(LOST, LAPSED, RUN), suspects=1.0, scheduled=1.0, letter="failed")

    assert places_of(everywhere) == (
        *("running:w1", "running:w2", "running:w3"),
        *("suspects", "ready", "scheduled", "dead:jobs"),
    )


def test_of_two_claims_of_a_kind_the_later_is_kept():
    later = Held("w9", "1 6", "registered")

    assert places_of(SOUND._replace(ready=None, runs=(RUN, later))) == ("running:w9", "running:w1")


@pytest.mark.parametrize("walk", WALKS)
def test_what_is_gone_by_the_time_it_is_looked_at_is_no_finding(walk):
    assert judge_job(JobSeen(walk, "a", "a", present=False)) == []


def test_record_that_nobody_can_read_is_left_to_a_worker_that_has_it_in_hand():
    for run, repairable in ((RUN, False), (LAPSED, False), (LOST, True)):
        (finding,) = judge_job(SOUND._replace(ready=None, runs=(run,)), record_is_readable=False)

        assert finding.flaw is Flaw.BAD_RECORD
        assert bool(finding.repair) is repairable


def test_sequence_that_cannot_have_been_given_is_damage():
    for sequence, flaws in ((IMPOSSIBLE_SEQUENCE - 1, []), (IMPOSSIBLE_SEQUENCE, [Flaw.BAD_RECORD])):
        assert [finding.flaw for finding in judge_job(SOUND._replace(sequence=sequence))] == flaws


@pytest.mark.parametrize("score", [math.inf, -math.inf, 2.0])
def test_score_is_the_rank_of_the_record(score):
    assert [finding.flaw for finding in judge_job(SOUND._replace(ready=score))] == [Flaw.WRONG_RANK]


NOW = 1_700_000_000_000
DEAD = JobSeen("dead:jobs", "a", "a", True, letter="failed", dead=5.0, numbers=(1, 0, 5), now_ms=NOW)


@pytest.mark.parametrize(
    ("at", "sound"),
    [(NOW + MAX_DELAY_MS, True), (NOW + MAX_DELAY_MS + 1, False), (math.inf, False), (-math.inf, False), (-1.0, True)],
)
def test_job_is_due_and_has_died_no_further_ahead_than_a_delay_may_be(at, sound):
    due = judge_job(SOUND._replace(ready=None, scheduled=at, now_ms=NOW))
    died = judge_job(DEAD._replace(dead=at, numbers=(1, 0, at)))

    assert [finding.flaw for finding in due] == ([] if sound else [Flaw.NEVER_DUE])
    if at > 0:
        assert [finding.flaw for finding in died] == ([] if sound else [Flaw.BAD_NUMBER])


def test_letter_is_listed_by_the_time_in_it_and_counts_as_scripts_can():
    assert judge_job(DEAD) == []
    assert [f.flaw for f in judge_job(DEAD._replace(dead=6.0))] == [Flaw.WRONG_TIME]
    assert [f.flaw for f in judge_job(DEAD._replace(numbers=(2**53, 0, 5)))] == [Flaw.BAD_NUMBER]
    assert [f.flaw for f in judge_job(DEAD._replace(numbers=(0, 2**53, 5)))] == [Flaw.BAD_NUMBER]


def test_nothing_is_kept_of_a_worker_without_a_name():
    nameless = WorkerSeen("", 5.0, 6.0, "1", "quiet", 3)

    found = judge_worker(nameless, now_ms=0.0, lease_ms=1_000)

    assert [(f.flaw, f.key) for f in found] == [
        (Flaw.NO_WORKER, key) for key in ("workers", "lapsed", "calls", "asked")
    ]


def test_lease_that_ends_within_two_leases_is_sound():
    for until_ms, flaws in ((3_000, []), (3_001, [Flaw.LEASE_AHEAD])):
        seen = WorkerSeen("w1", until_ms, None, "1", None, 0)

        assert [finding.flaw for finding in judge_worker(seen, now_ms=1_000, lease_ms=1_000)] == flaws


def test_fenced_worker_with_or_without_jobs_is_sound():
    for held in (0, 3):
        assert judge_worker(WorkerSeen("w1", None, 5.0, None, None, held), now_ms=1_000, lease_ms=900) == []


@pytest.mark.parametrize(
    ("seen", "flaw"),
    [
        (KeySeen("jobs", "hash", -1, "hash", False), None),
        (KeySeen("result:a", "string", 5, "string", True), None),
        (KeySeen("result:a", "none", -2, "string", True), None),
        (KeySeen("other", "set", -1, "", False), Flaw.UNKNOWN_KEY),
        (KeySeen("jobs", "string", -1, "hash", False), Flaw.WRONG_TYPE),
        (KeySeen("result:a", "string", -1, "string", True), Flaw.NO_TTL),
        (KeySeen("jobs", "hash", 0, "hash", False), Flaw.HAS_TTL),
    ],
)
def test_key_has_the_type_and_the_life_of_its_kind(seen, flaw):
    assert [finding.flaw for finding in judge_key(seen)] == ([flaw] if flaw else [])


@given(st.integers(0, 5), st.integers(0, 5), st.integers(0, 5), st.integers(0, 5))
def test_what_came_in_went_out_or_is_there(enqueued, redriven, succeeded, jobs):
    stats = {"enqueued": str(enqueued), "redriven": str(redriven), "succeeded": str(succeeded), "claimed": "9"}

    surplus = balance(stats, jobs)

    assert surplus == enqueued + redriven - succeeded - jobs
    booked = {**stats, "lost": str(max(0, surplus)), "found": str(max(0, -surplus))}
    assert judge_totals(TotalsSeen({}, booked, jobs)) == []


@pytest.mark.parametrize("text", ["", "x", "1.5", "inf", "-1", "1e3", str(2**53)])
def test_numbers_with_which_scripts_reckon_are_whole_and_small(text):
    assert [f.flaw for f in judge_totals(TotalsSeen({"largest": text}, {}, 0))] == [Flaw.BAD_SETTING]
    assert [f.flaw for f in judge_totals(TotalsSeen({}, {"claimed": text}, 0))] == [Flaw.BAD_TOTAL]


def test_every_flaw_has_a_repair_or_needs_a_person():
    assert set(Flaw) - set(REPAIRS) == {Flaw.UNKNOWN_KEY, Flaw.WRONG_TYPE}
