"""The steps a plan is made of. Values without a client: each says what it does and what stands in its way."""

from __future__ import annotations

from dataclasses import dataclass
from functools import singledispatch

from slotwright.core.slots import Slots
from slotwright.core.view import ClusterView


@dataclass(frozen=True)
class Step:
    """Something done to one node (its instance name)."""

    node: str

    def describe(self) -> str:
        raise NotImplementedError


@dataclass(frozen=True)
class Configure(Step):
    """CONFIG SET, live. purpose says why, for the reader of the plan."""

    settings: tuple[tuple[str, str], ...]
    purpose: str

    def describe(self) -> str:
        values = ", ".join(f"{k} {v}" for k, v in self.settings)
        return f"{self.node}: set {values} ({self.purpose})"


@dataclass(frozen=True)
class SetEpoch(Step):
    """CLUSTER SET-CONFIG-EPOCH, so that no two masters start with the same one."""

    epoch: int

    def describe(self) -> str:
        return f"{self.node}: set config epoch {self.epoch}"


@dataclass(frozen=True)
class AssignSlots(Step):
    """CLUSTER ADDSLOTSRANGE of slots that nobody owns."""

    slots: Slots

    def describe(self) -> str:
        return f"{self.node}: take the unowned slots {self.slots} ({len(self.slots)})"


@dataclass(frozen=True)
class Meet(Step):
    """CLUSTER MEET: the node, and all that it knows, join the peers and all that they know."""

    peers: tuple[str, ...]

    def describe(self) -> str:
        return f"{self.node}: meet {', '.join(self.peers)}"


@dataclass(frozen=True)
class Replicate(Step):
    """CLUSTER REPLICATE: the node becomes a replica of the master and copies it whole."""

    master: str

    def describe(self) -> str:
        return f"{self.node}: replicate {self.master}"


@singledispatch
def obstacle(step: Step, view: ClusterView) -> str | None:
    """The step's precondition: None where it may be done in this view, else the reason why it may not."""
    raise NotImplementedError(type(step).__name__)


@obstacle.register
def _(step: Configure, view: ClusterView) -> str | None:
    return _answers(step.node, view)


@obstacle.register
def _(step: SetEpoch, view: ClusterView) -> str | None:
    if reason := _answers(step.node, view):
        return reason
    node = view.by_name[step.node]
    if not node.isolated:
        return f"{step.node} knows other nodes already: its config epoch cannot be set any more"
    return None if node.myself.config_epoch == 0 else f"{step.node} has config epoch {node.myself.config_epoch}"


@obstacle.register
def _(step: AssignSlots, view: ClusterView) -> str | None:
    if reason := _answers(step.node, view):
        return reason
    for owner, slots in view.owners.items():
        if taken := slots & step.slots:
            return f"slots {taken} belong to {view.name_of(owner)}"
    return None if view.by_name[step.node].myself.is_master else f"{step.node} is a replica: it cannot own slots"


@obstacle.register
def _(step: Meet, view: ClusterView) -> str | None:
    for name in (step.node, *step.peers):
        if reason := _answers(name, view):
            return reason
    if view.unlisted:
        return f"{view.unlisted[0].name} is known to the nodes but is not in the inventory"
    node = view.by_name[step.node]
    if node.keys and node.myself.is_master and view.stands_alone(node):
        return f"{step.node} stands alone and holds {node.keys} keys"
    return None


@obstacle.register
def _(step: Replicate, view: ClusterView) -> str | None:
    if reason := _answers(step.node, view) or _answers(step.master, view):
        return reason
    node, master = view.by_name[step.node], view.by_name[step.master]
    if master.id not in node.known_ids:
        return f"{step.node} does not know {step.master} yet"
    if not master.myself.is_master:
        return f"{step.master} is itself a replica"
    if node.myself.slots:
        return f"{step.node} owns slots {node.myself.slots}"
    if node.myself.is_master and node.keys:
        return f"{step.node} holds {node.keys} keys that replication would delete"
    return None


def _answers(name: str, view: ClusterView) -> str | None:
    return None if name in view.by_name else f"{name} does not answer"
