"""Writes README.md of each role from its argument_specs and defaults: `python tools/role_readmes.py`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import yaml

ROLES = Path(__file__).resolve().parents[1] / "roles"


def readme(role: Path) -> str:
    """The text of the README. A variable without a default in the role shows none."""
    spec = yaml.safe_load((role / "meta/argument_specs.yml").read_text())["argument_specs"]["main"]
    defaults = yaml.safe_load((role / "defaults/main.yml").read_text())
    rows = "\n".join(
        f"| `{name}` | {_type(option)} | {_default(defaults.get(name))} | {_words(option['description'])} |"
        for name, option in spec["options"].items()
    )
    points = "\n".join(f"- {line}" for line in spec["description"])
    return (
        f"# {role.name}\n\n{spec['short_description']}.\n\n{points}\n\n## Variables\n\n"
        f"| Variable | Type | Default | Meaning |\n|---|---|---|---|\n{rows}\n\n"
        "<!-- Written by tools/role_readmes.py from meta/argument_specs.yml and defaults/main.yml. -->\n"
    )


def _type(option: dict[str, Any]) -> str:
    if "choices" in option:
        return " or ".join(f"`{choice}`" for choice in option["choices"])
    return f"list of {option['elements']}" if "elements" in option else str(option["type"])


def _default(value: Any) -> str:
    if value in (None, ""):
        return ""
    return f"`{value if isinstance(value, str) else json.dumps(value)}`"


def _words(description: str | list[str]) -> str:
    text = description if isinstance(description, str) else " ".join(description)
    return text.replace("|", "\\|")


if __name__ == "__main__":
    for specs in sorted(ROLES.glob("*/meta/argument_specs.yml")):
        (specs.parents[1] / "README.md").write_text(readme(specs.parents[1]))
