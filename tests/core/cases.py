"""A cluster of six nodes in three zones, other inventories for it, and what is demanded of every plan."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

from slotwright.core.invariants import violations
from slotwright.core.plan import Plan, plan
from slotwright.core.simulate import simulate
from slotwright.core.slots import ALL_SLOTS, Slots
from slotwright.core.steps import Meet, SetEpoch, Step, obstacle
from slotwright.core.topology import Instance, Topology
from slotwright.core.view import ClusterView, union
from slotwright.errors import Severity
from tests.core.build import topology
from tests.core.worlds import serving

SIX = topology({"a": [1, 1], "b": [1, 1], "c": [1, 1]}, settings=())
MADE = serving(SIX)
JOINING = (SetEpoch, Meet)


def grown(wanted: Topology, *added: str, leaving: tuple[str, ...] = (), **fields: object) -> Topology:
    """The inventory with these hosts more (one instance each, the zone is the first letter), and these leaving."""
    new = tuple(Instance(f"{host}:7001", host, host[0], f"127.40.{n}.1", 7001) for n, host in enumerate(added, start=1))
    stay = tuple(i for i in wanted.instances if i.name not in leaving)
    gone = tuple(i for i in wanted.instances if i.name in leaving)
    fields = {"shards": wanted.shards, **fields}
    return replace(wanted, instances=(*stay, *new), leaving=gone, **fields)  # type: ignore[arg-type]


def sound(wanted: Topology, view: ClusterView) -> Plan:
    """The plan, once it is proved that each of its steps can be done in its turn, and that it ends well."""
    made = plan(wanted, view)
    assert made.refusals == ()
    for step in made.steps:
        assert obstacle(step, view) is None, step.describe()
        view = simulate(view, [step])
    assert plan(wanted, view).steps == ()
    assert union(view.owners.values()) == ALL_SLOTS
    assert [f for f in violations(wanted, view) if f.severity is Severity.ERROR] == []
    return made


def told(steps: tuple[Step, ...], *but: type[Step]) -> list[str]:
    """The steps in words, without those of these kinds."""
    return [step.describe() for step in steps if not isinstance(step, but)]


def kinds(steps: tuple[Step, ...]) -> Counter[str]:
    return Counter(type(step).__name__ for step in steps)


def foreign(view: ClusterView, name: str, *slots: int) -> ClusterView:
    """A node has keys of these slots of others."""
    nodes = (replace(n, foreign=Slots.of(slots)) if n.name == name else n for n in view.nodes)
    return replace(view, nodes=tuple(nodes))
