"""What preflight says of hosts and of the connections between them: each finding with a case that has it and one that
has not."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from slotwright.core.looked import Disk, Endpoint, Look, Port, WantedHost, WantedInstance, size_in_bytes
from slotwright.core.pair_rules import Proof, Seen, to_prove
from slotwright.core.preflight import Verdict, judge
from slotwright.errors import Finding, Severity

GIB = 2**30
TEMPLATE = (Path(__file__).parents[2] / "templates/redis.conf.j2").read_text()


def instance(port: int = 7001, address: str = "10.0.0.1", **directives: Any) -> WantedInstance:
    return WantedInstance.of(port, address, {"maxmemory": "2gb", **directives}, "/data", "/run")


def host(name: str = "a1", **fields: Any) -> WantedHost:
    """a1 is in zone a and has 10.0.0.1; b2 is in zone b and has 10.0.1.2."""
    address = f"10.0.{ord(name[0]) - ord('a')}.{name[1:]}"
    usual: dict[str, Any] = {
        "cluster": "redis",
        "zone": name[0],
        "address": address,
        "service": "systemd",
        "playing": True,
        "managed": True,
        "firewall": True,
        "any_firewall": True,
        "flavor": "redis",
        "version": "",
        "servers": (),
        "strict_versions": False,
        "log_dir": "/log",
        "accept": (),
        "timeout": 3,
        "instances": (instance(address=address),),
    }
    return WantedHost(name, **{**usual, **fields})


def look(name: str = "a1", **fields: Any) -> Look:
    """A host with nothing to say about it: its Redis runs."""
    usual: dict[str, Any] = {
        "os": "debian",
        "os_version": "12",
        "systemd": True,
        "memory_total": 8 * GIB,
        "memory_available": 4 * GIB,
        "swap_total": GIB,
        "swap_used": 0,
        "swappiness": 1,
        "thp": "madvise",
        "overcommit": 1,
        "somaxconn": 4096,
        "open_files": 1048576,
        "packet_filter": True,
        "cpus": 2,
        "machine_id": f"machine of {name}",
        "boot_id": f"boot of {name}",
        "clock": (-0.1, 0.1),
        "clock_synced": True,
        "disks": (Disk("data", "/data", 50 * GIB, 0, (7001, 7002)), Disk("log", "/log", GIB, 0, ())),
        "server_version": "8.2.9",
        "ports": (Port(7001, "running"),),
    }
    return Look(**{**usual, **fields})


def verdict_of(*hosts: tuple[WantedHost, Look | None]) -> Verdict:
    return judge(Seen([w for w, _ in hosts], {w.name: look for w, look in hosts if look}))


def findings(*hosts: tuple[WantedHost, Look | None]) -> list[tuple[str, Severity]]:
    return [(f.code, f.severity) for f in verdict_of(*hosts).findings]


ERROR, WARNING, INFO = Severity.ERROR, Severity.WARNING, Severity.INFO
FREE = (Port(7001, "free"),)
DOWN = (Port(7001, "down", member=True),)
DATA = ("data", "/data")

# What one host says alone: (finding or None, what the inventory wants, what was seen there).
ONE_HOST: list[tuple[tuple[str, Severity] | None, dict[str, Any], dict[str, Any]]] = [
    (None, {}, {}),
    (("not-looked", ERROR), {}, {"error": "MODULE FAILURE"}),
    (("python", ERROR), {}, {"error": "ansible-core requires a minimum of Python version 3.8. Current version: 3.6"}),
    (("system", ERROR), {}, {"system": "FreeBSD"}),
    (("system", INFO), {}, {"os": "arch", "os_version": None}),
    (("system", INFO), {}, {"os_version": "11"}),
    (("system", INFO), {}, {"os": "ubuntu", "os_version": "24.04"}),
    (("no-systemd", ERROR), {}, {"systemd": False}),
    (None, {"service": "process"}, {"systemd": False}),
    (("port-taken", ERROR), {}, {"ports": (Port(7001, "taken", "pid 1 (nginx) already listens on 10.0.0.1:7001"),)}),
    (("address-not-here", ERROR), {}, {"ports": (Port(7001, "away", "10.0.0.1 is not an address of this host"),)}),
    (("port-unusable", ERROR), {}, {"ports": (Port(7001, "unusable", "permission denied"),)}),
    (None, {}, {"ports": FREE}),
    (("memory", ERROR), {}, {"memory_total": 2 * GIB - 1, "memory_available": 3 * GIB, "ports": FREE}),
    (("memory", WARNING), {}, {"memory_total": 2 * GIB - 1}),
    (("memory", WARNING), {}, {"memory_total": 2 * GIB - 1, "ports": DOWN}),
    (("memory", WARNING), {}, {"memory_total": 2 * GIB - 1, "ports": (Port(7001, "starting"),)}),
    (("memory", WARNING), {}, {"memory_total": 2 * GIB - 1, "ports": (Port(7001, "silent"),)}),
    (("memory-headroom", WARNING), {}, {"memory_total": 3 * GIB - 1}),
    (None, {}, {"memory_total": 3 * GIB}),
    (("memory-in-use", WARNING), {}, {"memory_available": 2 * GIB - 1, "ports": FREE}),
    (None, {}, {"memory_available": 2 * GIB - 1}),
    (("no-maxmemory", INFO), {"instances": (instance(maxmemory=0),)}, {}),
    (("no-maxmemory", INFO), {"instances": (instance(maxmemory=None),)}, {}),
    (("data-disk", ERROR), {}, {"disks": (Disk(*DATA, 2 * GIB - 1, 0, (7001,)),), "ports": FREE}),
    (("data-disk", WARNING), {}, {"disks": (Disk(*DATA, 2 * GIB - 1, 0, (7001,)),)}),
    (("data-disk", WARNING), {}, {"disks": (Disk(*DATA, 2 * GIB - 1, 0, (7001,)),), "ports": DOWN}),
    (("dead-disk", WARNING), {}, {"silent": ("/data/7001",)}),
    (("no-firewall", WARNING), {}, {"packet_filter": False}),
    (None, {"any_firewall": False}, {"packet_filter": False}),
    (("data-disk", WARNING), {}, {"disks": (Disk(*DATA, 8 * GIB - 1, 0, (7001,)),)}),
    (None, {}, {"disks": (Disk(*DATA, 8 * GIB, 0, (7001,)),)}),
    (None, {}, {"disks": (Disk(*DATA, 5 * GIB, 3 * GIB, (7001,)),)}),
    (None, {}, {"disks": (Disk(*DATA, GIB, None, (7002,)),)}),
    (("data-disk", WARNING), {"instances": (instance(save=""),)}, {"disks": (Disk(*DATA, 6 * GIB - 1, 0, (7001,)),)}),
    (None, {"instances": (instance(save=""),)}, {"disks": (Disk(*DATA, 6 * GIB, 0, (7001,)),)}),
    (None, {"instances": (instance(appendonly="no"),)}, {"disks": (Disk(*DATA, 4 * GIB, 0, (7001,)),)}),
    (None, {"instances": (instance(appendonly=False, save=[""]),)}, {"disks": (Disk(*DATA, GIB, 0, (7001,)),)}),
    (("log-disk", WARNING), {}, {"disks": (Disk("log", "/log", 256 * 2**20 - 1, 0, ()),)}),
    (("open-files", WARNING), {}, {"open_files": 10031}),
    (None, {}, {"open_files": 10032}),
    (None, {"instances": (instance(maxclients=500),)}, {"open_files": 1024}),
    (("thp", WARNING), {}, {"thp": "always"}),
    (None, {}, {"thp": "never"}),
    (("overcommit", WARNING), {}, {"overcommit": 0}),
    (("overcommit", WARNING), {}, {"overcommit": 2}),
    (("somaxconn", WARNING), {}, {"somaxconn": 510}),
    (None, {}, {"somaxconn": 511}),
    (("somaxconn", WARNING), {"instances": (instance(**{"tcp-backlog": 5000}),)}, {}),
    (("swappiness", WARNING), {}, {"swappiness": 60}),
    (None, {}, {"swappiness": 60, "swap_total": 0}),
    (("swap-used", WARNING), {}, {"swap_used": GIB // 2}),
    (("cpus", INFO), {}, {"cpus": 1, "ports": (Port(7001, "running"), Port(7002, "running"))}),
    (("time-sync", WARNING), {}, {"clock_synced": False}),
    (("version-floor", WARNING), {}, {"server_version": "8.2.8"}),
    (("version-floor", ERROR), {"strict_versions": True}, {"server_version": "8.2.8", "ports": FREE}),
    (("version-floor", WARNING), {"strict_versions": True}, {"server_version": "8.2.8"}),
    (("version-floor", WARNING), {"strict_versions": True}, {"server_version": "8.2.8", "ports": DOWN}),
    (("version-floor", WARNING), {"version": "7.0.15"}, {"server_version": ""}),
    (None, {"version": "8.2.9"}, {"server_version": ""}),
    (None, {}, {"server_version": ""}),
]


@pytest.mark.parametrize(("expected", "wants", "sees"), ONE_HOST)
def test_a_host_alone(expected: tuple[str, Severity] | None, wants: dict[str, Any], sees: dict[str, Any]) -> None:
    if expected and expected[0] == "cpus":
        wants = {"instances": (instance(7001, maxmemory="1gb"), instance(7002, maxmemory="1gb"))}
    assert findings((host(**wants), look(**sees))) == ([expected] if expected else [])


def test_what_cannot_be_read_raises_no_question() -> None:
    known = {"ports": (Port(7001, "running"),), "os": "debian", "os_version": "12"}
    assert findings((host(), Look(**known))) == []


@pytest.mark.parametrize("directive", ["tcp-backlog", "maxclients"])
def test_defaults_are_those_of_the_template(directive: str) -> None:
    written = re.search(rf'conf\("{directive}", (\d+)\)', TEMPLATE)
    assert written
    found = instance()
    assert {"tcp-backlog": found.tcp_backlog, "maxclients": found.maxclients}[directive] == int(written[1])
    assert 'conf("appendonly", true)' in TEMPLATE
    assert 'conf("save"' not in TEMPLATE


@pytest.mark.parametrize(
    ("written", "bytes_"),
    [("64mb", 64 * 2**20), ("2GB", 2 * GIB), ("1g", 10**9), (1024, 1024), ("100b", 100), ("lots", 0), (None, 0)],
)
def test_sizes_are_read_as_redis_reads_them(written: Any, bytes_: int) -> None:
    assert size_in_bytes(written) == bytes_


def test_what_redis_host_sets_in_this_run_says_so_and_can_be_mended() -> None:
    done = verdict_of((host(), look(thp="always")))
    assert "site.yml sets it (role redis_host)" in done.findings[0].remedy
    assert done.mendable == ("a1",)
    done = verdict_of((host(managed=False), look(thp="always")))
    assert "echo madvise" in done.findings[0].remedy
    assert done.mendable == ()


ONE = {"machine_id": "m", "boot_id": "b"}

# What two hosts say together.
TWO_HOSTS: list[tuple[tuple[str, Severity] | None, dict[str, Any], dict[str, Any], dict[str, Any], dict[str, Any]]] = [
    (None, {}, {}, {}, {}),
    (("same-machine", ERROR), {}, ONE, {}, ONE),
    (None, {}, ONE, {"cluster": "other", "zone": "a"}, ONE),
    (("same-machine", ERROR), {}, ONE, {"cluster": "other"}, ONE),
    (("machine-id", WARNING), {}, {"machine_id": "m"}, {}, {"machine_id": "m"}),
    (("same-kernel", WARNING), {}, {"boot_id": "b"}, {}, {"boot_id": "b"}),
    (("same-kernel", INFO), {}, {"boot_id": "b"}, {"zone": "a"}, {"boot_id": "b"}),
    (None, {}, {"boot_id": "b"}, {"zone": "a", "cluster": "other"}, {"boot_id": "b"}),
    (None, {}, {"machine_id": None, "boot_id": None}, {}, {"machine_id": None, "boot_id": None}),
    (("duplicate-address", ERROR), {}, {"twins": ("10.0.1.1",)}, {}, {}),
    (None, {}, {"twins": ("127.0.0.2",)}, {"address": "127.0.0.2"}, {}),
    (("clock", WARNING), {}, {}, {}, {"clock": (1.2, 1.4)}),
    (("clock", WARNING), {}, {}, {}, {"clock": (-1.4, -1.2)}),
    (("clock", ERROR), {}, {}, {"cluster": "other"}, {"clock": (61.0, 61.5), "ports": FREE}),
    (("clock", WARNING), {}, {}, {}, {"clock": (61.0, 61.5)}),
    (("clock", WARNING), {}, {}, {}, {"clock": (61.0, 61.5), "ports": DOWN}),
    (("not-looked", WARNING), {}, {}, {}, {"error": "Missing sudo password"}),
    (("python", WARNING), {}, {}, {}, {"error": "ansible-core requires a minimum of Python version 3.8"}),
    (None, {}, {}, {}, {"clock": (0.9, 5.0)}),
    (None, {}, {"clock": (-30.0, 0.0)}, {}, {"clock": (0.0, 30.0)}),
    (None, {}, {}, {}, {"clock": None}),
    (("mixed-systems", INFO), {}, {}, {}, {"os_version": "13"}),
    (None, {}, {}, {"cluster": "other"}, {"os_version": "13"}),
    (("mixed-versions", WARNING), {}, {}, {}, {"server_version": "8.4.6"}),
    (None, {}, {}, {}, {"server_version": ""}),
    (("mixed-versions", WARNING), {}, {}, {"version": "8.4.6"}, {"server_version": ""}),
]  # fmt: skip


@pytest.mark.parametrize(("expected", "wants_a", "sees_a", "wants_b", "sees_b"), TWO_HOSTS)
def test_two_hosts_together(
    expected: tuple[str, Severity] | None,
    wants_a: dict[str, Any],
    sees_a: dict[str, Any],
    wants_b: dict[str, Any],
    sees_b: dict[str, Any],
) -> None:
    one, other = host("a1", **wants_a), host("b1", **wants_b)
    assert findings((one, look("a1", **sees_a)), (other, look("b1", **sees_b))) == ([expected] if expected else [])


def test_the_clock_that_is_off_is_the_one_that_most_others_contradict() -> None:
    clocks = {"a1": (4.0, 4.2), "b1": (3.9, 4.1), "c1": (0.0, 0.1), "d1": (4.05, 9.0)}
    [found] = verdict_of(*((host(name), look(name, clock=clock)) for name, clock in clocks.items())).findings
    assert (found.where, found.what) == ("host c1", "its clock is 3.9 s or more behind those of 3 others")


# --- Connections -----------------------------------------------------------------------------------------------------

NAMES = ("a1", "a2", "b1", "b2")
TOKEN = {name: f"token of {name}" for name in NAMES}


def fleet(
    names: tuple[str, ...] = NAMES,
    *,
    free: tuple[str, ...] = (),
    refused: dict[str, set[Endpoint]] | None = None,
    blocked: dict[str, dict[Endpoint, str]] | None = None,
    silent: tuple[str, ...] = (),
    without_listener: tuple[str, ...] = (),
    admitted: dict[str, frozenset[Endpoint]] | None = None,
    **wants: Any,
) -> Seen:
    """Hosts that all see each other, but for what is said here. free: those where no Redis runs."""
    hosts = [
        host(name, **{**wants, "playing": name not in wants.get("left_out", ())} if wants else {}) for name in names
    ]
    looks = {
        name: look(
            name,
            ports=FREE if name in free else (Port(7001, "running"),),
            listener=TOKEN[name] if name in free and name not in without_listener else "",
            refused=frozenset((refused or {}).get(name, ())),
            blocked=(blocked or {}).get(name, {}),
            admitted=(admitted or {}).get(name),
        )
        for name in names
        if name not in silent
    }
    return Seen(hosts, looks)


def at(name: str, port: int = 7001) -> Endpoint:
    return host(name).address, port


def proved(seen: Seen, lasting: tuple[str, ...] = NAMES, **proofs: Proof) -> Seen:
    """The second try, in which every host reads what it should, but for those whose proof is given."""
    fine = {
        name: Proof({(t.address, t.port): t.token for t in targets}, frozenset(), {})
        for name, targets in to_prove(seen).items()
    }
    return replace(seen, proofs={**fine, **proofs}, lasting=frozenset(TOKEN[name] for name in lasting))


def rows(seen: Seen) -> list[tuple[str, str, str]]:
    return [(f.severity.value, f.code, f.where) for f in judge(seen).findings]


NO_ANSWER = "no answer within 3 s"


def test_where_every_redis_runs_and_answers_nothing_is_said_and_nothing_to_be_proved() -> None:
    assert rows(fleet()) == []
    assert to_prove(fleet()) == {}


def test_a_blocked_bus_port_names_the_pair_its_direction_address_and_port() -> None:
    [found] = judge(fleet(blocked={"a1": {at("b2", 17001): NO_ANSWER}})).findings
    assert found == Finding(
        "blocked",
        "a1 → b2",
        "no connection to 10.0.1.2 port 17001 (the cluster bus: 7001 + 10000): no answer within 3 s",
        "open 17001/tcp for a1 (10.0.0.1) in the firewalls of both ends and between; every node needs both ports of "
        "all",
        ERROR,
    )


def blocks(pairs: list[str], *ports: int) -> dict[str, dict[Endpoint, str]]:
    """blocks(["a1 b1"], 7001): from a1 to b1."""
    found: dict[str, dict[Endpoint, str]] = {}
    for source, destination in (pair.split() for pair in pairs):
        found.setdefault(source, {}).update({at(destination, port): NO_ANSWER for port in ports})
    return found


@pytest.mark.parametrize(
    ("pairs", "where"),
    [
        (["a1 b1"], ["a1 → b1"]),
        (["a1 b1", "b1 a1"], ["among a1, b1"]),
        (["a1 b1", "a2 b1", "b2 b1"], ["all others → b1"]),
        (["b1 a1", "b1 a2", "b1 b2"], ["b1 → all others"]),
        (["a1 b1", "a1 b2", "a2 b1", "a2 b2"], ["a1, a2 → b1, b2"]),
        ([f"{s} {d}" for s in NAMES for d in NAMES if s != d], ["every host → every host"]),
        (["a1 b1", "a2 b2"], ["a1 → b1", "a2 → b2"]),
    ],
)
def test_what_is_blocked_by_one_cause_is_one_row(pairs: list[str], where: list[str]) -> None:
    assert [row[2] for row in rows(fleet(blocked=blocks(pairs, 17001)))] == where
    both = judge(fleet(blocked=blocks(pairs, 7001, 17001))).findings
    assert [found.where for found in both] == where
    assert all("ports 7001 and 17001 (the cluster bus: 7001 + 10000)" in found.what for found in both)


@given(st.sets(st.sampled_from([(s, d) for s in NAMES for d in NAMES if s != d])))
def test_rows_say_neither_more_nor_less_than_what_is_blocked(pairs: set[tuple[str, str]]) -> None:
    said = set()
    for _, _, where in rows(fleet(blocked=blocks([" ".join(pair) for pair in pairs], 7001))):
        sources, _, destinations = where.removeprefix("among ").partition(" → ")
        ends = [_named(end, other) for end, other in ((sources, destinations), (destinations or sources, sources))]
        said |= {(s, d) for s in ends[0] for d in ends[1] if s != d}
    assert said == pairs


def _named(words: str, others: str) -> set[str]:
    if words == "every host":
        return set(NAMES)
    return set(NAMES) - _named(others, "") if words == "all others" else set(words.split(", "))


def test_a_port_that_refuses_while_no_redis_runs_is_proved_by_a_second_try() -> None:
    seen = fleet(free=("b1",), refused={name: {at("b1"), at("b1", 17001)} for name in ("a1", "a2", "b2")})
    targets = to_prove(seen)
    assert set(targets) == {"a1", "a2", "b2"}
    assert {(t.host, t.address, t.port, t.token) for t in targets["a1"]} == {
        ("b1", "10.0.1.1", 7001, TOKEN["b1"]),
        ("b1", "10.0.1.1", 17001, TOKEN["b1"]),
    }
    assert rows(proved(seen)) == []


def test_what_nobody_answered_is_blocked_and_not_tried_twice() -> None:
    seen = fleet(free=("b1",), blocked=blocks(["a1 b1"], 17001))
    assert [t.port for t in to_prove(seen)["a1"]] == [7001]
    assert rows(proved(seen)) == [("error", "blocked", "a1 → b1")]


def _proof(said: str | None = None, *, refused: bool = False, why: str = "") -> Proof:
    other = at("b1", 17001)
    heard = {at("b1"): TOKEN["b1"], **({other: said} if said is not None else {})}
    return Proof(heard, frozenset({other} if refused else ()), {other: why} if why else {})


@pytest.mark.parametrize(
    ("proof", "lasting", "row"),
    [
        (_proof(TOKEN["b1"]), NAMES, None),
        (_proof(refused=True), NAMES, ("error", "blocked", "a1 → b1")),
        (_proof(refused=True), (), ("warning", "not-proved", "a1 → b1")),
        (_proof(why=NO_ANSWER), (), ("error", "blocked", "a1 → b1")),
        (_proof("SSH-2.0"), NAMES, ("error", "wrong-machine", "a1 → b1")),
        (_proof(TOKEN["b2"]), NAMES, ("error", "wrong-machine", "a1 → b1")),
        (_proof(""), NAMES, ("error", "wrong-machine", "a1 → b1")),
    ],
)
def test_what_the_second_try_says_decides(
    proof: Proof, lasting: tuple[str, ...], row: tuple[str, str, str] | None
) -> None:
    seen = proved(fleet(free=("b1",)), lasting, a1=proof)
    assert rows(seen) == ([row] if row else [])


def test_a_redis_that_refuses_from_afar_and_not_at_home_is_behind_a_firewall() -> None:
    [found] = judge(fleet(refused={"a1": {at("b1")}})).findings
    assert (found.code, found.where) == ("blocked", "a1 → b1")
    assert "refused although something listens there" in found.what


def test_a_redis_that_refuses_at_home_too_listens_somewhere_else() -> None:
    everybody = {name: {at("b1")} for name in NAMES}
    assert rows(fleet(refused=everybody)) == [("warning", "not-listening", "host b1")]


@pytest.mark.parametrize("state", ["down", "starting", "silent"])
@pytest.mark.parametrize("seen_as", ["refused", "blocked"])
def test_a_redis_that_is_down_or_about_to_start_is_not_proved_to_be_reached_and_stops_nothing(
    state: str, seen_as: str
) -> None:
    seen = fleet(**{seen_as: {"a1": {at("b1", 17001): NO_ANSWER} if seen_as == "blocked" else {at("b1", 17001)}}})
    seen = replace(seen, looks={**seen.looks, "b1": replace(seen.looks["b1"], ports=(Port(7001, state),))})
    assert to_prove(seen) == {}
    assert rows(seen) == [("warning", "not-proved", "a1 → b1")]
    reached = replace(seen, looks={**seen.looks, "a1": look("a1")})
    assert rows(reached) == [], "it is up by now"


def test_where_nobody_could_be_looked_at_it_is_an_error_and_else_nobody_is_held_up() -> None:
    lame = look("a1", error="Missing sudo password")
    alone = verdict_of((host("a1"), lame), (host("b1"), replace(lame)))
    assert [(f.code, f.severity, f.where) for f in alone.findings] == [("not-looked", ERROR, "hosts a1, b1")]
    [found] = verdict_of((host("a1"), lame), (host("b1"), look("b1"))).findings
    assert found.where == "host a1"
    assert found.remedy.endswith("what runs elsewhere is not held up")


def test_a_port_that_something_else_has_is_not_also_said_to_be_blocked() -> None:
    seen = fleet(blocked=blocks(["a1 b1"], 7001))
    taken = replace(seen.looks["b1"], ports=(Port(7001, "taken", "pid 1 (nginx) listens there"),))
    assert rows(replace(seen, looks={**seen.looks, "b1": taken})) == [("error", "port-taken", "host b1")]


def test_a_host_that_does_not_answer_is_one_warning_however_many_pairs_it_is_in() -> None:
    away = {"b1": ["a1 b1", "a2 b1", "b2 b1"]}
    seen = fleet(silent=("b1",), blocked=blocks(away["b1"], 7001, 17001))
    [found] = judge(seen).findings
    assert (found.code, found.severity, found.where) == ("no-answer", WARNING, "host b1")
    assert found.what == "Ansible does not reach it, nor do others reach its Redis ports"
    [found] = judge(fleet(silent=("b1",))).findings
    assert found.what == "Ansible does not reach it, though others reach its Redis ports"


def test_a_host_that_the_run_leaves_out_is_mentioned_only_where_it_is_not_reached() -> None:
    seen = fleet(silent=("b1",))
    seen = replace(seen, wanted=[replace(w, playing=w.name != "b1") for w in seen.wanted])
    assert rows(seen) == []
    blocked = {"a1": replace(seen.looks["a1"], blocked={at("b1"): NO_ANSWER})}
    assert rows(replace(seen, looks={**seen.looks, **blocked})) == [("warning", "no-answer", "host b1")]


def test_hosts_of_different_clusters_need_not_reach_each_other() -> None:
    seen = fleet(names=("a1", "b1"), blocked=blocks(["a1 b1"], 7001))
    two = [replace(w, cluster=w.name) for w in seen.wanted]
    assert rows(replace(seen, wanted=two)) == []


def test_a_firewall_that_redis_host_is_about_to_open_does_not_stop_the_run() -> None:
    blocked = blocks(["a1 b1"], 17001)
    unknown: dict[str, frozenset[Endpoint]] = {"b1": frozenset({("10.0.0.2", 17001)})}
    known: dict[str, frozenset[Endpoint]] = {"b1": frozenset({("10.0.0.1", 17001)})}
    coming = judge(fleet(blocked=blocked, admitted=unknown))
    assert [(f.code, f.severity) for f in coming.findings] == [("blocked", WARNING)]
    assert "site.yml opens it (role redis_host)" in coming.findings[0].remedy
    assert coming.mendable == ("b1",)
    for seen in (fleet(blocked=blocked, admitted=known), fleet(blocked=blocked, admitted=unknown, firewall=False)):
        assert [(f.code, f.severity) for f in judge(seen).findings] == [("blocked", ERROR)]


# --- All of it together ----------------------------------------------------------------------------------------------


def test_the_same_thing_on_many_hosts_is_one_row_and_the_worst_speaks_for_all() -> None:
    seen = {name: look(name, swap_used=GIB // 2 + n) for n, name in enumerate(NAMES)}
    seen["a2"] = look("a2", swap_used=GIB * 3 // 4)
    [found] = verdict_of(*((host(name), one) for name, one in seen.items())).findings
    assert found.where == "all 4 hosts"
    assert found.what.startswith("768 MiB of 1 GiB swap is used")
    assert found.what.endswith("(this is a2, the worst of them)")
    [found] = verdict_of((host("a1"), look("a1", thp="always")), (host("b1"), look("b1"))).findings
    assert found.where == "host a1"


def test_things_that_cannot_be_compared_are_all_told() -> None:
    both = tuple(Port(port, "taken", f"pid 1 (nginx) already listens on 10.0.0.1:{port}") for port in (7001, 7002))
    done = verdict_of((host(), look(ports=both)))
    assert [f.what[-4:] for f in done.findings] == ["7001", "7002"]


SEEN: list[Callable[[str], Look]] = [
    look,
    lambda name: look(name, thp="always"),
    lambda name: look(name, ports=(Port(7001, "taken", "pid 1"),)),
    lambda name: look(name, memory_total=GIB, cpus=1, clock=(9.0, 9.1)),
    lambda name: look(name, machine_id="m", boot_id="b"),
    lambda name: look(name, blocked={at(n, 17001): NO_ANSWER for n in NAMES}),
    lambda name: Look(error="it broke"),
]
CODES = ["thp", "port-taken", "memory", "memory-headroom", "clock", "same-machine", "blocked", "not-looked", "cpus"]


@given(
    st.dictionaries(st.sampled_from(NAMES), st.sampled_from(SEEN), min_size=1),
    st.permutations(NAMES),
    st.sets(st.sampled_from(CODES)),
)
def test_findings_are_sorted_deterministic_and_what_is_accepted_never_stops(
    seen: dict[str, Callable[[str], Look]], order: list[str], accept: set[str]
) -> None:
    def judged(names: tuple[str, ...], accept: set[str]) -> Verdict:
        hosts = [host(name, accept=tuple(accept)) for name in NAMES]
        return judge(Seen(hosts, {name: seen[name](name) for name in names if name in seen}))

    plain, some, every = judged(NAMES, set()), judged(NAMES, accept), judged(NAMES, {*CODES, "no-answer"})
    assert judged(tuple(order), set()) == plain
    ranks = [f.severity.rank for f in plain.findings]
    assert ranks == sorted(ranks)
    assert plain.accepted == ()
    assert not {f.code for f in some.findings} & accept
    assert sorted(map(str, some.findings + some.accepted)) == sorted(map(str, plain.findings))
    assert (every.findings, every.refuses) == ((), False)
    assert all(f.where and f.what and f.remedy for f in plain.findings)


def test_what_one_cluster_accepts_another_does_not() -> None:
    one, other = host("a1", accept=("same-machine",)), host("b1", cluster="other")
    done = verdict_of((one, look("a1", **ONE)), (other, look("b1", **ONE)))
    assert done.refuses
