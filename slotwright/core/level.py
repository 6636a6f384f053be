"""Slots that weigh different: which of them go where, so that every master carries its share, and few slots move."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction

from slotwright.core.slots import Slots


@dataclass(frozen=True)
class Levelled:
    """moves: (source, target) → slots. least: no solution moves fewer. worst: the greatest part by which one differs
    from its share afterwards.
    """

    moves: Mapping[tuple[str, str], Slots]
    least: int
    worst: float


def level(
    slots: Mapping[str, Slots], weights: Mapping[str, Fraction], loads: Mapping[int, float], slack: float
) -> Levelled:
    """slots: of each master. weights: of those that may own some; the others give all they have.

    Where everybody is within `slack` of his share, nothing moves. Else the heaviest slots go that may: those that leave
    their master above its least, and their new one below its most. Each source gives to whoever lacks most.

    The bound `least`: who has more than the most allowed must lose at least as many slots as its heaviest ones take to
    bring it there; and who has less than the least allowed must get as many as the heaviest slots anywhere else take.
    """
    total = sum(loads.get(slot, 0.0) for some in slots.values() for slot in some)
    whole = sum(weights.values())
    share = {name: total * float(weights.get(name, 0) / whole) for name in slots}
    most = {name: amount * (1 + slack) for name, amount in share.items()}
    lowest = {name: amount * (1 - slack) for name, amount in share.items()}
    have = {name: sum(loads.get(slot, 0.0) for slot in some) for name, some in slots.items()}
    left = {name: sorted(some, key=lambda slot: (-loads.get(slot, 0.0), -slot)) for name, some in slots.items()}
    least = _bound(left, loads, have, most, lowest, weights)

    moves: dict[tuple[str, str], list[int]] = {}

    def give(source: str, target: str, slot: int) -> None:
        weight = loads.get(slot, 0.0)
        have[source] -= weight
        have[target] += weight
        left[source].remove(slot)
        moves.setdefault((source, target), []).append(slot)

    for source in (name for name in slots if name not in weights):
        for slot in tuple(left[source]):
            give(source, min(weights, key=lambda name: have[name] / float(weights[name])), slot)
    while True:
        pairs = [
            (source, target)
            for source in sorted(weights, key=lambda name: share[name] - have[name])
            for target in sorted(weights, key=lambda name: have[name] - share[name])
            if have[source] > share[source] and have[target] < share[target]
            if have[source] > most[source] or have[target] < lowest[target]
        ]
        for source, target in pairs:
            if (fitting := _fitting(left[source], loads, have, share, (source, target))) is not None:
                give(source, target, fitting)
                break
        else:
            break
    worst = max((abs(have[n] - share[n]) / share[n] for n in weights if share[n]), default=0.0)
    return Levelled({pair: Slots.of(some) for pair, some in moves.items()}, least, worst)


def _fitting(
    candidates: list[int],
    loads: Mapping[int, float],
    have: Mapping[str, float],
    share: Mapping[str, float],
    pair: tuple[str, str],
) -> int | None:
    """The heaviest slot that makes the pair more even: neither end is then further off than the other end was.

    candidates are ordered by their loads.
    """
    source, target = pair
    over, under = have[source] - share[source], share[target] - have[target]
    for slot in candidates:
        weight = loads.get(slot, 0.0)
        if weight and abs(over - weight) + abs(under - weight) < over + under and weight <= max(over, under):
            return slot
    return None


def _bound(
    left: Mapping[str, list[int]],
    loads: Mapping[int, float],
    have: Mapping[str, float],
    most: Mapping[str, float],
    lowest: Mapping[str, float],
    weights: Mapping[str, Fraction],
) -> int:
    def needed(slots: list[int], amount: float) -> int:
        count = 0
        for slot in slots:
            if amount <= 1e-9:
                break
            amount -= loads.get(slot, 0.0)
            count += 1
        return count

    giving = sum(needed(left[name], have[name] - most[name]) if name in weights else len(left[name]) for name in left)
    getting = 0
    for name in weights:
        others = sorted((slot for n in left if n != name for slot in left[n]), key=lambda s: -loads.get(s, 0.0))
        getting += needed(others, lowest[name] - have[name])
    return max(giving, getting)
