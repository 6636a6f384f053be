"""What a preflight found, as a table: the gravest first, each row with its remedy."""

from __future__ import annotations

import io
from collections.abc import Sequence

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from slotwright.core.preflight import Verdict
from slotwright.errors import Finding, Severity

WIDTH = 120
_PLURALS = {Severity.ERROR: "errors", Severity.WARNING: "warnings", Severity.INFO: "remarks"}


def table_lines(verdict: Verdict, hosts: int, connections: int) -> list[str]:
    """A string a line, at most WIDTH characters wide. One line where there is nothing to say."""
    counts = {severity: sum(f.severity is severity for f in verdict.findings) for severity in Severity}
    told = [f"{count} {_PLURALS[s] if count > 1 else _PLURALS[s][:-1]}" for s, count in counts.items() if count]
    looked = f"{hosts} host{'s' * (hosts != 1)}, {connections} connections between them"
    lines = [f"{looked}: {', '.join(told) or 'all is fine'}"]
    if verdict.findings:
        lines += _table(verdict.findings)
    for finding in verdict.accepted:
        if finding.severity is Severity.ERROR:
            lines.append(f"Accepted: {finding.where}: {finding.what} ({finding.code})")
    others = [f"{f.code} ({f.where})" for f in verdict.accepted if f.severity is not Severity.ERROR]
    if others:
        lines.append(f"Accepted: {', '.join(others)}")
    return lines


def _table(findings: Sequence[Finding]) -> list[str]:
    table = Table(box=SIMPLE_HEAD, pad_edge=False, width=WIDTH)
    table.add_column("", no_wrap=True)
    table.add_column("where", ratio=2)
    table.add_column("what", ratio=5)
    table.add_column("remedy", ratio=4)
    for finding in findings:
        table.add_row(f"{finding.severity.value}\n{finding.code}", finding.where, finding.what, finding.remedy)
    console = Console(file=io.StringIO(), width=WIDTH, color_system=None, force_terminal=False, highlight=False)
    with console.capture() as captured:
        console.print(table, markup=False)
    return [line.rstrip() for line in captured.get().splitlines() if line.strip()]
