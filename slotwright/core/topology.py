"""What the inventory wants: the instances of one cluster, where they stand, and how many shards and replicas."""

from __future__ import annotations

import re
from dataclasses import dataclass, field

BUS_PORT_OFFSET = 10000


def natural(text: str) -> tuple[tuple[int, int | str], ...]:
    """Sort key that puts redis-2 before redis-10."""
    parts = re.findall(r"\d+|\D+", text)
    return tuple((0, int(p)) if p.isdigit() else (1, p) for p in parts)


@dataclass(frozen=True)
class Instance:
    """One redis-server process that the inventory names.

    name is "<inventory host>:<port>"; address is what clients, other nodes and the controller connect to.
    """

    name: str
    host: str
    zone: str
    address: str
    port: int

    @property
    def bus_port(self) -> int:
        return self.port + BUS_PORT_OFFSET

    @property
    def endpoint(self) -> str:
        return f"{self.address}:{self.port}"

    @property
    def sort_key(self) -> tuple[object, ...]:
        return (natural(self.zone), natural(self.host), self.port)


@dataclass(frozen=True)
class Topology:
    """One cluster as the inventory wants it.

    replicas: wanted per shard. shards: number of masters; the default, `default_shards`, uses every instance.
    instances are kept sorted by zone, host and port, so that equal inventories compare equal.
    settings: the wanted values of the directives that creation hurries (see core/plan.py) and puts back.
    leaving: instances that the inventory states as removed; they may be members still. Not among the instances.
    weights: instance name → its share of the slots when it is a master, 1 where it is not named. Above 0.
    slack: the part of its wanted slots by which a master may have more or less before slots move for that alone
    (redis-cli's threshold).
    """

    name: str
    instances: tuple[Instance, ...]
    replicas: int
    shards: int
    allow_zone_risk: bool = False
    settings: tuple[tuple[str, str], ...] = ()
    leaving: tuple[Instance, ...] = ()
    weights: tuple[tuple[str, float], ...] = ()
    slack: float = 0.02
    _by_name: dict[str, Instance] = field(init=False, repr=False, compare=False, hash=False)

    def __post_init__(self) -> None:
        ordered = tuple(sorted(self.instances, key=lambda i: i.sort_key))
        object.__setattr__(self, "instances", ordered)
        object.__setattr__(self, "leaving", tuple(sorted(self.leaving, key=lambda i: i.sort_key)))
        object.__setattr__(self, "_by_name", {i.name: i for i in (*self.leaving, *ordered)})

    def __getitem__(self, name: str) -> Instance:
        """The instance of this name, be it wanted or leaving."""
        return self._by_name[name]

    def __contains__(self, name: str) -> bool:
        return name in self._by_name

    @property
    def everyone(self) -> tuple[Instance, ...]:
        """The wanted instances, then those that leave."""
        return (*self.instances, *self.leaving)

    @property
    def zones(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(i.zone for i in self.instances))

    @property
    def hosts(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(i.host for i in self.instances))


def default_shards(instances: int, replicas: int) -> int:
    """As many shards as the instances can fill with one master and `replicas` replicas each."""
    return instances // (replicas + 1)
