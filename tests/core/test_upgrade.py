"""Which jumps between versions are tried, known to fail, or ways back: the table of core/upgrade.py."""

from __future__ import annotations

import pytest

from slotwright.core.upgrade import TESTED, Version, jump, one_way, path_findings, snapshots
from slotwright.errors import Severity


def redis(version: str) -> Version:
    return "redis", version


def valkey(version: str) -> Version:
    return "valkey", version


@pytest.mark.parametrize(
    ("old", "new", "verdict"),
    [
        (redis("7.0.15"), redis("7.0.15"), "same"),
        (redis("7.2.4"), redis("7.2.16"), "patch"),
        (redis("8.0.2"), redis("8.0.1"), "back"),
        (redis("8.0.2"), redis("7.0.15"), "back"),
        (redis("6.2.14"), redis("7.0.15"), "tested"),
        (redis("7.0.15"), redis("8.0.2"), "tested"),
        (redis("7.0.11"), redis("8.6.6"), "tested"),
        (redis("6.2.14"), redis("7.2.2"), "fails"),
        (redis("7.0.14"), redis("7.2.3"), "fails"),
        (redis("7.0.14"), redis("7.2.7"), "untested"),
        (redis("7.0.14"), redis("7.4.1"), "fails"),
        (redis("7.0.14"), redis("7.4.2"), "untested"),
        (redis("7.2.5"), redis("7.4.2"), "untested"),
        (redis("7.0.15"), valkey("8.0.1"), "fails"),
        (redis("7.0.15"), valkey("9.1.2"), "tested"),
        (redis("7.2.4"), valkey("8.0.1"), "untested"),
        (redis("7.4.2"), valkey("8.1.1"), "fails"),
        (redis("8.0.2"), valkey("9.1.2"), "fails"),
        (valkey("8.0.1"), redis("8.0.2"), "fails"),
        (valkey("8.0.1"), valkey("9.1.2"), "tested"),
    ],
)
def test_what_is_known_of_a_jump(old: Version, new: Version, verdict: str) -> None:
    assert jump(old, new).verdict == verdict
    assert verdict == "same" or jump(old, new).why


def test_a_patch_can_be_undone_and_another_series_cannot() -> None:
    assert not one_way(redis("7.2.4"), redis("7.2.16"))
    assert one_way(redis("7.4.2"), redis("8.0.2"))  # of one snapshot format, but not of the same commands
    assert one_way(redis("7.2.4"), valkey("7.2.4"))


def test_whether_an_old_replica_reads_the_snapshot_of_a_new_master_is_said() -> None:
    assert "cannot read" in snapshots(redis("6.2.14"), redis("7.0.15"))
    assert "one format (12)" in snapshots(redis("7.4.2"), redis("8.0.2"))
    assert "could copy" in snapshots(valkey("8.0.1"), valkey("9.1.2"))
    assert "not known" in snapshots(redis("9.9.9"), redis("10.0.0"))


def test_no_jump_of_the_table_goes_back() -> None:
    for old, new in TESTED:
        assert old[0] != new[0] or old[1] < new[1]


def test_a_jump_that_nobody_has_tried_needs_a_word_and_one_that_fails_gets_none() -> None:
    untried = [(f"a{n}:7001", redis("7.2.4"), redis("8.0.2")) for n in range(5)]
    [error] = path_findings(untried, untested=False)
    assert (error.severity, error.where) == (Severity.ERROR, "nodes a0:7001, a1:7001, a2:7001 and 2 more")
    assert "redis_upgrade_untested=true" in error.remedy
    [warning] = path_findings(untried, untested=True)
    assert warning.severity is Severity.WARNING
    for untested in (True, False):
        [fails] = path_findings([("a:1", redis("6.2.14"), redis("7.2.2"))], untested=untested)
        assert (fails.severity, "12685" in fails.what) == (Severity.ERROR, True)
        [back] = path_findings([("a:1", redis("8.0.2"), redis("7.0.15"))], untested=untested)
        assert "rollback.yml" in back.remedy
