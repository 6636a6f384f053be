"""What a live cluster says it may lose is what it may lose, and what it names as a remedy makes a yes of the no."""

from __future__ import annotations

import json
from typing import Any

import pytest

from slotwright.core.survival import loss
from slotwright.manager import handover, survival
from slotwright.manager.handover import Asked
from slotwright.manager.info import examine
from tests.live.clusters import Site
from tests.live.servers import Monitor, Servers, layout, wait_until
from tests.live.test_handover import masters, replica_of, start_cluster

LOOPBACK = "127.59"


@pytest.fixture
def site(servers: Servers) -> Site:
    return start_cluster(servers)


def asked(site: Site) -> dict[str, Any]:
    with site.links() as links:
        return survival.result(site.request, examine(site.request, links), inventory="inventory/prod")


def lost(told: dict[str, Any], part: str) -> list[str]:
    return [row["lost"] for row in told[part] if not row["survives"]]


def fail_over_to(site: Site, name: str) -> None:
    """By a raw command, as an operator does it who forgets the zones."""
    site[name].call("CLUSTER", "FAILOVER")
    wait_until(f"{name} is a master", lambda: site[name].call("ROLE")[0] == "master")
    site.wait_quiet()


def test_a_healthy_cluster_may_lose_any_zone_and_any_host_and_is_not_touched(site: Site) -> None:
    before = [layout(node) for node in site.nodes]
    with Monitor(site.nodes) as watch:
        told = asked(site)
    assert watch.mutating == []
    assert [layout(node) for node in site.nodes] == before
    assert told["survives"] is True
    assert [row["lost"] for row in told["zones"]] == ["a", "b", "c"]
    assert (lost(told, "zones"), lost(told, "hosts"), told["remedies"]) == ([], [], [])
    assert len(told["pairs"]) == 15
    # Two masters at once, or a master and its replica, are too many.
    pairs = {f"{one[:2]} + {other[:2]}" for one in masters(site) for other in masters(site) if one < other}
    pairs |= {" + ".join(sorted((one[:2], replica_of(site, one)[:2]))) for one in masters(site)}
    assert {row["lost"] for row in told["pairs_lost"]} == pairs
    assert told["text"][0] == "Cluster test: any zone and any host may be lost"
    assert json.loads(json.dumps(told)) == told


def test_what_it_says_of_a_zone_is_what_becomes_of_it(site: Site) -> None:
    """The zone of a master is killed: every slot is served again with nobody's help, as it was foretold."""
    view = site.look()
    zone = masters(site)[0][0]
    names = [i.name for i in site.topology.instances if i.zone == zone]
    foretold = loss(f"zone {zone}", names, site.topology, view)
    assert foretold.survives and foretold.slots_left == 16384
    for name in names:
        site[name].kill()
    rest = [node for node in site.nodes if node.alive]

    def served() -> bool:
        return all("cluster_state:ok" in node.call("CLUSTER", "INFO") for node in rest)

    wait_until("it is noticed", lambda: not served(), timeout=10)
    wait_until("every slot is served again", served, timeout=20)
    after = asked(site)
    assert after["survives"] is False
    assert {way["kind"] for way in after["remedies"]} <= {"start", "site", "empty", "wait"}


def test_a_stopped_replica_is_named_and_once_it_is_started_the_answer_is_yes(site: Site) -> None:
    one = masters(site)[0]
    replica = replica_of(site, one)
    site[replica].stop()
    told = asked(site)
    assert told["survives"] is False
    assert (lost(told, "zones"), lost(told, "hosts")) == ([one[0]], [one[:2]])
    for way in told["remedies"]:
        assert (way["kind"], way["remedy"]) == ("start", f"start {replica}")
        assert f"({one}: its replica {replica} does not answer)" in way["what"]
    assert f"  remedy: as for zone {one[0]}" in told["text"]

    site[replica].restart()
    site.wait_quiet()
    assert asked(site)["survives"] is True


def test_masters_that_drifted_into_one_zone_are_brought_back_by_the_command_that_is_named(site: Site) -> None:
    zone = masters(site)[0][0]
    drifted = next(n for n, role in site.roles().items() if n[0] == zone and role.master)
    others = [name for name in masters(site) if name not in (site.roles()[drifted].master, masters(site)[0])]
    fail_over_to(site, drifted)
    assert sorted(n for n in masters(site) if n[0] == zone) == sorted([drifted, masters(site)[0]])
    assert others[0] in masters(site)

    told = asked(site)
    assert lost(told, "zones") == [zone]
    [way] = [way for way in told["remedies"] if way["part"] == "zone"]
    assert way["kind"] == "failover"
    assert "2 of 3 masters are there" in way["what"] and drifted in way["what"]
    command = "run ansible-playbook -i inventory/prod playbooks/failover.yml -e redis_failover_restore=true: 1 failover"
    assert way["remedy"].startswith(command)
    with site.links() as links:
        assert handover.hand_over(site.request, Asked(restore=True), links, lambda line: None).changed
    assert asked(site)["survives"] is True


def test_a_replica_without_its_link_is_to_be_waited_for(site: Site) -> None:
    one = masters(site)[0]
    replica = replica_of(site, one)
    site[replica].call("CONFIG", "SET", "masterauth", "wrong")
    site[one].call("CONFIG", "SET", "requirepass", "other")
    site[one].call("CLIENT", "KILL", "TYPE", "replica")
    wait_until("its link is down", lambda: "master_link_status:down" in site[replica].call("INFO", "replication"))
    site[one].call("CONFIG", "SET", "requirepass", "")
    site[replica].call("CONFIG", "SET", "masteruser", "nobody")
    told = asked(site)
    assert lost(told, "zones") == [one[0]]
    assert told["remedies"][0]["kind"] == "wait"
    assert told["remedies"][0]["remedy"].startswith(f"wait until {replica} is in sync with {one}")

    site[replica].call("CONFIG", "SET", "masteruser", "", "masterauth", "")
    site.wait_quiet()
    assert asked(site)["survives"] is True


def test_nobody_answers(site: Site) -> None:
    for node in site.nodes:
        node.kill()
    told = asked(site)
    assert told["survives"] is False
    assert "16384 slots have no owner even now" in told["text"][0]
