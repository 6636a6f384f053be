"""A play that is killed with -9, with all its processes, anywhere in a creation: the next play finishes what it left."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import yaml

from tests.live.clusters import Role, Site, assert_sound, start_site
from tests.live.servers import ROOT, Servers, wait_until

LOOPBACK = "127.27"
TOGETHER = 5  # killed sites that one play then finishes
AT_ONCE = 4


def inventory(site: Site, name: str, directory: Path) -> Path:
    """The site as an inventory of cluster `name`."""
    hosts = {
        i.host: {"redis_node_zone": i.zone, "redis_node_address": i.address, "redis_node_ports": [i.port]}
        for i in site.topology.instances
    }
    common = {
        "ansible_connection": "local",
        "ansible_python_interpreter": "{{ ansible_playbook_python }}",
        "redis_cluster_name": name,
    }
    path = directory / f"{name}.yml"
    path.write_text(yaml.safe_dump({"redis": {"hosts": {h: {**common, **own} for h, own in hosts.items()}}}))
    return path


def play(inventories: Sequence[Path], output: Path, **environment: str) -> int:
    """playbooks/cluster.yml on these inventories together. Returns its exit code, or minus the signal that killed it."""
    command = [Path(sys.executable).parent / "ansible-playbook", "playbooks/cluster.yml"]
    command += [word for path in inventories for word in ("-i", path)]
    with output.open("w") as out:
        done = subprocess.run(
            command,
            cwd=ROOT,
            env=os.environ | {"ANSIBLE_CONFIG": "ansible.cfg", "LC_ALL": "C.UTF-8"} | environment,
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=subprocess.STDOUT,
            check=False,
        )
    return done.returncode


def killed_play(site_inventory: Path, steps: int) -> int:
    """A play that dies, with its worker and the module's process, once it has done so many steps."""
    mark = f"{steps} {os.getpid()} {site_inventory}"
    output = site_inventory.with_suffix(".killed")
    code = play(
        [site_inventory],
        output,
        PYTHONPATH=str(Path(__file__).parent / "kill"),
        SLOTWRIGHT_TEST_KILL=mark,
    )
    wait_until("no process of the play is left", lambda: not processes_with(mark), timeout=10)
    return code


def processes_with(mark: str) -> list[str]:
    """Processes that live and have this in their environment."""
    found = []
    for path in Path("/proc").glob("[0-9]*/environ"):
        try:
            if mark.encode() in path.read_bytes():
                found.append(path.parent.name)
        except (FileNotFoundError, ProcessLookupError, PermissionError):  # it ended just now, or is not ours
            continue
    return found


def roles(site: Site) -> dict[str, Role]:
    """What each node is, under the names that all sites share: "a1:7000" for "a1-k7:7000"."""
    shared = {name: re.sub(r"-k\d+", "", name) for name in ("", *site.servers)}
    return {shared[name]: Role(shared[role.master], role.slots) for name, role in site.roles().items()}
