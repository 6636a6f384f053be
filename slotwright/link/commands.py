"""The Redis commands that a step stands for, and whether the user we log in as may send them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import singledispatch
from itertools import chain

from redis.exceptions import ResponseError

from slotwright.core.steps import (
    AssignSlots,
    Configure,
    Detach,
    Failover,
    LoadFunctions,
    Meet,
    MoveSlots,
    Remove,
    Replicate,
    SetEpoch,
    Step,
)
from slotwright.core.versions import moves_slots_itself, numbers
from slotwright.core.view import ClusterView
from slotwright.errors import Finding
from slotwright.link.connect import LinkDown, Links

Command = tuple[str | int, ...]

_TASKS_OF_VALKEY = ("MIGRATESLOTS", "GETSLOTMIGRATIONS", "CANCELSLOTMIGRATIONS")
_WITH_SUBCOMMANDS = frozenset({"ACL", "CLIENT", "CLUSTER", "CONFIG", "FUNCTION", "MEMORY"})


@singledispatch
def commands(step: Step, view: ClusterView) -> list[Command]:
    """What is sent to step.node, in order, for a step that is no more than that. Raises NotImplementedError else."""
    raise NotImplementedError(type(step).__name__)


@commands.register
def _(step: Configure, view: ClusterView) -> list[Command]:
    # One directive a command: before Redis 7.0 CONFIG SET takes no more.
    return [("CONFIG", "SET", directive, value) for directive, value in step.settings]


@commands.register
def _(step: SetEpoch, view: ClusterView) -> list[Command]:
    return [("CLUSTER", "SET-CONFIG-EPOCH", step.epoch)]


@commands.register
def _(step: AssignSlots, view: ClusterView) -> list[Command]:
    if numbers(view.by_name[step.node].version) >= (7,):
        return [("CLUSTER", "ADDSLOTSRANGE", *chain(*step.slots.ranges()))]
    return [("CLUSTER", "ADDSLOTS", *step.slots)]


@commands.register
def _(step: Meet, view: ClusterView) -> list[Command]:
    endpoints = (view.by_name[peer].endpoint.rpartition(":") for peer in step.peers)
    return [("CLUSTER", "MEET", address, port) for address, _, port in endpoints]


@commands.register
def _(step: Replicate, view: ClusterView) -> list[Command]:
    return [("CLUSTER", "REPLICATE", view.by_name[step.master].id)]


@commands.register
def _(step: Detach, view: ClusterView) -> list[Command]:
    return [("CLUSTER", "RESET", "SOFT")]


@singledispatch
def needed(step: Step, view: ClusterView) -> dict[str, list[Command]]:
    """One of each kind of command that a step may send, by node: what the user we log in as must be allowed."""
    return {step.node: commands(step, view)}


@needed.register
def _(step: MoveSlots, view: ClusterView) -> dict[str, list[Command]]:
    key = "slotwright"  # stands for any key
    marks: list[Command] = [("CLUSTER", "SETSLOT", 0, "STABLE"), ("CLUSTER", "COUNTKEYSINSLOT", 0)]
    compares: list[Command] = [(word, key) for word in ("DUMP", "TYPE", "PTTL", "HGETALL", "SMEMBERS")]
    found: dict[str, list[Command]] = {n.name: marks[:1] for n in view.nodes if n.myself.is_master}
    found[step.node] = [
        *marks,
        ("CLUSTER", "GETKEYSINSLOT", 0, 1),
        ("MEMORY", "USAGE", key),
        ("MIGRATE", "127.0.0.1", 1, "", 0, 1, "KEYS", key),
        ("ROLE",),
        *compares,
    ]
    found[step.target] = [*marks, ("RESTORE-ASKING", key, 0, ""), ("SELECT", 0), ("ASKING",), ("ROLE",), *compares]
    found[step.target].append(("CLUSTER", "COUNTKEYSINSLOT", 0))
    if view.by_name[step.target].flavor != "valkey":
        found[step.target] += [("MULTI",), ("EXEC",)]
    if not view.by_name[step.target].myself.slots:
        found[step.target] += [("BGREWRITEAOF",), ("BGSAVE",)]
    ends = [view.by_name[name] for name in (step.node, step.target)]
    if all(map(moves_slots_itself, ends)):
        if ends[0].flavor == "valkey":
            found[step.node] += [("CLUSTER", word) for word in _TASKS_OF_VALKEY]
        else:
            found[step.target].append(("CLUSTER", "MIGRATION", "STATUS", "ALL"))
    return found


@needed.register
def _(step: Failover, view: ClusterView) -> dict[str, list[Command]]:
    master = view.by_id.get(view.by_name[step.node].myself.master)
    found: dict[str, list[Command]] = {
        step.node: [("CLUSTER", "FAILOVER"), ("ROLE",), ("CLUSTER", "SETSLOT", 0, "NODE", "0")]
    }
    if master:
        found[master.name] = [("ROLE",)]
        replicas = (r.name for r in view.replicas_of(master.id) if r.alive and r.name != step.node)
        found |= {name: [("ROLE",), ("CLUSTER", "REPLICATE", view.by_name[step.node].id)] for name in replicas}
    return found


@needed.register
def _(step: Remove, view: ClusterView) -> dict[str, list[Command]]:
    found: dict[str, list[Command]] = {n.name: [("CLUSTER", "FORGET", step.id)] for n in view.nodes if n.id != step.id}
    return found | ({view.by_id[step.id].name: [("CLUSTER", "RESET", "HARD")]} if step.id in view.by_id else {})


@needed.register
def _(step: LoadFunctions, view: ClusterView) -> dict[str, list[Command]]:
    found: dict[str, list[Command]] = {step.source: [("FUNCTION", "DUMP")]}
    found[step.node] = [("FUNCTION", "RESTORE", "", "REPLACE")]
    return found


def by_node(steps: Sequence[Step], view: ClusterView) -> dict[str, list[Command]]:
    """The commands of all steps, by the node that they go to."""
    found: dict[str, list[Command]] = {}
    for step in steps:
        found.setdefault(step.node, []).extend(commands(step, view))
    return found


def forbidden(steps: Sequence[Step], view: ClusterView, links: Links) -> tuple[Finding, ...]:
    """ERRORs for nodes whose ACL would refuse one of the steps' commands."""
    return refused_commands((needed(step, view) for step in steps), view, links)


