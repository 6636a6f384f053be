"""playbooks/host.yml on hosts of a private network, reached by real SSH."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from tests.live.boxes import Box
from tests.live.machine import load
from tests.live.netns import PORT as SSH_PORT
from tests.live.netns import Net
from tests.live.sshd import keygen
from tests.playbooks.test_preflight import BUS, PORT, Fleet

MANAGED = {
    "redis_cluster_replicas": 0,
    "redis_host_manage": True,
    "redis_host_firewall": "nftables",
    "redis_node_user": "redis-of-tests",
    "redis_node_group": "redis-of-tests",
}


@pytest.fixture
def trio(tmp_path: Path) -> Iterator[tuple[Fleet, list[Box]]]:
    with Net(tmp_path, hosts=1, zones=3, prefix="10.34") as net:
        fleet = Fleet(net, tmp_path, keygen(tmp_path / "key"), dict(MANAGED))
        yield fleet, [Box(host, {}) for host in net.hosts]


def test_check_run_check_run_with_one_call_a_host(trio: tuple[Fleet, list[Box]]) -> None:
    fleet, boxes = trio
    foreseen = fleet.play("playbooks/host.yml", "--check", "--diff")
    assert (foreseen.status, foreseen.changed) == (0, 3), foreseen.said
    assert "+vm.overcommit_memory = 1" in foreseen.said
    assert [box.rules for box in boxes] == [""] * 3
    done = fleet.play("playbooks/host.yml")
    assert (done.status, done.changed) == (0, 3), done.said
    for box in boxes:
        box.settle()
    for options in (["--check"], []):
        again = fleet.play("playbooks/host.yml", "-vvv", *options)
        assert (again.status, again.changed) == (0, 0), again.said
        assert [again.calls(box.host) for box in boxes] == [1] * 3
    addresses = ", ".join(box.host.address for box in boxes)
    for box in boxes:
        assert addresses in (box.etc / f"nftables.d/redis-cluster_demo_{box.host.address}.nft").read_text()
        assert box.vm("overcommit_memory") == "1"


def test_the_controller_may_come_in_besides_the_networks_of_the_clients(trio: tuple[Fleet, list[Box]]) -> None:
    fleet, boxes = trio
    fleet.variables |= {"redis_host_client_networks": ["192.0.2.0/24"], "redis_cluster_reach": "direct"}
    done = fleet.play("playbooks/host.yml", "--limit", boxes[0].host.name)
    assert (done.status, done.changed) == (0, 1), done.said
    boxes[0].settle()
    guarded = boxes[0].host.address
    # Nothing listens yet: who is let in is refused by the kernel, who is not hears nothing.
    assert fleet.net.controller.reach(guarded, PORT) == "refused"
    assert fleet.net.controller.reach(guarded, BUS) == "blocked"
    assert fleet.net.hosts[1].reach(guarded, BUS) == "refused"
    fleet.variables["redis_cluster_reach"] = "ssh"
    fleet.play("playbooks/host.yml", "--limit", boxes[0].host.name)
    assert fleet.net.controller.reach(guarded, PORT) == "blocked"


def test_stopping_for_good_takes_the_rules_and_files_away_too(trio: tuple[Fleet, list[Box]]) -> None:
    fleet, boxes = trio
    assert fleet.play("playbooks/host.yml").status == 0
    stop = ["playbooks/stop.yml", "-e", "redis_stop_confirm=yes"]
    assert fleet.play(*stop).status == 0
    assert all(box.rules for box in boxes)
    done = fleet.play(*stop, "-e", "redis_node_state=absent")
    assert (done.status, done.changed) == (0, 3), done.said
    for box in boxes:
        assert (box.rules, list((box.etc / "nftables.d").iterdir())) == ("", [])
        assert not (box.etc / "sysctl.d/99-redis-cluster.conf").exists()


@pytest.mark.soak
def test_who_leaves_lets_its_successor_in_for_as_long_as_it_has_an_instance(tmp_path: Path) -> None:
    with Net(tmp_path, hosts=1, zones=4, prefix="10.34") as net:
        fleet = Fleet(net, tmp_path, keygen(tmp_path / "key"), dict(MANAGED))
        *staying, leaver = [Box(host, {}) for host in net.hosts]
        fleet.variables |= {"redis_cluster_absent": [leaver.host.name], "redis_node_conf_dir": "/etc/redis-cluster"}
        gone = fleet.play("playbooks/host.yml")
        assert (gone.status, gone.changed, leaver.rules) == (0, 3, ""), gone.said
        for box in staying:
            box.settle()
        conf = f"/etc/redis-cluster/{PORT}/redis.conf"
        leaver.host.run(["sh", "-ec", f"mkdir -p {Path(conf).parent}; touch {conf}"])
        foreseen = fleet.play("playbooks/host.yml", "--check")
        still = fleet.play("playbooks/host.yml")
        assert (still.status, foreseen.changed, still.changed) == (0, 1, 1), still.said
        assert all(box.host.address in leaver.rules for box in staying)
        leaver.settle()
        fleet.variables |= {"ansible_ssh_timeout": 3}
        net.block(net.controller, leaver.host, SSH_PORT)
        away = fleet.play("playbooks/host.yml")
        assert (away.status, away.changed) == (0, 0), away.said


def test_a_host_that_is_not_to_be_managed_is_not_touched(trio: tuple[Fleet, list[Box]]) -> None:
    fleet, boxes = trio
    fleet.variables |= {"redis_host_manage": False}
    done = fleet.play("playbooks/host.yml", "-vvv")
    assert (done.status, done.changed) == (0, 0), done.said
    assert [done.calls(box.host) for box in boxes] == [0] * 3
    del fleet.variables["redis_host_manage"]  # the demo's hosts are without systemd
    assert fleet.play("playbooks/host.yml").changed == 0


def test_a_bad_inventory_changes_nothing_on_any_host(trio: tuple[Fleet, list[Box]]) -> None:
    fleet, boxes = trio
    fleet.variables |= {"redis_host_client_networks": ["10.0.0.1/8"]}
    done = fleet.play("playbooks/host.yml", "-vvv")
    assert done.status != 0
    assert "10.0.0.1/8 has host bits set" in done.text
    assert [done.calls(box.host) for box in boxes] == [0] * 3


def test_the_documentation_of_the_module_is_its_argument_spec() -> None:
    module = load("modules/redis_host.py")
    documented = yaml.safe_load(module.DOCUMENTATION)["options"]
    for words in (documented, documented["rules"]["suboptions"]):
        for option in words.values():
            del option["description"]
    rules = {**documented.pop("rules"), "options": module.RULES}
    assert rules.pop("suboptions") == module.RULES
    spec = {**module.ON_THE_CONTROLLER, **module.ON_THE_HOST}
    assert spec == {**documented, "rules": rules}
