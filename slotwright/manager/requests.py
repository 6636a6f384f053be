"""What an operator asks of slots, as a goal: amounts become slots, and named requests are remembered.

"Move 100 slots from X to Y" is no statement of what should be: done twice, it moves 200. So such a request carries a
name. The first run chooses the slots and writes them down in the cluster itself, before it moves any, as the value of
the key "slotwright:request:<name>"; whoever runs it again, after whatever cut it off, finds them there. What states its
slots needs no memory: they are where they should be, or not yet.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from redis.crc import key_slot
from redis.exceptions import ResponseError

from slotwright.core.goal import Hop, last_slots, slots_of_bytes
from slotwright.core.slots import Slots
from slotwright.core.view import ClusterView
from slotwright.errors import Finding, Refused, Severity
from slotwright.link.connect import LinkDown, Links
from slotwright.link.loads import slot_loads

PREFIX = "slotwright:request:"
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,62}")
_UNITS = {"": 1.0, "B": 1.0, "KB": 1e3, "MB": 1e6, "GB": 1e9, "KIB": 2.0**10, "MIB": 2.0**20, "GIB": 2.0**30}


@dataclass(frozen=True)
class Wish:
    """One entry of the option moves. Just one of slots, count and bytes is given; with the last two a name."""

    source: str
    target: str
    slots: Slots | None = None
    count: int | None = None
    bytes: float | None = None
    name: str = ""

    @property
    def amount(self) -> str:
        return f"{self.count} slots" if self.count else f"{self.bytes:.0f} bytes"


def read_wishes(entries: Sequence[Mapping[str, Any]]) -> tuple[Wish, ...]:
    """Raises Refused with everything that is wrong with them."""
    wishes, findings = [], []
    for number, entry in enumerate(entries, start=1):
        where = f"moves, entry {number}" + (f" ({entry['name']})" if entry["name"] else "")
        problems = list(_problems(entry, where))
        findings += problems
        if not problems:
            size = read_size(str(entry["bytes"])) if entry["bytes"] else None
            slots = Slots.parse(entry["slots"]) if entry["slots"] else None
            wishes.append(Wish(entry["from"], entry["to"], slots, entry["count"], size, entry["name"] or ""))
    names = [wish.name for wish in wishes if wish.name]
    findings += [
        Finding("name-twice", f"moves, {name}", "two requests have this name", "give each a name of its own")
        for name in sorted({name for name in names if names.count(name) > 1})
    ]
    if findings:
        raise Refused(findings)
    return tuple(wishes)


def _problems(entry: Mapping[str, Any], where: str) -> Iterator[Finding]:
    given = [what for what in ("slots", "count", "bytes") if entry[what]]
    if len(given) != 1:
        what = f"states {' and '.join(given)}" if given else "does not say how many slots are to go"
        yield Finding("amount", where, what, "state one of slots, count and bytes")
        return
    if given != ["slots"] and not _NAME.fullmatch(entry["name"] or ""):
        remedy = "a second run would move as many again, so give it a name (1 to 63 letters, digits, '-', '_' or '.')"
        what = f"its name {entry['name']!r} is not valid" if entry["name"] else f"states its {given[0]}, but no name"
        yield Finding("no-name", where, what, f"{remedy}, or state its slots")
    if entry["count"] is not None and entry["count"] < 1:
        yield Finding("amount", where, f"{entry['count']} slots are no number of slots", "state 1 or more")
    for key, read in (("slots", Slots.parse), ("bytes", read_size)):
        try:
            if entry[key]:
                read(str(entry[key]))
        except ValueError as error:
            yield Finding("amount", where, f"{key}: {error}", "write slots as 0-99,200 and bytes as 200MB")


def read_size(text: str) -> float:
    """ "200MB" → 2e8. Raises ValueError."""
    found = re.fullmatch(r"\s*([0-9.]+)\s*([A-Za-z]*)\s*", text)
    if not found or found[2].upper() not in _UNITS or not float(found[1]):
        raise ValueError(f"{text!r} is no size")
    return float(found[1]) * _UNITS[found[2].upper()]


# --- Remembering ----------------------------------------------------------------------------------------------------


class Requests:
    """The wishes of one run, and their memory in the cluster. view: with an owner for each slot."""

    def __init__(self, wishes: Sequence[Wish], view: ClusterView, links: Links) -> None:
        self.wishes, self.view, self.links = wishes, view, links
        self.named = [wish for wish in wishes if wish.slots is None]
        self._known = {wish.name: self._read(wish) for wish in self.named}
        self._chosen = {w.name: self._choose(w) for w in self.named if self._known[w.name] is None}

    def hops(self) -> tuple[Hop, ...]:
        """What is to go where. Of a request that is remembered the slots go to its target, whoever has them now."""
        found = []
        for wish in self.wishes:
            if wish.slots is not None:
                found.append(Hop(wish.source, wish.target, wish.slots))
            elif (entry := self._known[wish.name]) is None:
                found.append(Hop(wish.source, wish.target, self._chosen[wish.name]))
            elif not entry["done"]:
                found.append(Hop("", wish.target, Slots.parse(entry["slots"])))
        return tuple(found)

    def findings(self) -> Iterator[Finding]:
        for wish in self.named:
            entry = self._known[wish.name]
            if entry and entry["done"]:
                what = f"was done: {wish.amount} went to {entry['to']} (slots {entry['slots']})"
                remedy = f"to do it once more give it another name, or DEL {PREFIX}{wish.name}"
                yield Finding("request-done", f"request {wish.name}", what, remedy, Severity.INFO)
            policy = self._policy(wish) if not entry else ""
            if policy.startswith("allkeys"):
                what = f"is remembered by a key, which maxmemory-policy {policy} may evict"
                remedy = "state the slots instead of their number, or do not run it again"
                yield Finding("forgetful", f"request {wish.name}", what, remedy, Severity.WARNING)

    def write(self) -> None:
        """Remember what was chosen. Another controller may have been first: then its choice stands, and counts here."""
        for wish in self.named:
            if self._known[wish.name] is None:
                entry = {"from": wish.source, "to": wish.target, "amount": wish.amount, "done": False}
                text = json.dumps(entry | {"slots": str(self._chosen[wish.name])})
                self._ask(wish, "SET", PREFIX + wish.name, text, "NX")
                self._known[wish.name] = self._read(wish)

    def close(self) -> None:
        """Remember that they are done."""
        for wish in self.named:
            entry = self._known[wish.name]
            if entry and not entry["done"]:
                self._ask(wish, "SET", PREFIX + wish.name, json.dumps(entry | {"done": True}), "XX")

    def _choose(self, wish: Wish) -> Slots:
        node = self.view.by_name.get(wish.source)
        if node is None or not node.peers or not node.myself.is_master:
            remedy = "name a master that answers (playbooks/info.yml shows them)"
            raise Refused([Finding("no-master", f"from {wish.source}", "is no master that answers", remedy)])
        if wish.count:
            return last_slots(node.myself.slots, wish.count)
        assert wish.bytes
        return slots_of_bytes(node.myself.slots, wish.bytes, slot_loads("bytes", self.view, self.links))

    def _read(self, wish: Wish) -> dict[str, Any] | None:
        text = self._ask(wish, "GET", PREFIX + wish.name)
        if text is None:
            return None
        try:
            entry = dict(json.loads(text))
            Slots.parse(entry["slots"])
            known = (entry["amount"], entry["done"], entry["to"])
        except (ValueError, KeyError, TypeError):
            raise _name_taken(wish, f"is the name of a key that is not ours: {text[:80]!r}") from None
        if known[0] != wish.amount:
            used = f"was used for {known[0]} from {entry.get('from')} to {known[2]}"
            raise _name_taken(wish, f"{used}, and {wish.amount} are asked for now")
        return entry

    def _policy(self, wish: Wish) -> str:
        [answer] = self.links.ask({self._owner(wish): [("CONFIG", "GET", "maxmemory-policy")]}).values()
        found = answer[0] if isinstance(answer, list) else None
        return str(found[1]) if isinstance(found, list) and len(found) == 2 else ""

    def _owner(self, wish: Wish) -> str:
        slot = key_slot((PREFIX + wish.name).encode())
        return next(n.name for n in self.view.nodes if n.peers and slot in n.myself.slots)

    def _ask(self, wish: Wish, *command: str) -> Any:
        """Put the owner of the request's key a question; where slots have moved since the view, the one they are at."""
        name, reply = self._owner(wish), None
        for _ in range(len(self.view.nodes)):
            [answer] = self.links.ask({name: [command]}).values()
            if isinstance(answer, LinkDown):
                raise answer
            reply = answer[0]
            if not isinstance(reply, ResponseError):
                return reply
            word, *rest = str(reply).split()
            there = next((n.name for n in self.view.nodes if rest and n.endpoint == rest[-1]), None)
            if word != "MOVED" or there is None:
                break
            name = there
        what = f"{command[0]} {PREFIX}{wish.name} was answered with: {reply}"
        remedy = "allow +get +set ~slotwright:* there (docs/access.md), close open slots (state repaired), "
        remedy += "or state slots instead of an amount"
        raise Refused([Finding("not-remembered", f"node {name}", what, remedy)])


def _name_taken(wish: Wish, what: str) -> Refused:
    return Refused([Finding("name-used", f"request {wish.name}", what, "choose another name")])
