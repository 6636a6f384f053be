"""A node that leaves is gone for good: reset where it answers, and known to nobody, also when the ban on it is over."""

from __future__ import annotations

import time

import pytest

from slotwright.core.plan import Plan
from slotwright.core.steps import Remove
from slotwright.errors import Finding, SlotwrightError
from slotwright.link.apply import apply
from slotwright.link.remove import leave
from tests.live.clusters import Site
from tests.live.servers import Server, Servers, wait_until
from tests.live.test_failover import a_replica_and_its_master, start_cluster

LOOPBACK = "127.41"
BAN = 60.0  # seconds


def known(node: Server) -> set[str]:
    return {line.split()[0] for line in node.call("CLUSTER", "NODES").splitlines()}


def out(site: Site, *names: str) -> tuple[Finding, ...]:
    view = site.look()
    steps = [Remove(name, view.named_members[name].id) for name in names]
    with site.links() as links:
        return leave(steps, site.topology, view, links, timeout=10)


def test_a_node_that_leaves_is_blank_and_the_others_do_not_know_it(servers: Servers) -> None:
    site = start_cluster(servers)
    replica, _ = a_replica_and_its_master(site)
    old = site[replica].id()
    site = site.without(replica)
    view = site.look()
    with site.links() as links:
        lines: list[str] = []
        apply(site.topology, view, Plan((Remove(replica, old),)), links, timeout=20, report=lines.append)
    assert lines[0].startswith(f"{replica}: leave the cluster (node id {old}): done")
    assert site[replica].id() != old
    assert len(known(site[replica])) == 1
    assert site[replica].call("DBSIZE") == 0
    others = [node for name, node in site.servers.items() if name != replica]
    assert all(len(known(node)) == 5 and old not in known(node) for node in others)
    time.sleep(2)  # gossip among those that stay
    assert all(old not in known(node) for node in others)


def test_a_dead_node_leaves_too_and_two_leave_at_a_time(servers: Servers) -> None:
    site = start_cluster(servers)
    replicas = [name for name, role in site.roles().items() if role.master][:2]
    ids = {site[name].id() for name in replicas}
    site[replicas[0]].kill()
    site = site.without(*replicas)
    assert out(site, *replicas) == ()
    for name, node in site.servers.items():
        if name not in replicas:
            assert len(known(node)) == 4
            assert not ids & known(node)


def test_a_member_that_could_not_be_told_is_named(servers: Servers) -> None:
    site = start_cluster(servers)
    one, other = [name for name, role in site.roles().items() if role.master][:2]
    site = site.without(one)
    site[other].kill()
    wait_until("it does not answer", lambda: not site[other].alive)
    [finding] = out(site, one)
    assert (finding.code, finding.where) == ("not-told", f"node {other} ({site[other].name})")
    assert one in finding.what


def test_a_master_that_holds_keys_does_not_leave(servers: Servers) -> None:
    site = start_cluster(servers)
    site.fill(100)
    _, master = a_replica_and_its_master(site)
    before = site.roles()
    with pytest.raises(SlotwrightError, match="CLUSTER RESET HARD was answered with"):
        out(site.without(master), master)
    assert site.roles() == before
    assert site.count() == 100


def test_what_a_dead_controller_left_of_a_removal_is_finished(servers: Servers) -> None:
    """Reset, and forgotten by some only: they would hear of it again from the others after a minute."""
    site = start_cluster(servers)
    replica, master = a_replica_and_its_master(site)
    old = site[replica].id()
    site[replica].call("CLUSTER", "RESET", "HARD")
    site[master].call("CLUSTER", "FORGET", old)
    site = site.without(replica)
    view = site.look()
    with site.links() as links:
        assert leave([Remove(replica, old)], site.topology, view, links, timeout=10) == ()
    assert all(old not in known(node) for name, node in site.servers.items() if name != replica)


@pytest.mark.soak
def test_after_the_ban_nobody_knows_it_again_and_one_that_was_not_told_would_have_brought_it_back(
    servers: Servers,
) -> None:
    site = start_cluster(servers)
    one, other = [name for name, role in site.roles().items() if role.master][:2]
    first, second = site[one].id(), site[other].id()
    site = site.without(one)
    assert out(site, one) == ()
    stay = [node for name, node in site.servers.items() if name not in (one, other)]
    for node in stay[1:]:
        node.call("CLUSTER", "FORGET", second)  # by hand, and one was not told
    time.sleep(BAN + 5)
    assert all(first not in known(node) for node in stay)
    assert all(second in known(node) for node in stay)
