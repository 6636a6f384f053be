"""Preflight between Ansible and the core: what to ask each host, and what its answers come to."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from slotwright.core.hosts import Member, Notes, read_host
from slotwright.core.inventory import read_inventory
from slotwright.core.looked import Look, WantedHost, WantedInstance
from slotwright.core.pair_rules import Proof, Seen, to_prove
from slotwright.core.preflight import judge
from slotwright.core.values import read
from slotwright.core.variables import BY_NAME
from slotwright.manager.inventory import evaluated, plain, staying
from slotwright.report.preflight import table_lines

# Names under which role redis_preflight keeps what the hosts answered.
LOOK, PROOF, END = "__redis_preflight_look", "__redis_preflight_proof", "__redis_preflight_end"
# Seconds that hosts listen for each other. All must have looked and tried again by then, `forks` of them at a time.
# Whoever takes longer is told so (not-proved), and no Redis can start at that port meanwhile.
LISTEN_FOR, LISTEN_FOR_EACH_HOST = 10.0, 1.0


def asked(hosts: Sequence[str], hostvars: Mapping[str, Any], playing: Iterable[str]) -> dict[str, Any]:
    """What to ask the hosts of an inventory, but for what is stated as removed. playing: those of this run.

    hosts: as WantedHost.read takes them. look: options of module redis_preflight for each host's look. endpoints: where
    the hosts of each cluster are to be reached. Raises Refused.
    """
    variables = {host: evaluated(hostvars[host]) for host in hosts}
    read_inventory(hosts, variables, lambda path: Path(path).expanduser().is_file())
    ports = staying(hosts, hostvars)
    members = [read_host(host, variables[host], Notes()) for host in ports]
    wanted = [_wanted(member, member.name in playing, ports[member.name]) for member in members]
    return {
        "hosts": [host.as_dict() for host in wanted],
        "look": {host.name: _look(host, wanted) for host in wanted},
        "endpoints": {w.cluster: [e for o in wanted if o.cluster == w.cluster for e in o.endpoints] for w in wanted},
    }


def _wanted(member: Member, playing: bool, ports: Sequence[int]) -> WantedHost:
    of_host = member.values
    agreed = {v.name: read(v, member.raw.get(v.name)) for v in BY_NAME.values() if v.agree}
    managed = of_host["redis_host_manage"]
    if managed is None:
        managed = of_host["redis_node_service"] == "systemd"
    return WantedHost(
        name=member.name,
        cluster=member.cluster,
        zone=member.zone,
        address=str(member.address),
        service=of_host["redis_node_service"],
        playing=playing,
        managed=managed,
        firewall=managed and of_host["redis_host_firewall"] != "none",
        any_firewall=managed and of_host["redis_host_firewall"] == "auto",
        flavor=agreed["redis_install_flavor"],
        version=of_host["redis_install_version"] or "",
        servers=_servers(of_host, agreed["redis_install_flavor"]),
        strict_versions=agreed["redis_cluster_strict_versions"],
        log_dir=of_host["redis_node_log_dir"],
        accept=tuple(agreed["redis_preflight_accept"]),
        timeout=agreed["redis_preflight_timeout"],
        instances=tuple(
            WantedInstance.of(
                port,
                str(member.address),
                member.directives(port),
                of_host["redis_node_data_dir"],
                of_host["redis_node_run_dir"],
            )
            for port in map(int, ports)
        ),
    )


def _servers(of_host: Mapping[str, Any], flavor: str) -> tuple[str, ...]:
    program = f"{flavor}-server"
    if of_host["redis_install_method"] == "system":
        return f"{of_host['redis_install_bin_dir']}/{program}", program
    prefix = "" if flavor == "redis" else f"{flavor}-"
    home = f"{of_host['redis_install_root']}/{prefix}{of_host['redis_install_version']}"
    return f"{home}/bin/{program}", f"{home}/{program}"


def _look(host: WantedHost, wanted: Sequence[WantedHost]) -> dict[str, Any]:
    others = [other for other in wanted if other.cluster == host.cluster and other.name != host.name]
    instances = [asdict(instance) for instance in host.instances]
    return {
        "cluster": host.cluster,
        "address": host.address,
        "service": host.service,
        "log_dir": host.log_dir,
        "servers": host.servers,
        "instances": [{name: i[name] for name in ("port", "listen", "data_dir", "pidfile")} for i in instances],
        "listen_for": _listen_for(host.timeout, len(wanted)) if any(other.playing for other in others) else 0,
        "timeout": host.timeout,
    }


def _listen_for(timeout: float, hosts: int) -> float:
    return LISTEN_FOR + 2 * timeout + LISTEN_FOR_EACH_HOST * hosts


def verdict(hosts: Sequence[Mapping[str, Any]], hostvars: Mapping[str, Any]) -> dict[str, Any]:
    """What the answers of the hosts come to.

    listening: the listeners that are to be ended, by host; what is said is not final then. prove: what must be tried
    again before, by host. mendable: hosts of which role redis_host can mend something.
    """
    described = [WantedHost.read(host) for host in hosts]
    answers = {host.name: _answers(hostvars[host.name]) for host in described}
    seen = Seen(
        described,
        {host: Look.read(answer[LOOK]) for host, answer in answers.items() if answer},
        {host: Proof.read(answer[PROOF]) for host, answer in answers.items() if PROOF in answer},
        frozenset(answer[END]["token"] for answer in answers.values() if END in answer and answer[END]["lasted"]),
    )
    judged = judge(seen)
    return {
        "listening": {host: answers[host][LOOK]["listener"] for host, look in seen.looks.items() if look.listener},
        "prove": {host: [asdict(target) for target in targets] for host, targets in to_prove(seen).items()},
        "mendable": judged.mendable,
        "refuses": judged.refuses,
        "findings": [finding.as_dict() for finding in judged.findings],
        "accepted": [finding.as_dict() for finding in judged.accepted],
        "text": table_lines(judged, len(seen.looks), sum(look.tried for look in seen.looks.values())),
    }


def _answers(lazy: Mapping[str, Any]) -> dict[str, Any]:
    """What a host answered, by phase. Empty for a host that did not answer; one error stands for everything else."""
    found = {name: plain(lazy, name) for name in (LOOK, PROOF, END) if name in lazy}
    answers = {n: answer for n, answer in found.items() if not answer.get("unreachable") and not answer.get("skipped")}
    wrong = next((answer for answer in answers.values() if "error" in answer or answer.get("failed")), None)
    if wrong:
        return {LOOK: {"error": wrong.get("error") or wrong.get("msg") or "the task failed"}}
    return answers if LOOK in answers else {}
