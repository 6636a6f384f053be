"""site.yml changes what runs: live what can be, in waves what must be restarted. restart.yml restarts in waves."""

from __future__ import annotations

import re
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.live.servers import Monitor, Server, Servers, wait_until
from tests.live.workload import Workload
from tests.playbooks.test_roles import Site

LOOPBACK = "127.54"
ZONE_WAVES = {"redis_restart_max_unavailable": 0}


@pytest.fixture
def site(servers: Servers, tmp_path: Path) -> Iterator[Site]:
    """Six hosts in three zones."""
    one = Site(tmp_path, [servers.address() for _ in range(6)])
    yield one
    one.close()


def pids(site: Site) -> list[int]:
    return [info["process_id"] for info in site.call("INFO", "server")]


def settings(site: Site, directive: str) -> set[str]:
    return {said[1] if isinstance(said, list) else said[directive] for said in site.call("CONFIG", "GET", directive)}


def waves(said: str) -> list[tuple[str, int]]:
    """Zone and number of instances of each wave that was begun."""
    found = re.findall(r"done\. zone (\w+): restart ([^\n]*?)(?: after \d+ failovers?)?$", said, re.MULTILINE)
    return [(zone, len(names.split(", "))) for zone, names in found]


@pytest.mark.soak  # three minutes and a half; without plays: tests/live/test_roll.py
def test_what_can_be_set_live_is_and_what_cannot_comes_in_waves_and_twice_changes_nothing(site: Site) -> None:
    assert site.play("site.yml").status == 0
    before, roles = pids(site), sorted(role[0] for role in site.call("ROLE"))

    directives = {"maxmemory": "96mb", "appendfsync": "always", "cluster-node-timeout": 3000, "io-threads": 2}
    site.variables = {"redis_node_config": directives, "redis_restart_policy": "report", **ZONE_WAVES}
    shown = site.play("site.yml", "--check", "--diff")
    assert shown.status == 0, shown.said
    assert "set maxmemory to 100663296 (it is 67108864)" in shown.said
    assert settings(site, "maxmemory") == {str(64 << 20)}
    done = site.play("site.yml")
    assert done.status == 0, done.said
    assert (settings(site, "maxmemory"), settings(site, "appendfsync")) == ({str(96 << 20)}, {"always"})
    assert settings(site, "cluster-node-timeout") == {"3000"}
    assert "h0:7001 waits for a restart: io-threads" in done.said
    assert pids(site) == before, "something was restarted"

    site.variables["redis_restart_policy"] = "waves"
    # By hand, and not saved: a restart would take it back, and so does a run.
    site.call("CONFIG", "SET", "maxmemory-samples", "9")
    with Workload(node(site), writers=3) as load:
        restarted = site.play("site.yml")
    assert restarted.status == 0, restarted.said
    load.assert_kept()
    assert load.errors == []
    assert "set maxmemory-samples to 5 (it is 9)" in restarted.said
    assert not set(pids(site)) & set(before)
    assert settings(site, "io-threads") == {"2"}
    assert len(waves(restarted.said)) == 4
    assert sorted(role[0] for role in site.call("ROLE")) == roles

    with Monitor(site.running()) as watch:
        again = site.play("site.yml")
    assert (again.status, again.changed) == (0, 0), again.said
    assert watch.mutating == []


@pytest.mark.soak  # two minutes
def test_restart_cut_off_goes_on_with_what_is_left(site: Site) -> None:
    assert site.play("site.yml").status == 0
    before = pids(site)
    shown = site.play("playbooks/restart.yml", "--check", "-e", "redis_restart=b")
    assert shown.status == 0, shown.said
    assert "2 of 2 instances are left" in shown.said
    wrong = site.play("playbooks/restart.yml", "-e", "redis_restart=zz")
    assert wrong.status != 0 and "«zz»" in wrong.said
    assert pids(site) == before

    process = start(site, "playbooks/restart.yml", "-e", "redis_restart=b,c")
    wait_until("the first is restarted", lambda: len(set(pids(site)) - set(before)) == 1, timeout=90)
    process.send_signal(signal.SIGKILL)
    process.wait()
    subprocess.run(["pkill", "-KILL", "-s", str(process.pid)], check=False)
    rest = site.play("playbooks/restart.yml", "-e", "redis_restart=b,c")
    assert rest.status == 0, rest.said
    assert "An earlier run has left" in rest.said
    assert len(set(pids(site)) - set(before)) == 4
    assert pids(site)[:2] == before[:2]
    again = site.play("site.yml")
    assert (again.status, again.changed) == (0, 0), again.said


def start(site: Site, playbook: str, *options: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        site.command(playbook, *options),
        env=site.environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        text=True,
        start_new_session=True,
        cwd=Path(__file__).resolve().parents[2],
    )


def node(site: Site) -> Any:
    return Server(site.addresses[0], 7001, site.nodes, "redis-server", {}, None)  # type: ignore[arg-type]
