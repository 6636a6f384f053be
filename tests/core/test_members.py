"""Who is a member, who is one no more, and who has lost whom: the steps, in a table of small cases."""

from __future__ import annotations

from dataclasses import replace

import pytest

from slotwright.core.plan import plan
from slotwright.core.simulate import lacking, simulate, unsettled
from slotwright.core.slots import Slots
from slotwright.core.steps import Failover, Meet, MoveSlots, Remove, Replicate
from slotwright.core.topology import Instance, Topology
from slotwright.core.view import ClusterView, NodeView, Peer
from tests.core.build import topology
from tests.core.cases import MADE, SIX, foreign, grown, kinds, sound, told
from tests.core.worlds import dead, opened, own_line, serving, with_blanks


def seen_as(view: ClusterView, node_id: str, **fields: object) -> ClusterView:
    """How all others see a member."""
    return ClusterView(
        tuple(
            replace(
                n,
                peers=tuple(
                    replace(p, **fields) if p.id == node_id != n.id else p  # type: ignore[arg-type]
                    for p in n.peers
                ),
            )
            for n in view.nodes
        ),
        view.silent,
    )


def test_what_a_node_says_of_slots_that_it_imports_is_not_waited_for_but_that_they_are_closed_is() -> None:
    """Redis lets it hear nothing of them until their move is ended, so that it may say fail."""
    open_ = opened(MADE, "a1:7001", "b1:7001", 5, 7)
    importing = open_.by_name["b1:7001"]
    owner = MADE.by_name["a1:7001"]
    stale = tuple(replace(p, slots=p.slots - Slots.of([5, 7])) if p.id == owner.id else p for p in importing.peers)
    nodes = (replace(n, peers=stale, state="fail") if n is importing else n for n in open_.nodes)
    view = ClusterView(tuple(nodes))
    assert unsettled(view) == ()
    made = plan(SIX, view)
    assert kinds(made.steps) == {"MoveSlots": 1}
    assert any("open still" in lack for lack in lacking(view, simulate(view, made.steps)))


@pytest.mark.parametrize("copy", [0, 2])
def test_the_target_of_a_first_move_does_not_leave_with_what_it_has_got(copy: int) -> None:
    new, follower = "d1:7001", "a3:7001"
    wanted = grown(SIX, "d1", "a3", shards=4)
    peers = tuple(MADE.by_name)
    met = [Meet(new, peers), Meet(follower, peers), Replicate(follower, new)]
    view = simulate(with_blanks(wanted, MADE), met)
    view = dead(opened(view, "a1:7001", new, 5), new)
    view = replace(view, nodes=tuple(replace(n, keys=copy) if n.name == follower else n for n in view.nodes))
    leaving = replace(wanted, shards=3, instances=tuple(i for i in wanted.instances if i.name != new))
    leaving = replace(leaving, leaving=(wanted[new],))
    assert [f.code for f in plan(leaving, view).refusals] == (["leaver-has-keys"] if copy else [])
    if copy:
        [refusal] = plan(leaving, view).refusals
        assert f"at {follower}" in refusal.what and f"TAKEOVER at {follower}" in refusal.remedy
        heir = simulate(view, [Failover(follower)])
        made = sound(leaving, foreign(heir, follower, 5))
        assert f"{follower}: move slots 5 (1) to a1:7001" in told(made.steps)


def test_an_empty_master_whose_keys_all_go_back_may_get_another_part() -> None:
    """The target of a first move that was cut off; its keys are in the open slot."""
    wanted = grown(SIX, "a3", shards=3)
    view = simulate(with_blanks(wanted, MADE), [Meet("a3:7001", tuple(MADE.by_name))])
    view = opened(view, "a1:7001", "a3:7001", 5)
    held = ClusterView(tuple(replace(n, keys=2) if n.name == "a3:7001" else n for n in view.nodes))
    made = sound(wanted, held)
    rest = [type(step) for step in made.steps]
    assert rest.index(MoveSlots) < rest.index(Replicate)
    closed = own_line(own_line(held, "a3:7001", importing=()), "a1:7001", migrating=())
    assert [f.code for f in plan(wanted, closed).refusals] == ["not-empty"]


