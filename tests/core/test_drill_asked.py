"""Every way to say what a drill strikes, and what is said where that is not clear."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from slotwright.core.drill_asked import drills
from slotwright.errors import Refused


def cluster(name: str, *places: str) -> dict[str, Any]:
    """places: "zone host port"."""
    parts = [place.split() for place in places]
    return {
        "name": name,
        "instances": [{"name": f"{h}:{p}", "host": h, "zone": z, "port": int(p)} for z, h, p in parts],
    }


PROD = cluster("prod", "a a1 6379", "b b1 6379", "c c1 6379", "a shared 6379")
TEST = cluster("test", "a t1 7001", "d d1 7001", "a shared 7001")
NUMBERED = cluster("numbered", "1 10 6379", "2 20 6379")
ALL = [PROD, TEST, NUMBERED]


@pytest.mark.parametrize(
    ("said", "name", "asked"),
    [
        ({"zone": "b"}, "prod", [{"zone": "b"}]),
        ({"zone": "d"}, "test", [{"zone": "d"}]),
        ({"zone": "a", "cluster": "test"}, "test", [{"zone": "a"}]),
        ({"zone": "a", "cluster": "prod"}, "prod", [{"zone": "a"}]),
        ({"host": "b1"}, "prod", [{"host": "b1"}]),
        ({"host": "shared", "cluster": "test"}, "test", [{"host": "shared"}]),
        ({"instance": "c1:6379"}, "prod", [{"instance": "c1:6379"}]),
        ({"instance": "shared:7001"}, "test", [{"instance": "shared:7001"}]),
        ({"sequence": ["b", "c"]}, "prod", [{"zone": "b"}, {"zone": "c"}]),
        ({"sequence": ["c", "b", "a"]}, "prod", [{"zone": "c"}, {"zone": "b"}, {"zone": "a"}]),
        ({"sequence": "b, c,"}, "prod", [{"zone": "b"}, {"zone": "c"}]),
        ({"sequence": "d"}, "test", [{"zone": "d"}]),
        ({"sequence": ["a", "d"]}, "test", [{"zone": "a"}, {"zone": "d"}]),
        ({"zone": 1}, "numbered", [{"zone": "1"}]),
        ({"sequence": [1, 2]}, "numbered", [{"zone": "1"}, {"zone": "2"}]),
        ({"host": 20}, "numbered", [{"host": "20"}]),
        ({"zone": "b", "host": "", "instance": None, "sequence": [], "cluster": "", "confirm": "x"}, "prod",
         [{"zone": "b"}]),
    ],
    ids=str,
)  # fmt: skip
def test_what_is_said_is_what_is_struck(said: dict[str, Any], name: str, asked: list[dict[str, str]]) -> None:
    assert drills(said, ALL) == (name, asked)


SAY_ONE = "drill_zone=…, -e drill_host=…, -e drill_instance=<host:port>, or drill_sequence"
LOOK = "see playbooks/info.yml"


@pytest.mark.parametrize(
    ("said", "code", "what", "remedy"),
    [
        ({}, "what-to-strike", "nothing is named", SAY_ONE),
        ({"cluster": "prod"}, "what-to-strike", "nothing is named", SAY_ONE),
        ({"zone": "", "sequence": " , "}, "what-to-strike", "nothing is named", SAY_ONE),
        ({"zone": "b", "host": "b1"}, "what-to-strike", "more than one thing", SAY_ONE),
        ({"zone": "b", "instance": "b1:6379"}, "what-to-strike", "more than one thing", SAY_ONE),
        ({"zone": "b", "sequence": ["b"]}, "what-to-strike", "more than one thing", SAY_ONE),
        ({"zone": "b", "host": "b1", "instance": "b1:6379", "sequence": "b"}, "what-to-strike", "more than", SAY_ONE),
        ({"zone": "x"}, "what-to-strike", "has no zone x", LOOK),
        ({"zone": "B"}, "what-to-strike", "has no zone B", LOOK),
        ({"zone": "b1"}, "what-to-strike", "has no zone b1", LOOK),
        ({"host": "b"}, "what-to-strike", "has no host b", LOOK),
        ({"instance": "b1"}, "what-to-strike", "has no instance b1", LOOK),
        ({"instance": "b1:7001"}, "what-to-strike", "has no instance b1:7001", LOOK),
        ({"sequence": ["b", "x"]}, "what-to-strike", "has no zone b, zone x", LOOK),
        ({"sequence": ["b", "d"]}, "what-to-strike", "has no zone b, zone d", LOOK),
        ({"zone": "b", "cluster": "test"}, "what-to-strike", "has no zone b", LOOK),
        ({"zone": "b", "cluster": "other"}, "what-to-strike", "has no zone b", LOOK),
        ({"zone": "a"}, "which-cluster", "several clusters have it: prod, test", "drill_cluster=prod"),
        ({"host": "shared"}, "which-cluster", "several clusters have it: prod, test", "drill_cluster=prod"),
    ],
    ids=str,
)
def test_what_is_not_clear_is_refused_and_told_how_to_say_it(
    said: dict[str, Any], code: str, what: str, remedy: str
) -> None:
    with pytest.raises(Refused) as refused:
        drills(said, ALL)
    [finding] = refused.value.findings
    assert finding.code == code
    assert what in finding.what
    assert remedy in finding.remedy
    assert finding.where == (f"cluster {said['cluster']}" if "has no" in what and "cluster" in said else
                             "the inventory" if "has no" in what else "drill")  # fmt: skip


def test_an_inventory_without_clusters_has_nothing_to_strike() -> None:
    with pytest.raises(Refused, match="has no zone a"):
        drills({"zone": "a"}, [])


@given(
    st.fixed_dictionaries(
        {},
        optional={
            "zone": st.sampled_from(["", "a", "b", "x", 1]),
            "host": st.sampled_from(["", "b1", "shared", "x"]),
            "instance": st.sampled_from(["", "b1:6379", "shared:7001", "x:1"]),
            "sequence": st.one_of(st.sampled_from(["", "a,b", "x"]), st.lists(st.sampled_from(["a", "b", "d", "x"]))),
            "cluster": st.sampled_from(["", "prod", "test", "x"]),
        },
    )
)
def test_whatever_is_said_it_is_refused_or_every_part_is_of_the_cluster(said: dict[str, Any]) -> None:
    try:
        name, asked = drills(said, ALL)
    except Refused as refused:
        assert all(f.what and f.where and f.remedy for f in refused.findings)
        return
    assert said.get("cluster") in (None, "", name)
    [found] = [c for c in ALL if c["name"] == name]
    for one in asked:
        [(part, value)] = one.items()
        assert value in {i["name" if part == "instance" else part] for i in found["instances"]}
    others = [c for c in ALL if c is not found and not said.get("cluster")]
    for other in others:
        places = {(k, str(v)) for i in other["instances"] for k, v in (*i.items(), ("instance", i["name"]))}
        assert not {pair for one in asked for pair in one.items()} <= places
