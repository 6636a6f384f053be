"""Whatever changes, one run brings the cluster to what is wanted, foretold step for step, and nobody loses a write."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import suppress
from itertools import islice

import pytest
import redis
from redis.crc import key_slot

from slotwright.core.slots import Slots
from slotwright.core.steps import AssignSlots, LoadFunctions, Meet, MoveSlots, Remove, Replicate
from slotwright.core.view import ClusterView
from slotwright.errors import Outdated, SlotwrightError
from slotwright.link.apply import _Run
from slotwright.link.migrate import Control
from slotwright.manager.converge import Outcome
from tests.live import changes
from tests.live.changes import Changes, made
from tests.live.clusters import Site, assert_sound, know_each_other, start_site, without_haste
from tests.live.moves import Cluster, key_of
from tests.live.servers import Monitor, Server, Servers, wait_until
from tests.live.test_failover import LIBRARY
from tests.live.workload import Workload
from tests.soak import SOAK

LOOPBACK = "127.43"
KINDS: dict[str, tuple[Changes, int]] = {
    "sizes": (changes.sizes, 4 if SOAK else 2),
    "replicas": (changes.replicas, 2),
    "zones": (changes.zones, 2),
    "deaths": (changes.deaths, 1),
    "failovers": (changes.failovers, 1),
    "drift": (changes.drift, 1),
}


def member(site: Site) -> Server:
    """One of the cluster that stays."""
    stay = site.those_that_stay().nodes
    return next(node for node in stay if "cluster_known_nodes:1\r" not in node.call("CLUSTER", "INFO"))


def as_foretold(site: Site) -> Outcome:
    """Converge, once the preview has told all that will be done and what becomes of it."""
    site.wait_quiet()
    foretold = site.foresee()
    done = site.converge()
    assert done.plan == foretold.plan
    assert parts(site, done.after) == parts(site, foretold.after)
    return done


def parts(site: Site, view: ClusterView) -> dict[str, tuple[str, str]]:
    """Slots and master of every instance that is wanted."""
    wanted = {i.name for i in site.topology.instances}
    return {m.name: (str(m.peer.slots), view.name_of(m.peer.master)) for m in view.members.values() if m.name in wanted}


def assert_done(site: Site) -> None:
    """All is as promised, with the leavers still named and without; and a further run leaves it alone."""
    assert Cluster(site).open_slots() == []
    assert site.errors() == []
    assert_sound(site.those_that_stay())
    assert_left_alone(site)


def assert_left_alone(site: Site) -> None:
    with Monitor([node for node in site.nodes if node.alive]) as monitor:
        again = site.converge()
    assert (again.changed, again.plan.steps, monitor.mutating) == (False, (), [])


@pytest.mark.parametrize("kind", KINDS)
def test_under_load_nothing_is_lost_and_it_goes_as_foretold(
    kind: str, servers: Servers, tried: Callable[[str], None]
) -> None:
    stream, number = KINDS[kind]
    for change in islice(stream(servers), number):
        with Workload(member(change.site)) as load:
            done = as_foretold(change.site)
            time.sleep(0.2)
        assert done.changed
        tried(f"{change.name}, {len(done.plan.steps)} steps: {load.describe()}")
        load.assert_kept()
        assert load.errors == []
        assert_done(change.site)


# --- What is not in the inventory's hand ----------------------------------------------------------------------------


def test_all_nodes_come_back_at_other_addresses_and_find_each_other(servers: Servers) -> None:
    stream = changes.addresses(servers)
    change = next(stream)  # made, and at other addresses already
    change.site.converge()
    with Workload(change.site.nodes[0]) as load:
        pass
    change = next(stream)
    load.node = change.site.nodes[0]
    done = as_foretold(change.site)
    assert {type(step) for step in done.plan.steps} == {Meet}
    load.assert_kept()
    assert_done(change.site)


def test_function_libraries_reach_a_new_master(servers: Servers) -> None:
    site = made(servers)
    for node in site.nodes:
        if node.call("ROLE")[0] == "master":
            node.call("FUNCTION", "LOAD", LIBRARY.format("tools", 7))
    site.wait_quiet()
    grown = site.resized({f"d{n}:7000": servers.start(config=changes.CONFIG) for n in (1, 2)}, shards=4)
    done = as_foretold(grown)
    assert [type(step) for step in done.plan.steps].count(LoadFunctions) == 1
    for node in grown.nodes:
        assert "tools" in str(node.call("FUNCTION", "LIST")), node.name
    assert_done(grown)


def test_a_node_that_had_left_brings_none_of_its_old_keys_back_even_if_it_crashes(servers: Servers) -> None:
    """CLUSTER RESET leaves them in its append-only file."""
    stream = changes.zones(servers)
    for change in islice(stream, 3):  # zone a has gone, and is back
        change.site.converge()
    site = change.site.those_that_stay()
    with redis.RedisCluster(host=site.nodes[0].address, port=site.nodes[0].port) as client:
        for number in range(0, changes.KEYS, 2):
            client.delete(f"key:{number}")
    before = Cluster(site).data()
    for node in (site["a1:7000"], site["a2:7000"]):
        node.kill()
        node.restart()
        site.wait_quiet()
        assert Cluster(site).data() == before
    assert len(before) == changes.KEYS / 2


def test_what_is_left_of_a_node_that_was_reset_while_it_left_is_forgotten(servers: Servers) -> None:
    """As a controller leaves it that dies between CLUSTER RESET and CLUSTER FORGET."""
    site = made(servers)
    name = next(n for n, role in site.roles().items() if role.master)
    old = site[name].id()
    grown = site.resized({f"{name[0]}3:7000": servers.start(config=changes.CONFIG)}).without(name)
    site[name].call("CLUSTER", "RESET", "HARD")
    done = grown.converge()
    assert [step.id for step in done.plan.steps if isinstance(step, Remove)] == [old]
    assert_done(grown)


def test_an_id_that_has_lost_its_address_is_forgotten_and_who_has_it_now_takes_its_place(servers: Servers) -> None:
    site = made(servers)
    name = next(n for n, role in site.roles().items() if role.master)
    node, old = site[name], site[name].id()
    node.start_blank()
    node.wait_ready()
    others = [n for n in site.nodes if n is not node]
    wait_until("nobody knows where it is", lambda: all("noaddr" in n.call("CLUSTER", "NODES") for n in others))
    done = as_foretold(site)
    assert [(s.node, s.id) for s in done.plan.steps if isinstance(s, Remove)] == [(old[:8], old)]
    assert all(old not in n.call("CLUSTER", "NODES") for n in site.nodes)
    assert site.count() == changes.KEYS
    assert_done(site)


def test_a_handshake_that_leads_nowhere_is_waited_for_and_changes_nothing(servers: Servers) -> None:
    site = made(servers)
    site["a1:7000"].call("CLUSTER", "MEET", servers.address(), 7000)
    assert "handshake" in site["a1:7000"].call("CLUSTER", "NODES")
    assert site.foresee().plan.steps == ()
    assert not site.converge().changed
    wait_until("it is given up", lambda: "handshake" not in site["a1:7000"].call("CLUSTER", "NODES"))
    assert_done(site)


@pytest.mark.parametrize("differs", [False, True])
def test_what_an_import_left_at_a_node_that_was_replaced_goes_to_the_owner(servers: Servers, differs: bool) -> None:
    """As a target is left that was down while its replica took over: it has marks and keys, the owner has none."""
    site = made(servers)
    first, owner, *_ = sorted(name for name, role in site.roles().items() if not role.master)
    new = {f"{zone}3:7000": servers.start(config=changes.CONFIG) for zone in "abc"}
    grown = site.resized(new, replicas=2)
    stale = grown["b3:7000"]
    know_each_other(grown, *grown.servers)
    # A node hears nothing of the owners of slots that it has marked.
    wait_until("it serves", lambda: "cluster_state:ok" in stale.call("CLUSTER", "INFO"))
    slot = next(iter(Slots.parse(owned(site[owner]))))
    empty, lone, twice = slot + 1, key_of(slot, "lone"), key_of(slot, "twice")
    for each in (slot, empty):
        stale.call("CLUSTER", "SETSLOT", each, "IMPORTING", site[first].id())
    site[owner].call("SET", twice, "one value")
    with stale.client() as client, client.pipeline(transaction=False) as pipe:
        for key, value in ((lone, "kept"), (twice, "another" if differs else "one value")):
            pipe.execute_command("ASKING").execute_command("SET", key, value)
        pipe.execute()
    assert stale.call("DBSIZE") == 2
    if differs:
        for _ in range(2):
            with pytest.raises(SlotwrightError, match="different values") as refused:
                grown.converge()
            assert refused.value.findings[0].code == "foreign-keys-differ"
            assert (site[owner].call("GET", twice), stale.call("DBSIZE")) == ("one value", 1)
        stale.call("FLUSHALL")
    done = as_foretold(grown) if not differs else grown.converge()
    assert done.changed
    assert (site[owner].call("GET", lone), site[owner].call("GET", twice)) == ("kept", "one value")
    assert_done(grown)


def test_slots_that_have_lost_their_owner_are_given_to_who_has_their_keys(servers: Servers) -> None:
    """As after a failover to a replica that had not heard of its master's last slots."""
    site = made(servers)
    names = sorted(name for name, role in site.roles().items() if not role.master)
    keyed = key_slot(b"key:1")
    owner = next(name for name in names if keyed in Slots.parse(owned(site[name])))
    bare = {keyed, *(next(iter(Slots.parse(owned(site[name])))) for name in names)}
    for name in names:  # the owners first, since others would hear of them again
        site[name].call("CLUSTER", "DELSLOTS", *(bare & set(Slots.parse(owned(site[name])))))
    time.sleep(0.5)
    for node in site.nodes:
        for slot in bare:
            with suppress(redis.ResponseError):  # already unassigned
                node.call("CLUSTER", "DELSLOTS", slot)
    done = as_foretold(site)
    given = {step.node: step.slots for step in done.plan.steps if isinstance(step, AssignSlots)}
    assert keyed in given[owner]
    assert not any(isinstance(step, MoveSlots) for step in done.plan.steps)
    assert site.count() == changes.KEYS
    assert_done(site)


