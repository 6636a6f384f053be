"""The Redis commands that a step stands for, and whether the user we log in as may send them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import singledispatch
from itertools import chain

from redis.exceptions import ResponseError

from slotwright.core.steps import AssignSlots, Configure, Meet, Replicate, SetEpoch, Step
from slotwright.core.versions import numbers
from slotwright.core.view import ClusterView
from slotwright.errors import Finding
from slotwright.link.connect import LinkDown, Links

Command = tuple[str | int, ...]


@singledispatch
def commands(step: Step, view: ClusterView) -> list[Command]:
    """What is sent to step.node, in order. Raises NotImplementedError for an unknown step."""
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


def by_node(steps: Sequence[Step], view: ClusterView) -> dict[str, list[Command]]:
    """The commands of all steps, by the node that they go to."""
    found: dict[str, list[Command]] = {}
    for step in steps:
        found.setdefault(step.node, []).extend(commands(step, view))
    return found


def forbidden(steps: Sequence[Step], view: ClusterView, links: Links) -> tuple[Finding, ...]:
    """ERRORs for nodes whose ACL would refuse one of the commands, found out without sending any (ACL DRYRUN).

    A node that cannot tell (Redis before 7.0, or a user without +acl|whoami and +acl|dryrun) has none.
    """
    wanted = {name: _one_of_each_kind(sent) for name, sent in by_node(steps, view).items()}
    users = links.ask({name: [("ACL", "WHOAMI")] for name in wanted})
    asked = {
        name: [("ACL", "DRYRUN", reply[0], *command) for command in wanted[name]]
        for name, reply in users.items()
        if not isinstance(reply, LinkDown) and isinstance(reply[0], str)
    }
    answers = links.ask(asked)
    return tuple(chain.from_iterable(_refusals(name, wanted[name], answers[name], view) for name in asked))


def _one_of_each_kind(sent: Sequence[Command]) -> list[Command]:
    return list({command[:2]: command for command in sent}.values())


def _refusals(
    name: str, sent: Sequence[Command], answer: list[object] | LinkDown, view: ClusterView
) -> Iterator[Finding]:
    if isinstance(answer, LinkDown):
        return
    for command, reply in zip(sent, answer, strict=True):
        if reply != "OK" and not isinstance(reply, ResponseError):
            kind = "|".join(str(word).lower() for word in command[:2])
            yield Finding(
                "not-allowed",
                f"node {name} ({view.by_name[name].endpoint})",
                f"the ACL of the node refuses {kind}: {reply}",
                f"ACL SETUSER … +{kind} there (docs/access.md lists all that is needed)",
            )
