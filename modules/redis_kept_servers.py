#!/usr/bin/python
# Copyright: Slotwright contributors
# SPDX-License-Identifier: Apache-2.0
"""Ansible module: keep the server that the operating system's package brought, before it brings another one."""

from __future__ import annotations

DOCUMENTATION = r"""
module: redis_kept_servers
short_description: Keep the servers of packages beside those that come
description:
  - Where instances of the host are started with a server that is not below O(root), that server is copied there, and
    they are started with the copy from then on. Nothing is restarted.
  - So a package manager that replaces the one server of a host changes nothing for what runs. A crash brings back the
    same version, and there is a way back.
version_added: 0.4.0
options:
  conf_dir:
    description: Directory of the configuration of the instances.
    type: path
    default: /etc/redis-cluster
  root:
    description: Directory of the versions. The copy is C(<root>/<version>/bin/redis-server).
    type: path
    default: /opt/redis
attributes:
  check_mode:
    description: Says what would be kept.
    support: full
  diff_mode:
    description: Where each instance's link leads, before and after.
    support: full
author: Slotwright contributors
"""

EXAMPLES = r"""
- name: Keep what runs
  redis_kept_servers:
"""

RETURN = r"""
kept:
  description: For each instance whose server was kept - link, from, to.
  returned: success
  type: list
  elements: dict
  sample: [{"link": "/etc/redis-cluster/6379/redis-server", "from": "/usr/bin/redis-check-rdb",
            "to": "/opt/redis/7.0.15/bin/redis-server"}]
"""

from ansible.module_utils.basic import AnsibleModule  # noqa: E402
from ansible.module_utils.slotwright_servers import keep  # noqa: E402

ARGUMENTS = {
    "conf_dir": {"type": "path", "default": "/etc/redis-cluster"},
    "root": {"type": "path", "default": "/opt/redis"},
}


def main() -> None:
    module = AnsibleModule(ARGUMENTS, supports_check_mode=True)
    try:
        kept = keep(module.params["conf_dir"], module.params["root"], check=module.check_mode)
    except OSError as error:
        where = f"{error.strerror} at {error.filename}"
        module.fail_json(msg=f"the server that runs could not be kept: {where}. Nothing was upgraded; mend that first.")
    before, after = ("".join(f"{one['link']} -> {one[key]}\n" for one in kept) for key in ("from", "to"))
    module.exit_json(changed=bool(kept), kept=kept, diff={"before": before, "after": after})


if __name__ == "__main__":
    main()
