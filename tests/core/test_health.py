"""What a check tells: each way to break an invariant has a code, a place, a remedy, and a word in docs/repair.md."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from slotwright.core.health import MEANING, Vitals, client_errors, diagnosis, invariant, same_value, unsettled
from slotwright.core.ownership import Held
from slotwright.core.repairs import ALLOW, Adopt, BringKeys, Bump, Disclaim, Forget, Look, mended, repairs
from slotwright.core.slots import Slots
from slotwright.core.view import ClusterView, Peer
from slotwright.errors import Finding, Severity
from tests.core.test_invariants import HEALTHY, MASTER, REPLICA, WANTED, flags, with_line_at, with_node, with_own_line

REPAIR = (Path(__file__).parents[2] / "docs/repair.md").read_text()
OTHER = next(n.name for n in HEALTHY.nodes if n.myself.slots and n.name != MASTER)
THIRD = next(n.name for n in HEALTHY.nodes if n.myself.slots and n.name not in (MASTER, OTHER))
SLOT = next(iter(HEALTHY.by_name[MASTER].myself.slots))


def told(view: ClusterView, held: Held | None = None, vitals: dict[str, Vitals] | None = None) -> list[tuple[str, str]]:
    found = diagnosis(WANTED, Look(view, held or {}), vitals)
    return [(f.code, f.where) for f in found if f.severity is not Severity.INFO]


def marked(name: str, **marks: tuple[tuple[int, str], ...]) -> Callable[[ClusterView], ClusterView]:
    def change(view: ClusterView) -> ClusterView:
        node = view.by_name[name]
        line = replace(node.myself, **marks)  # type: ignore[arg-type]
        other = replace(node, peers=tuple(line if p.id == node.id else p for p in node.peers))
        return ClusterView(tuple(other if n is node else n for n in view.nodes), view.silent)

    return change


def own(name: str, change: Callable[[Peer], Peer]) -> ClusterView:
    """A node's own line, in its own view alone."""
    ident = HEALTHY.by_name[name].id
    return with_node(name, lambda n: replace(n, peers=tuple(change(p) if p.id == ident else p for p in n.peers)))


ID = {n.name: n.id for n in HEALTHY.nodes}
GIVEN_UP = own(MASTER, lambda p: replace(p, slots=p.slots - Slots.of([SLOT])))
CASES: dict[str, tuple[ClusterView, Held, str, str]] = {
    "nobody's slot": (
        with_own_line(MASTER, lambda p: replace(p, slots=p.slots - Slots.of([SLOT]))), {},
        "slots-uncovered", str(SLOT)),
    "nobody's slot with keys": (GIVEN_UP, {MASTER: {SLOT: 3}}, "slots-unclaimed", str(SLOT)),
    "a slot that two own": (
        own(OTHER, lambda p: replace(p, slots=p.slots | Slots.of([SLOT]))), {MASTER: {SLOT: 3}}, "two-owners", MASTER),
    "a stale view": (
        with_line_at(REPLICA, MASTER, lambda p: replace(p, slots=p.slots - Slots.of([SLOT]))), {},
        "split-view", REPLICA),
    "migrating alone": (
        marked(MASTER, migrating=((SLOT, ID[OTHER]),))(HEALTHY), {}, "slot-migrating-only", MASTER),
    "importing alone": (
        marked(OTHER, importing=((SLOT, ID[MASTER]),))(HEALTHY), {}, "slot-importing-only", OTHER),
    "both": (
        marked(OTHER, importing=((SLOT, ID[MASTER]),))(marked(MASTER, migrating=((SLOT, ID[OTHER]),))(HEALTHY)), {},
        "slot-moving", MASTER),
    "open to nobody": (
        marked(MASTER, migrating=((SLOT, "f" * 40),))(HEALTHY), {}, "slot-open-to-unknown", MASTER),
    "importing from another": (
        marked(OTHER, importing=((SLOT, ID[THIRD]),))(HEALTHY), {}, "slot-open-elsewhere", OTHER),
    "foreign keys": (HEALTHY, {OTHER: {SLOT: 2}}, "foreign-keys", OTHER),
    "a shared epoch": (
        with_own_line(MASTER, lambda p: replace(p, config_epoch=HEALTHY.by_name[OTHER].myself.config_epoch)), {},
        "epoch-shared", MASTER),
    "an old epoch": (with_node(MASTER, lambda n: replace(n, current_epoch=0)), {}, "epoch-behind", MASTER),
    "a handshake": (with_line_at(MASTER, REPLICA, lambda p: flags(p, "handshake")), {}, "ghost-handshake", MASTER),
    "no address": (with_line_at(MASTER, REPLICA, lambda p: flags(p, "noaddr")), {}, "ghost-noaddr", MASTER),
    "failing": (with_line_at(MASTER, REPLICA, lambda p: flags(p, "fail?")), {}, "node-failing", MASTER),
    "an unknown one": (
        with_node(MASTER, lambda n: replace(n, peers=tuple(p for p in n.peers if p.id != ID[REPLICA]))), {},
        "not-known", MASTER),
    "another address": (own(REPLICA, lambda p: replace(p, port=1)), {}, "wrong-address", REPLICA),
    "a role seen otherwise": (
        with_line_at(MASTER, REPLICA, lambda p: replace(p, flags=frozenset({"master"}), master="")), {},
        "role-seen-otherwise", MASTER),
    "a replica of a replica": (
        with_own_line(REPLICA, lambda p: replace(
            p, master=next(n.id for n in HEALTHY.nodes if not n.myself.is_master and n.name != REPLICA))), {},
        "replica-of-replica", REPLICA),
    "a replica of nobody": (
        with_own_line(REPLICA, lambda p: replace(p, master="f" * 40)), {}, "replica-of-nobody", REPLICA),
    "a link that is down": (
        with_node(REPLICA, lambda n: replace(n, replication=replace(n.replication, link_up=False))), {},
        "replica-link-down", REPLICA),
    "a state": (with_node(MASTER, lambda n: replace(n, state="fail")), {}, "state-not-ok", MASTER),
    "memory": (with_node(MASTER, lambda n: replace(n, maxmemory=10, used_memory=11)), {}, "memory-full", MASTER),
    "no save": (with_node(MASTER, lambda n: replace(n, persistence_ok=False)), {}, "not-saved", MASTER),
}  # fmt: skip


