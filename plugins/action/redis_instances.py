"""Renders the files of a host's Redis instances on the controller, then has the host converge them in one call."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

from ansible.errors import AnsibleActionFail
from ansible.plugins.action import ActionBase
from jinja2 import TemplateError

from slotwright import render
from slotwright.errors import Refused

MAY_HOLD_SECRETS = ("password", "cluster_config", "node_config", "port_config")

render.compile_ahead(Path(__file__).parents[2] / "templates")


class ActionModule(ActionBase):
    """Options: see module redis_instances."""

    def run(self, tmp: None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        result: dict[str, Any] = super().run(tmp, task_vars)
        options = {name: value for name, value in self._task.args.items() if name not in MAY_HOLD_SECRETS}
        try:
            options |= rendered((task_vars or {})["inventory_hostname"], self._task.args)
        except Refused as refused:
            raise AnsibleActionFail(str(refused)) from refused
        except KeyError as missing:
            raise AnsibleActionFail(f"redis_instances: the option {missing} is missing") from missing
        except (OSError, TemplateError) as error:
            raise AnsibleActionFail(f"a template cannot be rendered: {error}") from error
        result |= self._execute_module(module_args=options, task_vars=task_vars)
        return result


def rendered(name: str, options: dict[str, Any]) -> dict[str, Any]:
    """The options of the module that only the controller can give: instances, secrets and the texts of shared files."""
    host = render.Host(
        name=name,
        address=options["address"],
        servers=[render.Server(one["path"], one["version"], one["notify"]) for one in options["servers"]],
        service=options["service"],
        conf_dir=options["conf_dir"],
        data_dir=options["data_dir"],
        log_dir=options["log_dir"],
        run_dir=options["run_dir"],
        user=options["user"],
        group=options["group"],
        username=options.get("username"),
        password=options.get("password"),
        tls=options.get("tls") or None,
    )
    others = Path(options["templates"])
    instances, secrets = render.instances(
        host,
        [int(port) for port in options["ports"]],
        render.Templates(
            conf=Path(options["template"]).read_text(),
            drop_in=(others / "redis-cluster@.drop-in.conf.j2").read_text(),
        ),
        cluster_config=options.get("cluster_config") or {},
        node_config=options.get("node_config") or {},
        port_config=options.get("port_config") or {},
        port_version=options.get("port_version") or {},
    )
    return {
        # Those of the fact redis_install_servers have more to say than the module wants to know.
        "servers": [asdict(server) for server in host.servers],
        "instances": instances,
        "secrets": secrets,
        "unit": render.unit(Path(options["unit_template"]).read_text()),
        "before_start": (others / "redis-cluster-before-start.sh").read_text(),
        "ask_peers": (others / "redis-cluster-ask-peers.py").read_text(),
    }
