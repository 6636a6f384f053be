"""playbooks/failover.yml: shown, done, done again, restored; and what it refuses, with the words that allow it."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml

from slotwright.manager.handover import ASKED
from slotwright.manager.request import ARGUMENTS
from tests.live.clusters import Site, start_site, without_haste
from tests.live.machine import load
from tests.live.servers import ROOT, Servers, wait_until
from tests.playbooks.test_kill_play import inventory
from tests.playbooks.test_roles import _as_documented, _without_words

LOOPBACK = "127.46"


@dataclass
class Play:
    """What ansible-playbook said; lines of it without the blanks that they begin with."""

    status: int
    said: str

    @property
    def changed(self) -> int:
        return sum(int(n) for n in re.findall(r"ok=\d+ +changed=(\d+)", self.said))

    @property
    def steps(self) -> list[str]:
        return re.findall(r"(\S+: take over from its master.*?)$", self.said, re.MULTILINE)


@dataclass
class Cluster:
    """A running cluster and its inventory."""

    site: Site
    inventory: tuple[Path, ...]

    def play(self, *options: str) -> Play:
        command = [str(Path(sys.executable).parent / "ansible-playbook"), "playbooks/failover.yml", *options]
        done = subprocess.run(
            [*command, *(word for path in self.inventory for word in ("-i", str(path)))],
            cwd=ROOT,
            env=os.environ | {"ANSIBLE_CONFIG": "ansible.cfg", "LC_ALL": "C.UTF-8", "ANSIBLE_NOCOLOR": "1"},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
        )
        return Play(done.returncode, done.stdout + done.stderr)

    def masters(self) -> list[str]:
        view = self.site.look()
        return sorted(view.name_of(i) for i in view.owners)


def start_cluster(servers: Servers, directory: Path, name: str = "cache", suffix: str = "") -> Cluster:
    site = start_site(servers, config={"cluster-node-timeout": 1000}, suffix=suffix)
    site = site.with_settings({"cluster-node-timeout": "1000"})
    site.converge()
    without_haste(site)
    return Cluster(site, (inventory(site, name, directory),))


@pytest.mark.soak  # a minute; without plays: tests/live/test_handover.py
def test_a_zone_is_shown_emptied_left_alone_and_restored(servers: Servers, tmp_path: Path) -> None:
    cluster = start_cluster(servers, tmp_path)
    first = cluster.site.roles()
    zone = cluster.masters()[0][0]

    unknown = cluster.play("-e", "redis_failover_from=nowhere")
    assert unknown.status != 0
    assert "«nowhere»: is no host, zone or instance of the inventory" in unknown.said

    shown = cluster.play("--check", "--diff", "-e", f"redis_failover_from={zone}")
    assert shown.status == 0, shown.said
    assert shown.steps
    assert "+  master" in shown.said.replace("+    ", "+  ")
    assert cluster.site.roles() == first

    done = cluster.play("-e", f"redis_failover_from={zone}")
    assert (done.status, done.changed) == (0, 1), done.said
    assert done.steps == shown.steps
    assert f"{zone} may be stopped: no master is there" in done.said
    assert "verdict" in done.said
    assert not [name for name in cluster.masters() if name.startswith(zone)]

    again = cluster.play("-e", f"redis_failover_from={zone}")
    assert (again.status, again.changed, again.steps) == (0, 0, []), again.said
    assert f"nothing to do: no master is in {zone}" in again.said

    back = cluster.play("-e", "redis_failover_restore=true")
    assert (back.status, back.changed) == (0, 1), back.said
    assert cluster.site.roles() == first


@pytest.mark.soak
def test_what_cannot_be_done_is_refused_before_anything_is(servers: Servers, tmp_path: Path) -> None:
    """Of two clusters: that the second one refuses, keeps the first as it is."""
    one, two = (start_cluster(servers, tmp_path, name, f"-{name}") for name in ("cache", "queue"))
    both = Cluster(one.site, (*one.inventory, *two.inventory))
    first = one.site.roles()
    nothing = both.play()
    assert nothing.status != 0
    assert "nothing is asked for" in nothing.said and "redis_failover_from" in nothing.said
    unknown = both.play("-e", "redis_failover_from=nowhere")
    assert unknown.status != 0 and "«nowhere»" in unknown.said

    victim = two.masters()[0]
    replica = next(name for name, role in two.site.roles().items() if role.master == victim)
    two.site[replica].kill()
    refused = both.play("-e", f"redis_failover_from={one.masters()[0]},{victim}")
    assert refused.status != 0
    assert f"node {victim}" in refused.said and "could take its place" in refused.said
    assert one.site.roles() == first

    name = one.masters()[0]
    alone = both.play("-e", f"redis_failover_from={name}")  # an instance of one cluster is no mistake in the other
    assert (alone.status, alone.changed) == (0, 1), alone.said


@pytest.mark.soak
def test_a_burnt_majority_is_taken_over_once_the_words_are_typed(servers: Servers, tmp_path: Path) -> None:
    cluster = start_cluster(servers, tmp_path)
    one, two, three = cluster.masters()
    for name in (one, two):
        cluster.site[name].kill()
    wait_until("it fails", lambda: "cluster_state:fail" in cluster.site[three].call("CLUSTER", "INFO"))
    options = ["-e", f"redis_failover_from={one},{two}", "-e", "redis_failover_mode=takeover"]
    refused = cluster.play(*options)
    assert refused.status != 0
    words = re.search(r"redis_failover_confirm=\W*(may lose acknowledged writes of cache and split it)", refused.said)
    assert words, refused.said
    done = cluster.play(*options, "-e", f'redis_failover_confirm="{words[1]}"')
    assert (done.status, done.changed) == (0, 1), done.said
    assert "cluster_state:ok" in cluster.site[three].call("CLUSTER", "INFO")
    for name in (one, two):
        cluster.site[name].restart()
    wait_until("both follow", lambda: all(cluster.site[name].call("ROLE")[0] == "slave" for name in (one, two)))


@pytest.mark.soak
def test_a_replica_by_name_takes_over(servers: Servers, tmp_path: Path) -> None:
    cluster = start_cluster(servers, tmp_path)
    replica = next(name for name, role in cluster.site.roles().items() if role.master)
    for changed in (1, 0):
        done = cluster.play("-e", f"redis_failover_to={replica}")
        assert (done.status, done.changed) == (0, changed), done.said
    assert replica in cluster.masters()


def test_the_documentation_of_the_module_is_its_argument_spec() -> None:
    module = load("modules/redis_cluster_failover.py")
    fragment = load("plugins/doc_fragments/slotwright_cluster.py").ModuleDocFragment.DOCUMENTATION
    documented = yaml.safe_load(module.DOCUMENTATION)["options"]
    assert _as_documented(ASKED) == _without_words(documented)
    assert set(ARGUMENTS) == set(yaml.safe_load(fragment)["options"])
    assert not set(ASKED) & set(ARGUMENTS)