def refused_commands(
    several: Iterable[Mapping[str, Sequence[Command]]], view: ClusterView, links: Links
) -> tuple[Finding, ...]:
    """ERRORs for nodes whose ACL would refuse one of the commands, found out without sending any (ACL DRYRUN).

    several: commands by node. The lock's are asked for too. A node that cannot tell (Redis before 7.0, or a user
    without +acl|whoami and +acl|dryrun) has none.
    """
    every: dict[str, list[Command]] = {}
    for commands_of in several:
        for name, sent in commands_of.items():
            every.setdefault(name, [("CLIENT", "LIST")]).extend(sent)
    wanted = {name: _one_of_each_kind(sent) for name, sent in every.items() if name in view.by_name}
    users = links.ask({name: [("ACL", "WHOAMI")] for name in wanted})
    asked = {
        name: [("ACL", "DRYRUN", reply[0], *command) for command in wanted[name]]
        for name, reply in users.items()
        if not isinstance(reply, LinkDown) and isinstance(reply[0], str)
    }
    answers = links.ask(asked)
    return tuple(chain.from_iterable(_refusals(name, wanted[name], answers[name], view) for name in asked))


def _one_of_each_kind(sent: Sequence[Command]) -> list[Command]:
    return list({_kind(command): command for command in sent}.values())


def _kind(command: Command) -> str:
    """As the ACL names it: "cluster|setslot", "migrate"."""
    words = command[:2] if command[0] in _WITH_SUBCOMMANDS else command[:1]
    return "|".join(str(word).lower() for word in words)


def _refusals(
    name: str, sent: Sequence[Command], answer: list[object] | LinkDown, view: ClusterView
) -> Iterator[Finding]:
    if isinstance(answer, LinkDown):
        return
    for command, reply in zip(sent, answer, strict=True):
        if reply != "OK" and not isinstance(reply, ResponseError):
            kind = _kind(command)
            rule = "~*" if "key" in str(reply) else f"+{kind}"
            yield Finding(
                "not-allowed",
                f"node {name} ({view.by_name[name].endpoint})",
                f"the ACL of the node refuses {kind}: {reply}",
                f"ACL SETUSER … {rule} there (docs/access.md lists all that is needed)",
            )
