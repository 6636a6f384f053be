"""Who may connect to the Redis instances of a host: rules as data, for whatever it is that filters packets there."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from ipaddress import collapse_addresses, ip_address, ip_network
from typing import Any

from slotwright.core.hosts import Member, plain
from slotwright.core.topology import BUS_PORT_OFFSET

Endpoint = tuple[str, int]
"""An address of the host and a port. The address "" stands for every address that the host has."""


@dataclass(frozen=True)
class Rules:
    """The rules of one host. They are about its own endpoints only, and about nothing but attempts to connect to these.

    name: tells these rules from those of another cluster on the same machine.
    clients, bus: endpoints for clients, and of the cluster bus. peers: addresses of all nodes of the cluster, also of
    those that are down; they may use both. networks: who else may use the endpoints for clients; None: the rules
    neither open nor close these to others.
    """

    name: str
    clients: tuple[Endpoint, ...]
    bus: tuple[Endpoint, ...]
    peers: tuple[str, ...]
    networks: tuple[str, ...] | None


def rules_for(mine: Member, members: Sequence[Member]) -> Rules:
    """The rules of one host. members: all hosts of the inventory, read and found good."""
    networks = mine.values["redis_host_client_networks"]
    clients = sorted({endpoint for port in mine.ports for endpoint in _endpoints(mine, port)})
    peers = {address for member in members if member.cluster == mine.cluster for address in _connects_from(member)}
    return Rules(
        name=f"redis-cluster_{mine.cluster}_{mine.address}".replace(":", "-"),
        clients=tuple(clients),
        bus=tuple((address, port + BUS_PORT_OFFSET) for address, port in clients),
        peers=_sorted(peers),
        networks=_collapsed(map(ip_network, networks)) if networks else None,
    )


def matches(endpoints: Iterable[Endpoint]) -> list[str]:
    """nft's expressions for packets to these endpoints; each packet to one of them meets exactly one."""
    at: dict[str, list[str]] = {"ip daddr . tcp dport": [], "ip6 daddr . tcp dport": [], "tcp dport": []}
    everywhere = {port for address, port in endpoints if not address}
    for address, port in endpoints:
        if not address:
            at["tcp dport"].append(str(port))
        elif port not in everywhere:
            at[f"{'ip6' if ':' in address else 'ip'} daddr . tcp dport"].append(f"{address} . {port}")
    return [f"{what} {{ {', '.join(elements)} }}" for what, elements in at.items() if elements]


def of_family(version: int, networks: Iterable[str]) -> list[str]:
    """The IPv4 (4) or IPv6 (6) ones of these addresses or networks."""
    return [network for network in networks if (":" in network) == (version == 6)]


def _endpoints(member: Member, port: int) -> Iterable[Endpoint]:
    bound = member.directives(port).get("bind", str(member.address))
    # Redis's own default is every address; "-" before an address says that it may be missing.
    for word in str(bound or "*").split():
        yield _address(word.removeprefix("-")), port


def _address(text: str) -> str:
    """ "" for a wildcard, and for a name: what it stands for is not known here."""
    try:
        address = plain(ip_address(text))
    except ValueError:
        return ""
    return "" if address.is_unspecified else str(address)


def _connects_from(member: Member) -> Iterable[str]:
    yield str(plain(member.address)) if member.address else ""
    for port in member.ports:
        yield _address(str(member.directives(port).get("bind-source-addr") or member.address))


def _sorted(addresses: Iterable[str]) -> tuple[str, ...]:
    known = (ip_address(address) for address in addresses if address)
    return tuple(str(address) for address in sorted(known, key=lambda a: (a.version, int(a))))


def _collapsed(networks: Iterable[Any]) -> tuple[str, ...]:
    """Without those that lie within others. A single address is written without its prefix length."""
    found: list[str] = []
    every = list(networks)
    for version in (4, 6):
        for network in collapse_addresses(n for n in every if n.version == version):
            single = network.prefixlen == network.max_prefixlen
            found.append(str(network.network_address if single else network))
    return tuple(found)
