"""The drills of a cluster on the controller: a directory for each, named by when it began.

plan.json           what was planned; there before anything is struck
run.json            what the controller did and saw; there once the fault is over
ledger-NAME.jsonl   of each client
client.pyz          what hosts run
report.json, report.html    there once it is finished
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from slotwright.errors import SlotwrightError


@dataclass(frozen=True)
class Files:
    """Of one drill."""

    directory: Path

    @property
    def id(self) -> str:
        return self.directory.name

    @property
    def bundle(self) -> Path:
        return self.directory / "client.pyz"

    @property
    def page(self) -> Path:
        return self.directory / "report.html"

    @property
    def finished(self) -> bool:
        return (self.directory / "report.json").exists()

    def ledger(self, client: str) -> Path:
        return self.directory / f"ledger-{client}.jsonl"

    def read(self, name: str) -> dict[str, Any] | None:
        """plan, run or report; None where it is not there, or was never whole."""
        try:
            found: dict[str, Any] = json.loads((self.directory / f"{name}.json").read_text())
        except (OSError, ValueError):
            return None
        return found

    def write(self, name: str, content: Mapping[str, Any]) -> None:
        self.put(f"{name}.json", json.dumps(content, indent=1))

    def put(self, name: str, text: str) -> None:
        """Whole or not at all. Raises SlotwrightError."""
        path = self.directory / name
        try:
            self.directory.mkdir(parents=True, exist_ok=True, mode=0o700)
            new = path.with_name(f".{name}.new")
            new.write_text(text)
            new.replace(path)
        except OSError as error:
            raise SlotwrightError(
                f"cannot write {path}: {error.strerror}",
                where="redis_drill_history",
                remedy="state a directory of the controller that can be written",
                code="cannot-write",
            ) from error


def all_of(directory: Path) -> list[Files]:
    """The drills of a cluster, the oldest first."""
    if not directory.is_dir():
        return []
    return [Files(one) for one in sorted(directory.iterdir()) if (one / "plan.json").exists()]


def reports(directory: Path) -> list[dict[str, Any]]:
    """Those of the finished ones, the oldest first."""
    return [report for files in all_of(directory) if (report := files.read("report"))]
