"""The page of faults is what the stored results make of it; a result that is stored is read again."""

from pathlib import Path

import msgspec
import pytest

from tests.faults import report
from tests.faults.checker import STALE, check
from tests.faults.history import Depth, Event, Expect, Recorder, Run, write_run
from tests.faults.report import Result, between, campaign, judged, peers, remade, runs_below, soak, store, stored
from tests.faults.scenarios.names import NAMES

RUN = Run(
    scenario=str(NAMES[4]), seed=1, short=False, lease_s=3, capacity=10, slots=20, workers=2,
    started="2026-11-24T10:00:00Z", python="3.13.0", redis="7.0.15", gqueue_commit="abc1234", seconds=1800,
    expect=Expect(recovery_s=5.0, overlapping=None, reached=(STALE,)), reached={STALE: 3},
    machine="2 cores", command="python -m tests.faults", fsck=[],
)  # fmt: skip
HISTORY = [
    Event(1, 9, "attempt", "a"),
    Event(2, 9, "ack", "a", "id-a"),
    Event(3_000_000, 1, "start", "a", attempt=1),
    Event(4_000_000, 1, "fault", what="SIGSTOP"),
    Event(3_504_000_000, 2, "start", "a", attempt=2),
    Event(3_505_000_000, 2, "effect", "a", attempt=2),
    Event(3_506_000_000, 2, "end", "a", attempt=2, how="returned"),
    Event(3_600_000_000, 1, "effect", "a", attempt=1),
]


def result(**changes: object) -> Result:
    run = msgspec.structs.replace(RUN, **changes)
    return Result(run, check(HISTORY, run, [Depth(1, 3, 0, 10)]))


def row(text: str, begin: str, table: int = 0) -> list[str]:
    line = [line for line in text.splitlines() if line.startswith(begin)][table]
    return [cell.strip() for cell in line.strip("|").split("|")]


def test_page_of_faults_is_what_the_stored_results_make() -> None:
    page = report.PAGE.read_text()

    assert page == remade(page, stored()), "run `python -m tests.faults.report`"


def test_row_of_a_scenario_sums_its_runs_up() -> None:
    assert row(campaign([result(), result(seed=2)]), "| 4 |")[2:] == [
        "2", "2", "2", f"{STALE} 6", "0", "0", "2", "2", "6", "0", "0", "0", "2", "3.5 / 3.5 / 3.5", "5.0", "holds",
    ]  # fmt: skip


def test_second_table_says_what_must_hold_in_which_rig_and_counts_the_jobs() -> None:
    history = [*HISTORY, Event(3_700_000_000, 9, "attempt", "b"), Event(3_700_000_001, 9, "refused", "b", why="full")]
    run = msgspec.structs.replace(RUN, settings="slots 5")

    table = campaign([Result(run, check(history, run, [Depth(1, 3, 0, 10)])), result(seed=2)])

    assert row(table, "| 4 |", table=1)[1:] == [NAMES[4].bound, "slots 5", "3", "1", "0", "2", "2", "0", "3"]


@pytest.mark.parametrize(("reached", "told"), [({"connections": 7}, "0"), ({"failover": 2}, "-")])
def test_stale_settlements_that_nobody_counted_are_no_zero(reached: dict[str, int], told: str) -> None:
    assert row(campaign([result(reached=reached)]), "| 4 |")[10] == told


def test_table_has_all_35_and_says_which_were_not_run() -> None:
    table = campaign([result()])

    assert [row(table, f"| {number} |")[-1] for number in (3, 4, 35)] == ["not run", "holds", "not run"]
    assert "gqueue at abc1234; Python 3.13.0; redis-server 7.0.15; 2 cores; 2026-11-24; 0.5 hours of runs." in table


def test_run_that_fails_is_told_with_its_findings() -> None:
    failed = result(expect=Expect(overlapping=0, reached=("NOSCRIPT seen",)))

    table = campaign([result(), failed])

    assert row(table, "| 4 |")[-1] == "**fails** in 1 of 2"
    assert "- 04-stop-worker, seed 1:" in table
    assert "  - overlapping: a (id-a): started in process 2" in table
    assert "  - not reached: NOSCRIPT seen" in table


def test_jobs_that_were_overtaken_stand_beside_their_bound_and_results_beside_those_that_are_not_there():
    bounded = msgspec.structs.replace(RUN, expect=Expect(inversions=2))
    history = [
        Event(1, 9, "attempt", "a", kept=60.0),
        Event(2, 9, "ack", "a", "id-a"),
        Event(3, 9, "attempt", "b", priority=1.0, kept=60.0),
        Event(4, 9, "ack", "b", "id-b"),
        Event(2_000_000_000, 1, "start", "b", attempt=1),
        Event(2_000_000_001, 1, "effect", "b", attempt=1),
        Event(2_600_000_002, 1, "start", "a", attempt=1),
        Event(2_600_000_003, 1, "effect", "a", attempt=1),
        Event(2_600_000_004, 0, "result", "a", "id-a", how="right"),
        Event(2_600_000_005, 0, "result", "b", "id-b", how="missing"),
    ]

    free = msgspec.structs.replace(RUN, expect=Expect())

    bounds = [row(campaign([Result(run, check(history, run))]), "| 4 |")[11:13] for run in (bounded, free)]

    assert bounds == [["1 of 2", "1, missing 1"], ["1", "1, missing 1"]]


