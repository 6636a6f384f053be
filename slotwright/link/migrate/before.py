"""What is seen to before the first key of a move: that the nodes agree, what there is to move, and whether it fits."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence

from slotwright.core.invariants import violations
from slotwright.core.parse import parse_info
from slotwright.core.slots import Slots
from slotwright.core.steps import MoveSlots
from slotwright.core.topology import Topology
from slotwright.core.versions import numbers
from slotwright.core.view import ClusterView, union
from slotwright.errors import Finding, Refused, SlotwrightError
from slotwright.link.connect import LinkDown, Links
from slotwright.link.migrate.carry import Job
from slotwright.link.migrate.keys import count, each_node, survey
from slotwright.link.migrate.limits import NO_LIMITS
from slotwright.link.migrate.pacer import Pacer
from slotwright.link.migrate.wire import Wire
from slotwright.link.observe import observe, wait_until

SAMPLED_SLOTS, SAMPLED_KEYS = 32, 16

Counts = Mapping[str, Mapping[int, int]]
"""By source: the keys of each slot that it is to give."""


def settled(
    steps: Sequence[MoveSlots], topology: Topology, links: Links, timeout: float, *, epochs: bool = True
) -> ClusterView:
    """The view, once all nodes know what the two ends of each move own, and no two masters share a config epoch.

    epochs: and once all know these epochs. One that was changed because two had taken the same is told to nobody in
    particular: it may take half a node timeout until the last has heard of it.

    A node that missed the last change of a slot's owner, and then hears that the former owner has a newer epoch, takes
    the slot for that one's again and tells the owner so. The owner believes it, if it has not heard of the newer epoch
    from the node itself yet, and deletes the slot's keys. (Seen with Redis 7.0, with slots that went forth, back and
    forth again within milliseconds on a busy machine.)
    """
    ends = sorted({step.node for step in steps} | {step.target for step in steps})

    def lacks(view: ClusterView) -> list[str]:
        # Targets that took slots at the same time may have taken the same epoch: Redis mends that by itself.
        found = [finding.what for finding in violations(topology, view) if finding.code == "I4"]
        claimed = union(node.myself.slots for node in view.nodes)
        for node in view.nodes:
            # A node takes no gossip about slots that it imports, and none is sent about slots that nobody claims.
            told = claimed - Slots.of(slot for slot, _ in node.myself.importing)
            for end in (view.by_name[name] for name in ends if name in view.by_name):
                line = node.by_id.get(end.id)
                if line is None or (epochs and line.config_epoch < end.myself.config_epoch):
                    found.append(f"{node.name} does not know the config epoch of {end.name} yet")
                elif line.slots & told != end.myself.slots & told:
                    found.append(f"{node.name} does not see the slots of {end.name} yet")
        return found

    return wait_until(
        lacks,
        lambda: observe(topology, links),
        seconds=timeout,
        purpose="the nodes to agree on who owns which slots",
        remedy="see that they reach each other's bus port (port + 10000), both ways",
    )


def one_database(steps: Sequence[MoveSlots], links: Links) -> None:
    """Raises Refused where keys are in another database than 0 (Valkey 9 allows that): MIGRATE would leave them."""
    found = []
    for name, answer in links.ask({step.node: [("INFO", "keyspace")] for step in steps}).items():
        info = parse_info(answer[0]) if isinstance(answer, list) and isinstance(answer[0], str) else {}
        others = sorted(key for key in info if key.startswith("db") and key != "db0")
        if others:
            remedy = "move these keys to database 0; slots with keys of several databases cannot be moved yet"
            found.append(Finding("other-databases", f"node {name}", f"has keys in {', '.join(others)}", remedy))
    if found:
        raise Refused(found)


def close_lone(steps: Sequence[MoveSlots], links: Links) -> None:
    """Slots that are marked as on their way to, or from, a node that is no member any more."""
    for step in (step for step in steps if step.node == step.target):
        set_slots(step.node, step.slots, "STABLE", links=links)


def set_slots(name: str, slots: Iterable[int], *words: str, links: Links) -> None:
    """CLUSTER SETSLOT at one node."""
    [answer] = links.ask({name: [("CLUSTER", "SETSLOT", slot, *words) for slot in slots]}).values()
    replies = [answer] if isinstance(answer, LinkDown) else answer
    if wrong := [reply for reply in replies if isinstance(reply, Exception)]:
        raise SlotwrightError(
            f"CLUSTER SETSLOT {words[0]} was answered with: {wrong[0]}",
            where=f"node {name}",
            remedy="mend that, then run again",
            code="command-refused",
        )


def counted(steps: Sequence[MoveSlots], links: Links) -> Counts:
    wanted: dict[str, Slots] = defaultdict(Slots)
    for step in steps:
        wanted[step.node] |= step.slots
    return each_node(wanted, links, count)


def prove_clean(steps: Sequence[MoveSlots], view: ClusterView, links: Links) -> None:
    """Raises Refused where a target that owns no slot holds keys of slots that are to come, whose move has not begun.

    They would be served beside the source's: keys that were deleted there would be back. (A target that owns slots may
    have taken over from one to which the keys were on their way.)
    """
    coming: dict[str, Slots] = defaultdict(Slots)
    for step in steps:
        source, target = view.by_name[step.node].myself, view.by_name[step.target].myself
        if not target.slots:
            coming[step.target] |= step.slots - Slots.of(slot for slot, _ in (*target.importing, *source.migrating))
    found = []
    for name, held in each_node(coming, links, count).items():
        if strays := {slot: keys for slot, keys in held.items() if keys}:
            what = f"holds {sum(strays.values())} keys of the slots {Slots.of(strays)}, though it owns no slot"
            remedy = "see what they are (CLUSTER GETKEYSINSLOT); if nothing needs them, FLUSHALL there; then run again"
            found.append(Finding("foreign-keys", f"node {name} ({view.by_name[name].endpoint})", what, remedy))
    if found:
        raise Refused(found)


def prove_room(steps: Sequence[MoveSlots], counts: Counts, view: ClusterView, links: Links) -> None:
    """Raises Refused where a target has no memory for what is to come."""
    limited = {step.target for step in steps if view.by_name[step.target].maxmemory}
    sources = {step.node for step in steps if step.target in limited}
    mean = mean_sizes({name: counts[name] for name in sources}, links)
    needed: Counter[str] = Counter()
    for step in (step for step in steps if step.target in limited):
        needed[step.target] += int(sum(counts[step.node][slot] for slot in step.slots) * mean[step.node])
    full = []
    for node in (view.by_name[name] for name in sorted(limited)):
        size = needed[node.name]
        if node.used_memory + size >= node.maxmemory:
            what = f"uses {node.used_memory} bytes of its maxmemory {node.maxmemory}, and about {size} would come"
            remedy = "raise its maxmemory, or free memory there; nothing was changed"
            full.append(Finding("target-full", f"node {node.name} ({node.endpoint})", what, remedy))
    if full:
        raise Refused(full)


def mean_sizes(counts: Counts, links: Links) -> dict[str, float]:
    """Bytes a key on each source, from a sample over all of these slots."""

    def mean(wire: Wire, keyed: list[int]) -> float:
        listed = survey(wire, keyed[:: max(1, len(keyed) // SAMPLED_SLOTS)], Pacer(NO_LIMITS), SAMPLED_KEYS)
        sizes = [size for listing in listed.values() for size in listing.sizes]
        return sum(sizes) / (len(sizes) or 1)

    keyed = {name: Slots.of(slot for slot, keys in held.items() if keys) for name, held in counts.items()}
    return each_node(keyed, links, mean)


def first_slots(jobs: Iterable[Job], view: ClusterView) -> list[Job]:
    """For each target that owns no slot yet: the one by which it becomes known to the clients, if possible empty.

    A master without a slot is in no client's table, and none of its replicas would take over from it.
    """
    best: dict[str, tuple[int, int, Job]] = {}
    for job in jobs:
        name = job.target.name
        if not view.by_name[name].myself.slots:
            for slot, keys in job.counts.items():
                if name not in best or (keys, slot) < best[name][:2]:
                    best[name] = (keys, slot, job)
    return [Job(job.source, job.target, {slot: keys}) for keys, slot, job in best.values()]


def seals(jobs: Iterable[Job], view: ClusterView) -> list[Job]:
    """For each target one slot, with as few keys as can be, that is to arrive last, by itself, when all is quiet.

    Redis before 8.0 remembers of a slot that its owner did not claim it in a message, also where that message was
    older than the claim and came by another connection; forgets it only when it hears the owner claim other slots than
    before; and, once it has got such a slot itself, believes whoever claims it, with whatever epoch, and deletes its
    keys. (Seen once in some 600 moves forth and back with 7.0.15: owner_not_claiming_slot in cluster.c.) The claim of
    the last slot makes all nodes forget what they remember of those before it.
    """
    best: dict[str, tuple[int, int, Job]] = {}
    for job in jobs:
        node = view.by_name[job.target.name]
        if node.flavor == "redis" and (7, 0) <= numbers(node.version) < (8, 0):
            for slot, keys in job.counts.items():
                if job.target.name not in best or (keys, -slot) < best[job.target.name][:2]:
                    best[job.target.name] = (keys, -slot, job)
    return [Job(job.source, job.target, {-after: keys}) for keys, after, job in best.values()]


def without(jobs: Iterable[Job], others: Iterable[Job]) -> list[Job]:
    """The jobs without the slots of the others."""
    gone = {slot for job in others for slot in job.counts}
    return [Job(j.source, j.target, {s: n for s, n in j.counts.items() if s not in gone}) for j in jobs]
