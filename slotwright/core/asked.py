"""What an operator says to playbooks/reshard.yml (-e redis_reshard_…), as options of the module redis_cluster_slots."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from slotwright.errors import Finding, Refused

PREFIX = "redis_reshard_"
_ONE = ("from", "to", "slots", "count", "bytes", "name")
_KINDS = {"one move": (*_ONE,), "moves": ("moves",), "drain": ("drain",), "ranges": ("ranges",), "repair": ("repair",)}


def options(said: Mapping[str, Any]) -> dict[str, Any]:
    """said: by name without the prefix; what is not said is left out. Raises Refused unless just one thing is asked."""
    given = {name: value for name, value in said.items() if value not in ("", None, [], {}, False, "false", "no")}
    kinds = [kind for kind, names in _KINDS.items() if not given.keys().isdisjoint(names)]
    if len(kinds) != 1:
        what = f"{' and '.join(kinds)} are asked for" if kinds else "nothing is asked for"
        remedy = (
            f"say one of: -e {PREFIX}from=… -e {PREFIX}to=… with -e {PREFIX}slots=…, count=… or bytes=…; "
            f"-e {PREFIX}drain=…; {PREFIX}ranges or {PREFIX}moves as YAML; -e {PREFIX}repair=true"
        )
        raise Refused([Finding("what-to-do", "reshard", what, remedy)])
    [kind] = kinds
    if kind == "one move":
        if missing := [name for name in ("from", "to") if name not in given]:
            what = f"{PREFIX}{missing[0]} is missing"
            raise Refused([Finding("what-to-do", "reshard", what, "name the instance, as host:port")])
        return {"state": "moved", "moves": [{name: given[name] for name in _ONE if name in given}]}
    if kind == "moves":
        return {"state": "moved", "moves": given["moves"]}
    if kind == "drain":
        return {"state": "drained", "drain": _names(given["drain"])}
    if kind == "ranges":
        return {"state": "placed", "ranges": given["ranges"]}
    return {"state": "repaired"}


def chosen(names: Sequence[str], name: str, *, several: bool) -> list[str]:
    """The clusters that are meant: the one of this name, or all where several may be. Raises Refused."""
    if name and name not in names:
        what = f"the inventory has no cluster {name}"
        raise Refused([Finding("unknown-cluster", "redis_reshard_cluster", what, f"it has {', '.join(names)}")])
    if not name and len(names) > 1 and not several:
        what = f"the inventory has several clusters: {', '.join(names)}"
        raise Refused([Finding("which-cluster", "reshard", what, f"say which: -e {PREFIX}cluster={names[0]}")])
    return [name] if name else list(names)


def _names(said: Any) -> list[str]:
    entries = said if isinstance(said, list) else str(said).split(",")
    return [str(entry).strip() for entry in entries if str(entry).strip()]
