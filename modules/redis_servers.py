#!/usr/bin/python
"""Finds the server programs of a host, in one call."""

from __future__ import annotations

DOCUMENTATION = r"""
module: redis_servers
short_description: Which Redis or Valkey servers a host has
version_added: 0.1.0
description:
  - Looks for the wanted server and for further versions beside it, asks each for its version, and says which are
    missing and which will not do. Changes nothing.
options:
  flavor:
    description: Whose server.
    type: str
    choices: [redis, valkey]
    default: redis
  version:
    description: Version of the wanted server. With O(bin_dir) it may be empty, and any will do.
    type: str
    default: ""
  bin_dir:
    description: Where the wanted server is looked for, before the PATH. Empty where it is one below O(root).
    type: str
    default: ""
  also:
    description: Further versions, all below O(root).
    type: list
    elements: str
    default: []
  root:
    description: Directory of the versions. That of a version is named for it, and C(valkey-<version>) for Valkey. The
      programs are in C(bin) or at the top of it.
    type: path
    required: true
  conf_dir:
    description: Directory of the configuration of instances. Servers with which these are started are found as well,
      after the others. Empty where only those shall be found that are named.
    type: str
    default: ""
  unpacked_from:
    description: Path of an archive. The version is then looked for in the directory that the archive was unpacked to,
      C(<root>/<version>.new), and what is wrong is said of the archive.
    type: str
    default: ""
attributes:
  check_mode:
    description: Changes nothing in any mode.
    support: full
  diff_mode:
    description: Nothing changes.
    support: none
author:
  - Slotwright
"""

EXAMPLES = r"""
- name: The package's server, and another version to upgrade to
  redis_servers:
    bin_dir: /usr/bin
    root: /opt/redis
    also: [7.2.16]
"""

RETURN = r"""
servers:
  description: Each server, the wanted one first. A missing one is given as it will be once it is installed.
  returned: always
  type: list
  elements: dict
  contains:
    version:
      description: Its version, in its own words.
      type: str
    path:
      description: Path of the program.
      type: str
    flavor:
      description: V(redis) or V(valkey), in its own words.
      type: str
    notify:
      description: Whether it is linked with libsystemd, and so can tell systemd that it is ready.
      type: bool
    tls:
      description: Whether it is linked with OpenSSL.
      type: bool
  sample:
    - version: 7.0.15
      path: /usr/bin/redis-server
      flavor: redis
      notify: true
      tls: true
missing:
  description: What is missing, with version, home (its directory, empty for the operating system's) and problem (what
    to say where it is missing still after the installation).
  returned: always
  type: list
  elements: dict
problems:
  description: For each server that is there and will not do, why, and what to do.
  returned: always
  type: list
  elements: str
architecture:
  description: Kind of machine, as V(x86_64) or V(aarch64).
  returned: always
  type: str
"""

from ansible.module_utils.basic import AnsibleModule  # noqa: E402
from ansible.module_utils.slotwright_servers import look  # noqa: E402

ARGUMENTS = {
    "flavor": {"type": "str", "choices": ["redis", "valkey"], "default": "redis"},
    "version": {"type": "str", "default": ""},
    "bin_dir": {"type": "str", "default": ""},
    "also": {"type": "list", "elements": "str", "default": []},
    "root": {"type": "path", "required": True},
    "conf_dir": {"type": "str", "default": ""},
    "unpacked_from": {"type": "str", "default": ""},
}


def main() -> None:
    module = AnsibleModule(ARGUMENTS, supports_check_mode=True)
    module.exit_json(changed=False, **look(module.params))


if __name__ == "__main__":
    main()
