"""The corpus of inventories, read as Ansible reads them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

import yaml
from ansible.inventory.manager import InventoryManager
from ansible.parsing.dataloader import DataLoader
from ansible.plugins.loader import init_plugin_loader
from ansible.vars.hostvars import HostVars
from ansible.vars.manager import VariableManager

from slotwright.core.inventory import Inventory
from slotwright.errors import Finding
from slotwright.manager.inventory import inventory_of

ROOT = Path(__file__).parents[2]
BAD = sorted((ROOT / "tests/inventories/bad").glob("*.yml"))
GOOD = sorted((ROOT / "tests/inventories/good").iterdir())


@dataclass(frozen=True)
class Expected:
    """One finding: code and where are exact, what and remedy are part of the text."""

    code: str
    where: str
    what: str
    remedy: str

    def __eq__(self, other: object) -> bool:
        return (
            isinstance(other, Finding)
            and (self.code, self.where) == (other.code, other.where)
            and self.what in other.what
            and self.remedy in other.remedy
        )


@dataclass(frozen=True)
class Case:
    """A broken inventory and all that must be said about it, in order.

    end_to_end: shown to ansible-playbook too, for it stands for its class.
    live: the nodes that run while the case is shown to ansible-playbook, see Nodes; @name@ is a node's address.
    """

    name: str
    about: str
    inventory: str
    expect: list[Expected]
    end_to_end: bool = False
    live: dict[str, dict[str, Any]] | None = None

    @classmethod
    def load(cls, path: Path) -> Case:
        raw = yaml.safe_load(path.read_text())
        return cls(path.stem, **raw | {"expect": [Expected(**finding) for finding in raw["expect"]]})

    def at(self, fill_in: Callable[[str], str]) -> Case:
        """The case with the addresses of its nodes filled in."""
        expect = [replace(e, where=fill_in(e.where), what=fill_in(e.what)) for e in self.expect]
        return replace(self, inventory=fill_in(self.inventory), expect=expect)

    def write(self, directory: Path) -> Path:
        path = directory / ("hosts.ini" if self.inventory.startswith("[") else "hosts.yml")
        path.write_text(self.inventory)
        return path


def read_as_ansible_does(*sources: Path) -> Inventory:
    """The inventory of all sources, through Ansible's own parsing, precedence and templating. Raises Refused."""
    _load_plugins()
    loader = DataLoader()
    inventory = InventoryManager(loader=loader, sources=[str(source) for source in sources])
    hostvars = HostVars(inventory, VariableManager(loader=loader, inventory=inventory), loader)
    hosts = [host.name for host in inventory.get_hosts("redis")]
    return inventory_of(hosts, hostvars)


@cache
def _load_plugins() -> None:
    init_plugin_loader()
