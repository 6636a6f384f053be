"""playbooks/check.yml and fix.yml on a live cluster: exit status, table, JSON, smoke test, refusal, repair."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml

from tests.live.corruptions import World, foreign_differing, half_the_keys, start_world
from tests.live.servers import ROOT, Monitor, Servers, wait_until
from tests.live.test_fix import checked, errors

LOOPBACK = "127.48"


@dataclass
class Done:
    status: int
    said: str

    @property
    def changed(self) -> int:
        return sum(int(n) for n in re.findall(r"ok=\d+ +changed=(\d+)", self.said))

    @property
    def text(self) -> str:
        return re.sub(r"\s+", " ", self.said)


@dataclass
class Operator:
    world: World
    inventory: Path

    def play(self, playbook: str, *options: str) -> Done:
        command = [str(Path(sys.executable).parent / "ansible-playbook"), f"playbooks/{playbook}", *options]
        done = subprocess.run(
            [*command, "-i", str(self.inventory)],
            cwd=ROOT,
            env=os.environ | {"ANSIBLE_CONFIG": "ansible.cfg", "LC_ALL": "C.UTF-8", "ANSIBLE_NOCOLOR": "1"},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
        )
        return Done(done.returncode, done.stdout + done.stderr)


@pytest.fixture
def operator(servers: Servers, tmp_path: Path) -> Iterator[Operator]:
    world = start_world(servers)
    wait_until("it is sound", lambda: not errors(checked(world)), timeout=20)
    hosts = {
        i.host: {"redis_node_zone": i.zone, "redis_node_address": i.address, "redis_node_ports": [i.port]}
        for i in world.site.topology.instances
    }
    common = {
        "ansible_connection": "local",
        "ansible_python_interpreter": "{{ ansible_playbook_python }}",
        "redis_cluster_timeout": 20,
        "redis_cluster_config": {"cluster-node-timeout": 3000, "repl-diskless-sync-delay": 0},
    }
    inventory = tmp_path / "hosts.yml"
    inventory.write_text(yaml.safe_dump({"redis": {"hosts": hosts, "vars": common}}))
    yield Operator(world, inventory)


def test_a_healthy_cluster_passes_with_a_smoke_test_and_its_json(operator: Operator, tmp_path: Path) -> None:
    path = tmp_path / "health.json"
    done = operator.play("check.yml", "-e", "redis_check_smoke=true", "-e", f"redis_check_json={path}")
    assert (done.status, done.changed) == (0, 0), done.said
    assert "smoke test: passed on 3 masters" in done.said
    [cluster] = json.loads(path.read_text()).values()
    assert cluster["healthy"] and cluster["smoke"]["ok"] and cluster["smoke"]["keys_left"] == 0
    assert cluster["counts"]["error"] == 0


def test_damage_fails_the_check_and_is_mended_and_then_nothing_changes(operator: Operator) -> None:
    half_the_keys(operator.world)
    before = operator.world.data()
    with Monitor(operator.world.all) as monitor:
        bad = operator.play("check.yml")
        foretold = operator.play("fix.yml", "--check")
    assert bad.status == 2, bad.said
    assert f"ansible-playbook -i {operator.inventory} playbooks/fix.yml" in re.sub(r"[\s│]+", " ", bad.said) or (
        "slot-moving (I3)" in bad.said
    )
    assert monitor.mutating == []
    assert (foretold.status, foretold.changed) == (0, 1), foretold.said
    assert operator.play("check.yml", "-e", "redis_check_fail=false").status == 0
    mended = operator.play("fix.yml")
    assert (mended.status, mended.changed) == (0, 1), mended.said
    line = "b1:7000: move slots 10 (1) to a1:7000"
    assert line in foretold.said and line in mended.said
    assert operator.world.data() == before
    again = operator.play("fix.yml")
    assert (again.status, again.changed) == (0, 0), again.said
    assert operator.play("check.yml").status == 0


@pytest.mark.soak
def test_what_could_lose_data_is_refused_with_the_line_that_allows_it(operator: Operator) -> None:
    foreign_differing(operator.world)
    before = operator.world.data()
    refused = operator.play("fix.yml")
    assert refused.status == 2, refused.said
    words = """-e '{"redis_fix_allow": ["lose-foreign-copies"]}'"""
    assert words in refused.text.replace('\\"', '"'), refused.said
    assert all(operator.world.data()[key] == values for key, values in before.items() if b"x" not in key)
    allowed = operator.play("fix.yml", "-e", '{"redis_fix_allow": ["lose-foreign-copies"]}')
    assert (allowed.status, allowed.changed) == (0, 1), allowed.said
    assert operator.world.data().keys() == before.keys()
    unknown = operator.play("fix.yml", "-e", '{"redis_fix_allow": ["everything"]}')
    assert unknown.status == 2 and "«everything» allows nothing" in unknown.text
