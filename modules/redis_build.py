#!/usr/bin/python
"""Builds Redis or Valkey out of its sources, once for all hosts."""

from __future__ import annotations

DOCUMENTATION = r"""
module: redis_build
short_description: An archive of programs, built from sources
version_added: 0.1.0
description:
  - Builds a server with TLS, systemd and jemalloc on the host that the task is delegated to, proves it, and puts the
    archive into a cache on the controller. Needs no root and installs nothing.
  - An action plugin of the same name runs first, on the controller. What is in the cache is not built again, not even
    where many hosts of a run ask for it at once. A build that failed is not tried again by the other hosts of the run.
  - The archive is named for flavor, version, architecture and checksum of the sources, and lies in a directory named
    for the build host. Beside it is its SHA-256.
  - On the build host everything lies in Ansible's temporary directory, which is removed whatever happens.
options:
  flavor:
    description: Whose server.
    type: str
    choices: [redis, valkey]
    default: redis
  version:
    description: Version that the sources are. What comes out must say it.
    type: str
    required: true
  source:
    description: Tarball of sources, a path on the controller or an http(s) address, which the build host fetches.
    type: str
    required: true
  checksum:
    description: SHA-256 of the tarball. Required for an address.
    type: str
    default: ""
  architecture:
    description: Kind of machine that it is for, as V(x86_64). The build host must be one.
    type: str
    required: true
  cache:
    description: On the controller, directory of the archives.
    type: path
    default: ~/.cache/slotwright
  archive:
    description: From the action plugin, where to put the archive on the build host.
    type: path
  timeout:
    description: Bound of each step of the build, in seconds.
    type: float
    default: 3600
attributes:
  check_mode:
    description: Cannot be foreseen, and is skipped.
    support: none
  diff_mode:
    description: Programs have no diff.
    support: none
author:
  - Slotwright
"""

EXAMPLES = r"""
- name: An archive for this host, built on the controller
  redis_build:
    version: 7.2.16
    source: /srv/sources/redis-7.2.16.tar.gz
    architecture: x86_64
  delegate_to: localhost
"""

RETURN = r"""
archive:
  description: Path of the archive on the controller, with the programs in bin.
  returned: success
  type: str
checksum:
  description: SHA-256 of the archive.
  returned: success
  type: str
"""

from ansible.module_utils.basic import AnsibleModule  # noqa: E402
from ansible.module_utils.slotwright_build import BuildError, build  # noqa: E402

ARGUMENTS = {
    "flavor": {"type": "str", "choices": ["redis", "valkey"], "default": "redis"},
    "version": {"type": "str", "required": True},
    "source": {"type": "str", "required": True},
    "checksum": {"type": "str", "default": ""},
    "architecture": {"type": "str", "required": True},
    "cache": {"type": "path", "default": "~/.cache/slotwright"},
    "archive": {"type": "path"},
    "timeout": {"type": "float", "default": 3600},
}


def main() -> None:
    module = AnsibleModule(ARGUMENTS)
    try:
        module.exit_json(changed=True, **build(module.params))
    except BuildError as error:
        module.fail_json(msg=str(error))


if __name__ == "__main__":
    main()
