"""The core stays pure: no I/O, no clock, no chance, no client."""

from __future__ import annotations

import ast
import sys
from pathlib import Path

import pytest

CORE = Path(__file__).parents[2] / "slotwright/core"
SOLVERS = {"networkx", "scipy", "numpy"}
IMPURE = {"asyncio", "datetime", "io", "logging", "os", "pathlib", "random", "secrets", "select", "shutil", "signal",
          "socket", "ssl", "subprocess", "sys", "tempfile", "threading", "time", "urllib", "uuid"}  # fmt: skip


def imported(file: Path) -> set[str]:
    names: set[str] = set()
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            names.add(node.module or "")
    return names


@pytest.mark.parametrize("file", sorted(CORE.glob("*.py")), ids=lambda f: f.name)
def test_a_file_of_the_core_imports_only_the_standard_library_and_the_core(file: Path) -> None:
    for name in imported(file):
        top = name.partition(".")[0]
        if top == "slotwright":
            assert name.startswith(("slotwright.core", "slotwright.errors")), name
        else:
            assert top in SOLVERS or (top in sys.stdlib_module_names and top not in IMPURE), name
