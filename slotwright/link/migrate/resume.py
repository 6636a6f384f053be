"""What to do next with a slot on its way from one node to another, from nothing but what the two nodes say of it.

A fresh move and one that died anywhere are the same to this table: there is no memory of what was done before. The
order that it keeps is the only safe one:

    IMPORTING at the target, acknowledged     before   MIGRATING at the source     else ASK and MOVED chase each other
    no key left at the source                 before   NODE at the target          else the source deletes what it has
    NODE at the target, acknowledged          before   NODE at the source          else nobody serves the slot
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from functools import cached_property, lru_cache


class End(Enum):
    """Whom a word of a node is about. GONE: a node that is no living master (any more)."""

    __hash__ = object.__hash__  # Enum's own is slow

    SOURCE = "the source"
    TARGET = "the target"
    OTHER = "another master"
    GONE = "no living master"


class Action(Enum):
    """What comes next. The last four are no commands: the slot is there, or its move stops here.

    ADOPT: a node that imports a slot takes no gossip about its owner. Once that has failed over, the slot is nobody's
    in its eyes, and it says cluster_state:fail until it is told.
    """

    ADOPT = "SETSLOT NODE at the target, for the source"
    IMPORT = "SETSLOT IMPORTING at the target"
    EXPORT = "SETSLOT MIGRATING at the source"
    MIGRATE = "MIGRATE the keys"
    TAKE = "SETSLOT NODE at the target"
    GIVE = "SETSLOT NODE at the source"
    CLEAR_TARGET = "SETSLOT STABLE at the target"
    CLEAR_SOURCE = "SETSLOT STABLE at the source"
    DONE = "nothing: the slot is the target's"
    REOWNED = "stop: neither of the two owns the slot"
    ELSEWHERE = "stop: the slot is on its way to another master"
    STRAYS = "stop: the source holds keys of a slot that it has given away"


STOPS = frozenset({Action.REOWNED, Action.ELSEWHERE, Action.STRAYS})


@dataclass(frozen=True)
class Seen:
    """A slot as its two ends see it.

    source_says, target_says: the owner. migrating: whom the source's flag names, importing: whom the target's does.
    keys: whether the source holds keys of the slot.
    """

    source_says: End = End.SOURCE
    target_says: End = End.SOURCE
    migrating: End | None = None
    importing: End | None = None
    keys: bool = True

    @cached_property
    def next(self) -> Action:
        return resume(self)


seen_as = lru_cache(Seen)  # slots by the hundred are in one state


def resume(seen: Seen) -> Action:
    """The next action for the slot. Total; each action leads to a row further down, whoever asks then."""
    owners = (seen.source_says, seen.target_says)
    if seen.importing and seen.target_says is End.OTHER:
        if seen.source_says is End.SOURCE and seen.migrating is not End.OTHER:
            return Action.ADOPT
        owners = (seen.source_says, End.SOURCE)  # as it was when the import began
    if owners == (End.SOURCE, End.SOURCE):
        return _leave(seen)
    if owners == (End.SOURCE, End.TARGET):
        # The source has not heard yet. It deletes what it still holds as soon as it does.
        return Action.MIGRATE if seen.keys else Action.GIVE
    if owners == (End.TARGET, End.SOURCE):
        # Nobody serves the slot. Importing again lets the target take it with an epoch of its own.
        if seen.keys:
            return Action.STRAYS
        return Action.TAKE if seen.importing is End.SOURCE else Action.IMPORT
    if owners == (End.TARGET, End.TARGET):
        return _arrive(seen)
    return Action.REOWNED


def _leave(seen: Seen) -> Action:
    if seen.migrating is End.OTHER:
        return Action.ELSEWHERE  # it may hold keys already
    if seen.importing is not End.SOURCE:
        return Action.IMPORT
    if seen.migrating is not End.TARGET:
        return Action.EXPORT
    return Action.MIGRATE if seen.keys else Action.TAKE


def _arrive(seen: Seen) -> Action:
    if seen.keys:
        return Action.STRAYS
    if seen.importing is not None:
        return Action.CLEAR_TARGET
    return Action.CLEAR_SOURCE if seen.migrating is not None else Action.DONE
