"""The demo: six Redis nodes in three zones, all on this machine. `make demo` starts it, `make demo-stop` ends it.

Everything it makes lies in one directory: SLOTWRIGHT_DEMO_DIR, else .cache/demo in the checkout.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


def directory() -> Path:
    return Path(os.environ.get("SLOTWRIGHT_DEMO_DIR") or ROOT / ".cache" / "demo").absolute()


def link_programs() -> Path:
    """Links to redis-server and redis-cli in the demo's bin/, where inventory/demo looks. Ends if there are none."""
    fetch = [sys.executable, str(ROOT / "tools/fetch_redis.py")]
    fetched = subprocess.run(fetch, stdout=subprocess.PIPE, text=True, check=False)
    if fetched.returncode:
        sys.exit("Install Redis 6.2 or later, so that redis-server is on PATH, then try again.")
    links = directory() / "bin"
    links.mkdir(parents=True, exist_ok=True)
    for name in ("redis-server", "redis-cli"):
        (links / name).unlink(missing_ok=True)
        (links / name).symlink_to(Path(fetched.stdout.strip()).with_name(name))
    return links


def environment() -> dict[str, str]:
    """What Ansible needs, also under `env -i`, without a writable home, and in a directory that all may write to."""
    return {
        **os.environ,
        "SLOTWRIGHT_DEMO_DIR": str(directory()),
        "ANSIBLE_CONFIG": str(ROOT / "ansible.cfg"),
        "ANSIBLE_HOME": str(directory() / "ansible"),
        "ANSIBLE_REMOTE_TEMP": str(directory() / "ansible/tmp"),
        "LC_ALL": "C.UTF-8",
        "PATH": f"{Path(sys.executable).parent}:{os.environ.get('PATH', os.defpath)}",
    }


def play(playbook: str, *options: str, show: bool = True) -> str:
    """Run a playbook on the demo inventory and return what it printed, plain. Ends if it failed."""
    command = ["ansible-playbook", playbook, "-i", "inventory/demo", *options]
    printed = ""
    colour = {"ANSIBLE_FORCE_COLOR": "1"} if show and sys.stdout.isatty() else {"ANSIBLE_NOCOLOR": "1"}
    with subprocess.Popen(
        command, cwd=ROOT, env=environment() | colour, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as running:
        assert running.stdout is not None
        for line in running.stdout:
            printed += re.sub(r"\x1b\[[0-9;]*m", "", line)
            if show:
                print(line, end="", flush=True)
    if running.returncode:
        failed = f"{'' if show else printed}\n`{' '.join(command)}` failed, see above."
        sys.exit(f"{failed} `make demo` goes on from here; `make demo-stop` removes it.")
    return printed


def start() -> None:
    if re.search(r"\s", str(directory())):
        sys.exit(f"{directory()} has a blank in it. Set SLOTWRIGHT_DEMO_DIR to a directory whose path has none.")
    redis_cli = link_programs() / "redis-cli"
    changed = re.search(r"\bchanged=[1-9]", play("site.yml"))
    show = [sys.executable, "-m", "slotwright.report", "inventory/demo"]
    subprocess.run(show, cwd=ROOT, env=environment(), check=True)
    print(
        f"""
{"The cluster is up." if changed else "Nothing to change: the cluster is as the inventory says."}

Connect    {redis_cli} -c -h 127.0.11.1 -p 7001
Check      {redis_cli} --cluster check 127.0.11.1:7001
Try next   make demo         again: nothing changes
           kill -9 $(cat {directory()}/redis-a1/run/7001.pid), then make demo: the node is back
           .venv/bin/ansible-playbook site.yml -i inventory/demo --check --diff
           make demo-stop    ends it and leaves nothing"""
    )


def stop() -> None:
    if not directory().exists():
        print("No demo is running: there is nothing to stop.")
        return
    play("playbooks/stop.yml", "-e", "redis_stop_confirm=yes", "-e", "redis_node_state=absent", show=False)
    shutil.rmtree(directory())
    print("The demo is stopped and removed.")


if __name__ == "__main__":
    if sys.platform != "linux":
        sys.exit("The demo needs Linux: it uses addresses 127.0.11.1 to 127.0.13.2, which only Linux has ready.")
    {"start": start, "stop": stop}[sys.argv[1]]()
