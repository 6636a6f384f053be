"""Nodes join, leave and are replaced by plays: as the inventory says, and by the playbooks that name them."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis

from tests.live.servers import Monitor, Servers, wait_until
from tests.playbooks.test_roles import Site

KEYS = 300


@pytest.fixture
def site(servers: Servers, tmp_path: Path) -> Iterator[Site]:
    """Six hosts in three zones, h0 to h5, that are a cluster with keys."""
    one = Site(tmp_path, [servers.address() for _ in range(6)])
    try:
        done = one.play("site.yml")
        assert done.status == 0, done.said
        with client(one.addresses[0]) as keys:
            for number in range(KEYS):
                keys.set(f"key:{number}", number)
        one.addresses += [servers.address() for _ in range(2)]  # h6 and h7, in a fourth zone
        yield one
    finally:
        one.close()


def client(address: str) -> redis.RedisCluster:
    return redis.RedisCluster(host=address, port=7001, decode_responses=True)


def nodes_seen_by(address: str) -> set[str]:
    with redis.Redis(address, 7001, decode_responses=True) as node:
        said = str(node.execute_command("CLUSTER", "NODES"))
    return {line.split()[1].partition(":")[0] for line in said.splitlines()}


def assert_members(site: Site, *hosts: str) -> None:
    """These hosts, and no others, are members in the eyes of each of them, and every key is there."""
    wanted = {site.addresses[int(host[1:])] for host in hosts}
    assert [nodes_seen_by(address) for address in wanted] == [wanted] * len(wanted)
    with client(next(iter(wanted))) as keys:
        assert [keys.get(f"key:{number}") for number in range(KEYS)] == [str(number) for number in range(KEYS)]


def assert_gone(site: Site, host: str) -> None:
    """It is stopped and has no configuration; its data directory has another name."""
    with pytest.raises(redis.ConnectionError):
        redis.Redis(site.addresses[int(host[1:])], 7001).ping()
    assert not (site.nodes / host / "conf/7001").exists()
    assert [path.name for path in (site.nodes / host / "data").iterdir()] == ["7001.removed-1"]


@pytest.mark.soak  # a minute and a half; tests/live/test_change.py has the same without the roles
def test_a_zone_comes_and_goes_because_the_inventory_says_so(site: Site) -> None:
    shown = site.play("playbooks/plan.yml")
    assert shown.status == 0, shown.said
    for part in ("h6:7001: meet", "slots move, with about", "expected time", "a full sync 60 MB a second"):
        assert part in shown.said
    assert nodes_seen_by(site.addresses[0]) == set(site.addresses[:6])

    grown = site.play("site.yml")
    assert grown.status == 0, grown.said
    assert_members(site, *(f"h{n}" for n in range(8)))

    site.variables["redis_cluster_absent"] = ["h6", "h7:7001"]
    foreseen = site.play("site.yml", "--check")
    shrunk = site.play("site.yml")
    assert shrunk.status == 0, shrunk.said
    assert foreseen.changed == shrunk.changed > 0
    assert_members(site, *(f"h{n}" for n in range(6)))
    assert "node h6:7001: is stated as removed, and is no member any more" in shrunk.said
    for host in ("h6", "h7"):
        assert_gone(site, host)

    with Monitor(site.running()[:6]) as watch:
        again = site.play("site.yml")
    assert (again.status, again.changed) == (0, 0), again.said
    assert watch.mutating == []


@pytest.mark.soak  # two minutes; the same without plays: tests/live/test_change.py, test_leaving.py
def test_a_dead_host_is_replaced_and_a_living_one_removed_by_name(site: Site) -> None:
    for successor, problem in [("", "nobody is named"), ("h9", "h9 is no host"), ("h1:7001", "is itself to leave")]:
        refused = site.play("playbooks/replace_node.yml", "-e", "redis_replace=h1", "-e", f"redis_with={successor}")
        assert refused.status != 0
        assert problem in refused.said
    refused = site.play("playbooks/remove_node.yml", "-e", "redis_remove=h7", "--limit", "h7")
    assert refused.status != 0
    assert "Run this without --limit" in refused.said
    refused = site.play("playbooks/remove_node.yml", "-e", "redis_remove=h66")
    assert refused.status != 0
    assert "h66 is no host and no instance of the cluster" in refused.said

    with redis.Redis(site.addresses[1], 7001) as dying:
        os.kill(dying.info("server")["process_id"], signal.SIGKILL)
    wait_until(
        "all slots are served without h1",
        lambda: all("cluster_state:ok" in said and "cluster_slots_fail:0" in said for said in infos(site)),
        timeout=60,
    )
    replaced = site.play("playbooks/replace_node.yml", "-e", "redis_replace=h1", "-e", "redis_with=h6")
    assert replaced.status == 0, replaced.said
    assert_members(site, "h0", "h2", "h3", "h4", "h5", "h6", "h7")

    removed = site.play("playbooks/remove_node.yml", "-e", "redis_remove=h7,h1")
    assert removed.status == 0, removed.said
    assert_members(site, "h0", "h2", "h3", "h4", "h5", "h6")
    assert_gone(site, "h7")

    # h1 died as a member, so that its nodes.conf names the cluster still.
    assert_gone(site, "h1")
    site.variables["redis_cluster_absent"] = ["h7"]
    back = site.play("site.yml")
    assert back.status == 0, back.said
    assert_members(site, "h0", "h1", "h2", "h3", "h4", "h5", "h6")


def infos(site: Site) -> list[str]:
    found = []
    for n in (0, 2, 3, 4, 5):
        with redis.Redis(site.addresses[n], 7001, decode_responses=True) as node:
            found.append(str(node.execute_command("CLUSTER", "INFO")))
    return found
