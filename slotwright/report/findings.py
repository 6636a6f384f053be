"""What a check found as a table for the terminal, the worst first."""

from __future__ import annotations

import io
from collections.abc import Sequence

from rich.console import Console, Group, RenderableType
from rich.table import Table
from rich.text import Text

from slotwright.core.health import client_errors, invariant, score
from slotwright.core.survival import Survival
from slotwright.errors import Finding, Severity

WIDTH = 120


def findings_lines(cluster: str, findings: Sequence[Finding], zones: Sequence[Survival]) -> list[str]:
    """A verdict, what is lost with each zone, then what is wrong: at most WIDTH characters a line."""
    console = Console(file=io.StringIO(), width=WIDTH, color_system=None, force_terminal=False)
    with console.capture() as captured:
        console.print(_picture(cluster, findings, zones))
    return [line.rstrip() for line in captured.get().splitlines()]


def _picture(cluster: str, findings: Sequence[Finding], zones: Sequence[Survival]) -> RenderableType:
    counts = score(findings)
    verdict = "NOT healthy" if counts["error"] else "healthy"
    words = ", ".join(f"{counts[s.value]} {s.value}{'s' * (counts[s.value] != 1)}" for s in list(Severity)[:2])
    parts: list[RenderableType] = [Text(f"Cluster {cluster}: {verdict} ({words})")]
    parts += [Text(f"  zone {row.lost} lost: {row.verdict}") for row in zones]
    shown = [f for f in findings if f.severity is not Severity.INFO]
    if shown:
        table = Table(show_lines=True, expand=False)
        table.add_column("severity", no_wrap=True)
        table.add_column("code", overflow="fold")
        table.add_column("where", overflow="fold")
        table.add_column("what", overflow="fold")
        table.add_column("remedy", overflow="fold")
        for f in shown:
            broken = invariant(f)
            errors = client_errors(f)
            code = f.code if broken in ("", f.code) else f"{f.code} ({broken})"
            what = f"{f.what}. Clients see: {', '.join(errors)}" if errors else f.what
            table.add_row(f.severity.value, code, f.where, what, f.remedy)
        parts.append(table)
    plan = [f.what for f in findings if f.code == "would-be-done"]
    if plan:
        parts.append(Text("playbooks/fix.yml would do:\n" + "\n".join(f"  {line}" for line in plan)))
    return Group(*parts)
