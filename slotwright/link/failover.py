"""CLUSTER FAILOVER. A plain one: the master stops, hands over all it has, and follows its replica; nothing is lost.

With FORCE the master is not asked, with TAKEOVER nobody is: then it need not answer, and what it had not sent is lost.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from redis.exceptions import ResponseError

from slotwright.core.invariants import LAG_LIMIT
from slotwright.core.parse import parse_info, parse_nodes
from slotwright.core.slots import Slots
from slotwright.core.steps import Failover, Mode
from slotwright.core.view import ClusterView
from slotwright.errors import SlotwrightError
from slotwright.link.connect import LinkDown, Links
from slotwright.link.waits import node_timeout

TRIES = 3
# Redis gives a manual failover up after 5 s by itself; until then it may still happen.
PATIENCE = 6.0
GATHER = 2.0
POLL = 0.02


def fail_over(
    step: Failover, view: ClusterView, links: Links, *, timeout: float, report: Callable[[str], None]
) -> None:
    """Returns when the node is master and its old master, if it answers, follows it, each by its own word.

    timeout (seconds) bounds the wait for the replica to be in sync, which a plain failover asks for. Raises
    SlotwrightError; nothing is lost then.
    """
    _Failover(step.node, view, links, timeout, report, step.mode).run()


@dataclass
class _Failover:
    name: str
    view: ClusterView
    links: Links
    timeout: float
    report: Callable[[str], None]
    mode: Mode
    taken: Slots = field(default_factory=Slots)

    def run(self) -> None:
        node = self.view.by_name[self.name]
        old = self.view.name_of(node.myself.master)
        harsh = () if self.mode == "plain" else (self.mode.upper(),)
        said = ""
        # A master votes for a shard's replicas only once in two node timeouts.
        back_off = 2 * node_timeout(self.links, self.name)
        if not harsh:
            self._rest()
        for number in range(1, TRIES + 1):
            if not harsh:
                self._in_sync(old)
            try:
                self.links[self.name].call("CLUSTER", "FAILOVER", *harsh)
                said = f"neither did so within {PATIENCE:g} s"
                if self._over(old, PATIENCE):
                    return self._settle()
            except ResponseError as error:
                said = f"{' '.join(('CLUSTER FAILOVER', *harsh))} was answered with: {error}"
                # It may have become master just now, and its old one has yet to hear of it.
                if self._over(old, PATIENCE if _role(self.links, self.name)[:1] == ["master"] else 0):
                    return self._settle()
            if number < TRIES:
                self.report(f"{self.name} has not taken over from {old} ({said}); again in {back_off:g} s")
                if self._over(old, back_off):
                    return self._settle()
        raise SlotwrightError(
            f"did not take over from {old} in {TRIES} tries: {said}",
            where=f"node {self.name}",
            remedy=f"see the log of both for what refused it (votes of the other masters, or {old} is down); nothing "
            "was lost, and a further run tries again",
            code="failover-failed",
        )

    def _rest(self) -> None:
        """Wait until the node has forgotten the votes of an election that it has won not long ago.

        It keeps them for a while (auth_retry_time in Redis's clusterHandleSlaveFailover): in the first half of it a
        manual failover is won at once by these old votes, with the old config epoch, so that the old master does not
        follow and both are masters; in the second half it comes to nothing, while clients wait. (Seen with Redis 7.0.)
        How long the node has followed its master, so how old its election is at least, is the age of its link.
        """
        info = parse_info(self.links[self.name].call("CLUSTER", "INFO"))
        if info.get("cluster_stats_messages_auth-req_sent", "0") == "0":
            return
        link = re.search(r"\bage=(\d+)", str(self.links[self.name].call("CLIENT", "LIST", "TYPE", "master")))
        kept = 2 * max(2 * node_timeout(self.links, self.name), 2.0)
        if (wait := kept - (int(link[1]) if link else 0)) > 0:
            self.report(f"{self.name} waits {wait:g} s: until then votes for its last failover would count again")
            time.sleep(wait)

    def _settle(self) -> None:
        old_id = self.view.by_name[self.name].myself.master
        if self.mode == "plain":
            self._keep(old_id)
        self._gather(old_id)

    def _keep(self, old_id: str) -> None:
        """Until the node sees its old master as a replica: take again what it has lost to it.

        The old master claims its slots a moment longer. Where a claim came late when slots moved, Redis 7.0 takes the
        slot for one whose owner does not claim it, and believes the older epoch (measured: after a node gave all its
        slots away, followed who got them, and took over from that one). Then nobody would own the slot.
        """
        deadline = time.monotonic() + PATIENCE
        node_id = self.view.by_name[self.name].id
        while time.monotonic() < deadline:
            _, peers = parse_nodes(self.links[self.name].call("CLUSTER", "NODES"))
            lines = {peer.id: peer for peer in peers}
            if lost := self.taken - lines[node_id].slots:
                self._take_back(lost, node_id)
                self.report(f"{self.name} had lost the slots {lost} to its old master again, and has taken them back")
            elif old_id not in lines or not lines[old_id].is_master:
                return
            time.sleep(POLL)

    def _take_back(self, lost: Slots, node_id: str) -> None:
        try:
            for slot in lost:
                self.links[self.name].call("CLUSTER", "SETSLOT", slot, "NODE", node_id)
        except ResponseError as error:
            raise SlotwrightError(
                f"has lost the slots {lost} to its old master again, and CLUSTER SETSLOT was answered with: {error}",
                where=f"node {self.name}",
                remedy="give the user of redis_cluster_username the commands listed in docs/access.md, then run again: "
                "who has the keys of these slots gets them",
                code="command-refused",
            ) from error

    def _gather(self, old_id: str) -> None:
        """The old master's other replicas follow by themselves, unless they see other slots move at the same time.

        Those that have not after a moment are told to.
        """
        others = [r.name for r in self.view.replicas_of(old_id) if r.alive and r.name != self.name]
        deadline = time.monotonic() + GATHER
        while others and time.monotonic() < deadline:
            others = [name for name in others if _role(self.links, name)[:3] != self._following]
            time.sleep(POLL)
        node_id = self.view.by_name[self.name].id
        self.links.ask({name: [("CLUSTER", "REPLICATE", node_id)] for name in others})

    @property
    def _following(self) -> list[object]:
        """What ROLE begins with on a replica of the node."""
        address, _, port = self.view.by_name[self.name].endpoint.rpartition(":")
        return ["slave", address, int(port)]

    def _in_sync(self, old: str) -> None:
        """Wait until the replica has all but the last moments of what its master has."""
        deadline = time.monotonic() + self.timeout
        while lacks := self._behind(old):
            if time.monotonic() > deadline:
                raise SlotwrightError(
                    f"waited {self.timeout:g} s for {self.name} to be in sync with {old}, and still: {lacks}",
                    where=f"node {self.name}",
                    remedy="see the log of both; a failover now would lose what is missing, so nothing was done",
                    code="not-in-sync",
                )
            time.sleep(POLL)

    def _behind(self, old: str) -> str:
        mine, theirs = _role(self.links, self.name), _role(self.links, old)
        if mine[:1] == ["master"]:
            return ""
        if mine[:1] != ["slave"] or mine[3] != "connected":
            return f"its link is {mine[3]}" if mine[:1] == ["slave"] else "it does not answer"
        if theirs[:1] != ["master"]:
            return f"{old} is no master, or does not answer"
        behind = int(theirs[1]) - int(mine[4])
        if behind > LAG_LIMIT:
            return f"it is {behind} bytes behind"
        # It takes over the slots that it believes to be its master's; one that it misses would be nobody's.
        known, self.taken = (_slots_of(self.view.by_name[old].id, self.links, name) for name in (self.name, old))
        return "" if known == self.taken else f"it does not see the slots of {old} as {old} does"

    def _over(self, old: str, seconds: float) -> bool:
        """Whether both say, within this time, that it is done."""
        deadline = time.monotonic() + seconds
        while True:
            mine = _role(self.links, self.name)
            theirs = _role(self.links, old) if old in self.view.by_name else []
            followed = theirs[:3] == self._following or (not theirs and self.mode != "plain")
            if mine[:1] == ["master"] and followed:
                return True
            if time.monotonic() >= deadline:
                return False
            time.sleep(POLL)


def _slots_of(node_id: str, links: Links, name: str) -> Slots:
    """What this node says that node owns."""
    _, peers = parse_nodes(links[name].call("CLUSTER", "NODES"))
    return next((peer.slots for peer in peers if peer.id == node_id), Slots())


def _role(links: Links, name: str) -> list[Any]:
    """ROLE; empty where the node does not answer. A link that broke is opened again."""
    if not links[name].up:
        links[name].open()
    try:
        answer = links[name].call("ROLE")
    except (LinkDown, ResponseError):
        return []
    return answer if isinstance(answer, list) else []