@pytest.mark.parametrize("upper", ["a1:7001", "b1:7001", "c1:7001"])
def test_a_leaver_that_follows_another_leaver_goes_before_it(upper: str) -> None:
    """A master was replaced in the middle of a change, and follows its heir; one of its replicas still follows it."""
    nine = topology({"a": [1, 1, 1], "b": [1, 1, 1], "c": [1, 1, 1]}, settings=(), replicas=2)
    made = serving(nine)
    heir, lower = (n.name for n in made.nodes if n.myself.master == made.by_name[upper].id)
    old, low = made.by_name[upper].id, made.by_name[lower].id
    view = simulate(made, [Failover(heir)])
    nodes = (replace(n, peers=tuple(replace(p, master=old) if p.id == low else p for p in n.peers)) for n in view.nodes)
    view = ClusterView(tuple(nodes))
    assert view.by_name[lower].myself.master == old == view.by_name[upper].id
    wanted = grown(nine, leaving=(upper, lower), replicas=1)
    gone = [step.node for step in sound(wanted, view).steps if isinstance(step, Remove)]
    assert gone == [lower, upper]


def test_what_a_leaver_was_before_it_was_reset_is_forgotten() -> None:
    """A moment after its reset the others know it by its old id, still at its address."""
    name = next(n.name for n in MADE.nodes if n.myself.master)
    old = MADE.by_name[name]
    wanted = grown(SIX, f"{name[0]}3", leaving=(name,))
    own = replace(old.myself, id="e" * 40, flags=frozenset({"master"}), master="", config_epoch=0)
    reset = replace(old, id="e" * 40, peers=(own,), keys=0)
    view = with_blanks(wanted, ClusterView(tuple(reset if n is old else n for n in MADE.nodes)))
    made = sound(wanted, view)
    assert told(made.steps[-1:]) == [f"{old.id[:8]}: leave the cluster (node id {old.id})"]


def forgotten(name: str, **own: object) -> tuple[Topology, ClusterView]:
    """A master that died, was replaced by its replica and is to leave; it is back with what it had when it died."""
    heir = next(n.name for n in MADE.nodes if n.myself.master == MADE.by_name[name].id)
    wanted = grown(SIX, f"{name[0]}3", leaving=(name,))
    view = simulate(with_blanks(wanted, MADE), [Failover(heir)])
    view = simulate(dead(view, name), plan(wanted, dead(view, name)).steps)
    zombie = own_line(MADE, name, slots=Slots(), **own).by_name[name]
    return wanted, with_blanks(wanted, replace(view, nodes=(*view.nodes, zombie)))


ZOMBIE = "a1:7001"


@pytest.mark.parametrize("mark", ["migrating", "importing"])
def test_a_leaver_that_was_forgotten_and_is_back_with_open_slots_is_no_part_of_the_cluster(mark: str) -> None:
    wanted, view = forgotten(ZOMBIE, **{mark: ((5, MADE.by_name["b1:7001"].id),)})
    view = foreign(view, ZOMBIE, 5, 6)
    assert plan(wanted, view).steps or plan(wanted, view).refusals
    parted = view.without_forgotten({ZOMBIE})
    assert [n.name for n in parted.forgotten] == [ZOMBIE]
    made = sound(wanted, parted)
    assert made.steps == ()
    assert [(f.code, f.where.split()[1]) for f in made.findings] == [("forgotten", ZOMBIE)]
    assert simulate(parted, ()).forgotten == parted.forgotten


def test_a_master_and_its_replica_that_were_forgotten_together_are_both_left_out() -> None:
    """They know each other, and no member knows them."""
    wanted, view = forgotten(ZOMBIE, migrating=((5, MADE.by_name["b1:7001"].id),))
    zombie = view.by_name[ZOMBIE]
    lower = Peer("e" * 40, "127.40.9.9", 7001, frozenset({"slave"}), zombie.id, 1, True, Slots())
    follower = replace(
        zombie, name="a9:7001", endpoint=lower.endpoint, id=lower.id, run_id="9", peers=(*zombie.peers, lower)
    )
    zombie = replace(zombie, peers=(*zombie.peers, lower))
    instance = Instance("a9:7001", "a9", "a", "127.40.9.9", 7001)
    both = replace(wanted, leaving=(*wanted.leaving, instance))
    nodes = (*(n for n in view.nodes if n.name != ZOMBIE), zombie, follower)
    parted = replace(view, nodes=nodes).without_forgotten({i.name for i in both.leaving})
    assert [n.name for n in parted.forgotten] == [ZOMBIE, "a9:7001"]
    assert sound(both, parted).steps == ()


