"""Have the instances run with what their redis.conf says, as far as that can be set live."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import groupby
from typing import Any

from redis.exceptions import ResponseError

from slotwright.core.parse import parse_info
from slotwright.core.settings import Change, Wanted, changes, refusals
from slotwright.errors import Finding, Refused, Severity, SlotwrightError
from slotwright.link.connect import LinkDown, Links
from slotwright.link.lock import Lock
from slotwright.manager.request import Request, read_request

ASKED: dict[str, dict[str, Any]] = {
    "wanted": {
        "type": "list",
        "elements": "dict",
        "required": True,
        "options": {
            "name": {"type": "str", "required": True},
            "settings": {"type": "dict", "required": True},
            "fixed": {"type": "list", "elements": "str", "default": []},
        },
    },
}


def read_wanted(params: Mapping[str, Any], request: Request) -> tuple[Wanted, ...]:
    """Those of the cluster, and of these the ones whose settings are known."""
    return tuple(
        Wanted(one["name"], {k: str(v) for k, v in one["settings"].items()}, frozenset(one["fixed"]))
        for one in params["wanted"]
        if one["name"] in request.topology and one["settings"]
    )


class _Seen:
    """What the instances run with now. findings: of those that did not answer."""

    def __init__(self, wanted: Sequence[Wanted], links: Links) -> None:
        self.changes: list[Change] = []
        self.findings: list[Finding] = []
        links.open()
        answers = links.ask({one.name: [("CONFIG", "GET", "*"), ("INFO", "memory")] for one in wanted})
        for one in wanted:
            answer = answers[one.name]
            if isinstance(answer, LinkDown):
                silence = answer.silence.finding
                self.findings.append(
                    Finding(silence.code, silence.where, silence.what, silence.remedy, Severity.WARNING)
                )
                continue
            flat, info = answer
            if isinstance(flat, ResponseError):
                raise SlotwrightError(
                    f"CONFIG GET was answered with: {flat}",
                    where=f"node {one.name}",
                    remedy="give the user of redis_cluster_username the commands listed in docs/access.md",
                    code="command-refused",
                )
            running = dict(zip(flat[::2], flat[1::2], strict=True))
            mine = changes(one, running)
            used = parse_info(info).get("used_memory", "0") if isinstance(info, str) else "0"
            self.findings += refusals(mine, running, int(used))
            self.changes += mine


def configure(
    wanted: Sequence[Wanted], links: Links, *, check: bool
) -> tuple[list[Change], list[tuple[Change, str]], list[Finding]]:
    """The changes, those of them that a server refused with its words, and findings.

    Raises Refused before anything is set, Locked where another controller is at work.
    """
    seen = _Seen(wanted, links)
    if errors := [f for f in seen.findings if f.severity is Severity.ERROR]:
        raise Refused(errors)
    if check or not seen.changes:
        return seen.changes, [], seen.findings
    with Lock(links, links.up):
        by_name = {name: list(some) for name, some in groupby(seen.changes, key=lambda change: change.name)}
        answers = links.ask(
            {name: [("CONFIG", "SET", c.directive, c.after) for c in some] for name, some in by_name.items()}
        )
    refused = []
    for name, some in by_name.items():
        answer = answers[name]
        if isinstance(answer, LinkDown):
            raise answer
        refused += [(c, str(said)) for c, said in zip(some, answer, strict=True) if isinstance(said, ResponseError)]
    left = {(change.name, change.directive) for change in _Seen(wanted, links).changes}
    told = {(change.name, change.directive) for change, _ in refused}
    refused += [
        (change, "it answered OK, and has another value all the same")
        for change in seen.changes
        if (change.name, change.directive) in left - told
    ]
    return seen.changes, refused, seen.findings


def main(params: Mapping[str, Any], check_mode: bool) -> dict[str, Any]:
    """The module redis_config."""
    request = read_request(params)
    wanted = read_wanted(params, request)
    with Links(request.topology.everyone, request.access) as links:
        made, refused, findings = configure(wanted, links, check=check_mode)
    bad = {(change.name, change.directive) for change, _ in refused}
    done = [change for change in made if (change.name, change.directive) not in bad]
    restart: dict[str, list[str]] = {}
    for change, said in refused:
        restart.setdefault(change.name, []).append(f"{change.directive} (live: {said})")
    lines = [change.describe() for change in done] + [
        f"{change.describe()}: not taken live: {said}" for change, said in refused
    ]
    return {
        "changed": bool(done),
        "set": [{"name": c.name, "directive": c.directive, "before": c.before, "after": c.after} for c in done],
        "restart": restart,
        "text": lines or ["nothing to do: every instance runs with what its redis.conf says, where that can be set"],
        "findings": [f.as_dict() for f in findings],
        "findings_text": [f"{f.severity.value}: {f}" for f in findings],
        "diff": {
            "before": "".join(f"{c.name}: {c.directive} {c.before}\n" for c in done),
            "after": "".join(f"{c.name}: {c.directive} {c.after}\n" for c in done),
        },
    }
