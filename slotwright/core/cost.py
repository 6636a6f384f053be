"""What a plan costs, as data for its preview: slots, keys and bytes that move, full syncs, failovers, and the time."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, fields

from slotwright.core.slots import Slots
from slotwright.core.steps import Failover, MoveSlots, Remove, Replicate, Step
from slotwright.core.view import ClusterView


@dataclass(frozen=True)
class Rates:
    """What the expected time assumes. Measured on two cores and loopback (see docs): networks and disks differ.

    slots_per_second: slots handed over between two masters, empty ones. keys_per_second, bytes_per_second: what MIGRATE
    carries between two masters. sync_bytes_per_second, sync_delay: a full sync, and the seconds before it starts
    (repl-diskless-sync-delay). failover_seconds: until all see it. step_seconds: of everything else, for each step.
    """

    slots_per_second: float = 12_000
    keys_per_second: float = 60_000
    bytes_per_second: float = 20e6
    sync_bytes_per_second: float = 60e6
    sync_delay: float = 5.0
    failover_seconds: float = 1.0
    step_seconds: float = 0.1

    @property
    def assumptions(self) -> tuple[str, ...]:
        return (
            f"between two masters {self.slots_per_second:,.0f} slots, {self.keys_per_second:,.0f} keys and "
            f"{self.bytes_per_second / 1e6:,.0f} MB a second; a master moves slots with one other at a time",
            f"a full sync {self.sync_bytes_per_second / 1e6:,.0f} MB a second after {self.sync_delay:g} s; a master "
            "syncs one replica at a time",
            f"{self.failover_seconds:g} s for each failover; {self.step_seconds:g} s for each other step",
            "keys and bytes are spread evenly over the slots of a node; bytes are its used memory",
        )


@dataclass(frozen=True)
class Cost:
    """slots, keys and bytes: moved. syncs and sync_bytes: full copies of a master's data. seconds: expected time."""

    slots: int = 0
    keys: int = 0
    bytes: int = 0
    syncs: int = 0
    sync_bytes: int = 0
    failovers: int = 0
    removals: int = 0
    seconds: float = 0.0
    assumptions: tuple[str, ...] = ()

    def as_dict(self) -> dict[str, object]:
        return {field.name: getattr(self, field.name) for field in fields(self)} | {
            "seconds": round(self.seconds, 1),
            "assumptions": list(self.assumptions),
        }

    def lines(self) -> list[str]:
        """For people; what costs nothing is left out."""
        shown = []
        if self.slots:
            shown.append(f"{self.slots} slots move, with about {self.keys:,} keys ({size(self.bytes)})")
        if self.syncs:
            shown.append(f"{self.syncs} full sync{'s' * (self.syncs > 1)} ({size(self.sync_bytes)})")
        if self.failovers:
            shown.append(f"{self.failovers} failover{'s' * (self.failovers > 1)}")
        if self.removals:
            shown.append(f"{self.removals} node{'s' * (self.removals > 1)} removed")
        if shown or self.seconds:
            shown.append(f"expected time: {span(self.seconds)}")
        return shown


def cost(view: ClusterView, steps: Iterable[Step], rates: Rates | None = None) -> Cost:
    """What the steps cost from this view. Keys and bytes are estimates, from what each node says of itself."""
    rates, count = rates or Rates(), _Count(view)
    total = Counter[str]()
    moving: dict[str, float] = defaultdict(float)
    syncing: dict[str, float] = defaultdict(float)
    rest = 0.0
    for step in steps:
        match step:
            case MoveSlots(node=source, target=target, slots=slots) if source != target:
                moved = count.move(source, target, slots)
                keys, amount = count.of(moved)
                total.update(slots=len(moved), keys=round(keys), bytes=round(amount))
                speed = (rates.slots_per_second, rates.keys_per_second, rates.bytes_per_second)
                seconds = sum(part / rate for part, rate in zip((len(slots), keys, amount), speed, strict=True))
                moving[source] += seconds
                moving[target] += seconds
            case Replicate(master=master):
                _, amount = count.of(count.slots.get(master, Slots()))
                total.update(syncs=1, sync_bytes=round(amount))
                count.follow(step.node, master)
                syncing[master] += rates.sync_delay + amount / rates.sync_bytes_per_second
            case Failover(node=name):
                count.fail_over(name)
                total.update(failovers=1)
                rest += rates.failover_seconds
            case _:
                total.update(removals=int(isinstance(step, Remove)))
                rest += rates.step_seconds
    longest = sum(max(parallel.values(), default=0.0) for parallel in (moving, syncing))
    return Cost(**total, seconds=rest + longest, assumptions=rates.assumptions if total or rest else ())


class _Count:
    """Who owns which slots while the steps go on, and what the slots weigh."""

    def __init__(self, view: ClusterView) -> None:
        self.master_of = {n.name: view.name_of(n.myself.master) for n in view.nodes if n.peers and n.myself.master}
        self.slots = {view.name_of(owner): slots for owner, slots in view.owners.items()}
        self.weights = [
            (node.myself.slots, node.keys / len(node.myself.slots), node.used_memory / len(node.myself.slots))
            for node in view.nodes
            if node.peers and node.myself.slots
        ]

    def of(self, slots: Slots) -> tuple[float, float]:
        """Keys and bytes of these slots."""
        parts = [(len(slots & held), keys, amount) for held, keys, amount in self.weights]
        return sum(n * keys for n, keys, _ in parts), sum(n * amount for n, _, amount in parts)

    def move(self, source: str, target: str, slots: Slots) -> Slots:
        """Those of the slots that change their owner."""
        moved = slots & self.slots.get(source, Slots())
        self.slots[source] = self.slots.get(source, Slots()) - moved
        self.slots[target] = self.slots.get(target, Slots()) | moved
        return moved

    def follow(self, name: str, master: str) -> None:
        self.master_of[name] = master

    def fail_over(self, name: str) -> None:
        old = self.master_of.pop(name, name)
        self.slots[name] = self.slots.pop(old, Slots())
        for other, master in self.master_of.items():
            if master == old:
                self.master_of[other] = name
        self.master_of[old] = name


def size(amount: float) -> str:
    for unit in ("B", "kB", "MB", "GB"):
        if amount < 1000:
            return f"{amount:.0f} {unit}" if unit == "B" or amount >= 10 else f"{amount:.1f} {unit}"
        amount /= 1000
    return f"{amount:.1f} TB"


def span(seconds: float) -> str:
    if seconds < 60:
        return f"{max(1, round(seconds))} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 120 else f"{minutes // 60} h {minutes % 60} min"
