"""A play that is killed with -9, with all its processes, anywhere in a creation: the next play finishes it."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import yaml

from tests.live.clusters import Role, Site, assert_sound, start_site
from tests.live.servers import ROOT, Servers, wait_until
from tests.soak import SOAK

LOOPBACK = "127.27"
TOGETHER = 5  # killed sites that one play then finishes
AT_ONCE = 4
STEPS = 29  # of the creation of six nodes
EVERY = 1 if SOAK else 10


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
    """playbooks/cluster.yml on these inventories together; its exit code, or minus the signal that killed it."""
    command = [str(Path(sys.executable).parent / "ansible-playbook"), "playbooks/cluster.yml"]
    command += [word for path in inventories for word in ("-i", str(path))]
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
    shared = {name: re.sub(r"-k\d*", "", name) for name in ("", *site.servers)}
    return {shared[name]: Role(shared[role.master], role.slots) for name, role in site.roles().items()}


def killed_and_finished(numbers: Sequence[int], directory: Path) -> list[dict[str, Role]]:
    """Sites whose play is killed after so many steps each; then one play for all of them. What their nodes became."""
    directory.mkdir()
    with Servers(directory, LOOPBACK) as servers:
        sites = {k: start_site(servers, suffix=f"-k{k}") for k in numbers}
        settings = {k: site.settings() for k, site in sites.items()}
        inventories = {k: inventory(site, f"k{k}", directory) for k, site in sites.items()}
        for k, site in sites.items():
            steps = site.foresee().plan.steps
            assert killed_play(inventories[k], k) == -signal.SIGKILL, f"the play was not killed after step {k}"
            left = site.foresee().plan.steps
            assert left == steps[k:], f"killed after step {k}, {len(left)} of {len(steps)} steps are left"
        for run, changed in (("first", len([k for k in numbers if k < STEPS])), ("second", 0)):
            output = directory / f"{run}.out"
            code = play(list(inventories.values()), output)
            assert code == 0, f"the {run} play after the kills:\n{output.read_text()}"
            assert len(re.findall("^changed: ", output.read_text(), re.MULTILINE)) == changed, output.read_text()
        for k, site in sites.items():
            assert site.settings() == settings[k], f"killed after step {k}"
            assert_sound(site)
        return [roles(site) for site in sites.values()]


@pytest.mark.timeout(600)
@pytest.mark.soak  # a minute; without plays: tests/live/test_kill.py
def test_a_play_killed_at_any_step_boundary_of_a_creation_is_finished_by_the_next_and_then_nothing_changes(
    servers: Servers, tmp_path: Path, tried: Callable[[str], None]
) -> None:
    """Killed with it are its worker and the module's process. One play finishes several sites: that saves time."""
    undisturbed = start_site(servers, suffix="-k")
    assert len(undisturbed.foresee().plan.steps) == STEPS
    assert killed_play(inventory(undisturbed, "undisturbed", tmp_path), STEPS + 1) == 0  # there is no later step
    points = range(0, STEPS + 1, EVERY)
    batches = [points[i : i + TOGETHER] for i in range(0, len(points), TOGETHER)]
    with ThreadPoolExecutor(AT_ONCE) as pool:
        finished = pool.map(killed_and_finished, batches, (tmp_path / f"batch-{n}" for n in range(len(batches))))
        results = [site for batch in finished for site in batch]
    assert results == [roles(undisturbed)] * len(points)
    tried(f"{len(points)} kill -9 of a play, at every {EVERY}. step boundary: all finished by one play more")
