"""Molecule's scenarios and the example for production, as far as they can be asked without hosts."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from slotwright.core.variables import BY_NAME
from tests.inventories.corpus import read_as_ansible_does

ROOT = Path(__file__).parents[2]
SCENARIOS = sorted(path.parent for path in ROOT.glob("molecule/*/molecule.yml"))
PROD = sorted((ROOT / "inventory/prod").rglob("*.yml"))


def settings(scenario: Path) -> dict[str, Any]:
    """Of molecule, the shared ones below the scenario's own."""
    shared = yaml.safe_load((ROOT / ".config/molecule/config.yml").read_text())
    return {**shared, **(yaml.safe_load((scenario / "molecule.yml").read_text()) or {})}


@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda path: path.name)
def test_the_hosts_of_a_scenario_make_a_cluster(
    scenario: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MOLECULE_EPHEMERAL_DIRECTORY", str(tmp_path))
    for version in ("6.2.14", "7.0.15"):
        (tmp_path / f"redis-{version}.tar.gz").touch()
    [cluster] = read_as_ansible_does(scenario / "inventory").clusters
    assert (cluster.topology.shards, cluster.topology.replicas) == (3, 1)


@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda path: path.name)
def test_a_scenario_leaves_the_firewall_of_the_machine_alone(scenario: Path) -> None:
    """Its containers have no network of their own."""
    assert yaml.safe_load((scenario / "inventory/group_vars/redis.yml").read_text())["redis_host_firewall"] == "none"


@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda path: path.name)
def test_every_playbook_of_a_sequence_is_there(scenario: Path) -> None:
    sequence = settings(scenario)["scenario"]["test_sequence"]
    named = [name for step in sequence for name in step.split()[1:]]
    assert named, "none is named: is the sequence still there?"
    assert [name for name in named if not (scenario / name).is_file()] == []


def test_scenarios_share_no_address() -> None:
    """So that what one has left behind is never taken for a host of another."""
    found = [re.findall(r"127\.(\d+)\.\d+\.\d+", (s / "inventory/hosts.yml").read_text()) for s in SCENARIOS]
    networks = [set(numbers) for numbers in found]
    assert all(len(one) == 1 for one in networks)
    assert len(set.union(*networks)) == len(SCENARIOS)


@pytest.mark.parametrize("path", PROD, ids=lambda path: path.name)
def test_what_the_example_for_production_shows_exists_also_in_comments(path: Path) -> None:
    shown = re.findall(r"\b(redis_\w+):", path.read_text())
    assert [name for name in shown if name not in BY_NAME] == []