def test_slots_that_have_got_an_owner_since_they_were_looked_at_are_planned_anew(servers: Servers) -> None:
    site = made(servers)
    name, other = sorted(name for name, role in site.roles().items() if not role.master)[:2]
    busy = next(iter(Slots.parse(owned(site[other]))))
    with site.links() as links:
        run = _Run(site.topology, links, 10, print, Control())
        with pytest.raises(Outdated, match="already busy"):
            run._send([AssignSlots(name, Slots.of([busy]))], site.look())
    assert_left_alone(site)


def owned(node: Server) -> str:
    return next(line for line in node.call("CLUSTER", "NODES").splitlines() if "myself" in line).split()[8]


def test_two_half_made_clusters_of_one_inventory_become_one(servers: Servers) -> None:
    """Neither is as a creation would have made it: other slots, other replicas."""
    site = start_site(servers, config=changes.CONFIG)
    for number, name in enumerate(site.servers, start=1):
        site[name].call("CLUSTER", "SET-CONFIG-EPOCH", number)
    site["a1:7000"].call("CLUSTER", "ADDSLOTS", *range(7000))
    site["c2:7000"].call("CLUSTER", "ADDSLOTS", *range(7000, 16000))
    know_each_other(site, "a1:7000", "b1:7000", "a2:7000")
    know_each_other(site, "c2:7000", "b2:7000", "c1:7000")
    wait_until("a replica is one", lambda: site["b1:7000"].call("CLUSTER", "REPLICATE", site["a1:7000"].id()) == "OK")
    site = site.with_settings({k: str(v) for k, v in changes.CONFIG.items() if k in dict(site.topology.settings)})
    done = as_foretold(site)
    assert {AssignSlots, MoveSlots, Replicate} <= {type(step) for step in done.plan.steps}
    without_haste(site)
    assert_done(site)
