"""redis.conf as the inventory's directives and the template make it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from slotwright import render
from slotwright.core.redis_conf import DEFAULT_SETTINGS, OWNED_DIRECTIVES, RedisConf, listen_addresses, merge
from slotwright.errors import Refused

TEMPLATE = (Path(__file__).resolve().parents[2] / "templates/redis.conf.j2").read_text()


def conf(version: tuple[int, ...] = (7, 0, 15), **more: Any) -> tuple[list[str], dict[str, str]]:
    """The lines of one instance's redis.conf, without comments, and its secrets."""
    directives = more.pop("directives", {})
    host = render.Host(
        name="h1",
        address="10.0.0.1",
        server="/usr/bin/redis-server",
        version=version,
        service=more.pop("service", "systemd"),
        conf_dir="/etc/redis-cluster",
        data_dir="/var/lib/redis-cluster",
        log_dir="/var/log/redis-cluster",
        run_dir="/run/redis-cluster",
        username=more.pop("username", None),
        password=more.pop("password", None),
        tls=more.pop("tls", None),
    )
    [one], secrets = render.instances(
        host, [7001], TEMPLATE, cluster_config=directives, node_config={}, port_config={}, **more
    )
    return [line for line in one["content"].splitlines() if line and not line.startswith("#")], secrets


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
    old, _ = conf(version=(6, 2, 14))
    new, _ = conf(version=(7, 0, 15))
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
