"""The files of one host's instances, rendered on the controller from templates/."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import PurePosixPath
from typing import Any

from jinja2 import Environment, StrictUndefined

from slotwright.core.redis_conf import RedisConf, Value, listen_addresses, merge

_ENVIRONMENT = Environment(
    undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True, keep_trailing_newline=True, autoescape=False
)


@dataclass(frozen=True)
class Host:
    """What all instances of one host share.

    server: path of redis-server on the host; version: its version, (7, 0, 15).
    tls: names ca, cert, key → paths on the host, None without TLS.
    """

    name: str
    address: str
    server: str
    version: tuple[int, ...]
    service: str
    conf_dir: str
    data_dir: str
    log_dir: str
    run_dir: str
    username: str | None
    password: str | None
    tls: Mapping[str, str] | None


@dataclass(frozen=True)
class Paths:
    """Where one instance has its files on the host."""

    conf: str
    data_dir: str
    logfile: str
    pidfile: str

    @classmethod
    def of(cls, host: Host, port: int | str) -> Paths:
        def below(directory: str, *names: str) -> str:
            return str(PurePosixPath(directory, *names))

        return cls(
            conf=below(host.conf_dir, str(port), "redis.conf"),
            data_dir=below(host.data_dir, str(port)),
            logfile=below(host.log_dir, f"{port}.log"),
            pidfile=below(host.run_dir, f"{port}.pid"),
        )


def instances(
    host: Host,
    ports: Sequence[int],
    template: str,
    *,
    cluster_config: Mapping[str, Value],
    node_config: Mapping[str, Value],
    port_config: Mapping[Any, Mapping[str, Value]],
) -> tuple[list[dict[str, Any]], dict[str, str]]:
    """What module redis_instances wants to know of each instance, and the secrets that stand as marks in the texts.

    template: text of templates/redis.conf.j2. Raises Refused, and jinja2's errors for a bad template.
    """
    by_port = {int(port): directives for port, directives in port_config.items()}
    described = []
    secrets: dict[str, str] = {}
    for port in ports:
        directives = merge(
            [
                (f"host {host.name}, redis_cluster_config", cluster_config),
                (f"host {host.name}, redis_node_config", node_config),
                (f"host {host.name}, redis_node_port_config[{port}]", by_port.get(port, {})),
            ]
        )
        paths = Paths.of(host, port)
        conf = RedisConf(directives, secrets)
        content = _ENVIRONMENT.from_string(template).render(
            name=f"{host.name}:{port}", port=port, host=host, paths=paths, conf=conf, version=host.version
        )
        described.append(
            {
                "name": f"{host.name}:{port}",
                "port": port,
                "listen": listen_addresses(directives.get("bind", host.address)),
                "tls": host.tls is not None,
                "content": content,
                **asdict(paths),
            }
        )
    return described, secrets


def unit(host: Host, template: str, *, user: str, group: str) -> str:
    """The systemd template unit of all instances of a host. template: text of templates/redis-cluster@.service.j2."""
    paths = Paths.of(host, "%i")
    return _ENVIRONMENT.from_string(template).render(host=host, paths=paths, user=user, group=group)