def test_jobs_that_were_acknowledged_stand_beside_those_that_were_attempted():
    history = [*HISTORY, Event(3_700_000_000, 9, "attempt", "b"), Event(3_700_000_001, 9, "refused", "b", why="full")]

    table = campaign([Result(RUN, check(history, RUN)), result(seed=2)])

    assert row(table, "| 4 |")[3] == "2 of 3"


@pytest.mark.parametrize(
    ("bound_s", "recovered", "cell"),
    [(5.0, True, "5.0"), (None, True, "-"), (5.0, False, "not measured"), (None, False, "nothing to recover")],
)
def test_bound_stands_beside_what_was_recovered_and_where_nothing_was_it_says_so(
    bound_s: float | None, recovered: bool, cell: str
) -> None:
    run = msgspec.structs.replace(RUN, expect=Expect(recovery_s=bound_s, overlapping=None))
    history = HISTORY if recovered else [event for event in HISTORY if event.e != "fault"]

    assert row(campaign([Result(run, check(history, run))]), "| 4 |")[-2] == cell


def test_short_form_is_not_passed_off_as_the_full_one() -> None:
    assert row(campaign([result(short=True)]), "| 4 |")[-1] == "holds (short form)"


def test_soak_has_a_row_a_seed_and_the_mix_of_its_faults() -> None:
    table = soak([result(scenario="soak", seed=5, seconds=1200), result(scenario="soak", seed=6, seconds=1200)])

    assert row(table, "| 5 |")[1] == "20"
    assert "Injected: SIGSTOP 2." in table


def test_other_queues_stand_beside_ours_in_the_form_of_the_comparison() -> None:
    promise = "abandoned jobs are run again (https://python-rq.org)"
    other = result(system="RQ 3.0.0, Retry(max=3)", settings="rq worker", compared=True, promise=promise, drain_s=120)

    table = peers([other, result(compared=True), result(scenario=str(NAMES[9]))])

    lines = [line for line in table.splitlines() if line.startswith("| 4 SIGSTOP")]
    assert [line.split("|")[2].strip() for line in lines] == ["gqueue", "RQ 3.0.0, Retry(max=3)"]
    assert f"| RQ 3.0.0, Retry(max=3) | rq worker | {promise} | 120 |" in table
    assert "| 9 " not in table


def test_fault_that_is_another_in_the_comparison_has_its_own_title_there() -> None:
    table = peers([result(scenario=str(NAMES[1]), compared=True)])

    assert "| 1 `kill -9` of a worker every 5 s | gqueue |" in table


def test_runs_of_the_comparison_are_no_runs_of_the_campaign(tmp_path: Path) -> None:
    results = [result(), result(compared=True), result(compared=True, system="RQ 3.0.0, Retry(max=3)")]
    store(results, tmp_path)

    page = remade(
        "".join(f"<!-- {part}: -->\n<!-- end of {part} -->\n" for part in ("campaign", "soak", "peers")), results
    )

    assert (tmp_path / "peers" / "rq-3.0.0-retry-max-3" / "04-stop-worker.json").exists()
    assert {each.run.system for each in stored(tmp_path)} == {"gqueue", "RQ 3.0.0, Retry(max=3)"}
    assert len(stored(tmp_path)) == 3
    assert row(page, "| 4 | SIGSTOP")[2] == "1"


def test_results_are_stored_a_file_for_each_scenario_of_a_system_and_read_again(tmp_path: Path) -> None:
    results = [result(), result(seed=2), result(system="rq")]
    store(results[:1], tmp_path)
    store(results, tmp_path)

    assert stored(tmp_path) == results
    assert len((tmp_path / "gqueue" / "04-stop-worker.json").read_text().splitlines()) == 4


def test_runs_are_found_and_judged(tmp_path: Path) -> None:
    for name in ("a", "b"):
        producer = Recorder(tmp_path / name, "producer")
        producer.attempt("j")
        producer.ack("j", "id-j")
        write_run(tmp_path / name, RUN)

    assert [judged(folder).verdict.lost for folder in runs_below([tmp_path])] == [1, 1]


def test_page_without_its_markers_is_refused() -> None:
    with pytest.raises(ValueError, match="campaign"):
        between("text", "campaign", "table")
