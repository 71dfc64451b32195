"""Which known vulnerabilities a version has."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gqueue.core.check.vulnerabilities import TABLE, known, parse

versions = st.tuples(st.integers(6, 9), st.integers(0, 8), st.integers(0, 25))


def names(software: str, version: str, tls: bool = False) -> set[str]:
    return {name for each in known(software, version, tls=tls) for name in each.names}


@given(software=st.sampled_from(["Redis", "Valkey"]), version=versions)
def test_a_later_release_of_a_branch_has_none_that_an_earlier_had_not_but_by_its_first_version(software, version):
    major, minor, patch = version
    earlier, later = (known(software, f"{major}.{minor}.{each}", tls=True) for each in (patch, patch + 1))
    starts = {each.names for each in TABLE if each.since.get(software) == (major, minor, patch + 1)}
    assert {each.names for each in later} <= {each.names for each in earlier} | starts


@given(version=versions)
def test_version_that_a_vulnerability_names_as_mended_has_it_no_more(version):
    for each in TABLE:
        for software, fixed in each.fixed.items():
            for first in fixed:
                assert each not in known(software, ".".join(map(str, first)), tls=True)


@pytest.mark.parametrize(
    ("version", "has", "has_not"),
    [
        ("6.2.19", "CVE-2025-49844", "CVE-2025-48367"),
        ("6.2.20", None, "CVE-2025-49844"),
        ("7.0.15", "CVE-2025-49844", "CVE-2023-41056"),  # no 7.0 was mended
        ("7.0.8", "CVE-2022-24834", "CVE-2023-41056"),  # that one began with 7.0.9
        ("7.0.9", "CVE-2023-41056", None),
        ("7.0.15", None, "CVE-2026-23479"),  # that one began with 7.2
        ("7.2.13", "CVE-2026-23479", "CVE-2025-49844"),
        ("7.4.2", "CVE-2025-21605", "CVE-2024-46981"),
        ("8.2.1", "CVE-2025-49844", "CVE-2025-48367"),
        ("8.6.3", None, "CVE-2026-23479"),
        ("6.2.6", "CVE-2022-24735", "CVE-2021-32675"),
        ("6.2.5", "CVE-2021-32675", "CVE-2021-29477"),
        ("6.2.5", "CVE-2021-32626", "CVE-2023-36824"),  # that one began with 7.0
        ("6.2.2", "CVE-2021-29477", "CVE-2023-41053"),  # and this one
        ("6.2.8", "CVE-2022-35977", "CVE-2022-24735"),
        ("6.2.10", "CVE-2022-36021", "CVE-2022-35977"),
        ("6.2.11", "CVE-2023-28856", "CVE-2023-25155"),
        ("7.0.7", "CVE-2023-22458", "CVE-2023-28425"),  # that one began with 7.0.8
        ("7.0.9", "CVE-2023-28425", "CVE-2022-36021"),
        ("7.0.10", "CVE-2023-28856", "CVE-2023-28425"),
        ("7.0.11", "CVE-2023-36824", "CVE-2023-28856"),
        ("7.0.12", "CVE-2023-41053", "CVE-2023-36824"),
        ("7.2.0", "CVE-2023-41053", "CVE-2023-28856"),
        ("7.2.1", None, "CVE-2023-41053"),
    ],
)
def test_version_has_what_its_number_tells(version, has, has_not):
    found = names("Redis", version)
    assert has is None or has in found
    assert has_not not in found


def test_branch_that_is_newer_than_all_that_were_mended_has_it_not():
    assert names("Redis", "9.0.0", tls=True) == set()


def test_valkey_is_counted_by_numbers_of_its_own():
    assert "CVE-2025-49844" in names("Valkey", "8.1.3")
    assert names("Valkey", "8.1.9", tls=True) == {"CVE-2026-130822", "CVE-2026-136156"}
    assert names("Valkey", "9.0.2") >= {"CVE-2025-67733", "CVE-2026-27623"}
    assert names("Valkey", "8.1.5") >= {"CVE-2025-67733"}
    assert not names("Valkey", "8.1.6") & {"CVE-2025-67733", "CVE-2026-27623"}
    for mended in ("7.2.16", "8.0.13", "8.1.12", "9.0.8", "9.1.4"):
        assert names("Valkey", mended, tls=True) == set()


def test_flaw_of_tls_is_none_of_a_connection_without():
    assert "CVE-2026-81934" in names("Redis", "7.4.10", tls=True)
    assert "CVE-2026-81934" not in names("Redis", "7.4.10")


def test_what_is_no_version_has_none_that_is_known():
    assert parse("unstable") is None
    assert names("Redis", "unstable") == names("Redis", "") == set()


def test_ids_of_the_table_have_their_form_and_stand_once():
    ids = [name for each in TABLE for name in each.names]
    assert all(re.fullmatch(r"CVE-20\d\d-\d{4,6}", name) for name in ids)
    assert len(set(ids)) == len(ids)
