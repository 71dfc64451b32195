from typing import Any

from benchmarks.reference import of_rounds, spreads

RECORDS: list[dict[str, Any]] = [
    {"cell": "a", "round": 0, "ping_per_s": 10, "jobs_per_s": 30},
    {"cell": "b", "round": 0, "ping_per_s": 100, "jobs_per_s": 40},
    {"cell": "c", "round": 0, "ping_per_s": 20, "jobs_per_s": 50},
    {"cell": "a", "round": 1, "ping_per_s": 7, "jobs_per_s": 60},
]


def test_reference_of_a_run_is_the_median_of_its_round():
    found = of_rounds(RECORDS)

    assert [record["ping_per_s"] for record in found] == [20, 20, 20, 7]
    assert [record["jobs_per_s"] for record in found] == [30, 40, 50, 60]
    assert RECORDS[0]["ping_per_s"] == 10


def test_run_that_does_not_know_its_round_keeps_its_own_reference():
    records = [{"ping_per_s": 10}, {"ping_per_s": 30}]

    assert of_rounds(records) == records


def test_range_of_the_references_is_that_of_all_runs():
    assert spreads(RECORDS) == "PING 15 [7 - 100]/s"
    assert spreads([]) == ""
