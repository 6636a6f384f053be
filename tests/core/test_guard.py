"""What is not ours, not empty or not who it should be is never touched."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import pytest

from slotwright.core.blank import with_blanks
from slotwright.core.plan import plan
from slotwright.core.simulate import simulate, unsettled
from slotwright.core.slots import ALL_SLOTS, Slots
from slotwright.core.steps import Replicate
from slotwright.core.view import ClusterView, NodeView, Peer, Silence
from slotwright.errors import Severity
from tests.core.build import THREE_ZONES, blank_node, blank_view, topology

WANTED = topology(THREE_ZONES)
BLANK = blank_view(WANTED)
MADE = simulate(BLANK, plan(WANTED, BLANK).steps)
STRANGERS = tuple(
    Peer(c * 40, f"127.99.0.{n}", 7000, frozenset({"master"}), "", n, True, slots)
    for n, (c, slots) in enumerate([("d", Slots.span(0, 8000)), ("e", Slots.span(8001, 16383))], start=1)
)


def changed(view: ClusterView, **nodes: Mapping[str, object]) -> ClusterView:
    """Fields of nodes replaced; the keyword is the host's name."""
    return ClusterView(
        tuple(replace(n, **nodes.get(n.name.partition(":")[0], {})) for n in view.nodes),  # type: ignore[arg-type]
        view.silent,
    )


def refused(view: ClusterView) -> list[tuple[str, str]]:
    made = plan(WANTED, view)
    assert made.steps == ()
    assert all(f.remedy and f.what and f.severity is Severity.ERROR for f in made.refusals)
    return [(f.code, f.where) for f in made.refusals]


def member_of_another(node: NodeView) -> NodeView:
    return replace(node, peers=(*node.peers, *STRANGERS))


def without(view: ClusterView, name: str, kind: str) -> ClusterView:
    node = view.by_name[name]
    silence = Silence(name, node.endpoint, kind, "does not answer", "see why")
    return ClusterView(tuple(n for n in view.nodes if n is not node), (silence,))


def test_a_member_of_another_cluster_is_refused_and_its_cluster_named() -> None:
    view = ClusterView(tuple(member_of_another(n) if n.name == "b1:7001" else n for n in BLANK.nodes))
    assert refused(view) == [("foreign-cluster", "node b1:7001 (127.32.1.1:7001)")]
    assert "127.99.0.1:7000, 127.99.0.2:7000" in plan(WANTED, view).refusals[0].what


def test_a_stranger_in_our_own_cluster_bars_every_new_member_until_it_is_explained() -> None:
    new, stranger = MADE.nodes[-1].id, replace(STRANGERS[0], slots=Slots())
    others = tuple(
        replace(n, peers=(*(p for p in n.peers if p.id != new), stranger)) for n in MADE.nodes if n.id != new
    )
    view = ClusterView((*others, blank_node(WANTED.instances[-1])))
    assert refused(view) == [("unlisted-member", f"node 127.99.0.1:7000 (id {'d' * 40})")]


def test_a_stranger_in_a_complete_cluster_is_reported_and_left_alone() -> None:
    view = ClusterView(tuple(replace(n, peers=(*n.peers, replace(STRANGERS[0], slots=Slots()))) for n in MADE.nodes))
    made = plan(WANTED, view)
    assert (made.steps, made.refusals) == ((), ())
    assert [(f.code, f.severity) for f in made.findings] == [("unlisted-member", Severity.WARNING)]


def test_a_node_with_keys_is_refused_with_their_number() -> None:
    view = changed(BLANK, a2={"keys": 12})
    assert refused(view) == [("not-empty", "node a2:7001 (127.31.2.1:7001)")]
    assert "12 keys" in plan(WANTED, view).refusals[0].what


def test_a_cluster_of_one_node_is_not_taken_for_a_blank_one() -> None:
    lone = replace(BLANK.nodes[0], peers=(replace(BLANK.nodes[0].myself, slots=ALL_SLOTS),))
    assert refused(ClusterView((lone, *BLANK.nodes[1:]))) == [("owns-slots", "node a1:7001 (127.31.1.1:7001)")]


def test_a_copied_data_directory_is_seen_by_the_shared_node_id() -> None:
    twin = replace(BLANK.nodes[1], id=BLANK.nodes[0].id, peers=BLANK.nodes[0].peers)
    view = ClusterView((BLANK.nodes[0], twin, *BLANK.nodes[2:]))
    assert refused(view) == [("cloned-node", "nodes a1:7001 and a2:7001")]


def test_two_addresses_of_one_process_are_seen_by_its_run_id() -> None:
    first = BLANK.nodes[0]
    twin = replace(BLANK.nodes[1], id=first.id, peers=first.peers, run_id=first.run_id)
    assert refused(ClusterView((first, twin, *BLANK.nodes[2:]))) == [("same-process", "nodes a1:7001 and a2:7001")]


def test_a_node_without_cluster_mode_is_refused() -> None:
    view = changed(BLANK, c1={"cluster_enabled": False, "peers": (), "id": ""})
    assert refused(view) == [("cluster-mode-off", "node c1:7001 (127.33.1.1:7001)")]


@pytest.mark.parametrize(
    ("kind", "code"), [("auth", "wrong-password"), ("refused", "not-reachable"), ("timeout", "not-reachable")]
)
def test_a_silent_instance_that_is_no_member_is_refused(kind: str, code: str) -> None:
    assert refused(without(BLANK, "a1:7001", kind)) == [(code, "node a1:7001 (127.31.1.1:7001)")]


