"""What an inventory comes to: clusters that can be built, or everything that is wrong, and never a crash."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from slotwright.core.inventory import Cluster, read_inventory
from slotwright.core.redis_conf import DEFAULT_SETTINGS
from slotwright.core.values import Unreadable
from slotwright.core.variables import BY_NAME, TABLE, meant_by
from slotwright.errors import Refused
from tools.inventory_table import PAGE, page

ROOT = Path(__file__).parents[2]
HOSTS = {f"redis-{zone}{n}": f"10.0.{row}.{n}" for row, zone in enumerate("abc") for n in (1, 2)}


def hostvars(**for_all: Any) -> dict[str, dict[str, Any]]:
    """Three zones of two hosts, one instance each."""
    return {
        host: {"redis_node_zone": host[6], "redis_node_address": address, "redis_cluster_password": "open"} | for_all
        for host, address in HOSTS.items()
    }


def read(variables: dict[str, dict[str, Any]]) -> Cluster:
    (cluster,) = read_inventory(list(variables), variables).clusters
    return cluster


def refusals(variables: dict[str, dict[str, Any]]) -> list[str]:
    with pytest.raises(Refused) as refused:
        read_inventory(list(variables), variables)
    return [str(finding) for finding in refused.value.findings]


def test_a_host_and_its_port_make_an_instance() -> None:
    cluster = read(hostvars(redis_node_ports=[7001, 7002]))
    instance = cluster.topology["redis-b2:7002"]
    assert (instance.host, instance.zone, instance.address, instance.port) == ("redis-b2", "b", "10.0.1.2", 7002)
    assert len(cluster.topology.instances) == 12


def test_what_is_not_set_has_the_default_of_the_table() -> None:
    cluster = read(hostvars())
    assert [i.port for i in cluster.topology.instances] == [6379] * 6
    assert (cluster.topology.name, cluster.topology.replicas, cluster.topology.shards) == ("redis", 1, 3)
    assert (cluster.reach, cluster.timeout, cluster.strict_versions) == ("direct", 60, False)
    assert (cluster.shards, cluster.username, cluster.tls_ca) == (None, None, None)
    assert dict(cluster.topology.settings) == DEFAULT_SETTINGS


def test_stated_shards_leave_instances_for_more_replicas() -> None:
    cluster = read(hostvars(redis_cluster_shards=3, redis_node_ports=[1, 2]))
    assert (cluster.shards, cluster.topology.shards, len(cluster.topology.instances)) == (3, 3, 12)


def test_the_order_of_hosts_does_not_matter() -> None:
    forwards, backwards = hostvars(), dict(reversed(hostvars().items()))
    assert read(forwards) == read(backwards)


def test_settings_are_what_redis_prints_when_every_level_is_merged() -> None:
    variables = hostvars(
        redis_cluster_config={"cluster-node-timeout": 2000, "cluster-replica-no-failover": True},
        redis_node_config={"cluster-node-timeout": 3000},
        redis_node_port_config={6379: {"repl-diskless-sync-delay": 0}},
    )
    assert dict(read(variables).topology.settings) == {
        "cluster-node-timeout": "3000",
        "cluster-replica-no-failover": "yes",
        "repl-diskless-sync-delay": "0",
    }


def test_a_setting_that_is_left_out_is_redis_own_default() -> None:
    variables = hostvars(redis_cluster_config={"cluster-node-timeout": None})
    assert dict(read(variables).topology.settings)["cluster-node-timeout"] == "15000"


def test_each_cluster_is_read_on_its_own() -> None:
    variables = hostvars(redis_node_ports=[1, 2])
    for host in variables:
        variables[host]["redis_cluster_name"] = "odd" if host.endswith("1") else "even"
        variables[host]["redis_cluster_password"] = host[-1]
    clusters = read_inventory(list(variables), variables).clusters
    assert [(c.topology.name, c.password, len(c.topology.instances)) for c in clusters] == [
        ("even", "2", 6),
        ("odd", "1", 6),
    ]


def test_a_mistake_in_one_cluster_does_not_hide_that_another_cannot_be_placed() -> None:
    variables = hostvars(redis_node_ports=[1, 2])
    for host in variables:
        variables[host]["redis_cluster_name"] = "odd" if host.endswith("1") else "even"
        variables[host]["redis_cluster_replicas"] = "many" if host.endswith("1") else 5
    found = refusals(variables)
    assert any(text.startswith("cluster odd, redis_cluster_replicas: it must be") for text in found)
    assert any(text.startswith("cluster even") for text in found)


def test_a_mistake_made_on_many_hosts_is_told_once_with_the_hosts() -> None:
    variables = hostvars()
    for host in ("redis-a1", "redis-c2"):
        variables[host]["redis_node_service"] = "init"
    (found,) = refusals(variables)
    assert found.startswith("hosts redis-a1, redis-c2, redis_node_service: ")


def test_a_list_of_many_hosts_is_cut_short() -> None:
    variables = {f"h{n}": {"redis_node_zone": "z", "redis_node_address": f"10.0.0.{n}"} for n in range(1, 31)}
    for host in variables:
        variables[host]["redis_node_service"] = "init"
    (found,) = refusals(variables)
    assert found.startswith("hosts h1, h2, h3, h4, h5 and 25 more, redis_node_service: ")


def test_a_missing_file_of_one_host_is_told_of_that_host() -> None:
    variables = hostvars()
    variables["redis-b1"] |= {"redis_node_template": "/etc/here.j2"}
    variables["redis-b2"] |= {"redis_node_template": "/etc/gone.j2"}
    with pytest.raises(Refused) as refused:
        read_inventory(list(variables), variables, lambda path: path == "/etc/here.j2")
    found = [(f.code, f.where) for f in refused.value.findings]
    assert found == [("file-missing", "host redis-b2, redis_node_template")]


def test_a_password_is_not_in_any_text() -> None:
    assert "sesame" not in repr(read(hostvars(redis_cluster_password="sesame")))
    for wrong in ("sesame\n", ["sesame"], {"sesame": 1}, "$ANSIBLE_VAULT;sesame"):
        assert "sesame" not in "".join(refusals(hostvars(redis_cluster_password=wrong)))


@pytest.mark.parametrize("name", BY_NAME)
def test_one_letter_too_many_or_too_few_is_understood(name: str) -> None:
    for wrong in (name + "s", name[:-1], name.replace("_", "-"), name.upper()):
        assert wrong in BY_NAME or meant_by(wrong) in BY_NAME


@pytest.mark.parametrize("name", ["redis", "redis_version", "redis_password", "redis_port", "redis_exporter_port"])
def test_names_of_others_are_left_alone(name: str) -> None:
    assert meant_by(name) is None


values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=8)
    | st.sampled_from(["10.0.0.1", "::1", "fe80::1%eth0", "z1", "7001", "yes", "{{ x }}", Unreadable("why")]),
    lambda children: (
        st.lists(children, max_size=3)
        | st.dictionaries(st.integers(0, 70000) | st.booleans() | st.text(max_size=8), children, max_size=3)
    ),
    max_leaves=6,
)
names = st.sampled_from([*BY_NAME, "redis_node_zones", "redis_", "ansible_host", "ansible_port", "ansible_connection"])


@given(st.dictionaries(names, values, max_size=4), st.dictionaries(names, values, max_size=4))
def test_whatever_the_values_are_an_inventory_is_read_or_refused(one: dict[str, Any], other: dict[str, Any]) -> None:
    variables = hostvars(**one)
    variables["redis-a1"] |= other
    try:
        inventory = read_inventory(list(variables), variables)
    except Refused as refused:
        assert refused.findings
        assert all(f.code and f.where and f.what and f.remedy for f in refused.findings)
    else:
        assert sum(len(c.topology.instances) for c in inventory.clusters) >= 6


def test_the_documentation_is_current() -> None:
    assert PAGE.read_text() == page(), "run: python tools/inventory_table.py"


def options() -> list[tuple[str, str, dict[str, Any]]]:
    """(role, variable, its argument_specs entry) of all roles."""
    found = []
    for spec in sorted((ROOT / "roles").glob("*/meta/argument_specs.yml")):
        for entry in yaml.safe_load(spec.read_text())["argument_specs"].values():
            found += [(spec.parts[-3], name, option) for name, option in entry.get("options", {}).items()]
    return [
        entry
        for entry in found
        if entry[1] not in ("redis_cluster_hosts", "redis_reshard_hosts", "redis_restart_hosts", "redis_drill_hosts")
    ]  # the playbooks' to set, no inventory's


def test_every_variable_of_the_roles_is_in_the_table_with_the_same_default_and_choices() -> None:
    for role, name, option in options():
        variable = BY_NAME[name]
        assert tuple(option.get("choices", ())) == variable.choices, (role, name)
        stated = yaml.safe_load((ROOT / "roles" / role / "defaults/main.yml").read_text()).get(name)
        if not (isinstance(stated, str) and "{{" in stated):
            assert (stated or None) == (variable.default or None), (role, name)


def test_every_variable_of_the_table_belongs_to_a_role_but_the_zone_which_only_the_filter_reads() -> None:
    assert {v.name for v in TABLE} == {name for _, name, _ in options()} | {"redis_node_zone"}
