"""playbooks/survival.yml on a live cluster: what it shows and writes, and when it fails."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from slotwright.manager.request import ARGUMENTS
from slotwright.manager.survival import ASKED
from tests.live.machine import load
from tests.live.servers import ROOT, Monitor, Servers
from tests.live.test_handover import masters, replica_of
from tests.playbooks.test_failover import Cluster, Play, start_cluster
from tests.playbooks.test_roles import _as_documented, _without_words

LOOPBACK = "127.59"


def play(cluster: Cluster, *options: str) -> Play:
    command = [str(Path(sys.executable).parent / "ansible-playbook"), "playbooks/survival.yml", *options]
    done = subprocess.run(
        [*command, *(word for path in cluster.inventory for word in ("-i", str(path)))],
        cwd=ROOT,
        env=os.environ | {"ANSIBLE_CONFIG": "ansible.cfg", "LC_ALL": "C.UTF-8", "ANSIBLE_NOCOLOR": "1"},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    return Play(done.returncode, done.stdout + done.stderr)


def test_a_yes_then_a_no_with_its_remedy_which_fails_only_where_that_is_asked_for(
    servers: Servers, tmp_path: Path
) -> None:
    cluster = start_cluster(servers, tmp_path)
    path = tmp_path / "survival.json"
    strict = ("-e", "redis_survival_strict=true")
    with Monitor(cluster.site.nodes) as watch:
        healthy = play(cluster, *strict, "-e", f"redis_survival_json={path}")
    assert (healthy.status, healthy.changed) == (0, 0), healthy.said
    assert watch.mutating == []
    assert "Cluster cache: any zone and any host may be lost" in healthy.said
    assert re.search(r"a +1 +2 +2 +0 +2 +survives", healthy.said), healthy.said
    [told] = json.loads(path.read_text()).values()
    assert told["survives"] and len(told["pairs"]) == 15 and told["pairs_lost"]
    assert told["remedies"] == []

    one = masters(cluster.site)[0]
    replica = replica_of(cluster.site, one)
    cluster.site[replica].stop()
    warned = play(cluster, "--check", "-e", f"redis_survival_json={path}")
    assert (warned.status, warned.changed) == (0, 0), warned.said
    assert f"remedy: start {replica}" in warned.said
    [told] = json.loads(path.read_text()).values()
    assert told["survives"] is False
    assert [way["remedy"] for way in told["remedies"]] == [f"start {replica}"] * 2
    failed = play(cluster, *strict)
    assert failed.status == 2
    assert "does not survive the loss of every zone and every host" in re.sub(r"\s+", " ", failed.said)


def test_the_documentation_of_the_module_is_its_argument_spec() -> None:
    module = load("modules/redis_cluster_survival.py")
    assert _as_documented(ASKED) == _without_words(yaml.safe_load(module.DOCUMENTATION)["options"])
    assert not set(ASKED) & set(ARGUMENTS)


@pytest.mark.parametrize("name", ["DOCUMENTATION", "EXAMPLES", "RETURN"])
def test_each_part_of_its_documentation_is_yaml(name: str) -> None:
    assert yaml.safe_load(getattr(load("modules/redis_cluster_survival.py"), name))