def test_who_may_have_what_nobody_else_has_is_not_taken_for_forgotten() -> None:
    _, view = forgotten(ZOMBIE)
    zombie = view.by_name[ZOMBIE]
    assert view.without_forgotten({ZOMBIE}).forgotten
    assert not view.without_forgotten(()).forgotten  # not stated as removed
    nodes = tuple(replace(n, peers=(*n.peers, zombie.myself)) if n.name == "b1:7001" else n for n in view.nodes)
    alone = replace(zombie, peers=(zombie.myself,))
    uncovered = own_line(view, "b1:7001", slots=Slots.span(5461, 10920))
    others = {
        "a member knows it": replace(view, nodes=nodes),
        "it owns slots": own_line(view, ZOMBIE, slots=Slots.of([5])),
        "it knows nobody": replace(view, nodes=tuple(alone if n is zombie else n for n in view.nodes)),
        "a slot is nobody's": uncovered,
        "an owner is away": dead(view, "b1:7001"),
    }
    for why, other in others.items():
        assert other.without_forgotten({ZOMBIE}) == other, why


def test_slots_that_a_lost_node_is_still_said_to_own_are_those_of_who_took_them_since() -> None:
    """The target of a move was down while its source left, and hears nothing of the slots that it imports."""
    gone = "f" * 40
    owner = MADE.by_name["b1:7001"]
    view = own_line(MADE, "a1:7001", importing=((6000, gone),))
    stale = Slots.of([6000])
    lost = Peer(gone, "", 0, frozenset({"master", "noaddr"}), "", owner.myself.config_epoch - 1, False, stale)
    lines = (replace(p, slots=p.slots - stale) if p.id == owner.id else p for p in view.by_name["a1:7001"].peers)
    back = replace(view.by_name["a1:7001"], peers=(*lines, lost), state="fail")
    view = replace(view, nodes=tuple(back if n.name == "a1:7001" else n for n in view.nodes))
    made = sound(SIX, view)
    assert told(made.steps) == [
        "a1:7001: move slots 6000 (1) to b1:7001",
        f"{gone[:8]}: leave the cluster (node id {gone})",
    ]
    newest = replace(lost, config_epoch=owner.myself.config_epoch + 100)
    back = replace(back, peers=(*back.peers[:-1], newest))
    view = replace(view, nodes=tuple(back if n.name == "a1:7001" else n for n in view.nodes))
    assert [f.code for f in plan(SIX, view).refusals] == ["owner-without-address"]


def ghost(flag: str) -> Peer:
    return Peer("f" * 40, "", 0, frozenset({"master", flag}), "", 3, False, Slots())


def test_what_is_left_of_a_node_that_lost_its_identity_is_forgotten() -> None:
    view = ClusterView(tuple(replace(n, peers=(*n.peers, ghost("noaddr"))) for n in MADE.nodes))
    made = sound(SIX, view)
    assert told(made.steps) == [f"ffffffff: leave the cluster (node id {'f' * 40})"]
    assert all("f" * 40 not in n.by_id for n in simulate(view, made.steps).nodes)


def test_a_handshake_under_way_is_nothing_to_do() -> None:
    view = ClusterView(tuple(replace(n, peers=(*n.peers, ghost("handshake"))) for n in MADE.nodes))
    assert plan(SIX, view).steps == ()


def moved(node: NodeView, number: int) -> NodeView:
    """The node at a new address; its own line says the old one still."""
    return replace(node, endpoint=f"127.50.{number}.1:7001")


def elsewhere(view: ClusterView, names: set[str]) -> tuple[Topology, ClusterView]:
    """These nodes have new addresses, and the others do not reach them; nor do they reach each other."""
    addresses = {n.name: moved(n, k) for k, n in enumerate(view.nodes, start=1) if n.name in names}
    ids = {n.id for n in addresses.values()}
    nodes = tuple(
        replace(
            addresses.get(n.name, n),
            peers=tuple(replace(p, connected=False) if p.id in ids and p.id != n.id else p for p in n.peers),
        )
        for n in view.nodes
    )
    named = tuple(
        replace(i, address=addresses[i.name].endpoint.partition(":")[0]) if i.name in names else i
        for i in SIX.instances
    )
    return replace(SIX, instances=named), ClusterView(nodes)


