"""Writes docs/inventory.md from the table of variables: python tools/inventory_table.py."""

from __future__ import annotations

from pathlib import Path

from slotwright.core.redis_conf import DEFAULT_SETTINGS, OWNED_DIRECTIVES
from slotwright.core.values import Variable, in_words
from slotwright.core.variables import TABLE

PAGE = Path(__file__).parents[1] / "docs/inventory.md"

HEAD = """\
# The inventory

<!-- Written by tools/inventory_table.py from slotwright/core/variables.py: change it there. -->

Every host that carries Redis stands in the group `redis`. The smallest inventory names the password, and
for each host its zone, and its IP address where Ansible does not log in by one:

```yaml
redis:
  vars:
    redis_cluster_password: "{{ vault_redis_password }}"
  hosts:
    redis-a1: {redis_node_zone: z1, redis_node_address: 10.0.1.1}
    redis-a2: {redis_node_zone: z1, redis_node_address: 10.0.1.2}
    redis-b1: {redis_node_zone: z2, redis_node_address: 10.0.2.1}
    redis-b2: {redis_node_zone: z2, redis_node_address: 10.0.2.2}
    redis-c1: {redis_node_zone: z3, redis_node_address: 10.0.3.1}
    redis-c2: {redis_node_zone: z3, redis_node_address: 10.0.3.2}
```

An inventory is checked as a whole before any host is touched. Every mistake is named at once, with the host, the
variable and what to do. Unknown variables that begin with `redis_cluster_`, `redis_node_`, `redis_host_`,
`redis_preflight_`, `redis_install_` or `redis_drill_` are mistakes, and so are other names that are nearly one of ours.

One machine has one inventory name in a cluster, however many instances it carries: list their ports. Two clusters may
share machines, by other inventory names in the same zones and with other ports.

A number may be written as a string ("2") and a boolean as `"yes"` or `"no"`, which is how `-e name=value` gives them.
A string must not be written as a number: put zones and versions that look like one in quotes.
"""

SECTIONS = (
    ("redis_cluster_", "The cluster", "All hosts of one cluster must agree on these, so set them in group_vars."),
    ("redis_reshard_", "Slot moves", "How hard they may press the nodes (docs/reshard.md); all hosts must agree."),
    ("redis_node_", "The host", "Variables marked * must be the same on all hosts of a cluster."),
    ("redis_host_", "The machine", ""),
    ("redis_preflight_", "The checks before anything is changed", ""),
    ("redis_drill_", "Drills", "Load and objectives of failure drills (docs/drills.md); all hosts must agree."),
    ("redis_install_", "The installation", ""),
)

DIRECTIVES = """\
## Directives of redis.conf

Any directive goes into `redis_cluster_config`, `redis_node_config` or `redis_node_port_config`; of these, the later
wins, and all win over the defaults in `templates/redis.conf.j2`. Directives are written as redis.conf writes them, with
dashes and in small letters.

A value is a string, a number or a boolean (`yes` and `no` in redis.conf). A list makes one line of each element, as
`save` and `client-output-buffer-limit` need it. `null` leaves the directive out: Redis's
own default holds, or what CONFIG REWRITE saved of it.

These must be the same on all instances of a cluster:
{settings}.

These are the role's own:

| Directive | Instead |
|---|---|
"""


def page() -> str:
    parts = [HEAD]
    for prefix, title, note in SECTIONS:
        variables = [v for v in TABLE if v.name.startswith(prefix)]
        rows = "".join(_row(v, mark=v.agree and prefix == "redis_node_") for v in variables)
        head = f"## {title}\n\n" + (f"{note}\n\n" if note else "")
        parts.append(f"{head}| Variable | Kind | Default | Meaning |\n|---|---|---|---|\n{rows}")
    settings = ", ".join(f"`{directive}` (default {value})" for directive, value in DEFAULT_SETTINGS.items())
    owned = "".join(f"| `{directive}` | {instead} |\n" for directive, instead in OWNED_DIRECTIVES.items())
    return "\n".join([*parts, DIRECTIVES.format(settings=settings) + owned])


def _row(variable: Variable, *, mark: bool) -> str:
    kind = " or ".join(f"`{choice}`" for choice in variable.choices) or variable.kind
    if variable.high != float("inf"):
        kind += f", {variable.low:g} to {variable.high:g}"
    default = "required" if variable.required else "" if variable.default is None else f"`{_yaml(variable.default)}`"
    return f"| `{variable.name}`{' *' * mark} | {kind} | {default} | {variable.doc} |\n"


def _yaml(value: object) -> str:
    return value if isinstance(value, str) and value else in_words(value)


if __name__ == "__main__":
    PAGE.write_text(page())
