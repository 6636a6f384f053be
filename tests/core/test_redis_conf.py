"""redis.conf as the inventory's directives and the template make it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from slotwright import render
from slotwright.core.redis_conf import DEFAULT_SETTINGS, OWNED_DIRECTIVES, RedisConf, listen_addresses, merge
from slotwright.errors import Refused

TEMPLATES = Path(__file__).resolve().parents[2] / "templates"
OLD, NEW = (render.Server(f"/opt/redis/{v}/bin/redis-server", v, notify=True) for v in ("6.2.14", "7.0.15"))


def instance(**more: Any) -> tuple[dict[str, Any], dict[str, str]]:
    """What the module is told of an instance at 10.0.0.1:7001, and the secrets."""
    directives = more.pop("directives", {})
    version = more.pop("version", None)
    host = render.Host(
        name="h1",
        address="10.0.0.1",
        servers=more.pop("servers", [NEW]),
        service=more.pop("service", "systemd"),
        conf_dir=more.pop("conf_dir", "/etc/redis-cluster"),
        data_dir="/var/lib/redis-cluster",
        log_dir="/var/log/redis-cluster",
        run_dir=more.pop("run_dir", "/run/redis-cluster"),
        user=more.pop("user", "redis"),
        group="redis",
        username=more.pop("username", None),
        password=more.pop("password", None),
        tls=more.pop("tls", None),
    )
    templates = render.Templates(
        conf=(TEMPLATES / "redis.conf.j2").read_text(),
        drop_in=(TEMPLATES / "redis-cluster@.drop-in.conf.j2").read_text(),
    )
    [one], secrets = render.instances(
        host,
        [7001],
        templates,
        cluster_config=directives,
        node_config={},
        port_config={},
        port_version={"7001": version} if version else {},
    )
    assert more == {}
    return one, secrets


def conf(**more: Any) -> tuple[list[str], dict[str, str]]:
    """The lines of the instance's redis.conf, without comments, and its secrets."""
    one, secrets = instance(**more)
    lines = one["candidates"][0]["content"].splitlines()
    return [line for line in lines if line and not line.startswith("#")], secrets


def drop_in(**more: Any) -> list[str]:
    """The lines of the drop-in of its unit."""
    lines: list[str] = instance(**more)[0]["candidates"][0]["drop_in"].splitlines()
    return lines


def test_later_levels_win_and_names_do_not_depend_on_case() -> None:
    levels = [("a", {"maxmemory": "1gb", "hz": 10}), ("b", {"MaxMemory": "2gb"}), ("c", {})]
    assert merge(levels) == {"maxmemory": "2gb", "hz": 10}


def test_every_directive_of_the_role_is_refused_at_every_level_with_the_remedy() -> None:
    with pytest.raises(Refused) as refused:
        merge([("host h1, redis_node_config", dict.fromkeys(OWNED_DIRECTIVES, 1))])
    assert {f.remedy for f in refused.value.findings} == set(OWNED_DIRECTIVES.values())
    assert {f.where for f in refused.value.findings} == {"host h1, redis_node_config"}


@pytest.mark.parametrize(
    ("value", "lines"),
    [
        (True, "d yes"),
        (False, "d no"),
        (5, "d 5"),
        (0.5, "d 0.5"),
        ("two words", "d two words"),
        ("", 'd ""'),
        (["a 1", "b 2"], "d a 1\nd b 2"),
        (None, "# d: left out by the inventory"),
        ([], "# d: left out by the inventory"),
    ],
)
def test_each_kind_of_value_is_written_as_redis_conf_wants_it(value: Any, lines: str) -> None:
    assert RedisConf({"d": value})("d", "default") == lines


def test_a_list_of_save_lines_replaces_what_was_there_before() -> None:
    assert RedisConf({"save": ["3600 1"]})("save") == 'save ""\nsave 3600 1'


def test_an_argument_may_hold_any_character() -> None:
    one = RedisConf({})
    assert one.quoted("masteruser", 'a "b" \\ \n é') == 'masteruser "a \\"b\\" \\\\ \\x0a é"'


def test_secrets_stand_as_marks_and_the_same_text_comes_out_twice() -> None:
    first, secrets = conf(password="sesame", directives={"tls-key-file-pass": "mellon"})
    assert "sesame" not in str(first)
    assert "mellon" not in str(first)
    assert sorted(set(secrets.values())) == ['"sesame"', "mellon"]
    assert (first, secrets) == conf(password="sesame", directives={"tls-key-file-pass": "mellon"})


def test_the_settings_that_creation_changes_are_those_it_puts_back() -> None:
    lines, _ = conf()
    assert {f"{name} {value}" for name, value in DEFAULT_SETTINGS.items()} <= set(lines)


def test_every_directive_that_the_role_owns_comes_once_and_a_set_one_too() -> None:
    lines, _ = conf(password="x", directives={"appendonly": False, "hz": 20})
    names = [line.split()[0] for line in lines]
    assert len(names) == len(set(names))
    assert {"appendonly no", "hz 20"} <= set(lines)


def test_redis_6_gets_no_directive_that_only_redis_7_knows() -> None:
    old, _ = conf(servers=[OLD])
    new, _ = conf(servers=[NEW])
    only_new = {"cluster-allow-replica-migration no", "enable-protected-configs no"}
    assert not only_new & set(old)
    assert only_new <= set(new)
    assert "cluster-migration-barrier 999" in old