def test_nodes_that_all_have_new_addresses_meet_again_and_keep_their_parts() -> None:
    wanted, view = elsewhere(MADE, set(MADE.by_name))
    assert len(view.components) == 1 and len(view.linked) == 6
    assert unsettled(view) == ()
    made = sound(wanted, view)
    assert kinds(made.steps) == {"Meet": 5}
    met = simulate(view, made.steps)
    assert len(met.linked) == 1
    assert "b1:7001 and a1:7001 do not reach each other at their addresses yet" in lacking(view, met)
    assert lacking(met, met) == ()


def test_nodes_that_only_try_to_connect_to_old_addresses_do_not_reach_each_other() -> None:
    """Redis calls a link connected as soon as it tries. What a node announces of itself tells old from new."""
    _, view = elsewhere(MADE, set(MADE.by_name))
    nodes = []
    for node in view.nodes:
        own = replace(node.myself, address=node.endpoint.partition(":")[0])
        others = (replace(p, connected=True) for p in node.peers if p.id != node.id)
        nodes.append(replace(node, peers=(own, *others)))
    assert len(ClusterView(tuple(nodes)).linked) == 6


def test_replicas_that_went_along_with_an_emptied_master_may_end_with_that_ones_master() -> None:
    emptied = simulate(MADE, [MoveSlots("a1:7001", "b1:7001", MADE.by_name["a1:7001"].myself.slots)])
    along = simulate(emptied, [Replicate("a1:7001", "b1:7001")])
    assert along.by_name["b2:7001"].myself.master == along.by_name["a1:7001"].id
    after = simulate(along, [Replicate("b2:7001", "b1:7001")])
    assert lacking(along, emptied) == lacking(after, emptied) == lacking(after, simulate(along, ())) == ()
    assert lacking(simulate(MADE, [Replicate("b2:7001", "b1:7001")]), MADE) != ()


def test_of_nodes_that_are_cut_off_neither_service_nor_sync_is_waited_for() -> None:
    """They say ok for a moment still, and then no more: that is no reason to wait for it."""
    _, view = elsewhere(MADE, set(MADE.by_name))
    later = tuple(
        replace(n, state="fail", replication=replace(n.replication, link_up=False, syncing=True)) for n in view.nodes
    )
    assert {n.state for n in view.nodes} == {"ok"}
    assert lacking(ClusterView(later), simulate(view, ())) == ()
    assert unsettled(ClusterView(later)) == ()


def test_a_few_nodes_with_new_addresses_tell_the_others_by_themselves() -> None:
    _, view = elsewhere(MADE, {"a1:7001", "b1:7001"})
    assert len(view.linked) == 1


def test_two_half_made_clusters_of_this_inventory_become_one() -> None:
    half = {"a": ("a1:7001", "b2:7001", "c1:7001"), "b": ("b1:7001", "a2:7001", "c2:7001")}
    nodes = []
    for node in MADE.nodes:
        mine = next(names for names in half.values() if node.name in names)
        nodes.append(replace(node, peers=tuple(p for p in node.peers if MADE.name_of(p.id) in mine)))
    view = ClusterView(tuple(nodes))
    assert len(view.components) == 2
    made = sound(SIX, view)
    assert kinds(made.steps)["Meet"] == 1
    assert kinds(made.steps)["MoveSlots"] == 0


def test_keys_that_only_an_orphan_may_have_are_not_overwritten() -> None:
    """A replica whose master was forgotten, while the slots of that master have no owner."""
    lost = MADE.by_name["a1:7001"]
    nodes = tuple(replace(n, peers=tuple(p for p in n.peers if p.id != lost.id)) for n in MADE.nodes if n.id != lost.id)
    wanted = grown(SIX, "a3", leaving=("a1:7001",))
    made = plan(replace(wanted, leaving=()), with_blanks(wanted, ClusterView(nodes)))
    assert made.steps == ()
    assert [f.code for f in made.refusals] == ["not-empty"]
