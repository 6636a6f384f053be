"""What creating and converging a cluster promises, on real nodes that are blank, live, or half-made."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import redis

from slotwright.core.redis_conf import DEFAULT_SETTINGS
from slotwright.core.steps import AssignSlots, Meet, Replicate, Step
from slotwright.core.view import ClusterView
from slotwright.errors import SlotwrightError
from slotwright.link.access import Access, Tls
from slotwright.link.apply import _Run, _unmet
from tests.core.build import topology
from tests.core.worlds import serving
from tests.live.clusters import (
    Role,
    Site,
    assert_sound,
    know_each_other,
    meet,
    run_module,
    site_of,
    start_site,
    without_haste,
)
from tests.live.servers import Monitor, Servers, binary, digest, wait_until
from tests.live.test_connect import Certificates

LOOPBACK = "127.27"
SIX = {
    "a1:7000": Role("", "0-5461"),
    "a2:7000": Role("c1:7000", ""),
    "b1:7000": Role("", "5462-10922"),
    "b2:7000": Role("a1:7000", ""),
    "c1:7000": Role("", "10923-16383"),
    "c2:7000": Role("b1:7000", ""),
}
"""What becomes of six nodes in three zones, however they are found."""


# --- From blank nodes -----------------------------------------------------------------------------------------------


def test_six_nodes_in_three_zones_become_a_sound_cluster_with_the_settings_they_had(servers: Servers) -> None:
    site = start_site(servers)
    settings = site.settings()
    outcome = site.converge()
    assert outcome.changed
    assert site.roles() == SIX
    assert site.settings() == settings
    assert_sound(site)


def test_a_second_run_changes_nothing_and_sends_no_mutating_command(servers: Servers) -> None:
    site = start_site(servers)
    site.converge()
    without_haste(site)
    before = digest(site.nodes)
    with Monitor(site.nodes) as monitor:
        outcome = site.converge()
    assert not outcome.changed
    assert outcome.plan.steps == ()
    assert monitor.mutating == []
    assert digest(site.nodes) == before


def test_check_mode_tells_the_very_plan_and_layout_of_the_run_and_changes_nothing(servers: Servers) -> None:
    site = start_site(servers)
    before = digest(site.nodes)
    with Monitor(site.nodes) as monitor:
        foretold = site.foresee()
    assert monitor.mutating == []
    assert digest(site.nodes) == before
    done = site.converge()
    assert done.plan == foretold.plan
    assert {m.name: (m.peer.slots, m.peer.master) for m in foretold.after.members.values()} == {
        m.name: (m.peer.slots, m.peer.master) for m in done.after.members.values()
    }
    assert site.foresee().plan.steps == ()


def test_one_step_at_a_time_ends_with_the_same_cluster(servers: Servers) -> None:
    site = start_site(servers)
    outcome = site.converge(parallel=1)
    assert len(outcome.log) == len(outcome.plan.steps)
    assert site.roles() == SIX


def test_a_meeting_that_got_lost_is_asked_for_again(servers: Servers, monkeypatch: pytest.MonkeyPatch) -> None:
    """As on a busy machine, where a handshake took longer than the nodes wait for it."""
    site = start_site(servers)
    send = _Run._send
    lost: list[Step] = []

    def lose_the_first(run: _Run, steps: Sequence[Step], view: ClusterView) -> None:
        meetings = [] if lost else [step for step in steps if isinstance(step, Meet)]
        lost.extend(meetings)
        send(run, [step for step in steps if step not in meetings], view)

    monkeypatch.setattr(_Run, "_send", lose_the_first)
    monkeypatch.setattr("slotwright.link.apply.MEET_AGAIN", 1.0)
    site.converge()
    assert lost
    assert_sound(site)


def test_a_meeting_of_which_one_side_alone_heard_counts_as_lost() -> None:
    view = serving(topology({"a": [1, 1], "b": [1, 1], "c": [1, 1]}))
    met = Meet("c2:7001", ("a1:7001",))
    assert not _unmet(met, view)
    for deaf, other in (("a1:7001", "c2:7001"), ("c2:7001", "a1:7001")):
        unknown = view.by_name[other].id
        nodes = [
            replace(n, peers=tuple(p for p in n.peers if p.id != unknown)) if n.name == deaf else n for n in view.nodes
        ]
        assert _unmet(met, replace(view, nodes=tuple(nodes)))


def test_nodes_that_are_not_started_yet_are_foreseen_as_blank_ones(servers: Servers) -> None:
    site = start_site(servers)
    for node in site.nodes[2:]:
        node.kill()
    foretold = site.foresee()
    assert [f.where for f in foretold.findings if f.code == "to-be-started"] == [
        f"node {name} ({node.name})" for name, node in list(site.servers.items())[2:]
    ]
    for node in site.nodes[2:]:
        node.restart()
    site.converge()
    roles = {m.name: str(m.peer.slots) for m in foretold.after.members.values()}
    assert roles == {name: role.slots for name, role in site.roles().items()}


@pytest.mark.parametrize(
    ("zones", "replicas"),
    [
        ({"a": (2, 2), "b": (2, 2), "c": (2, 2)}, 1),
        ({"a": (1, 1, 1), "b": (1, 1, 1), "c": (1, 1, 1)}, 2),
        ({"a": (3,), "b": (3,), "c": (3,)}, 2),
        ({"a": (1, 1), "b": (1, 1), "c": (1, 1), "d": (1, 1), "e": (1, 1)}, 1),
        ({"a": (1,), "b": (1,), "c": (1,)}, 0),
    ],
    ids=["two-instances-a-host", "two-replicas", "one-host-a-zone", "five-zones", "no-replicas"],
)
def test_other_inventories_become_sound_clusters_too(
    zones: dict[str, tuple[int, ...]], replicas: int, servers: Servers
) -> None:
    site = start_site(servers, zones, replicas=replicas)
    settings = site.settings()
    site.converge()
    assert site.settings() == settings
    assert_sound(site)
    assert not site.converge().changed


def test_nodes_with_a_password(servers: Servers) -> None:
    site = start_site(
        servers, config={"requirepass": "sesame", "masterauth": "sesame"}, access=Access(password="sesame")
    )
    site.converge()
    assert site.roles() == SIX
    assert_sound(site)
    assert not site.converge().changed


def test_nodes_that_speak_tls_only_also_among_themselves(servers: Servers, tmp_path: Path) -> None:
    ours = Certificates(tmp_path / "ours", servers.address())
    site = start_site(
        servers,
        config={**ours.config, "tls-cluster": True, "tls-replication": True},
        access=Access(tls=Tls(ours.ca, ours.cert, ours.key)),
    )
    site.converge()
    assert site.roles() == SIX
    assert_sound(site)
    assert not site.converge().changed


def test_nodes_of_redis_6_2(servers: Servers) -> None:
    site = start_site(servers, binary=binary("6.2.14"))
    settings = site.settings()
    site.converge()
    assert site.roles() == SIX
    assert site.settings() == settings
    assert_sound(site)
    assert not site.converge().changed


# --- As an Ansible module -------------------------------------------------------------------------------------------


def call_module(site: Site, directory: Path, *, check: bool) -> dict[str, Any]:
    """What redis_cluster returns to Ansible."""
    arguments = {
        "name": site.topology.name,
        "instances": [
            {"name": i.name, "host": i.host, "zone": i.zone, "address": i.address, "port": i.port}
            for i in site.topology.instances
        ],
        "settings": dict(site.topology.settings),
        "_ansible_check_mode": check,
        "_ansible_diff": True,
        "_ansible_remote_tmp": str(directory),
    }
    done = run_module(arguments)
    assert done.returncode == 0, done.stdout + done.stderr
    result: dict[str, Any] = json.loads(done.stdout)
    return result


def test_the_module_does_check_run_check_run(servers: Servers, tmp_path: Path) -> None:
    site = start_site(servers)
    before = digest(site.nodes)
    foretold = call_module(site, tmp_path, check=True)
    assert foretold["changed"]
    assert digest(site.nodes) == before
    done = call_module(site, tmp_path, check=False)
    assert done["changed"]
    for key in ("plan", "plan_text", "layout_text", "survival_text", "diff"):
        assert done[key] == foretold[key]
    assert [row["survives"] for row in done["survival"]] == [True] * 3
    assert site.roles() == SIX
    for check in (True, False):
        again = call_module(site, tmp_path, check=check)
        assert not again["changed"]
        assert again["plan"] == []
        assert again["diff"]["before"] == again["diff"]["after"] == done["diff"]["after"]


# --- To a cluster that lives ----------------------------------------------------------------------------------------


def test_blank_nodes_join_a_live_cluster_as_replicas_and_it_is_neither_hurried_nor_loses_a_key(
    servers: Servers,
) -> None:
    six = start_site(servers)
    six.converge()
    settings = six.settings()
    cluster = redis.RedisCluster(six.nodes[0].address, six.nodes[0].port, decode_responses=True)
    keys = {f"key-{n}": f"value-{n}" for n in range(1000)}
    for key, value in keys.items():
        cluster.set(key, value)
    config = {**DEFAULT_SETTINGS}
    eight = six.resized({name: servers.start(config=config) for name in ("a3:7000", "b3:7000")}, shards=3)
    with Monitor(eight.nodes) as monitor:
        outcome = eight.converge()
    assert [step.node for step in outcome.plan.steps if isinstance(step, Replicate)] == ["a3:7000", "b3:7000"]
    assert [seen for seen in monitor.mutating if seen.command == "config|set"] == []
    assert six.settings() == settings
    roles = eight.roles()
    assert {name: roles[name] for name in SIX} == SIX
    assert all(roles[name].master[0] not in ("", name[0]) for name in ("a3:7000", "b3:7000"))
    assert {key: cluster.get(key) for key in keys} == keys
    cluster.close()
    assert not eight.converge().changed


# --- From half-made ones --------------------------------------------------------------------------------------------


def assign(site: Site, *names: str) -> None:
    """Planned slots of these masters."""
    for step in site.foresee().plan.steps:
        if isinstance(step, AssignSlots) and step.node in names:
            site[step.node].call("CLUSTER", "ADDSLOTS", *step.slots)


def epochs(site: Site, *names: str) -> None:
    for number, name in enumerate(names, start=1):
        site[name].call("CLUSTER", "SET-CONFIG-EPOCH", number)


def some_slots_are_assigned(site: Site) -> None:
    site["a1:7000"].call("CLUSTER", "ADDSLOTS", *range(1000), *range(2000, 2100))
    assign(site, "c1:7000")


def two_groups_have_met(site: Site) -> None:
    epochs(site, *SIX)
    know_each_other(site, "a1:7000", "b1:7000", "c2:7000")
    know_each_other(site, "a2:7000", "c1:7000")


def nodes_have_met_without_a_config_epoch(site: Site) -> None:
    assign(site, "a1:7000", "b1:7000", "c1:7000")
    know_each_other(site, "a1:7000", "b1:7000", "c1:7000")


def one_replica_is_attached(site: Site) -> None:
    epochs(site, *SIX)
    assign(site, "a1:7000")
    know_each_other(site, *SIX)
    site["b2:7000"].call("CLUSTER", "REPLICATE", site["a1:7000"].id())


def gossip_is_under_way(site: Site) -> None:
    epochs(site, *SIX)
    assign(site, "a1:7000", "b1:7000", "c1:7000")
    meet(site, *SIX)


def a_node_crashed_and_came_back(site: Site) -> None:
    one_replica_is_attached(site)
    for name in ("a1:7000", "c2:7000"):
        site[name].kill()
        site[name].restart()


def a_master_serves_without_replicas(site: Site) -> None:
    epochs(site, *SIX)
    assign(site, "a1:7000", "b1:7000", "c1:7000")
    know_each_other(site, *SIX)
    wait_until("the cluster serves", lambda: "cluster_state:ok" in site["a1:7000"].call("CLUSTER", "INFO"))


def a_dead_run_left_its_haste(site: Site) -> None:
    one_replica_is_attached(site)
    hurry(site, "a1:7000", "b2:7000", "c2:7000")


def hurry(site: Site, *names: str) -> None:
    for name in names:
        site[name].call("CONFIG", "SET", "cluster-node-timeout", 500)
        site[name].call("CONFIG", "SET", "cluster-replica-no-failover", "yes")
        site[name].call("CONFIG", "SET", "repl-diskless-sync-delay", 0)


HALF_MADE = [
    some_slots_are_assigned,
    two_groups_have_met,
    nodes_have_met_without_a_config_epoch,
    one_replica_is_attached,
    gossip_is_under_way,
    a_node_crashed_and_came_back,
    a_master_serves_without_replicas,
    a_dead_run_left_its_haste,
]


@pytest.mark.parametrize("half_made", HALF_MADE, ids=lambda state: state.__name__.replace("_", "-"))
def test_what_was_half_made_is_finished_as_if_it_had_been_made_in_one_go(
    half_made: Callable[[Site], None], servers: Servers
) -> None:
    site = start_site(servers)
    settings = site.settings()
    half_made(site)
    assert site.converge().changed
    assert site.roles() == SIX
    assert site.settings() == settings
    assert_sound(site)
    assert not site.converge().changed


def test_the_haste_of_a_dead_run_is_taken_from_a_cluster_that_is_complete(servers: Servers) -> None:
    site = start_site(servers)
    settings = site.settings()
    site.converge()
    hurry(site, *SIX)
    foretold = site.foresee().plan
    assert len(foretold.steps) == 6
    assert site.converge().plan == foretold
    assert site.settings() == settings
    assert_sound(site)


# --- What cannot be finished ----------------------------------------------------------------------------------------


def test_a_replica_that_its_master_does_not_let_in_fails_the_run_by_name_and_the_haste_is_taken_back(
    servers: Servers,
) -> None:
    password = {"requirepass": "sesame", "masterauth": "sesame"}
    site = start_site(servers, config=password, access=Access(password="sesame"), timeout=3.0)
    site["b2:7000"].call("CONFIG", "SET", "masterauth", "wrong")
    settings = site.settings()
    for _ in range(2):
        begun = time.monotonic()
        with pytest.raises(SlotwrightError, match="b2:7000 is not in sync with its master yet") as failed:
            site.converge()
        assert time.monotonic() - begun < 15
        assert [f.code for f in failed.value.findings] == ["timeout"]
        assert site.settings() == settings
    site["b2:7000"].call("CONFIG", "SET", "masterauth", "sesame")
    site.patient(30).converge()
    assert site.roles() == SIX
    assert_sound(site)


def test_a_node_that_dies_in_the_middle_fails_the_run_by_name_and_the_next_run_finishes(servers: Servers) -> None:
    site = start_site(servers, timeout=5.0)
    settings = site.settings()
    victim = site["c2:7000"]
    gone = threading.Event()

    def die_once_met() -> None:
        wait_until("the nodes meet", lambda: "cluster_known_nodes:1\r" not in victim.call("CLUSTER", "INFO"))
        victim.kill()
        gone.set()

    threading.Thread(target=die_once_met, daemon=True).start()
    with pytest.raises(SlotwrightError, match="c2:7000"):
        site.converge()
    assert gone.wait(10)
    living = site_of({name: node for name, node in site.servers.items() if node is not victim}, shards=3)
    assert living.settings() == {name: settings[name] for name in living.servers}
    victim.restart()
    site.patient(30).converge()
    assert site.roles() == SIX
    assert site.settings() == settings
    assert_sound(site)
