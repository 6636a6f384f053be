"""What an operator says to playbooks/drill.yml, as options of the module redis_cluster_drill."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from slotwright.errors import Finding, Refused

PARTS = ("zone", "host", "instance")


def drills(said: Mapping[str, Any], clusters: Sequence[Mapping[str, Any]]) -> tuple[str, list[dict[str, str]]]:
    """The cluster's name, and what is struck, one after the other: {"zone": "b"} and so on.

    said: zone, host, instance, sequence (zones), cluster; "" or [] where it is not said. Raises Refused.
    """
    given = {part: str(said[part]) for part in PARTS if said.get(part)}
    sequence = said.get("sequence") or []
    if isinstance(sequence, str):
        sequence = [zone.strip() for zone in sequence.split(",") if zone.strip()]
    if bool(sequence) + len(given) != 1:
        what = "more than one thing is named" if given else "nothing is named that is to be struck"
        remedy = "say one of -e drill_zone=…, -e drill_host=…, -e drill_instance=<host:port>, or drill_sequence"
        raise Refused([Finding("what-to-strike", "drill", what, remedy)])
    asked = [{"zone": str(zone)} for zone in sequence] or [given]
    able = [c["name"] for c in clusters if all(_has(c, one) for one in asked)]
    name = str(said.get("cluster") or "")
    if not able or (name and name not in able):
        named = ", ".join(f"{part} {value}" for one in asked for part, value in one.items())
        where = f"cluster {name}" if name else "the inventory"
        remedy = "see playbooks/info.yml for what there is"
        raise Refused([Finding("what-to-strike", where, f"has no {named}", remedy)])
    if not name and len(able) > 1:
        what = f"several clusters have it: {', '.join(able)}"
        raise Refused([Finding("which-cluster", "drill", what, f"say which: -e drill_cluster={able[0]}")])
    return name or able[0], asked


def _has(cluster: Mapping[str, Any], one: Mapping[str, str]) -> bool:
    [(part, value)] = one.items()
    field = "name" if part == "instance" else part
    return any(str(instance[field]) == value for instance in cluster["instances"])
