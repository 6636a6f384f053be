"""Machines of their own for tests of module redis_host: network, /etc and kernel settings are theirs alone.

    with Net(tmp_path, hosts=3, prefix="10.34") as net:
        one = Box(net.hosts[0], inventory_of(net.hosts))
        done = one.converge(firewall="nftables")      # what the module returns, or {"finding": …}

What Linux keeps for the machine as a whole (vm.*, huge pages) is played by files there; what each network has for
itself (net.*, packet rules, connections) is real.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from slotwright.manager.machine import machines
from tests.live.machine import load
from tests.live.netns import Host

ROOT = Path(__file__).resolve().parents[2]
PORT = 7001
RUN = ROOT / "tests/live/run_machine.py"
VM = {"overcommit_memory": "0", "swappiness": "60"}
HUGE_PAGES = "/sys/kernel/mm/transparent_hugepage/enabled"

for name in ("filter", "machine"):  # as tests.live.machine does for those that these import
    sys.modules[f"ansible.module_utils.slotwright_{name}"] = load(f"plugins/module_utils/slotwright_{name}.py")
_action = load("plugins/action/redis_host.py")
rendered, own_address = _action.rendered, _action.own_address


def inventory_of(hosts: Sequence[Host], **variables: Any) -> dict[str, dict[str, Any]]:
    """hostvars of a cluster with one instance on each of these hosts, spread over three zones."""
    return {
        host.name: {
            "redis_node_zone": "abc"[number % 3],
            "redis_node_address": host.address,
            "redis_node_ports": [PORT],
            "redis_node_user": "redis-of-tests",
            "redis_node_group": "redis-of-tests",
            "redis_cluster_password": "open sesame",
            "redis_cluster_replicas": 0,
            "redis_cluster_allow_zone_risk": True,
            **variables,
        }
        for number, host in enumerate(hosts)
    }


def options_for(
    host: str, hostvars: Mapping[str, Mapping[str, Any]], networks: Sequence[str], **options: Any
) -> dict[str, Any]:
    """The options of module redis_host, as role and action plugin give them."""
    clients = {"redis_host_client_networks": list(networks)}
    given = {
        "state": "present",
        "templates": str(ROOT / "templates"),
        "sysctl": {},
        "firewall": "auto",
        "confirm": False,
        **machines(list(hostvars), {name: {**stated, **clients} for name, stated in hostvars.items()})[host],
        **options,
    }
    return given | rendered(given)


@dataclass
class Box:
    """One host, as it is given to module redis_host. stated: options for every call. shell: stands before it."""

    host: Host
    hostvars: Mapping[str, Mapping[str, Any]]
    stated: dict[str, Any] = field(default_factory=dict)
    shell: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        mine = self.host.directory
        for name in ("etc", "work", "vm"):
            (mine / name).mkdir()
        for name, value in VM.items():
            (mine / "vm" / name).write_text(f"{value}\n")
        (mine / "huge").write_text("[always] madvise never\n")
        self.host.run(
            [
                "sh",
                "-ec",
                f"""
                mount -t overlay -o lowerdir=/etc,upperdir={mine}/etc,workdir={mine}/work overlay /etc
                mount --bind {mine}/vm /proc/sys/vm
                mount --bind {mine}/huge {HUGE_PAGES}
                [ ! -e /run/systemd ] || mount -t tmpfs tmpfs /run/systemd
                """,
            ]
        )

    @property
    def etc(self) -> Path:
        """What was changed in /etc."""
        return self.host.directory / "etc"

    def vm(self, name: str) -> str:
        return (self.host.directory / "vm" / name).read_text().strip()

    @property
    def huge_pages(self) -> str:
        return (self.host.directory / "huge").read_text()

    @huge_pages.setter
    def huge_pages(self, text: str) -> None:
        (self.host.directory / "huge").write_text(text)

    def settle(self) -> None:
        """A file holds what was written; the kernel shows it among the others."""
        if self.huge_pages == "madvise":
            self.huge_pages = "always [madvise] never\n"

    @property
    def rules(self) -> str:
        return self.host.run(["nft", "-s", "list", "ruleset"]).stdout

    def converge(self, *, check: bool = False, networks: Sequence[str] = (), **options: Any) -> dict[str, Any]:
        given = options_for(self.host.name, self.hostvars, networks, **{"firewall": "nftables", **options})
        told = json.dumps({"options": given | self.stated, "check": check})
        done = self.host.run([*self.shell, "/usr/bin/python3", RUN], input=told)
        self.settle()
        result: dict[str, Any] = json.loads(done.stdout)
        return result
