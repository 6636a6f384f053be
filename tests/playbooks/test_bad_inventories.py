"""Every broken inventory of the corpus gets its precise message, and every good one none."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml

from slotwright.errors import Refused
from tests.inventories.corpus import BAD, GOOD, ROOT, Case, read_as_ansible_does
from tests.inventories.nodes import Nodes
from tests.live.servers import Monitor, Servers, digest
from tests.soak import SOAK

LOOPBACK = "127.23"
CASES = [Case.load(path) for path in BAD]
STATED = [case for case in CASES if case.live is None]
SHOWN = [case for case in STATED if case.end_to_end][:: 1 if SOAK else 3]
LIVE = [case for case in CASES if case.live is not None][:: 1 if SOAK else 2]


@pytest.mark.parametrize("case", STATED, ids=lambda case: case.name)
def test_a_bad_inventory_is_refused_with_precisely_its_message(case: Case, tmp_path: Path) -> None:
    with pytest.raises(Refused) as refused:
        read_as_ansible_does(case.write(tmp_path))
    assert case.expect == list(refused.value.findings)


@pytest.mark.parametrize("source", [*GOOD, ROOT / "inventory/demo"], ids=lambda source: source.stem)
def test_a_good_inventory_is_not_refused(source: Path) -> None:
    assert read_as_ansible_does(source).clusters


def test_the_example_for_production_is_good_once_its_password_is_set(tmp_path: Path) -> None:
    vault = tmp_path / "vault.yml"
    example = (ROOT / "inventory/prod/group_vars/redis/vault.yml.example").read_text()
    vault.write_text(json.dumps({"redis": {"vars": yaml.safe_load(example)}}))
    with pytest.raises(Refused, match="redis_cluster_password: it is still a placeholder"):
        read_as_ansible_does(ROOT / "inventory/prod", vault)
    vault.write_text(json.dumps({"redis": {"vars": dict.fromkeys(yaml.safe_load(example), "open sesame")}}))
    assert read_as_ansible_does(ROOT / "inventory/prod", vault).clusters


def test_the_corpus_is_large_enough(tried: Callable[[str], None]) -> None:
    assert len(BAD) >= 60
    assert len(GOOD) >= 20
    through = f"{len(SHOWN)} of them and {len(LIVE)} with real nodes through site.yml"
    tried(f"{len(BAD)} bad inventories, {through}; {len(GOOD)} good ones")


def test_no_message_shows_a_password(tmp_path: Path) -> None:
    for case in STATED:
        if "password" in case.name:
            with pytest.raises(Refused) as refused:
                read_as_ansible_does(case.write(tmp_path))
            for secret in ("sesame", "mellon", "12345678", "CHANGE_ME"):
                assert secret not in str(refused.value)


@dataclass(frozen=True)
class Run:
    """One run of site.yml. text: what it printed. touched: whether Ansible logged in to any host."""

    code: int
    text: str
    touched: bool

    def refuses(self, case: Case) -> bool:
        """Whether the first failure tells all that the case expects, in order, and nothing else."""
        block = re.search(r"^(?:fatal|failed): .* => *\n((?: .*\n|\n)+)", self.text, re.MULTILINE)
        assert block, self.text
        failure = yaml.safe_load(block[1])
        told = [f"{f['where']}: {f['what']}. {f['remedy']}" for f in failure.get("findings", ())]
        told = told or re.findall(r"^- (.*)", failure["msg"], re.MULTILINE)
        return len(told) == len(case.expect) and all(
            message.startswith(f"{expected.where}: ")
            and expected.what in message
            and expected.remedy[1:] in message  # its first letter may be a capital here
            for message, expected in zip(told, case.expect, strict=True)
        )


def run_site(inventory: Path) -> Run:
    """site.yml on the inventory, with an ssh that notes that it was called."""
    ssh, note = inventory.parent / "ssh", inventory.parent / "touched"
    ssh.write_text(f"#!/bin/sh\ntouch {note}\nexit 255\n")
    ssh.chmod(0o755)
    done = subprocess.run(
        [Path(sys.executable).parent / "ansible-playbook", "site.yml", "-i", inventory],
        cwd=ROOT,
        env=os.environ | {"ANSIBLE_SSH_EXECUTABLE": str(ssh), "ANSIBLE_CONFIG": "ansible.cfg", "LC_ALL": "C.UTF-8"},
        capture_output=True,
        text=True,
        check=False,
    )
    return Run(done.returncode, done.stdout + done.stderr, note.exists())


@pytest.mark.parametrize("case", SHOWN, ids=lambda case: case.name)
def test_site_yml_prints_the_message_and_touches_no_host(case: Case, tmp_path: Path) -> None:
    run = run_site(case.write(tmp_path))
    print(run.text)
    assert run.code == 2
    assert run.refuses(case)
    assert not run.touched


@pytest.mark.parametrize("case", LIVE, ids=lambda case: case.name)
def test_a_node_that_cannot_be_built_on_is_refused_and_nothing_is_changed(
    case: Case, servers: Servers, tmp_path: Path
) -> None:
    assert case.live is not None
    with closing(Nodes(servers, case.live)) as nodes:
        case = case.at(nodes.fill_in)
        before = digest(nodes.watchable)
        with Monitor(nodes.watchable) as monitor:
            run = run_site(case.write(tmp_path))
        print(run.text)
        assert run.code == 2
        assert run.refuses(case)
        assert not run.touched
        assert monitor.mutating == []
        assert digest(nodes.watchable) == before
