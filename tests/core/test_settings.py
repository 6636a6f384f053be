"""What of a redis.conf is set live: core/settings.py."""

from __future__ import annotations

from slotwright.core.settings import Change, Wanted, changes, refusals
from slotwright.errors import Severity


def test_only_what_differs_is_known_and_can_be_set_live() -> None:
    wanted = Wanted(
        "a1:7001", {"maxmemory": "10", "hz": "10", "io-threads": "4", "of-tomorrow": "1"}, frozenset(["io-threads"])
    )
    running = {"maxmemory": "0", "hz": "10", "io-threads": "1", "save": ""}
    assert changes(wanted, running) == (Change("a1:7001", "maxmemory", "0", "10"),)
    assert changes(wanted, running | {"maxmemory": "10"}) == ()


def test_less_memory_than_is_used_is_refused_where_writes_would_be_and_told_where_keys_would_go() -> None:
    change = [Change("a1:7001", "maxmemory", "0", "1000")]
    [error] = refusals(change, {"maxmemory-policy": "noeviction"}, 2000)
    assert (error.severity, error.where) == (Severity.ERROR, "node a1:7001")
    [warning] = refusals(change, {"maxmemory-policy": "allkeys-lru"}, 2000)
    assert warning.severity is Severity.WARNING
    policy = Change("a1:7001", "maxmemory-policy", "noeviction", "allkeys-lru")
    [also] = refusals([*change, policy], {"maxmemory-policy": "noeviction"}, 2000)
    assert also.severity is Severity.WARNING
    assert not list(refusals(change, {"maxmemory-policy": "noeviction"}, 1000))
    assert not list(refusals([Change("a1:7001", "maxmemory", "9", "0")], {}, 2000))
