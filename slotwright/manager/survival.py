"""Tell what may be lost now: every zone, host and two hosts; and what would mend each "no". Changes nothing."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import groupby
from typing import Any

from slotwright.core.diff import survival_lines
from slotwright.core.survival import Survival, host_survival, pair_survival, survival
from slotwright.core.survival_remedies import Remedy, ways_out
from slotwright.core.view import ClusterView
from slotwright.errors import Finding
from slotwright.link.connect import Links
from slotwright.manager.check import with_command
from slotwright.manager.info import examine
from slotwright.manager.request import Request, read_request

ASKED: dict[str, dict[str, Any]] = {
    "inventory": {"type": "str", "default": ""},
}

# Of the pairs of hosts that must not be lost together, so many are shown to people. The data has all.
PAIRS_SHOWN = 20


def result(request: Request, view: ClusterView, inventory: str = "") -> dict[str, Any]:
    """inventory: what -i is to be in the command lines that remedies name."""
    topology = request.topology
    zones, hosts = survival(topology, view), host_survival(topology, view)
    pairs = pair_survival(topology, view)
    lost = tuple(row for row in pairs if not row.survives)
    remedies = [_with_command(remedy, inventory) for remedy in ways_out(topology, view)]
    survives = not view.unowned and all(row.survives for row in (*zones, *hosts))
    return {
        "changed": False,
        "zones": [row.as_dict() for row in zones],
        "hosts": [row.as_dict() for row in hosts],
        "pairs": [row.as_dict() for row in pairs],
        "pairs_lost": [row.as_dict() for row in lost],
        "remedies": [remedy.as_dict() for remedy in remedies],
        "survives": survives,
        "text": [
            _head(topology.name, view, survives),
            "",
            *survival_lines(zones),
            "",
            *survival_lines(hosts, "host"),
            *_pair_lines(lost, len(pairs)),
            *_remedy_lines(remedies),
        ],
    }


def main(params: Mapping[str, Any], check_mode: bool) -> dict[str, Any]:
    """The module redis_cluster_survival. It changes nothing, so that check mode is no different."""
    request = read_request(params)
    with Links(request.topology.everyone, request.access) as links:
        return result(request, examine(request, links), params["inventory"] or "")


def _with_command(remedy: Remedy, inventory: str) -> Remedy:
    if remedy.kind == "none":
        return remedy
    return replace(remedy, remedy=with_command(Finding("", "", "", remedy.remedy), inventory).remedy)


def _head(cluster: str, view: ClusterView, survives: bool) -> str:
    if view.unowned:
        return f"Cluster {cluster}: {len(view.unowned)} slots have no owner even now; playbooks/check.yml says why"
    verdict = "any zone and any host may be lost" if survives else "NOT every zone and every host may be lost"
    return f"Cluster {cluster}: {verdict}"


def _pair_lines(lost: Sequence[Survival], count: int) -> Iterator[str]:
    yield ""
    if not count:
        yield "There is only one host."
    elif not lost:
        yield "Any two hosts may be lost together."
    else:
        yield f"{len(lost)} of {count} pairs of hosts must not be lost together:"
        yield from survival_lines(tuple(lost[:PAIRS_SHOWN]), "hosts")
        if len(lost) > PAIRS_SHOWN:
            yield f"and {len(lost) - PAIRS_SHOWN} pairs more"


def _remedy_lines(remedies: Sequence[Remedy]) -> Iterator[str]:
    """Why each loss is not survived, and what would help; what helps several is said once."""
    said: dict[tuple[str, ...], str] = {}
    for (part, lost), some in groupby(remedies, key=lambda r: (r.part, r.lost)):
        ways = list(some)
        yield ""
        yield f"{part} {lost}: {ways[0].what}"
        words = tuple(way.remedy for way in ways)
        if words in said:
            yield f"  remedy: as for {said[words]}"
        else:
            said[words] = f"{part} {lost}"
            for number, line in enumerate(words):
                yield f"  {'or' if number else 'remedy'}: {line}"
