"""What comes next for a slot, for every state that its two ends can be in (slotwright/link/migrate/resume.py)."""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import product

import pytest

from slotwright.link.migrate.resume import STOPS, Action, End, Seen, resume

OWNERS = (End.SOURCE, End.TARGET, End.OTHER)
MIGRATING = (None, End.TARGET, End.OTHER, End.GONE)
IMPORTING = (None, End.SOURCE, End.OTHER, End.GONE)
EVERY = [Seen(*row) for row in product(OWNERS, OWNERS, MIGRATING, IMPORTING, (True, False))]

S, T, O, G = End.SOURCE, End.TARGET, End.OTHER, End.GONE  # noqa: E741
TABLE = [
    # A move in order, step by step.
    (Seen(S, S, None, None, True), Action.IMPORT),
    (Seen(S, S, None, S, True), Action.EXPORT),
    (Seen(S, S, T, S, True), Action.MIGRATE),
    (Seen(S, S, T, S, False), Action.TAKE),
    (Seen(S, T, T, None, False), Action.GIVE),
    (Seen(T, T, None, None, False), Action.DONE),
    # No key is left, but the source does not send its clients on yet: a key could still be made there.
    (Seen(S, S, None, S, False), Action.EXPORT),
    # The source lost its mark by a restart or a failover; the target lost its own.
    (Seen(S, S, T, None, True), Action.IMPORT),
    (Seen(S, S, G, S, True), Action.EXPORT),
    (Seen(S, S, T, G, True), Action.IMPORT),
    (Seen(S, S, T, O, True), Action.IMPORT),
    # A source that is new by a failover, of which an importing target does not hear.
    (Seen(S, O, None, G, True), Action.ADOPT),
    (Seen(S, O, T, S, False), Action.ADOPT),
    (Seen(T, O, None, S, False), Action.TAKE),
    # The target took the slot and the source has not heard; keys that it still has would be deleted then.
    (Seen(S, T, None, None, False), Action.GIVE),
    (Seen(S, T, T, S, True), Action.MIGRATE),
    # Both know, and an old mark is left: Redis 7.0 and 8.6 leave the source's after a crash between the two NODEs.
    (Seen(T, T, T, None, False), Action.CLEAR_SOURCE),
    (Seen(T, T, None, S, False), Action.CLEAR_TARGET),
    (Seen(T, T, T, S, False), Action.CLEAR_TARGET),
    # The source gave the slot away and nobody took it.
    (Seen(T, S, None, None, False), Action.IMPORT),
    (Seen(T, S, None, S, False), Action.TAKE),
    # Where another one has a hand in it, nothing is touched.
    (Seen(S, S, O, S, True), Action.ELSEWHERE),
    (Seen(S, S, O, None, False), Action.ELSEWHERE),
    (Seen(O, O, None, S, True), Action.REOWNED),
    (Seen(S, O, T, None, True), Action.REOWNED),
    (Seen(O, T, None, None, False), Action.REOWNED),
    (Seen(T, T, None, None, True), Action.STRAYS),
    (Seen(T, S, None, S, True), Action.STRAYS),
]


@pytest.mark.parametrize(("seen", "action"), TABLE, ids=lambda value: str(value))
def test_row(seen: Seen, action: Action) -> None:
    assert resume(seen) is action


def test_every_action_has_a_row() -> None:
    assert {action for _, action in TABLE} == set(Action)


@dataclass(frozen=True)
class Nodes:
    """The two nodes of a slot, as Redis behaves (7.0). Which keys each holds is told apart: old, and written since."""

    seen: Seen
    at_target: bool = False
    lost: bool = False

    def do(self, action: Action) -> Nodes:
        seen = self.seen
        match action:
            case Action.ADOPT:
                assert seen.source_says is S and seen.target_says is O
                return replace(self, seen=replace(seen, target_says=S))
            case Action.IMPORT:
                assert seen.target_says is not T, "I'm already the owner of the slot"
                return replace(self, seen=replace(seen, importing=S))
            case Action.EXPORT:
                assert seen.source_says is S, "I'm not the owner of the slot"
                assert seen.importing is S, "clients would be sent to and fro"
                return replace(self, seen=replace(seen, migrating=T))
            case Action.MIGRATE:
                assert seen.importing is S or seen.target_says is T, "the target would refuse the keys"
                return replace(self, seen=replace(seen, keys=False), at_target=True)
            case Action.TAKE:
                taken = replace(seen, target_says=T, importing=None)
                return replace(self, seen=taken, lost=self.lost or seen.keys)
            case Action.GIVE:
                assert seen.target_says is T, "nobody would serve the slot"
                assert not seen.keys, "Can't assign hashslot to a different node while I still hold keys"
                return replace(self, seen=replace(seen, source_says=T, migrating=None))
            case Action.CLEAR_TARGET:
                return replace(self, seen=replace(seen, importing=None))
            case Action.CLEAR_SOURCE:
                return replace(self, seen=replace(seen, migrating=None))
            case _:
                raise AssertionError(f"{action} is nothing to do")


@pytest.mark.parametrize("seen", EVERY, ids=str)
def test_from_every_state_it_ends_with_the_target_and_all_keys_or_stops_before_anything_is_done(seen: Seen) -> None:
    """Asked anew after each action, as a run that dies after each one is: there is no memory to lose."""
    nodes = Nodes(seen)
    for count in range(10):
        action = resume(nodes.seen)
        if action in STOPS:
            assert count == 0, f"stopped half-way: {nodes}"
            return
        if action is Action.DONE:
            assert nodes.seen == Seen(T, T, None, None, False)
            assert not nodes.lost
            assert nodes.at_target or not seen.keys
            return
        nodes = nodes.do(action)
    raise AssertionError(f"no end: {nodes}")


def test_a_client_that_writes_to_the_source_before_it_is_marked_loses_nothing() -> None:
    """A slot without keys may get one until its source is marked as migrating."""
    for seen in EVERY:
        if resume(seen) is Action.TAKE and seen.source_says is S:
            assert seen.migrating is T
