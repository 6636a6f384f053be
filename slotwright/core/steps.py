"""The steps a plan is made of. Values without a client: each says what it does and what stands in its way."""

from __future__ import annotations

from dataclasses import dataclass
from functools import singledispatch
from typing import Literal

from slotwright.core.slots import Slots
from slotwright.core.view import ClusterView

Mode = Literal["plain", "force", "takeover"]
"""Of a failover, the harshest one last."""


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


@dataclass(frozen=True)
class MoveSlots(Step):
    """The node hands slots and their keys over to the target, live, as redis-cli's reshard does. Resumable.

    Afterwards the target owns the slots, and they are open on neither. Where the target owns them already, they are
    open: what a move that was cut off has left on the node is brought back. Where node and target are the same, the
    other end of the move is no member any more, and only the mark is taken away (SETSLOT STABLE).
    """

    target: str
    slots: Slots

    def describe(self) -> str:
        if self.node == self.target:
            return f"{self.node}: close the open slots {self.slots} ({len(self.slots)})"
        return f"{self.node}: move slots {self.slots} ({len(self.slots)}) to {self.target}"


@dataclass(frozen=True)
class Failover(Step):
    """The node, a replica, takes over from its master.

    plain: it is in sync, its master hands over all that it has, and nothing is lost. force: the other masters vote, its
    own is not asked. takeover: nobody is asked. With these two, what had not reached the node is lost.
    """

    mode: Mode = "plain"

    def describe(self) -> str:
        how = {"force": " by force, without asking it", "takeover": " by takeover, without asking anybody"}
        return f"{self.node}: take over from its master{how.get(self.mode, '')}"


@dataclass(frozen=True)
class Remove(Step):
    """The node, which has neither slots nor replicas, leaves: it is reset if it answers, and forgotten by all.

    id: its node id; that of a node that does not answer, or of a ghost, whose name says no more.
    """

    id: str

    def describe(self) -> str:
        return f"{self.node}: leave the cluster (node id {self.id})"


@dataclass(frozen=True)
class LoadFunctions(Step):
    """The node, a new master, gets the function libraries of another master."""

    source: str

    def describe(self) -> str:
        return f"{self.node}: load the functions of {self.source}"


@dataclass(frozen=True)
class Detach(Step):
    """CLUSTER RESET SOFT on a replica: it becomes an empty master of the same node id, and knows nobody.

    The others know it still; a Meet takes it back. That is how a surplus replica becomes the master of a new shard.
    """

    def describe(self) -> str:
        return f"{self.node}: leave its master, and become an empty master"


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
    if strangers := [m for m in view.unlisted if m not in view.former]:
        return f"{strangers[0].name} is known to the nodes but is not in the inventory"
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
    if not node.by_id[master.id].is_master:
        return f"{step.node} does not see yet that {step.master} is no replica"
    if node.myself.slots:
        return f"{step.node} owns slots {node.myself.slots}"
    if node.myself.is_master and node.keys:
        return f"{step.node} holds {node.keys} keys that replication would delete"
    return None


@obstacle.register
def _(step: MoveSlots, view: ClusterView) -> str | None:
    if reason := _answers(step.node, view) or _answers(step.target, view):
        return reason
    node, target = view.by_name[step.node], view.by_name[step.target]
    if not target.myself.is_master:
        return f"{step.target} is a replica: it cannot own slots"
    for one, other in ((node, target), (target, node)):
        if other.id not in one.known_ids:
            return f"{one.name} does not know {other.name} yet"
    held = Slots()
    for owner, slots in view.owners.items():
        if taken := slots & step.slots:
            if owner not in (node.id, target.id):
                return f"slots {taken} belong to {view.name_of(owner)}"
            held |= taken
    return None if held == step.slots else f"slots {step.slots - held} have no owner"


@obstacle.register
def _(step: Failover, view: ClusterView) -> str | None:
    if reason := _answers(step.node, view):
        return reason
    node = view.by_name[step.node]
    if node.myself.is_master:
        return f"{step.node} is a master already"
    if step.mode != "plain":
        return f"{step.node} is copying its master's data" if node.loading or node.replication.syncing else None
    master = view.by_id.get(node.myself.master)
    if master is None:
        return f"the master of {step.node} does not answer"
    if not master.myself.slots:
        return f"{master.name}, the master of {step.node}, owns no slots: Redis fails nothing over from it"
    if node.loading or node.replication.syncing or not node.replication.link_up:
        return f"{step.node} is not in sync with {master.name}"
    return None


@obstacle.register
def _(step: Remove, view: ClusterView) -> str | None:
    member = view.members.get(step.id)
    if member is None:
        return None if any(step.id in n.by_id for n in view.nodes) else f"no node knows {step.id}"
    if member.peer.slots:
        return f"{step.node} owns slots {member.peer.slots}"
    for replica in view.replicas_of(step.id):
        if replica.alive:
            return f"{replica.name} is its replica"
    if member.node and member.peer.is_master and member.node.keys:
        return f"{step.node} holds {member.node.keys} keys"
    return None


@obstacle.register
def _(step: LoadFunctions, view: ClusterView) -> str | None:
    if reason := _answers(step.node, view) or _answers(step.source, view):
        return reason
    return None if view.by_name[step.node].myself.is_master else f"{step.node} is a replica"


@obstacle.register
def _(step: Detach, view: ClusterView) -> str | None:
    if reason := _answers(step.node, view):
        return reason
    return f"{step.node} is a master already" if view.by_name[step.node].myself.is_master else None


def _answers(name: str, view: ClusterView) -> str | None:
    return None if name in view.by_name else f"{name} does not answer"
