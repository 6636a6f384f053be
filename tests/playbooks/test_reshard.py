"""playbooks/reshard.yml and rebalance.yml: shown, done with its progress, done again; paused by Ctrl-C and gone on."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import yaml

from slotwright.manager.request import ARGUMENTS
from slotwright.manager.reshard import ASKED
from tests.live.clusters import start_site, without_haste
from tests.live.machine import load
from tests.live.moves import Cluster
from tests.live.servers import ROOT, Servers, wait_until
from tests.playbooks.test_kill_play import inventory
from tests.playbooks.test_roles import _as_documented, _without_words

LOOPBACK = "127.48"
MOVE = ("-e", "redis_reshard_from=a1:7000", "-e", "redis_reshard_to=b1:7000")


def start(playbook: str, inventory: Path, *options: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [str(Path(sys.executable).parent / "ansible-playbook"), f"playbooks/{playbook}.yml", "-i", inventory, *options],
        cwd=ROOT,
        env=os.environ | {"ANSIBLE_CONFIG": "ansible.cfg", "LC_ALL": "C.UTF-8", "ANSIBLE_NOCOLOR": "1"},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )


def play(playbook: str, inventory: Path, *options: str) -> tuple[int, str]:
    process = start(playbook, inventory, *options)
    said = process.communicate()[0]
    return process.returncode, said


def test_slots_move_as_shown_and_a_second_play_changes_nothing(servers: Servers, tmp_path: Path) -> None:
    site = start_site(servers, {"a": (1,), "b": (1,), "c": (1,)}, replicas=0)
    site.converge()
    without_haste(site)
    cluster, hosts = Cluster(site), inventory(site, "cache", tmp_path)
    hosts.write_text(hosts.read_text() + "  vars: {redis_cluster_replicas: 0}\n")
    cluster.fill(range(0, 16384, 4), keys=10, size=100)
    before = cluster.data()
    owned = cluster.slots("a1")

    status, said = play("reshard", hosts)
    assert status != 0 and "nothing is asked for" in said and "redis_reshard_drain" in said

    amount = (*MOVE, "-e", "redis_reshard_count=1000", "-e", "redis_reshard_name=relieve")
    status, said = play("reshard", hosts, "--check", "--diff", *amount)
    assert status == 0, said
    assert "move slots" in said and "(1000) to b1:7000" in said and "1000 slots move" in said
    assert cluster.slots("a1") == owned

    # Ctrl-C: the whole process group gets it, and so may be a terminal's. The module pauses, and nothing is open.
    process = start("reshard", hosts, *amount, "-e", "redis_reshard_keys_per_second=1000")
    wait_until("some have moved", lambda: len(cluster.slots("b1")) > 5461 + 200, timeout=120)
    os.killpg(process.pid, signal.SIGINT)
    begun = time.monotonic()
    process.communicate()
    assert process.returncode != 0
    wait_until("nothing moves", lambda: _still(cluster), timeout=5)
    assert time.monotonic() - begun < 6
    assert cluster.open_slots() == []
    assert 200 < len(cluster.slots("b1")) - 5461 < 1000

    status, said = play("reshard", hosts, *amount, "-e", "redis_reshard_keys_per_second=2500")
    assert status == 0 and "changed=1" in said, said
    assert "keys/s" in said and "b1:7000" in said and " left" in said, said  # a line while it was under way
    assert "slots/s" in said
    assert len(cluster.slots("b1")) == 5461 + 1000
    assert cluster.data().keys() - before.keys() == {b"slotwright:request:relieve"}

    status, said = play("reshard", hosts, *amount)
    assert (status, "changed=0" in said, "was done: 1000 slots" in said) == (0, True, True), said

    status, said = play("rebalance", hosts)
    assert status == 0 and "changed=1" in said, said
    assert sorted(len(cluster.slots(name)) for name in ("a1", "b1", "c1")) == [5461, 5461, 5462]
    status, said = play("rebalance", hosts)
    assert (status, "changed=0" in said) == (0, True), said
    assert {key: value for key, value in cluster.data().items() if key in before} == before
    cluster.assert_whole()


def _still(cluster: Cluster) -> bool:
    before = len(cluster.slots("b1"))
    time.sleep(0.7)
    return len(cluster.slots("b1")) == before


def test_the_documentation_of_the_module_is_its_argument_spec() -> None:
    module = load("modules/redis_cluster_slots.py")
    fragment = load("plugins/doc_fragments/slotwright_progress.py").ModuleDocFragment.DOCUMENTATION
    documented = yaml.safe_load(module.DOCUMENTATION)["options"] | yaml.safe_load(fragment)["options"]
    assert _as_documented(ASKED) == _without_words(documented)
    assert not set(ASKED) & set(ARGUMENTS)
