"""The files of one host's instances, rendered on the controller from templates/."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path, PurePosixPath
from typing import Any

from jinja2 import Environment, StrictUndefined, Template

from slotwright.core.redis_conf import RedisConf, Value, listen_addresses, merge, open_files, values
from slotwright.errors import Finding, Refused

_ENVIRONMENT = Environment(
    undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True, keep_trailing_newline=True, autoescape=False
)


@cache
def template(text: str) -> Template:
    """The template of this text. To compile one takes ten times as long as to fill it in."""
    return _ENVIRONMENT.from_string(text)


def compile_ahead(directory: Path) -> None:
    """Our own templates. Ansible loads an action plugin once, then forks for each host: all find them compiled."""
    for file in directory.glob("*.j2"):
        template(file.read_text())


@dataclass(frozen=True)
class Server:
    """A redis-server that is installed on the host. notify: whether it can tell systemd that it is ready."""

    path: str
    version: str
    notify: bool

    @property
    def number(self) -> tuple[int, ...]:
        """(7, 0, 15)"""
        return tuple(int(part) for part in re.findall(r"\d+", self.version))


@dataclass(frozen=True)
class Host:
    """What all instances of one host share.

    servers: the one that instances shall run first. tls: names ca, cert, key → paths on the host, None without TLS.
    """

    name: str
    address: str
    servers: Sequence[Server]
    service: str
    conf_dir: str
    data_dir: str
    log_dir: str
    run_dir: str
    user: str
    group: str
    username: str | None
    password: str | None
    tls: Mapping[str, str] | None


@dataclass(frozen=True)
class Paths:
    """Where one instance has its files on the host. link: the redis-server that it is started with."""

    conf: str
    environment: str
    link: str
    data_dir: str
    logfile: str
    pidfile: str

    @classmethod
    def of(cls, host: Host, port: int) -> Paths:
        def below(directory: str, *names: str) -> str:
            return str(PurePosixPath(directory, *names))

        return cls(
            conf=below(host.conf_dir, str(port), "redis.conf"),
            environment=below(host.conf_dir, str(port), "environment"),
            link=below(host.conf_dir, str(port), "redis-server"),
            data_dir=below(host.data_dir, str(port)),
            logfile=below(host.log_dir, f"{port}.log"),
            pidfile=below(host.run_dir, f"{port}.pid"),
        )


@dataclass(frozen=True)
class Templates:
    """Texts of templates/redis.conf.j2 and templates/redis-cluster@.drop-in.conf.j2."""

    conf: str
    drop_in: str


def instances(
    host: Host,
    ports: Sequence[int],
    templates: Templates,
    *,
    cluster_config: Mapping[str, Value],
    node_config: Mapping[str, Value],
    port_config: Mapping[Any, Mapping[str, Value]],
    port_version: Mapping[Any, str],
) -> tuple[list[dict[str, Any]], dict[str, str]]:
    """What module redis_instances wants to know of each instance, and the secrets that stand as marks in the texts.

    Raises Refused, and jinja2's errors for a bad template.
    """
    config_by_port = {int(port): directives for port, directives in port_config.items()}
    version_by_port = {int(port): version for port, version in port_version.items()}
    described = []
    secrets: dict[str, str] = {}
    for port in ports:
        directives = merge(
            [
                (f"host {host.name}, redis_cluster_config", cluster_config),
                (f"host {host.name}, redis_node_config", node_config),
                (f"host {host.name}, redis_node_port_config[{port}]", config_by_port.get(port, {})),
            ]
        )
        described.append(
            {
                "name": f"{host.name}:{port}",
                "port": port,
                "listen": listen_addresses(directives.get("bind", host.address)),
                "tls": host.tls is not None,
                "candidates": [
                    _candidate(host, port, server, templates, RedisConf(directives, secrets))
                    for server in _wanted_first(host, port, version_by_port.get(port))
                ],
                **asdict(Paths.of(host, port)),
            }
        )
    return described, secrets


def _wanted_first(host: Host, port: int, version: str | None) -> list[Server]:
    """The servers of the host. Raises Refused where the version that the instance shall run is none of them."""
    wanted = next((server for server in host.servers if version in (None, server.version)), None)
    if host.servers and wanted is None:
        there = ", ".join(server.version for server in host.servers)
        what = f"version {version} is not installed there, only {there}"
        remedy = "add it to redis_install_also, or name an installed version"
        raise Refused(
            [Finding("version-not-installed", f"host {host.name}, redis_node_port_version[{port}]", what, remedy)]
        )
    return sorted(host.servers, key=lambda server: server is not wanted)


def _candidate(host: Host, port: int, server: Server, templates: Templates, conf: RedisConf) -> dict[str, Any]:
    """What the instance gets when it runs this server."""
    name, paths = f"{host.name}:{port}", Paths.of(host, port)
    content = template(templates.conf).render(
        name=name, port=port, host=host, paths=paths, conf=conf, version=server.number
    )
    modules = (line.split()[0].strip("\"'") for line in values(content, "loadmodule"))
    drop_in = template(templates.drop_in).render(
        name=name,
        host=host,
        paths=paths,
        notify=server.notify,
        open_files=open_files(content),
        exec_dirs=sorted({str(PurePosixPath(path).parent) for path in (server.path, *modules)}),
    )
    return {
        "server": server.path,
        "version": server.version,
        "content": content,
        "drop_in": drop_in,
        "open_files": open_files(content),
    }


def unit(text: str) -> str:
    """The systemd template unit of all instances of the machine, whatever their cluster: it knows nothing of theirs."""
    return template(text).render()