def test_a_healthy_cluster_has_no_finding_but_the_age_of_its_version() -> None:
    assert {code for code, _ in told(HEALTHY)} <= {"version-floor"}


@pytest.mark.parametrize("case", CASES)
def test_each_kind_of_damage_has_its_code_and_place(case: str) -> None:
    view, held, code, where = CASES[case]
    assert any(found == code and where in place for found, place in told(view, held)), told(view, held)


@pytest.mark.parametrize("case", CASES)
def test_every_finding_has_a_remedy_and_an_invariant(case: str) -> None:
    view, held, code, _ = CASES[case]
    for finding in diagnosis(WANTED, Look(view, held)):
        assert finding.remedy, finding
        assert not finding.remedy.endswith("."), finding
        if finding.code == code:
            assert invariant(finding).startswith("I")


def test_the_manual_explains_every_error_that_a_finding_says_clients_get_and_every_word_that_allows() -> None:
    for code, (_, errors) in MEANING.items():
        assert f"`{code}`" in REPAIR or code.startswith("I"), code
        for error in errors:
            assert error.split()[0].strip(",") in REPAIR, error
    for word in ALLOW:
        assert f"`{word}`" in REPAIR
    for error in ("CLUSTERDOWN", "MOVED", "ASK", "CROSSSLOT", "TRYAGAIN", "READONLY", "LOADING", "MASTERDOWN",
                  "NOREPLICAS", "Split brain"):  # fmt: skip
        assert f"## {error}" in REPAIR or f"### {error}" in REPAIR, error


def test_what_only_one_of_two_looks_shows_is_told_as_not_settled() -> None:
    lasting, passing = (Finding("split-view", f"node {n}", "sees it otherwise", "wait") for n in "ab")
    [found] = unsettled([lasting, passing], [lasting])
    assert (found.code, found.where, found.severity) == ("unsettled", "node b", Severity.WARNING)
    assert unsettled([lasting], [lasting]) == ()


def test_live_values_are_compared_by_meaning_with_those_of_the_inventory() -> None:
    same = [
        ("1073741824", "1gb"),
        ("yes", "Yes"),
        ("", '""'),
        ("3600 1 300 100", " 3600 1  300 100"),
        ("100000", "100k"),
    ]
    assert all(same_value(one, other) for one, other in same)
    assert not any(same_value(one, other) for one, other in [("1", "2"), ("no", "yes"), ("1000", "1kb"), ("", "no")])


def test_values_of_nodes_that_differ_from_the_inventory_or_from_each_other_are_told() -> None:
    vitals = {n.name: Vitals({}, {"maxmemory": "0", "appendonly": "yes"}) for n in HEALTHY.nodes}
    vitals[MASTER] = Vitals({}, {"maxmemory": "1048576", "appendonly": "yes"})
    found = diagnosis(WANTED, Look(HEALTHY, {}), vitals, {"maxmemory": "1mb"})
    assert {f.where for f in found if f.code == "config-drift"} == {
        f"node {n.name} ({n.endpoint})" for n in HEALTHY.nodes if n.name != MASTER
    }
    assert [f.where for f in found if f.code == "config-differs"] == ["directive maxmemory"]