def test_a_silent_member_stops_nothing_unless_its_password_is_wrong() -> None:
    assert plan(WANTED, without(MADE, "a1:7001", "timeout")).refusals == ()
    assert refused(without(MADE, "a1:7001", "auth")) == [("wrong-password", "node a1:7001 (127.31.1.1:7001)")]


def test_two_nodes_that_claim_a_slot_are_both_named() -> None:
    both = Slots.span(0, 10)
    nodes = {
        n.name: replace(n, peers=tuple(replace(p, slots=p.slots | both) if p.id == n.id else p for p in n.peers))
        for n in MADE.nodes
        if n.name in ("a1:7001", "b1:7001")
    }
    view = ClusterView(tuple(nodes.get(n.name, n) for n in MADE.nodes))
    assert refused(view) == [("slot-conflict", "nodes a1:7001 and b1:7001")]
    assert "0-10" in plan(WANTED, view).refusals[0].what


def test_every_reason_is_given_at_once() -> None:
    view = changed(BLANK, a1={"keys": 1}, c2={"keys": 2})
    assert [code for code, _ in refused(view)] == ["not-empty", "not-empty"]


def test_what_is_not_started_yet_counts_as_blank_but_a_dead_member_does_not() -> None:
    coming, taken = with_blanks(WANTED, without(BLANK, "a1:7001", "refused"), frozenset({"refused"}))
    assert [s.instance for s in taken] == ["a1:7001"]
    assert [n.name for n in coming.nodes] == [i.name for i in WANTED.instances]
    _, taken = with_blanks(WANTED, without(MADE, "a1:7001", "refused"), frozenset({"refused"}))
    assert taken == ()


def dead(view: ClusterView, *names: str) -> ClusterView:
    """These nodes answer no more, and the others say that they failed."""
    ids = {view.by_name[name].id for name in names}

    def seen(peer: Peer) -> Peer:
        return replace(peer, flags=peer.flags | {"fail"}) if peer.id in ids else peer

    nodes = tuple(replace(n, peers=tuple(map(seen, n.peers))) for n in view.nodes if n.id not in ids)
    return ClusterView(
        nodes, tuple(Silence(n, view.by_name[n].endpoint, "timeout", "is silent", "look") for n in names)
    )


def test_slots_of_an_owner_without_address_are_lost_for_the_moment_and_not_free() -> None:
    owner = MADE.by_name["b1:7001"]
    gone = dead(MADE, "b1:7001")
    ghosts = tuple(
        replace(
            n,
            peers=tuple(
                replace(p, flags=p.flags | {"noaddr"}, address="", port=0) if p.id == owner.id else p for p in n.peers
            ),
        )
        for n in gone.nodes
    )
    order = {i.name: n for n, i in enumerate(WANTED.instances)}
    blank_at_its_address = replace(BLANK.by_name["b1:7001"], id="anew", peers=(replace(owner.myself, id="anew"),))
    blank_at_its_address = replace(
        blank_at_its_address, peers=(replace(blank_at_its_address.peers[0], slots=Slots(), config_epoch=0),)
    )
    view = ClusterView(tuple(sorted((*ghosts, blank_at_its_address), key=lambda n: order[n.name])))
    assert view.unowned == Slots()
    made = plan(WANTED, view)
    assert made.steps == ()
    assert [f.code for f in made.refusals] == ["owner-without-address"]
    assert owner.id in made.refusals[0].what and owner.id in made.refusals[0].remedy


def test_of_a_silent_member_counts_the_line_that_says_most() -> None:
    gone = dead(MADE, "c1:7001")
    owner = MADE.by_name["c1:7001"]
    first = gone.nodes[0]
    newcomer_knows_little = replace(
        first, peers=tuple(replace(p, slots=Slots(), config_epoch=0) if p.id == owner.id else p for p in first.peers)
    )
    view = ClusterView((newcomer_knows_little, *gone.nodes[1:]), gone.silent)
    assert view.unowned == Slots()
    assert view.members[owner.id].peer.slots == owner.myself.slots
    assert plan(WANTED, view).steps == ()


def test_nothing_is_demanded_of_what_a_newcomer_sees_of_a_dead_member() -> None:
    gone = dead(MADE, "a2:7001")
    first = gone.nodes[0]
    told_little = tuple(replace(p, master="") if p.id == MADE.by_name["a2:7001"].id else p for p in first.peers)
    view = ClusterView((replace(first, peers=told_little), *gone.nodes[1:]), gone.silent)
    assert unsettled(view) == ()


def test_a_new_node_goes_to_the_shard_that_lost_its_replica() -> None:
    for lost in (n.name for n in MADE.nodes if not n.myself.is_master):
        grown = topology({**THREE_ZONES, "b": [1, 1, 1]}, shards=3)
        master = MADE.name_of(MADE.by_name[lost].myself.master)
        if grown[master].zone == "b":
            continue
        gone = dead(MADE, lost)
        newcomer = blank_node(grown["b3:7001"])
        order = {i.name: n for n, i in enumerate(grown.instances)}
        view = ClusterView(tuple(sorted((*gone.nodes, newcomer), key=lambda n: order[n.name])), gone.silent)
        assert [s.describe() for s in plan(grown, view).steps if isinstance(s, Replicate)] == [
            f"b3:7001: replicate {master}"
        ]


def test_half_of_a_foreign_cluster_is_not_ours_to_change() -> None:
    wanted = replace(
        WANTED, instances=WANTED.instances[::2], replicas=0, shards=3, settings=(("repl-diskless-sync-delay", "9"),)
    )
    names = {i.name for i in wanted.instances}
    view = ClusterView(tuple(n for n in MADE.nodes if n.name in names))
    made = plan(wanted, view)
    assert made.steps == ()
    assert {f.code for f in made.refusals} == {"foreign-cluster"}
