"""Whether a master whose memory is gone may start: what its peers say, and what follows from that."""

from __future__ import annotations

from typing import Any

import pytest

from tests.live.machine import load

ask_peers = load("templates/redis-cluster-ask-peers.py")
ME, REPLICA, OTHER, SECOND = ("a" * 40, "b" * 40, "c" * 40, "d" * 40)
KNOWN = f"""\
{ME} 10.0.0.1:7001@17001 myself,master - 0 0 5 connected 0-99 200 [300->-{OTHER}]
{REPLICA} 10.0.0.2:7001@17001,host-2 slave {ME} 0 0 5 connected
{OTHER} 10.0.0.3:7001@17001 master - 0 0 2 connected 100-199 201-16383
vars currentEpoch 5 lastVoteEpoch 0
"""
ALIVE = {"loading": "0", "aof_enabled": "0", "master_link_status": "down"}


def answer(text: str, who: str, **info: str) -> Any:
    """What node `who` says, with this CLUSTER NODES."""
    lines = [line.replace("myself,", "").split(" ", 3) for line in text.splitlines()]
    seen = (f"{i} {place} {'myself,' if i == who else ''}{flags} {more}" for i, place, flags, more in lines[:-1])
    return ask_peers.Answer(ask_peers.read_nodes("\n".join(seen), tls=False), {**ALIVE, **info})


def judge(answers: dict[str, Any], *, snapshot: bool = False, known: str = KNOWN, **silent: str) -> list[str]:
    nodes = ask_peers.read_nodes(known, tls=False)
    why: list[str] = ask_peers.reasons_to_wait(nodes[ME], nodes, answers, silent, snapshot=snapshot)
    return why


@pytest.mark.parametrize(
    ("info", "snapshot", "reason"),
    [
        ({"db0": "keys=7,expires=0", "master_link_down_since_seconds": "3"}, True, "holds 7 keys and followed it"),
        # The host lost its power: the replica's link still looks up.
        ({"db0": "keys=7,expires=0", "master_link_status": "up"}, True, "holds 7 keys and followed it"),
        ({"db0": "keys=7,expires=0", "master_link_down_since_seconds": "-1"}, False, "has nothing on its disk"),
        ({"db0": "keys=7,expires=0", "master_link_down_since_seconds": "-1", "aof_enabled": "1"}, True, "keeps an AOF"),
        ({"loading": "1"}, True, "is still loading its data"),
        ({"db0": "keys=7,expires=0", "master_link_down_since_seconds": "-1"}, True, None),
        ({"master_link_down_since_seconds": "3"}, False, None),
    ],
    ids=[
        "newer, link noticed",
        "newer, link not noticed",
        "restarted, and nothing here",
        "restarted with an AOF",
        "loading",
        "restarted, and a snapshot here",
        "empty",
    ],
)
def test_a_master_waits_for_a_replica_that_holds_what_it_lost(
    info: dict[str, str], snapshot: bool, reason: str | None
) -> None:
    why = judge({REPLICA: answer(KNOWN, REPLICA, **info), OTHER: answer(KNOWN, OTHER)}, snapshot=snapshot)
    if reason is None:
        assert why == []
    else:
        assert len(why) == 1
        assert why[0].startswith("its replica 10.0.0.2:7001 ")
        assert reason in why[0]


def test_a_replica_that_cannot_be_asked_is_waited_for_with_the_reason() -> None:
    assert judge({OTHER: answer(KNOWN, OTHER)}, **{REPLICA: "Connection refused"}) == [
        "its replica 10.0.0.2:7001 cannot be asked (Connection refused)"
    ]


def test_a_replica_that_only_a_peer_knows_counts_too() -> None:
    more = KNOWN.replace("vars", f"{SECOND} 10.0.0.4:7001@17001 slave {ME} 0 0 5 connected\nvars")
    why = judge({OTHER: answer(more, OTHER), REPLICA: answer(KNOWN, REPLICA)})
    assert why == ["its replica 10.0.0.4:7001 cannot be asked (not asked yet)"]


def test_a_former_replica_that_follows_another_holds_nobody_up() -> None:
    moved = KNOWN.replace(f"slave {ME}", f"slave {OTHER}")
    assert judge({REPLICA: answer(moved, REPLICA, db0="keys=7", master_link_status="up")}) == []


def test_one_peer_who_knows_the_successor_is_enough() -> None:
    after = KNOWN.replace("slave " + ME + " 0 0 5 connected", "master - 0 0 6 connected 0-99 200")
    after = after.replace("master - 0 0 5 connected 0-99 200", f"slave {REPLICA} 0 0 6 connected")
    assert judge({OTHER: answer(after, OTHER)}, **{REPLICA: "timed out"}) == []


def test_a_peer_that_still_knows_the_time_before_us_proves_nothing() -> None:
    before = KNOWN.replace("slave " + ME + " 0 0 5 connected", "master - 0 0 4 connected 0-99 200")
    before = before.replace("master - 0 0 5 connected 0-99 200", f"slave {REPLICA} 0 0 4 connected")
    assert len(judge({OTHER: answer(before, OTHER)}, **{REPLICA: "timed out"})) == 1


def test_without_a_replica_there_is_nobody_to_wait_for() -> None:
    alone = "\n".join(line for line in KNOWN.splitlines() if REPLICA not in line)
    assert judge({}, known=alone) == []


def test_under_tls_the_port_of_tls_is_asked_however_the_version_writes_it() -> None:
    lines = {
        "10.0.0.1:7001@17001": 7001,
        "10.0.0.1:0@17001,,tls-port=7001,shard-id=abc": 7001,
        "10.0.0.1:7001@17001,,tls-port=0,shard-id=abc": 7001,
        "fd00::1:7001@17001": 7001,
    }
    for place, port in lines.items():
        [node] = ask_peers.read_nodes(f"{ME} {place} myself,master - 0 0 1 connected 0-1", tls=True).values()
        assert (node.address, node.port) == (place.split(":7001")[0].split(":0@")[0], port)


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("appendonly no", ["appendonly", "no"]),
        (r'masterauth "a \"b\" \\ \x0a \xc3\xa9"', ["masterauth", 'a "b" \\ \n é']),
        (r"masterauth 'it\'s'", ["masterauth", "it's"]),
        ("  # a comment", ["#", "a", "comment"]),
        ('save ""', ["save", ""]),
    ],
)
def test_redis_conf_is_read_as_redis_reads_it(line: str, words: list[str]) -> None:
    assert ask_peers.split(line) == words


def test_the_later_file_wins() -> None:
    assert ask_peers.read_conf("appendonly yes\n", "# appendonly no\nAppendOnly no\n") == {"appendonly": ["no"]}
