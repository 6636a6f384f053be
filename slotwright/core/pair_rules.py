"""Which host reaches which port of which other: from what every host saw, to a few rows with a cause each.

A connection that is accepted is open, one that nobody answers is blocked. One that is refused says nothing while no
Redis runs there: such a host listens itself for a few seconds, and the pair is proved by a second try.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain
from typing import Any

from slotwright.core.hosts import listed_names
from slotwright.core.looked import UNSURE, Endpoint, Look, Note, WantedHost
from slotwright.core.topology import BUS_PORT_OFFSET
from slotwright.errors import Severity

REFUSED = "it is refused although something listens there"
# Why a pair is not proved, by the state of the port at its far end, and what to do then.
UNPROVED = {
    "free": (
        "nothing listened there long enough to prove that it can be reached",
        "run playbooks/preflight.yml again; with more hosts than forks, raise forks in ansible.cfg",
    ),
    "down": ("its Redis is a member that is down", "run playbooks/preflight.yml again when it is up"),
    "starting": ("its Redis is about to start", "run playbooks/preflight.yml again when it is up"),
    "silent": ("the directory of its data does not answer", "run playbooks/preflight.yml again when it does"),
}
LET_IN_NOW = "site.yml opens it (role redis_host); run playbooks/preflight.yml once more afterwards"


@dataclass(frozen=True)
class Target:
    """An endpoint that is to be proved: who listens there says `token`."""

    host: str
    address: str
    port: int
    token: str


@dataclass(frozen=True)
class Proof:
    """What a host saw at its targets. said: the token that it read there, or why there was no connection."""

    said: Mapping[Endpoint, str]
    refused: frozenset[Endpoint]
    blocked: Mapping[Endpoint, str]

    @classmethod
    def read(cls, raw: Mapping[str, Any]) -> Proof:
        return cls(
            {(address, port): token for address, port, token in raw["said"]},
            frozenset((address, port) for address, port in raw["refused"]),
            {(address, port): why for address, port, why in raw["blocked"]},
        )


@dataclass(frozen=True)
class Seen:
    """All that the hosts saw. lasting: tokens of those who were still listening when all had tried."""

    wanted: Sequence[WantedHost]
    looks: Mapping[str, Look]
    proofs: Mapping[str, Proof] = field(default_factory=dict)
    lasting: frozenset[str] = frozenset()

    def look(self, host: str) -> Look | None:
        """None for a host that did not answer, or that this run leaves out."""
        look = self.looks.get(host)
        return look if look and not look.error else None

    def pairs(self) -> Iterator[tuple[WantedHost, WantedHost]]:
        """Each host that looked, with each other host of its cluster."""
        for source in self.wanted:
            if self.look(source.name):
                for destination in self.wanted:
                    if destination.cluster == source.cluster and destination.name != source.name:
                        yield source, destination


def to_prove(seen: Seen) -> dict[str, list[Target]]:
    """By host, what it has to try again. Empty where every Redis runs.

    What nobody answered is blocked, whether something listens there or not, and is not waited for twice.
    """
    targets: dict[str, list[Target]] = {}
    for source, destination in seen.pairs():
        here, there = seen.look(source.name), seen.look(destination.name)
        for endpoint in destination.endpoints if here and there and there.listener else ():
            assert here and there
            state = there.port(endpoint[1])
            if state and state.state == "free" and endpoint not in here.blocked:
                targets.setdefault(source.name, []).append(Target(destination.name, *endpoint, there.listener))
    return targets


@dataclass(frozen=True)
class _Block:
    """One connection that does not come about. now: it will, when role redis_host has been there."""

    source: str
    destination: str
    port: int
    why: str
    now: bool


def pair_notes(seen: Seen) -> Iterator[Note]:
    blocks = []
    strays: dict[str, set[str]] = {}
    unproved: dict[tuple[str, str], set[str]] = {}
    silent: dict[str, set[str]] = {}
    for source, destination in seen.pairs():
        here, there = seen.look(source.name), seen.look(destination.name)
        assert here
        for endpoint in destination.endpoints:
            verdict = _verdict(seen, source, here, there, endpoint)
            if there is None:
                if verdict:
                    silent.setdefault(destination.name, set()).add(source.name)
            elif verdict == _STRAY:
                strays.setdefault(destination.name, set()).add(source.name)
            elif verdict == _UNPROVED:
                port = there.port(endpoint[1])
                assert port
                unproved.setdefault((destination.name, port.state), set()).add(source.name)
            elif verdict:
                now = destination.firewall and there.admitted is not None
                now = now and (source.address, endpoint[1]) not in (there.admitted or ())
                blocks.append(_Block(source.name, destination.name, endpoint[1], verdict, now))
    yield from _silence(seen, silent)
    yield from _deaf(seen)
    yield from _rows(seen, blocks)
    for host, sources in strays.items():
        what = "another machine answers at its address"
        remedy = "correct redis_node_address, or find who else has that address"
        yield Note(
            "wrong-machine", Severity.ERROR, (*sorted(sources), host), what, remedy, _arrow(seen, sources, {host})
        )
    for (host, state), sources in unproved.items():
        why, remedy = UNPROVED[state]
        what = why if state == "free" else f"not proved that it can be reached: {why}"
        yield Note(
            "not-proved", Severity.WARNING, (*sorted(sources), host), what, remedy, _arrow(seen, sources, {host})
        )


_STRAY, _UNPROVED = "stray", "unproved"


def _verdict(seen: Seen, source: WantedHost, here: Look, there: Look | None, endpoint: Endpoint) -> str:
    """Empty when the connection comes about; else why not."""
    if there is None:
        # Refused is an answer of the machine, and all that can be had of one where nothing may run.
        return here.blocked.get(endpoint, "")
    port = there.port(endpoint[1])
    if port and port.state in UNSURE:
        return _UNPROVED if endpoint in here.refused or endpoint in here.blocked else ""
    if port is None or port.state not in ("running", "free"):
        return ""  # whatever answers there, it is no Redis of ours: that is said of the host
    if endpoint in here.blocked:
        return here.blocked[endpoint]
    if port.state == "running":
        return REFUSED if endpoint in here.refused and endpoint not in there.refused else ""
    proof = seen.proofs.get(source.name)
    if proof is None:
        return _UNPROVED
    if endpoint in proof.said:
        return "" if proof.said[endpoint] == there.listener else _STRAY
    if endpoint in proof.refused:
        return REFUSED if there.listener in seen.lasting else _UNPROVED
    return proof.blocked.get(endpoint, _UNPROVED)


def _silence(seen: Seen, silent: Mapping[str, set[str]]) -> Iterator[Note]:
    """One note for a host that does not answer, instead of one for every pair that it is in."""
    for wanted in seen.wanted:
        if seen.look(wanted.name) or wanted.name in seen.looks:
            continue
        others = [s.name for s, d in seen.pairs() if d.name == wanted.name]
        if wanted.playing:
            asked = silent.get(wanted.name, set())
            reached = (
                "nor do others reach its Redis ports" if len(asked) == len(others) > 0
                else "though others reach its Redis ports" if others and not asked
                else f"and {len(asked)} of {len(others)} others do not reach its Redis ports" if others
                else "and nobody else was asked"
            )  # fmt: skip
            what = f"Ansible does not reach it, {reached}"
            remedy = "start it, or mend the network to it; what runs elsewhere is not held up"
            yield Note("no-answer", Severity.WARNING, (wanted.name,), what, remedy)
        elif wanted.name in silent:
            what = f"is left out of this run, and {listed_names(sorted(silent[wanted.name]))} cannot reach it"
            remedy = "if it is up, run playbooks/preflight.yml without --limit"
            yield Note("no-answer", Severity.WARNING, (wanted.name,), what, remedy)


def _deaf(seen: Seen) -> Iterator[Note]:
    """A Redis that runs, but not at its address: each host tries its own ports too."""
    for wanted in seen.wanted:
        look = seen.look(wanted.name)
        for address, number in wanted.endpoints if look else ():
            port = look.port(number) if look else None
            if look and port and port.state == "running" and (address, number) in look.refused:
                what = f"its redis-server at port {port.port} does not listen at {address}:{number}"
                remedy = "it was started with another bind: restart it when the cluster can spare it"
                yield Note("not-listening", Severity.WARNING, (wanted.name,), what, remedy)


def _rows(seen: Seen, blocks: Sequence[_Block]) -> Iterator[Note]:
    """What is blocked from or to the same hosts, at the same ports and for the same reason, is one row."""
    by_pair: dict[tuple[str, str], dict[tuple[str, bool], set[int]]] = {}
    for b in blocks:
        by_pair.setdefault((b.source, b.destination), {}).setdefault((b.why, b.now), set()).add(b.port)
    by_cause: dict[tuple[str, bool, frozenset[int]], set[tuple[str, str]]] = {}
    for pair, causes in by_pair.items():
        for (why, now), ports in causes.items():
            by_cause.setdefault((why, now, frozenset(ports)), set()).add(pair)
    for (why, now, together), pairs in by_cause.items():
        for sources, destinations in _rectangles(pairs):
            yield _row(seen, sources, destinations, sorted(together), why, now)


def _rectangles(pairs: set[tuple[str, str]]) -> list[tuple[set[str], set[str]]]:
    """The pairs as sources × destinations, grouped by source or by destination, whichever gives fewer rows."""
    by_destination = _grouped(pairs)
    by_source = [(sources, others) for others, sources in _grouped({(d, s) for s, d in pairs})]
    return min(by_destination, by_source, key=len)


def _grouped(pairs: set[tuple[str, str]]) -> list[tuple[set[str], set[str]]]:
    """(those who, to all these) by second. A host is no pair with itself, and is counted in where that joins rows."""
    firsts: dict[str, set[str]] = {}
    for first, second in sorted(pairs):
        firsts.setdefault(second, set()).add(first)
    everybody = set(chain.from_iterable(pairs))
    groups: dict[frozenset[str], set[str]] = {}
    for second, group in firsts.items():
        key = frozenset(everybody if group | {second} == everybody else group)
        groups.setdefault(key, set()).add(second)
    return [(set(key) - (seconds if len(seconds) == 1 else set()), seconds) for key, seconds in groups.items()]


def _row(seen: Seen, sources: set[str], destinations: set[str], ports: list[int], why: str, now: bool) -> Note:
    at = {w.name: w for w in seen.wanted}
    bus = {p for d in destinations for i in at[d].instances for p in ports if p == i.port + BUS_PORT_OFFSET}
    named = [f"{p} (the cluster bus: {p - BUS_PORT_OFFSET} + {BUS_PORT_OFFSET})" if p in bus else str(p) for p in ports]
    address = f"{at[min(destinations)].address} " if len(destinations) == 1 else ""
    what = f"no connection to {address}port{'s' * (len(ports) > 1)} {' and '.join(named)}: {why}"
    who = f"{min(sources)} ({at[min(sources)].address})" if len(sources) == 1 else "them"
    opened = " and ".join(f"{port}/tcp" for port in ports)
    remedy = f"open {opened} for {who} in the firewalls of both ends and between; every node needs both ports of all"
    return Note(
        "blocked",
        Severity.WARNING if now else Severity.ERROR,
        tuple(sorted(sources | destinations)),
        what,
        LET_IN_NOW if now else remedy,
        _arrow(seen, sources, destinations),
        mends=tuple(sorted(destinations)) if now else (),
    )


def _arrow(seen: Seen, sources: set[str], destinations: set[str]) -> str:
    everybody = [w.name for w in seen.wanted]
    if sources == destinations and len(sources) < len(everybody):
        return f"among {listed_names([name for name in everybody if name in sources])}"

    def words(names: set[str], others: set[str]) -> str:
        if len(names) > 2 and len(names | others) == len(everybody):
            return "every host" if len(names) == len(everybody) else "all others"
        return listed_names([name for name in everybody if name in names])

    return f"{words(sources, destinations)} → {words(destinations, sources)}"