def test_with_tls_there_is_no_port_without_it() -> None:
    lines, _ = conf(tls={"ca": "/t/ca", "cert": "/t/cert", "key": "/t/key"})
    assert {"port 0", "tls-port 7001", "tls-cluster yes", "tls-replication yes", "tls-ca-cert-file /t/ca"} <= set(lines)


def test_a_named_user_replicates_and_the_default_user_gets_no_password() -> None:
    names = [line.split()[0] for line in conf(username="repl", password="x")[0]]
    assert {"masteruser", "masterauth"} <= set(names)
    assert "requirepass" not in names


@pytest.mark.parametrize(("service", "daemonize"), [("systemd", "daemonize no"), ("process", "daemonize yes")])
def test_the_service_decides_who_keeps_the_process(service: str, daemonize: str) -> None:
    assert daemonize in conf(service=service)[0]


@pytest.mark.parametrize(
    ("bind", "addresses"),
    [
        ("10.0.0.1", ["10.0.0.1"]),
        ("10.0.0.1 -::1", ["10.0.0.1"]),
        ("* -::*", ["0.0.0.0"]),
        (["10.0.0.1", "::1"], ["10.0.0.1", "::1"]),
    ],
)
def test_the_addresses_that_must_be_free_follow_from_bind(bind: Any, addresses: list[str]) -> None:
    assert listen_addresses(bind) == addresses


def test_several_addresses_to_bind_are_one_line_for_of_many_lines_redis_takes_the_last() -> None:
    directives = merge([("host h1, redis_node_config", {"bind": ["10.0.0.1", "127.0.0.1"]})])
    assert [line for line in conf(directives=directives)[0] if line.startswith("bind ")] == ["bind 10.0.0.1 127.0.0.1"]


def test_an_instance_is_told_of_every_server_of_its_host_the_wanted_one_first() -> None:
    for version, versions in ((None, ["7.0.15", "6.2.14"]), ("6.2.14", ["6.2.14", "7.0.15"])):
        candidates = instance(servers=[NEW, OLD], version=version)[0]["candidates"]
        assert [one["version"] for one in candidates] == versions
        for one in candidates:
            assert ("cluster-allow-replica-migration" in one["content"]) == (one["version"] == "7.0.15")
            assert f"/opt/redis/{one['version']}/bin" in one["drop_in"]


def test_a_version_that_is_not_installed_is_refused_with_host_variable_and_remedy() -> None:
    with pytest.raises(Refused) as refused:
        instance(servers=[NEW, OLD], version="7.2.7")
    [finding] = refused.value.findings
    assert (finding.code, finding.where) == ("version-not-installed", "host h1, redis_node_port_version[7001]")
    assert finding.what == "version 7.2.7 is not installed there, only 7.0.15, 6.2.14"
    assert "redis_install_also" in finding.remedy


@pytest.mark.parametrize(
    ("maxclients", "soft", "hard"), [(10000, 10128, 65536), (100000, 100128, 100128), (None, 10128, 65536)]
)
def test_the_limit_of_open_files_follows_from_maxclients(maxclients: int | None, soft: int, hard: int) -> None:
    assert f"LimitNOFILE={soft}:{hard}" in drop_in(directives={"maxclients": maxclients})


def test_a_server_that_cannot_notify_gets_a_unit_that_does_not_wait_for_it() -> None:
    assert "Type=notify" in drop_in()
    assert "Type=exec" in drop_in(servers=[render.Server("/usr/bin/redis-server", "7.0.15", notify=False)])


def test_the_sandbox_lets_the_server_its_modules_and_the_scripts_run_and_nothing_else() -> None:
    lines = drop_in(directives={"loadmodule": ["/opt/m/a.so", "/opt/m/b.so x 1"]})
    scripts = "/etc/redis-cluster/before-start /etc/redis-cluster/ask-peers"
    assert f"ExecPaths={scripts} -/opt/m -/opt/redis/7.0.15/bin" in lines


def test_an_instance_may_write_to_no_data_but_its_own() -> None:
    assert "ReadWritePaths=-/var/lib/redis-cluster/7001 -/var/log/redis-cluster -/run/redis-cluster" in drop_in()


def test_the_unit_that_clusters_share_names_nothing_that_differs_between_them() -> None:
    text = render.unit((TEMPLATES / "redis-cluster@.service.j2").read_text())
    names = {line.partition("=")[0] for line in text.splitlines() if not line.startswith("#")}
    assert not names & {
        "User",
        "Group",
        "ExecStart",
        "ExecStartPre",
        "ReadWritePaths",
        "RuntimeDirectory",
        "LimitNOFILE",
    }
    for line in drop_in(user="other", conf_dir="/etc/other", run_dir="/run/other"):
        assert "/etc/redis-cluster" not in line


def test_each_start_goes_through_the_guard_and_the_link_with_both_files() -> None:
    lines = drop_in(conf_dir="/etc/r")
    assert "ExecStartPre=/etc/r/before-start /var/lib/redis-cluster/7001 /etc/r/7001/redis.conf" in lines
    start = (
        "ExecStart=/etc/r/7001/redis-server /var/lib/redis-cluster/7001/rewrite.conf --include /etc/r/7001/redis.conf"
    )
    assert start in lines
    assert "EnvironmentFile=/etc/r/7001/environment" in lines
