"""Whatever must not be touched is refused with its code and the node's name, before anything is changed."""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterable
from dataclasses import replace
from functools import partial

import pytest

from slotwright.core.guard import conflict_findings
from slotwright.core.slots import Slots
from slotwright.errors import Finding, Refused
from slotwright.link.access import Access
from slotwright.manager.converge import HEARSAY, at_one
from tests.live.clusters import Site, know_each_other, site_of, start_site, without_haste
from tests.live.servers import PORT, Monitor, Server, Servers, binary, digest, layout, make_cluster, wait_until

LOOPBACK = "127.27"


def refused(site: Site, *, watched: Iterable[Server] | None = None) -> list[Finding]:
    """Why check mode and a run refuse this site: the same reasons, and not one node of those watched is changed.

    watched: all nodes of the site, unless they cannot be asked.
    """
    nodes = site.nodes if watched is None else list(watched)
    before = digest(nodes)
    with Monitor(nodes) as monitor:
        with pytest.raises(Refused) as foreseen:
            site.foresee()
        with pytest.raises(Refused) as converged:
            site.converge()
    assert monitor.mutating == []
    assert digest(nodes) == before
    assert converged.value.findings == foreseen.value.findings
    return list(converged.value.findings)


def told(findings: Iterable[Finding]) -> list[tuple[str, str]]:
    return [(finding.code, finding.where) for finding in findings]


def at(site: Site, name: str) -> str:
    return f"node {name} ({site[name].name})"


# --- Nodes of others ------------------------------------------------------------------------------------------------


