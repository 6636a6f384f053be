"""Function libraries (Redis 7.0 and later) live on every master for itself: a new one needs those of the others."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from redis.exceptions import ResponseError

from slotwright.core.steps import LoadFunctions
from slotwright.errors import SlotwrightError
from slotwright.link.connect import LinkDown, Links


def load(steps: Sequence[LoadFunctions], links: Links) -> None:
    """Copy all libraries of each source; one of the same name is replaced, others stay. Raises SlotwrightError."""
    dumps = _ask(links, {step.source: ("FUNCTION", "DUMP") for step in steps})
    _ask(links, {step.node: ("FUNCTION", "RESTORE", dumps[step.source], "REPLACE") for step in steps})


def _ask(links: Links, commands: Mapping[str, tuple[object, ...]]) -> dict[str, object]:
    found = {}
    for name, answer in links.ask({name: [command] for name, command in commands.items()}).items():
        if isinstance(answer, LinkDown):
            raise answer
        if isinstance(answer[0], ResponseError):
            raise SlotwrightError(
                f"{commands[name][0]} {commands[name][1]} was answered with: {answer[0]}",
                where=f"node {name}",
                remedy="mend that, then run again",
                code="command-refused",
            )
        found[name] = answer[0]
    return found
