"""Renders what a host gets for Redis on the controller, then has the host converge it in one call."""

from __future__ import annotations

import socket
from collections.abc import Mapping
from dataclasses import dataclass, field
from ipaddress import ip_address
from pathlib import Path
from typing import Any

from ansible.errors import AnsibleActionFail
from ansible.plugins.action import ActionBase
from jinja2 import TemplateError

from slotwright.core.firewall import Rules, matches, of_family
from slotwright.core.hosts import plain
from slotwright.render import compile_ahead, template

compile_ahead(Path(__file__).parents[2] / "templates")


class ActionModule(ActionBase):
    """Options: see module redis_host."""

    def run(self, tmp: None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        result: dict[str, Any] = super().run(tmp, task_vars)
        try:
            options = self._task.args | rendered(self._task.args)
        except KeyError as missing:
            raise AnsibleActionFail(f"redis_host: the option {missing} is missing") from missing
        except (OSError, TemplateError) as error:
            raise AnsibleActionFail(f"a template cannot be rendered: {error}") from error
        result |= self._execute_module(module_args=options, task_vars=task_vars)
        return result


@dataclass
class Sysctl:
    """`setting("vm.swappiness", 1)` gives the line of a kernel setting; stated: by the inventory, stronger."""

    stated: Mapping[str, Any]
    _asked: set[str] = field(default_factory=set)

    def __call__(self, name: str, default: int) -> str:
        self._asked.add(name)
        return f"{name} = {self.stated.get(name, default)}"

    def rest(self) -> str:
        """What the inventory states beyond the template's own settings."""
        return "\n".join(f"{name} = {value}" for name, value in self.stated.items() if name not in self._asked)


def rendered(options: Mapping[str, Any]) -> dict[str, Any]:
    """The options of the module that only the controller can give: texts of files, and where it comes from."""
    templates = Path(options["templates"])

    def text(name: str) -> str:
        return (templates / name).read_text()

    def render(name: str, **more: Any) -> str:
        return template(text(name)).render(**more)

    stated = options.get("sysctl") or {}
    rules = Rules(**options["rules"])
    return {
        "sysctl_file": render("redis-cluster-sysctl.conf.j2", setting=Sysctl(stated)),
        "sysctl_stated": list(stated),
        "limits_file": render("redis-cluster-limits.conf.j2", user=options["user"]),
        "thp_unit": text("redis-cluster-thp.service"),
        "nft_file": render("redis-cluster.nft.j2", rules=rules, matches=matches, of_family=of_family),
        "nft_unit": text("redis-cluster-firewall.service"),
        "controller": own_address(options["address"]) if options["admit_controller"] else "",
    }


def own_address(to: str) -> str:
    """Our address on the route to another one, "" where there is no route. A UDP socket asks for it without sending."""
    try:
        with socket.socket(socket.AF_INET6 if ":" in to else socket.AF_INET, socket.SOCK_DGRAM) as asking:
            asking.connect((to, 1))
            return str(plain(ip_address(asking.getsockname()[0].partition("%")[0])))
    except OSError:
        return ""
