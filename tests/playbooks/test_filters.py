"""What the filters make of names that an operator types, and of who is stated as removed."""

from __future__ import annotations

from typing import Any

import pytest
from ansible.errors import AnsibleFilterError

from tests.live.machine import load

TWO: dict[str, dict[str, Any]] = {
    "b1": {"redis_cluster_name": "cache", "redis_node_ports": [7001, 7002]},
    "b2": {"redis_cluster_name": "cache"},
    "s1": {"redis_cluster_name": "store"},
}
ONE = {name: TWO[name] for name in ("b1", "b2")}

filters = load("plugins/filter/slotwright.py")


def of_cluster(
    cluster: str, *entries: str, hosts: dict[str, dict[str, Any]] = TWO, strangers_of: str = ""
) -> list[str]:
    found: list[str] = filters.slotwright_of_cluster(entries, cluster, list(hosts), hosts, strangers_of)
    return found


def test_each_cluster_gets_the_hosts_and_instances_that_are_its_own() -> None:
    assert of_cluster("cache", "b1:7002", "s1", "b2") == ["b1:7002", "b2"]
    assert of_cluster("store", "b1:7002", "s1", "b2") == ["s1"]


def test_a_stranger_goes_to_the_cluster_that_is_named_for_it_and_of_several_one_must_be() -> None:
    stranger = "192.0.2.9:6379"
    assert of_cluster("cache", stranger, hosts=ONE) == [stranger]
    for named in ("", "shop"):
        with pytest.raises(AnsibleFilterError, match=r"192\.0\.2\.9:6379 .*redis_remove_from=cache, store"):
            of_cluster("cache", stranger, strangers_of=named)
    assert of_cluster("cache", stranger, strangers_of="store") == []
    assert of_cluster("store", stranger, strangers_of="store") == [stranger]


@pytest.mark.parametrize(
    ("stated", "ports"),
    [
        ({}, [6379]),
        ({"redis_node_ports": [7001, 7002]}, [7001, 7002]),
        ({"redis_node_state": "absent"}, []),
        ({"redis_cluster_absent": ["h", "other"]}, []),
        ({"redis_node_ports": [7001, 7002], "redis_cluster_absent": ["h:7001"]}, [7002]),
        ({"redis_node_ports": [7001], "redis_cluster_absent": ["h:7001"]}, []),
        ({"redis_cluster_absent": ["hh", "h2:6379"]}, [6379]),
        ({"redis_cluster_absent": "h"}, [6379]),
    ],
)
def test_who_is_stated_as_removed_does_not_stay(stated: dict[str, Any], ports: list[int]) -> None:
    assert filters.slotwright_staying_ports("h", {"h": stated}) == ports


def test_a_successor_is_a_host_of_the_same_cluster_that_stays() -> None:
    def problems(successors: str, leaving: str) -> list[str]:
        found: list[str] = filters.slotwright_successor_problems(successors, leaving, list(TWO), TWO)
        return found

    assert problems("b2", "b1") == problems("b1:7002", "b1:7001") == []
    assert "nobody is named" in problems(" , ", "b1")[0]
    assert "b9 is no host" in problems("b9", "b1")[0]
    assert problems("b1:7002", "b1") == ["b1:7002 is itself to leave"]
    assert problems("s1", "b1") == ["they are of several clusters: cache, store"]


def test_the_ports_of_a_host_are_told_from_those_of_others() -> None:
    assert filters.slotwright_ports_at(["b1:7001", "b12:7002", "b1:7003"], "b1") == [7001, 7003]
