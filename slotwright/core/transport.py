"""Which slots go from whom to whom: as few as can be, in few ranges.

As many slots move as shards have beyond their quota, and no fewer could: Σ max(0, have - quota). Quotas are the shares
by weight, rounded down or up; up where that spares a move. Sources and sinks are matched in the order of their names,
each source giving its last slots, the first of these to the first sink: so a rest of the moves is matched as it was in
the whole, a source that is one range stays one, and shards that grew by this rule shrink into ranges again.

Open slots (a move that was cut off) are finished where the plan would move slots that way anyhow, else brought back.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from fractions import Fraction
from math import ceil, floor

from slotwright.core.slots import SLOT_COUNT, Slots


@dataclass(frozen=True)
class Move:
    """Slots from one shard to another, by their numbers."""

    source: int
    target: int
    slots: Slots


@dataclass(frozen=True)
class Closing:
    """Open slots that go back to their owner from the node; only closed where both are the same."""

    node: str
    owner: str
    slots: Slots


@dataclass(frozen=True)
class Transport:
    """given: slots that nobody owns, by the number of the shard that takes them."""

    closing: tuple[Closing, ...]
    given: Mapping[int, Slots]
    moves: tuple[Move, ...]


@dataclass(frozen=True)
class Open:
    """A slot of which a node says that it goes to, or comes from, another node; the owner is who owns it now.

    beyond: the nodes besides the owner that may have keys of it, or a mark for it. hidden: those of them that have keys
    and no mark, as who replaced a target is. dangling: the owner's mark names somebody who is no master.
    """

    slot: int
    owner: str
    beyond: tuple[str, ...]
    dangling: bool = False
    hidden: tuple[str, ...] = ()


@dataclass(frozen=True)
class Stock:
    """A shard: its number, its master's name, the slots that it has, and its weight; None: it is dissolved.

    away: its master does not answer, so that it neither takes slots nor gives any.
    """

    number: int
    name: str
    slots: Slots
    weight: Fraction | None = Fraction(1)
    away: bool = False


def quotas(have: Sequence[int], weights: Sequence[Fraction], total: int = SLOT_COUNT) -> list[int]:
    """Shares of the total by weight, rounded so that the sum is right and the fewest slots move."""
    if not weights:
        return []
    shares = [total * w / sum(weights) for w in weights]
    rounded = [floor(s) for s in shares]
    left = total - sum(rounded)
    odd = [i for i, share in enumerate(shares) if share > rounded[i]]
    for i in [*(i for i in odd if have[i] > rounded[i]), *(i for i in odd if have[i] <= rounded[i])][:left]:
        rounded[i] += 1
    return rounded


def balanced(have: Sequence[int], weights: Sequence[Fraction], slack: Fraction) -> bool:
    """Whether every shard has slots, and as many as its share within the slack, or its share rounded."""
    whole = sum(weights)
    for slots, weight in zip(have, weights, strict=True):
        share = SLOT_COUNT * weight / whole
        least = min(floor(share), ceil(share * (1 - slack)))
        most = max(ceil(share), floor(share * (1 + slack)))
        if not slots or not least <= slots <= most:
            return False
    return True


@dataclass
class _Source:
    stock: Stock
    surplus: int
    parts: dict[int, int] = field(default_factory=dict)
    open_to: dict[int, list[int]] = field(default_factory=dict)


def transport(
    stocks: Sequence[Stock],
    unowned: Slots,
    opened: Iterable[Open],
    *,
    slack: Fraction = Fraction(0),
    frozen: bool = False,
    given: Mapping[int, Slots] | None = None,
) -> Transport:
    """stocks are in an order that stays as slots move. Where all are within the slack, only what must move does.

    The moves end where the rest of them is within the slack. frozen: no slots move. given: who takes which of the
    unowned slots, where that is known.
    """
    staying = [s for s in stocks if s.weight is not None]
    weights = [s.weight for s in staying if s.weight is not None]
    shares = quotas([len(s.slots) for s in staying], weights)
    wanted = {s.number: quota for s, quota in zip(staying, shares, strict=True)}
    have = {s.number: len(s.slots) for s in stocks}
    lack = {s.number: max(0, wanted[s.number] - have[s.number]) for s in staying if not s.away}

    if given is None:
        given = _held(stocks, unowned, opened)
        _add(given, have, lack)
        more = _give([slot for slot in unowned if not any(slot in some for some in given.values())], lack, have)
        _add(more, have, lack)
        given = {n: given.get(n, Slots()) | more.get(n, Slots()) for n in lack if n in given or n in more}
    names = {s.number: s.name for s in stocks}
    owner = {slot: names[number] for number, slots in given.items() for slot in slots}
    opened = [_owned(entry, owner.get(entry.slot, entry.owner)) for entry in opened]
    opened = [entry for entry in opened if entry.owner]

    moves: list[Move] = []
    dissolved = {s.number for s in stocks if s.weight is None and s.slots}
    for move in [] if frozen else _moves(stocks, wanted, lack, opened):
        if not dissolved and balanced([have[s.number] for s in staying], weights, slack):
            break
        moves.append(move)
        have[move.source] -= len(move.slots)
        have[move.target] += len(move.slots)
        if not have[move.source]:
            dissolved.discard(move.source)
    to = {slot: names[move.target] for move in moves for slot in move.slots}
    return Transport(tuple(closing(opened, to)), given, tuple(moves))


def _add(given: Mapping[int, Slots], have: dict[int, int], lack: dict[int, int]) -> None:
    for number, slots in given.items():
        have[number] += len(slots)
        lack[number] = max(0, lack[number] - len(slots))


def _held(stocks: Sequence[Stock], unowned: Slots, opened: Iterable[Open]) -> dict[int, Slots]:
    """Slots that nobody owns, by who alone has keys of them."""
    numbers = {s.name: s.number for s in stocks if s.weight is not None and not s.away}
    found: dict[int, list[int]] = {}
    for entry in opened:
        if entry.slot in unowned and len(entry.hidden) == 1 and entry.hidden[0] in numbers:
            found.setdefault(numbers[entry.hidden[0]], []).append(entry.slot)
    return {number: Slots.of(slots) for number, slots in found.items()}


def _owned(entry: Open, owner: str) -> Open:
    beyond, hidden = (tuple(n for n in names if n != owner) for names in (entry.beyond, entry.hidden))
    return replace(entry, owner=owner, beyond=beyond, hidden=hidden)


def _give(slots: list[int], lack: Mapping[int, int], have: Mapping[int, int]) -> dict[int, Slots]:
    """Slots that nobody owns go where slots are lacking; those beyond that, to the shard that has fewest."""
    given: dict[int, Slots] = {}
    for number, most in lack.items():
        if take := slots[:most]:
            given[number] = Slots.of(take)
            slots = slots[most:]
    if slots:
        least = min(lack, key=lambda number: have[number] + len(given.get(number, Slots())))
        given[least] = given.get(least, Slots()) | Slots.of(slots)
    return given


def _moves(
    stocks: Sequence[Stock], wanted: Mapping[int, int], lack: dict[int, int], opened: Sequence[Open]
) -> list[Move]:
    # The first master of a new shard may be that of another one still.
    by_name = {s.name: s.number for s in sorted(stocks, key=lambda s: bool(s.slots))}
    sources = [_Source(s, more) for s in stocks if (more := len(s.slots) - wanted.get(s.number, 0)) > 0]
    for source in sources:
        for entry in opened:
            if entry.owner == source.stock.name and entry.slot in source.stock.slots:
                target = next((by_name[name] for name in entry.beyond if lack.get(by_name.get(name, -1))), None)
                if target is not None and source.surplus:
                    source.open_to.setdefault(target, []).append(entry.slot)
                    source.parts[target] = source.parts.get(target, 0) + 1
                    source.surplus -= 1
                    lack[target] -= 1
    for source in sources:
        for number in lack:
            if take := min(source.surplus, lack[number]):
                source.parts[number] = source.parts.get(number, 0) + take
                source.surplus -= take
                lack[number] -= take
    found = []
    for source in sources:
        finishing = Slots.of(slot for some in source.open_to.values() for slot in some)
        more = sum(source.parts.values()) - len(finishing)
        last = list(source.stock.slots - finishing)[-more:] if more else []
        for number in (n for n in lack if n in source.parts):
            finish = source.open_to.get(number, [])
            count = source.parts[number] - len(finish)
            found.append(Move(source.stock.number, number, Slots.of([*finish, *last[:count]])))
            del last[:count]
    return found


def closing(opened: Iterable[Open], to: Mapping[int, str]) -> Iterator[Closing]:
    """What brings back the open slots that no move finishes, slots between the same two nodes together.

    Keys without a mark come first: a mark of the slot is all that tells of them.
    """
    groups: dict[tuple[str, str], list[int]] = {}
    opened = tuple(opened)
    for entry in opened:
        for name in entry.hidden:
            if name != to.get(entry.slot):
                groups.setdefault((name, entry.owner), [])
    for entry in opened:
        beyond = [name for name in entry.beyond if name != to.get(entry.slot)]
        for name in beyond:
            groups.setdefault((name, entry.owner), []).append(entry.slot)
        if entry.dangling and not beyond and entry.slot not in to:
            groups.setdefault((entry.owner, entry.owner), []).append(entry.slot)
    for (name, owner), slots in groups.items():
        yield Closing(name, owner, Slots.of(slots))
