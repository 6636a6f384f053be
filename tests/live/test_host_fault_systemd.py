"""Module redis_fault under a real systemd, in a container: what is killed stays down, and what is rebooted comes back.

Skipped where no Docker daemon answers; with CI=true it fails there.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.live.container import Container, docker
from tests.live.machine import installed
from tests.live.servers import Servers, wait_until

LOOPBACK = "127.58"
UNIT = "redis-cluster@7001.service"
DROP_IN = f"/run/systemd/system/{UNIT}.d"
SCRIPT = """
import json, sys
from ansible.module_utils.slotwright_fault import apply
from ansible.module_utils.slotwright_files import HostError
try:
    answer = apply(json.load(sys.stdin), check=False)
except HostError as error:
    answer = {"refused": str(error)}
json.dump(answer, sys.stdout)
"""


@pytest.fixture
def host(servers: Servers) -> Iterator[Container]:
    one = Container(servers.address(), options={"servers": [{**installed("/usr/bin/redis-server"), "notify": True}]})
    one.start()
    try:
        one.converge()
        yield one
    finally:
        one.close()


def fault(host: Container, state: str, **options: Any) -> dict[str, Any]:
    """What the module returns, or `refused`."""
    usual: dict[str, Any] = {"drill": "d1", "kind": None, "ports": [7001], "seconds": 600, "cut": None, "timeout": 60}
    usual |= {"service": "systemd", "user": "redis", "group": "redis", "environment": None, "at": time.time() + 2}
    usual |= {"conf_dir": "/etc/redis-cluster", "directory": "/var/lib/slotwright-drill"}
    given = json.dumps({"state": state, **usual, **options})
    said = docker("exec", "-i", "-e", "PYTHONPATH=/opt/slotwright", host.ident, "python3", "-c", SCRIPT, stdin=given)
    answer: dict[str, Any] = json.loads(said)
    return answer


def record(host: Container) -> dict[str, Any]:
    read: dict[str, Any] = json.loads(host.say("cat", "/var/lib/slotwright-drill/state.json"))
    return read


def struck(host: Container) -> None:
    wait_until("it is struck", lambda: record(host)["phase"] == "struck")


def state(host: Container) -> str:
    return host.show(UNIT, "ActiveState")


def test_what_is_killed_stays_down_until_it_is_healed_and_then_restarts_as_ever(
    host: Container, tried: Callable[[str], None]
) -> None:
    identity, at = host.call("CLUSTER", "MYID"), time.time() + 3
    assert fault(host, "armed", kind="kill", at=at, seconds=8)["changed"]
    pid = record(host)["healer"][0]
    cgroup, score = host.say("cat", f"/proc/{pid}/cgroup"), host.say("cat", f"/proc/{pid}/oom_score_adj")
    if "No such file" not in host.say("ls", "/run/dbus/system_bus_socket"):
        assert f"slotwright-drill-{pid}.scope" in cgroup
    struck(host)
    # Its unit would have started it again after three.
    while time.time() < at + 7:
        assert state(host) == "failed"
        time.sleep(0.3)
    wait_until("it is back by itself", lambda: host.call("PING") and state(host) == "active")
    wait_until("the record says so", lambda: record(host)["phase"] == "over")
    assert "No such file" in host.say("ls", DROP_IN)
    assert host.show(UNIT, "Restart") == "on-failure"
    assert host.call("CLUSTER", "MYID") == identity
    done = fault(host, "healed")["record"]
    assert (done["errors"], done["rebooted"]) == ([], False)
    late = done["began"]["7001"] - at, done["healed"]["7001"] - done["deadline"]
    assert 0 <= late[0] < 0.3
    moved = f"slotwright-drill-{pid}.scope" in cgroup
    tried(
        f"kill: began {late[0] * 1000:.1f} ms late, answered {late[1] * 1000:.0f} ms after its time; own scope: "
        f"{moved}, oom_score_adj {score}"
    )


def test_stopped_and_frozen_ones_are_healed_though_the_healer_was_killed(host: Container) -> None:
    for kind, meanwhile in (("stop", "inactive"), ("freeze", "active"), ("kill", "failed")):
        assert fault(host, "armed", kind=kind)["changed"]
        struck(host)
        wait_until(f"it is {meanwhile}", lambda meanwhile=meanwhile: state(host) == meanwhile)
        host.say("kill", "-KILL", str(record(host)["healer"][0]))
        done = fault(host, "healed")
        assert done["record"]["errors"] == [] and done["record"]["healed"], done
        assert host.call("PING") and state(host) == "active"
        assert host.show(UNIT, "Restart") == "on-failure"


def test_after_a_boot_in_the_middle_of_a_drill_nothing_of_it_is_left(host: Container) -> None:
    """The healer is told to heal while systemd starts nothing any more."""
    assert fault(host, "armed", kind="kill")["changed"]
    struck(host)
    host.reboot()
    wait_until("it is back by itself", lambda: host.call("PING") and state(host) == "active")
    assert "No such file" in host.say("ls", DROP_IN)
    done = fault(host, "healed")["record"]
    assert done["rebooted"] and done["healed"]
    assert host.show(UNIT, "Restart") == "on-failure"


def test_a_rebooted_host_comes_back_and_says_so(host: Container) -> None:
    identity = host.call("CLUSTER", "MYID")
    host.say("systemctl", "disable", UNIT)
    assert "is not enabled: a boot would not start it" in fault(host, "armed", kind="reboot")["refused"]
    host.say("systemctl", "enable", UNIT)
    before = fault(host, "observed")["boot_id"]
    assert fault(host, "armed", kind="reboot", seconds=60)["changed"]
    wait_until("it is down", lambda: docker("inspect", "--format={{.State.Running}}", host.ident).strip() == "false")
    docker("start", host.ident)  # a machine of its own would come by itself
    host.await_boot()
    seen = fault(host, "observed")
    assert seen["boot_id"] != before
    assert (seen["record"]["rebooted"], seen["record"]["healer_alive"]) == (True, False)
    assert seen["record"]["boot_id"] == before
    done = fault(host, "healed")["record"]
    assert done["errors"] == []
    assert done["at"] <= done["began"]["7001"] < done["healed"]["7001"] <= time.time()
    assert host.call("CLUSTER", "MYID") == identity
    assert fault(host, "observed")["record"] is None