def test_one_wrong_address_that_leads_into_another_live_cluster(servers: Servers) -> None:
    theirs = servers.start_many(3)
    make_cluster(theirs, masters=3)
    for number in range(100):
        owner = theirs[_slot(theirs[0], f"key-{number}") * 3 // 16384]
        owner.call("SET", f"key-{number}", "theirs")
    ours = start_site(servers)
    wrong = site_of({**ours.servers, "b1:7000": theirs[1]})
    findings = refused(wrong, watched=[*ours.nodes, *theirs])
    assert told(findings) == [("foreign-cluster", at(wrong, "b1:7000"))]
    assert all(node.name in findings[0].what for node in (theirs[0], theirs[2]))
    assert sum(node.call("DBSIZE") for node in theirs) == 100


def _slot(node: Server, key: str) -> int:
    return int(node.call("CLUSTER", "KEYSLOT", key))


def test_one_wrong_address_beside_a_cluster_that_is_complete(servers: Servers) -> None:
    theirs = servers.start_many(3)
    make_cluster(theirs, masters=3)
    ours = start_site(servers)
    ours.converge()
    wrong = ours.resized({"a3:7000": theirs[0], "b3:7000": servers.start()}, shards=3)
    watched = [*wrong.nodes, *theirs[1:]]
    without_haste(ours)
    findings = refused(wrong, watched=watched)
    assert told(findings) == [("foreign-cluster", at(wrong, "a3:7000"))]


def test_a_member_that_the_inventory_does_not_name(servers: Servers) -> None:
    site = start_site(servers)
    site.converge()
    without_haste(site)
    stranger = site["c2:7000"]
    rest = {name: node for name, node in site.servers.items() if node is not stranger}
    smaller = site_of({**rest, "c3:7000": servers.start()})
    assert told(refused(smaller)) == [("unlisted-member", f"node {stranger.name} (id {stranger.id()})")]


# --- Nodes that hold something --------------------------------------------------------------------------------------


def test_a_node_that_holds_keys(servers: Servers) -> None:
    site = start_site(servers)
    node = site["b2:7000"]
    node.call("CLUSTER", "ADDSLOTS", *range(16384))
    wait_until("the node takes keys", lambda: node.call("SET", "key", "value"))
    node.call("CLUSTER", "DELSLOTS", *range(16384))
    findings = refused(site)
    assert told(findings) == [("not-empty", at(site, "b2:7000"))]
    assert "holds 1 keys" in findings[0].what


@pytest.mark.parametrize(("name", "first", "last"), [("b1:7000", 0, 9), ("a2:7000", 0, 5461), ("a1:7000", 0, 16383)])
def test_a_node_that_owns_slots_that_the_plan_does_not_give_it(
    name: str, first: int, last: int, servers: Servers
) -> None:
    site = start_site(servers)
    site[name].call("CLUSTER", "ADDSLOTS", *range(first, last + 1))
    findings = refused(site)
    assert told(findings) == [("owns-slots", at(site, name))]
    assert f"owns the slots {first}-{last} " in findings[0].what


def test_two_half_made_clusters_that_claim_the_same_slots(servers: Servers) -> None:
    site = start_site(servers)
    for pair, last in ((("a1:7000", "b2:7000"), 5000), (("b1:7000", "c2:7000"), 8000)):
        site[pair[0]].call("CLUSTER", "ADDSLOTS", *range(last))
        know_each_other(site, *pair)
        wait_until("both see the slots", partial(_shows, site[pair[1]], f"0-{last - 1}"))
        for name in pair:
            wait_until("one has taken an epoch of its own, and both see it", partial(_epochs_differ, site[name]))
    findings = refused(site)
    assert told(findings) == [("slot-conflict", "nodes a1:7000 and b1:7000")]
    assert "0-4999" in findings[0].what


def test_two_owners_of_a_slot_whose_move_was_cut_off_a_moment_ago_are_no_reason_to_refuse(servers: Servers) -> None:
    """They are this for as long as the new one's message is on its way: too short to be met but by chance."""
    site = start_site(servers)
    site.converge()
    now = site.look()
    one, other = (n for n in now.nodes if n.name in ("a1:7000", "b1:7000"))
    both = replace(one.myself, slots=one.myself.slots | Slots.of([*other.myself.slots][:5]))
    late = replace(one, peers=tuple(both if p.id == one.id else p for p in one.peers))
    conflict = replace(now, nodes=tuple(late if n is one else n for n in now.nodes))
    assert conflict_findings(conflict)
    looks = iter([conflict, conflict, now])
    assert at_one(lambda: next(looks)) is now
    begun = time.monotonic()
    assert at_one(lambda: conflict) is conflict
    assert HEARSAY < time.monotonic() - begun < HEARSAY + 1


def _epochs_differ(node: Server) -> bool:
    """Redis itself gives one of two masters with the same config epoch another one."""
    epochs = [line.split()[4] for line in layout(node)]
    return len(set(epochs)) == len(epochs)


def _shows(node: Server, slots: str) -> bool:
    return slots in str(layout(node))


# --- Nodes that are not who they should be --------------------------------------------------------------------------


def test_a_node_whose_data_directory_is_a_copy_of_anothers(servers: Servers) -> None:
    site = start_site(servers)
    copy = site["c1:7000"]
    copy.stop()
    shutil.copy(site["a1:7000"].dir / "nodes.conf", copy.dir / "nodes.conf")
    copy.restart()
    assert told(refused(site)) == [("cloned-node", "nodes a1:7000 and c1:7000")]


def test_two_names_for_one_process(servers: Servers) -> None:
    first, second = servers.address(), servers.address()
    site = start_site(servers)
    node = servers.start(first, config={"bind": f"{first} {second}"})
    twin = Server(second, PORT, node.dir, node.binary, node.config, node.process)
    site = site_of({**site.servers, "b1:7000": node, "c1:7000": twin})
    findings = refused(site, watched=[n for n in site.nodes if n is not twin])
    twin.client().close()
    assert told(findings) == [("same-process", "nodes b1:7000 and c1:7000")]


def test_a_node_that_is_not_in_cluster_mode(servers: Servers) -> None:
    site = start_site(servers)
    site = site_of({**site.servers, "b1:7000": servers.start(cluster=False)})
    findings = refused(site, watched=[node for node in site.nodes if node is not site["b1:7000"]])
    assert told(findings) == [("cluster-mode-off", at(site, "b1:7000"))]
    assert site["b1:7000"].call("DBSIZE") == 0


def test_a_replica_that_could_not_load_the_snapshot_of_its_master(servers: Servers) -> None:
    site = start_site(servers)
    old = servers.start(binary=binary("6.2.14"))
    site = site_of({**site.servers, "b2:7000": old})
    findings = refused(site, watched=[node for node in site.nodes if node is not old])
    assert told(findings) == [("replica-too-old", at(site, "b2:7000"))]
    assert "6.2.14" in findings[0].what and "7.0.15" in findings[0].what
    assert "cluster_known_nodes:1\r" in old.call("CLUSTER", "INFO")


# --- Nodes that do not answer ---------------------------------------------------------------------------------------


def test_a_wrong_password(servers: Servers) -> None:
    site = start_site(servers, config={"requirepass": "sesame"}, access=Access(password="mellon"))
    findings = refused(site)
    assert told(findings) == [("wrong-password", at(site, name)) for name in site.servers]
    assert "mellon" not in str(findings) and "sesame" not in str(findings)


def test_an_address_where_nothing_listens_is_for_check_mode_a_node_to_come_and_stops_a_run(servers: Servers) -> None:
    site = start_site(servers)
    site["c2:7000"].kill()
    living = [node for node in site.nodes if node.alive]
    before = digest(living)
    with Monitor(living) as monitor:
        assert [f.where for f in site.foresee().findings if f.code == "to-be-started"] == [at(site, "c2:7000")]
        with pytest.raises(Refused) as refusal:
            site.converge()
    assert told(refusal.value.findings) == [("not-reachable", at(site, "c2:7000"))]
    assert monitor.mutating == []
    assert digest(living) == before


def test_hanging_nodes_are_given_up_on_in_time(servers: Servers) -> None:
    site = start_site(servers, access=Access(connect_timeout=1.0, command_timeout=1.0))
    hanging = [site["a2:7000"], site["c1:7000"]]
    for node in hanging:
        node.pause()
    begun = time.monotonic()
    findings = refused(site, watched=[node for node in site.nodes if node not in hanging])
    assert time.monotonic() - begun < 10
    assert told(findings) == [("not-reachable", at(site, name)) for name in ("a2:7000", "c1:7000")]
    assert all("did not answer in time" in finding.what for finding in findings)
