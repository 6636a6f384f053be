"""Members leave a cluster for good: CLUSTER RESET where they answer, and CLUSTER FORGET on all others.

A node that forgets another one refuses, for 60 s, to learn of it again by gossip. Whoever was not told in that time, or
is told so late that the first one's ban is over, brings it back. So all are told in one round, the leavers are reset
first (a reset node has another id and joins nobody by itself), and then it is looked at who still knows them. Where all
members were told nobody is left who could bring one back, and it would be idle to wait for the end of the ban; those
that could not be told are named, since a leaver comes back with each of them.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import suppress

from redis.exceptions import ResponseError

from slotwright.core.steps import Remove
from slotwright.core.topology import Topology
from slotwright.core.view import ClusterView
from slotwright.errors import Finding, Severity, SlotwrightError
from slotwright.link.connect import LinkDown, Links
from slotwright.link.disk import write_anew
from slotwright.link.observe import observe

# Seconds that Redis refuses to hear of a forgotten node, less what a round may take.
BAN = 50.0
POLL = 0.1
DISK = 5.0  # seconds for a leaver to write down that it has nothing
_HARMLESS = ("Unknown node", "forget myself")


def leave(
    steps: Sequence[Remove],
    topology: Topology,
    view: ClusterView,
    links: Links,
    *,
    timeout: float,
) -> tuple[Finding, ...]:
    """Returns when no node that answers knows the leavers; WARNINGs for members that could not be told.

    timeout (seconds) bounds the wait. Raises SlotwrightError, where a leaver cannot be reset, or is not forgotten.
    """
    ids = {step.id for step in steps}
    _reset([view.by_id[i].name for i in ids if i in view.by_id], links)
    begun = time.monotonic()
    while True:
        _forget(ids, view, links)
        seen = observe(topology, links)
        knowing = {node.name: sorted(ids & node.by_id.keys()) for node in seen.nodes if node.id not in ids}
        knowing = {name: known for name, known in knowing.items() if known}
        if not knowing:
            break
        if time.monotonic() - begun > min(timeout, BAN):
            name, known = next(iter(knowing.items()))
            raise SlotwrightError(
                f"still knows {', '.join(known)}, which was to be forgotten",
                where=f"node {name}",
                remedy="run again: it is forgotten everywhere anew",
                code="not-forgotten",
            )
        time.sleep(POLL)
    for name in [view.by_id[i].name for i in ids if i in view.by_id]:
        # A leaver that comes back with its old keys would not be let in again. It is out, and its disk is not needed.
        with suppress(SlotwrightError):
            write_anew([name], links, timeout=min(timeout, DISK))
    untold = [m for m in seen.members.values() if not m.alive and m.id not in ids]
    return tuple(
        Finding(
            "not-told",
            f"node {member.name} ({member.peer.endpoint})",
            f"does not answer, so that it still knows {', '.join(sorted(step.node for step in steps))}",
            "when it is back, run again: it may bring a node that has left back with it",
            Severity.WARNING,
        )
        for member in untold
    )


def _reset(names: Sequence[str], links: Links) -> None:
    """CLUSTER RESET HARD: blank, with another id. One that dies meanwhile need not be."""
    for name, answer in links.ask({name: [("CLUSTER", "RESET", "HARD")] for name in names}).items():
        if isinstance(answer, LinkDown):
            continue
        if isinstance(answer[0], ResponseError):
            raise SlotwrightError(
                f"CLUSTER RESET HARD was answered with: {answer[0]}",
                where=f"node {name}",
                remedy="see what it holds (a master with keys cannot be reset); nothing was forgotten yet",
                code="not-reset",
            )


def _forget(ids: set[str], view: ClusterView, links: Links) -> None:
    """One round: all members that answer are told of all leavers at once."""
    told = {
        node.name: [("CLUSTER", "FORGET", one) for one in sorted(ids & node.by_id.keys())]
        for node in view.nodes
        if node.id not in ids
    }
    links.open()
    for name, answer in links.ask({name: commands for name, commands in told.items() if commands}).items():
        if isinstance(answer, LinkDown):
            continue
        for reply in answer:
            if isinstance(reply, ResponseError) and not any(word in str(reply) for word in _HARMLESS):
                raise SlotwrightError(
                    f"CLUSTER FORGET was answered with: {reply}",
                    where=f"node {name}",
                    remedy="mend that, then run again",
                    code="command-refused",
                )
