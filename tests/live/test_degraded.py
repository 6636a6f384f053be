"""What a run does for a cluster that has lost something: it never makes it worse, and it says what is the matter."""

from __future__ import annotations

import pytest

from slotwright.errors import Refused
from slotwright.manager.converge import Unserved
from tests.live.clusters import Site, start_site, without_haste
from tests.live.servers import Servers, wait_until

LOOPBACK = "127.30"
KEYS = 3000


def start_cluster(servers: Servers, **config: object) -> Site:
    """A cluster whose node timeout is a second, with keys in every shard."""
    site = start_site(servers, config={"cluster-node-timeout": 1000, **config}, timeout=20.0)  # type: ignore[dict-item]
    site = site.with_settings({"cluster-node-timeout": "1000"})
    site.converge()
    without_haste(site)
    site.fill(KEYS)
    return site


def a_replica_and_its_master(site: Site) -> tuple[str, str]:
    return next((name, role.master) for name, role in site.roles().items() if role.master)


def failing(site: Site, observer: str, victim: str) -> bool:
    lines = site[observer].call("CLUSTER", "NODES").splitlines()
    return any(site[victim].name in line and " fail" in line.replace(",", " ") for line in lines)


def test_a_node_joins_while_a_replica_is_dead_and_takes_its_place(servers: Servers) -> None:
    site = start_cluster(servers)
    replica, master = a_replica_and_its_master(site)
    site[replica].kill()
    wait_until("the others see it fail", lambda: failing(site, master, replica))
    zone = replica[0]
    grown = site.resized({f"{zone}9:7000": servers.start(config={"cluster-node-timeout": 1000})}, shards=3)
    assert grown.converge().changed
    assert grown[f"{zone}9:7000"].call("ROLE")[1] == site[master].address
    assert not grown.converge().changed
    assert grown.count() == KEYS


def test_a_cluster_that_lost_a_shard_is_not_called_right(servers: Servers) -> None:
    site = start_cluster(servers)
    replica, master = a_replica_and_its_master(site)
    site[replica].kill()
    site[master].kill()
    other = next(n for n in site.servers if n not in (replica, master))
    wait_until("the others see it fail", lambda: failing(site, other, master))
    foreseen = site.foresee()
    assert foreseen.plan.steps == ()
    assert "I1" in {f.code for f in foreseen.findings}
    with pytest.raises(Unserved) as unserved:
        site.converge()
    assert {f.code for f in unserved.value.findings} == {"I1"}


def test_slots_of_a_master_that_is_away_are_not_given_to_a_blank_node_at_its_address(servers: Servers) -> None:
    site = start_cluster(servers, appendonly=True)
    replica, master = a_replica_and_its_master(site)
    held = site[master].call("DBSIZE")
    site[replica].kill()
    site[master].stop()
    nodes_conf = site[master].dir / "nodes.conf"
    kept = nodes_conf.read_text()
    nodes_conf.unlink()
    aof = site[master].dir / "appendonlydir"
    aof.rename(aof.with_name("kept"))
    site[master].restart()  # blank now, at the address of the member that is away
    other = next(n for n in site.servers if n not in (replica, master))
    wait_until("its old id has no address", lambda: "noaddr" in site[other].call("CLUSTER", "NODES"))
    with pytest.raises(Refused) as refused:
        site.converge()
    assert {f.code for f in refused.value.findings} <= {"owner-without-address", "identity-lost", "unlisted-member"}
    site[master].stop()
    for path in (nodes_conf, aof):
        if path.is_dir():
            path.rename(path.with_name("blank"))
    nodes_conf.write_text(kept)
    aof.with_name("kept").rename(aof)
    site[master].restart()
    wait_until("the old master serves again", lambda: "cluster_state:ok" in site[master].call("CLUSTER", "INFO"))
    assert site[master].call("DBSIZE") == held


def test_a_node_that_loads_its_data_is_waited_for(servers: Servers) -> None:
    # Microseconds a key. Redis answers after each 1024 of them.
    site = start_cluster(servers, **{"appendonly": True, "key-load-delay": 400})
    site.fill(8 * KEYS)
    replica, _ = a_replica_and_its_master(site)
    site[replica].kill()
    site[replica].start_again()
    wait_until("it loads", lambda: "loading:1" in site[replica].call("INFO", "persistence"), every=0.005)
    found = site.errors()
    assert any("is loading its data" in error for error in found), found
    assert not site.converge().changed
    assert site[replica].client().info("replication")["master_link_status"] == "up"
    wait_until("all is well again", lambda: not site.errors())