def test_a_node_that_has_nearly_as_many_clients_as_it_takes_is_told() -> None:
    full = {MASTER: Vitals({"connected_clients": "95", "maxclients": "100"})}
    assert ("clients-full", MASTER) in [(c, w.split()[1]) for c, w in told(HEALTHY, vitals=full)]
    assert "clients-full" not in [c for c, _ in told(HEALTHY, vitals={MASTER: Vitals({"maxclients": "100"})})]


def test_errors_of_clients_are_named() -> None:
    view, held, code, _ = CASES["both"]
    [finding] = [f for f in diagnosis(WANTED, Look(view, held)) if f.code == code]
    assert client_errors(finding) == ("ASK", "TRYAGAIN")


# --- Repairs --------------------------------------------------------------------------------------------------------


def test_a_healthy_cluster_needs_no_repair() -> None:
    assert repairs(WANTED, Look(HEALTHY, {})).steps == ()


def test_who_has_the_keys_gets_the_slot_though_others_name_another() -> None:
    look = Look(GIVEN_UP, {OTHER: {SLOT: 3}, MASTER: {SLOT: 2}})
    assert repairs(WANTED, look).steps == (
        Adopt(OTHER, Slots.of([SLOT])),
        BringKeys(MASTER, OTHER, Slots.of([SLOT])),
    )


def test_of_two_owners_the_one_with_the_keys_stays_and_the_other_gives_them_first() -> None:
    view = own(OTHER, lambda p: replace(p, slots=p.slots | Slots.of([SLOT])))
    assert repairs(WANTED, Look(view, {MASTER: {SLOT: 3}, OTHER: {SLOT: 1}})).steps == (
        BringKeys(OTHER, MASTER, Slots.of([SLOT])),
        Disclaim(OTHER, MASTER, Slots.of([SLOT])),
        Bump(MASTER, "others see its slots elsewhere"),
    )


def test_words_that_are_not_typed_allow_nothing_and_a_refusal_shows_them() -> None:
    node = HEALTHY.by_name[MASTER]
    away = ClusterView(tuple(n for n in HEALTHY.nodes if n is not node and n.myself.master != node.id), ())
    refused = repairs(WANTED, Look(away, {}))
    assert refused.steps == ()
    assert [f.code for f in refused.refusals] == ["owner-away"]
    assert '-e \'{"redis_fix_allow": ["lose-keys-of-dead-masters"]}\'' in refused.refusals[0].remedy
    allowed = repairs(WANTED, Look(away, {}), ["lose-keys-of-dead-masters"])
    assert not allowed.refusals
    assert {type(step).__name__ for step in allowed.steps} == {"Seize"}


@pytest.mark.parametrize("case", CASES)
def test_once_the_repairs_are_done_none_is_needed(case: str) -> None:
    view, held, _, _ = CASES[case]
    look = Look(view, held)
    after = mended(look, repairs(WANTED, look).steps)
    assert repairs(WANTED, Look(after, {})).steps == ()


def test_an_id_without_address_is_forgotten_by_all_who_know_it() -> None:
    """One slot mark of one node names it; once it seems to fail, gossip brings it to the others."""
    nobody = replace(HEALTHY.by_name[MASTER].myself, id="f" * 40, address="", port=0, flags=frozenset({"fail?"}),
                     slots=Slots())  # fmt: skip
    view = marked(MASTER, migrating=((SLOT, nobody.id),))(HEALTHY)
    heard = {MASTER, OTHER}
    view = ClusterView(
        tuple(replace(n, peers=(*n.peers, nobody)) if n.name in heard else n for n in view.nodes), view.silent
    )
    found = repairs(WANTED, Look(view, {}))
    assert [(step.id, step.node in heard) for step in found.steps if isinstance(step, Forget)] == [(nobody.id, True)]
    after = mended(Look(view, {}), found.steps)
    assert all(nobody.id not in node.by_id for node in after.nodes)
    assert repairs(WANTED, Look(after, {})).steps == ()


def test_keys_of_an_open_slot_are_left_to_the_ordinary_plan() -> None:
    view = marked(OTHER, importing=((SLOT, ID[MASTER]),))(HEALTHY)
    assert repairs(WANTED, Look(view, {OTHER: {SLOT: 3}})).steps == ()
