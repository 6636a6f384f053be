"""playbooks/upgrade.yml and rollback.yml on hosts of one machine: shown, held, taken back, killed in every wave."""

from __future__ import annotations

import os
import shutil
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.live.programs import pack
from tests.live.servers import Servers, binary
from tests.live.workload import Workload
from tests.playbooks.test_restart import node, start
from tests.playbooks.test_roles import Site

LOOPBACK = "127.54"
OLD, NEW = "7.0.15", "8.0.2"


@pytest.fixture
def site(servers: Servers, tmp_path: Path) -> Iterator[Site]:
    """Six hosts in three zones that run the old version, and archives of both."""
    one = Site(tmp_path, [servers.address() for _ in range(6)])
    own = shutil.which("redis-server")
    assert own
    for version, program in ((OLD, own), (NEW, binary(NEW))):
        pack(tmp_path / f"redis-{version}.tar.gz", {"bin/redis-server": program})
    state(one, OLD)
    yield one
    one.close()


def state(site: Site, version: str, **more: Any) -> None:
    site.variables = {
        "redis_install_method": "archive",
        "redis_install_version": version,
        "redis_install_archive": str(site.directory / f"redis-{version}.tar.gz"),
        "redis_install_root": "{{ demo_dir }}/{{ inventory_hostname }}/opt",
        "redis_install_user": "",
        "redis_restart_max_unavailable": 0,
        **more,
    }


def versions(site: Site) -> dict[str, list[str]]:
    """By role."""
    found: dict[str, list[str]] = {}
    for info, role in zip(site.call("INFO", "server"), site.call("ROLE"), strict=True):
        found.setdefault(role[0], []).append(info["redis_version"])
    return found


@pytest.mark.soak  # five minutes
def test_it_is_shown_held_taken_back_and_done_and_site_leaves_versions_alone(site: Site) -> None:
    assert site.play("site.yml").status == 0
    with Workload(node(site), writers=3) as load:
        state(site, NEW)
        shown = site.play("playbooks/upgrade.yml", "--check")
        assert shown.status == 0, shown.said
        assert "POINT OF NO RETURN" in shown.said and "canary" in shown.said
        left = site.play("site.yml")
        assert left.status == 0, left.said
        assert "another version is stated" in left.said
        assert versions(site) == {"master": [OLD] * 3, "slave": [OLD] * 3}

        held = site.play("playbooks/upgrade.yml")
        assert held.status == 0, held.said
        assert "The play stops here" in held.said
        assert versions(site) == {"master": [OLD] * 3, "slave": [NEW] * 3}
        again = site.play("site.yml")
        assert (again.status, again.changed) == (0, 0), again.said

        state(site, OLD)
        back = site.play("playbooks/rollback.yml")
        assert back.status == 0, back.said
        assert versions(site) == {"master": [OLD] * 3, "slave": [OLD] * 3}

        state(site, NEW)
        done = site.play("playbooks/upgrade.yml", "-e", "redis_upgrade_commit=true")
        assert done.status == 0, done.said
        assert versions(site) == {"master": [NEW] * 3, "slave": [NEW] * 3}
        again = site.play("site.yml")
        assert (again.status, again.changed) == (0, 0), again.said
        state(site, OLD)
        late = site.play("playbooks/rollback.yml")
        assert late.status != 0
        assert "the point of no return has been passed" in late.said.replace("\n        ", " ")
    load.assert_kept()
    assert load.errors == []


@pytest.mark.soak  # five minutes
def test_killed_in_every_wave_the_next_run_goes_on(site: Site) -> None:
    """kill -9 of all of Ansible as soon as a further instance runs the new version, or is down on its way there."""
    assert site.play("site.yml").status == 0
    state(site, NEW)
    kills = 0
    with Workload(node(site), writers=3) as load:
        for _ in range(30):
            before = upgraded(site)
            process = start(site, "playbooks/upgrade.yml", "-e", "redis_upgrade_commit=true")
            while process.poll() is None and upgraded(site) == before:
                time.sleep(0.05)
            if process.poll() is not None:
                break
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            kills += 1
            if kills == 2:  # the canary is proved anew by each run: let one go on
                site.play("playbooks/upgrade.yml")
        done = site.play("playbooks/upgrade.yml", "-e", "redis_upgrade_commit=true")
        assert done.status == 0, done.said
    assert kills >= 4
    assert versions(site) == {"master": [NEW] * 3, "slave": [NEW] * 3}
    load.assert_kept()
    assert load.errors == []
    again = site.play("site.yml")
    assert (again.status, again.changed) == (0, 0), again.said


def upgraded(site: Site) -> int:
    """How many instances answer with the new version; one that is down counts as one less."""
    found = 0
    for address in site.addresses:
        one = Site(site.directory, [address])
        try:
            found += one.call("INFO", "server")[0]["redis_version"] == NEW
        except Exception:  # down
            found -= 1
    return found
