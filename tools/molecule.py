#!/usr/bin/env python3
"""Run Molecule's scenarios, all or those named, and say how long each phase took.

tools/with_docker.sh tools/molecule.py [SCENARIO...]        # or: make molecule [SCENARIO=default]
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
SCENARIOS = sorted(path.parent.name for path in ROOT.glob("molecule/*/molecule.yml"))
MATRIX = re.compile(r"scenario test matrix: (.*)")
BEGIN = re.compile(r"\[\S+ > \S+\] Executing")
END = re.compile(r"\[\S+ > (\S+)\] (?:\x1b\[\d+m)?Executed: (\w+)")  # a failure is red even without colours


def run(scenario: str) -> tuple[bool, list[str]]:
    """Whether it passed, and a line for each of its phases."""
    # By itself Molecule finds the shared settings in a git repository only.
    shared = ["--base-config", str(ROOT / ".config/molecule/config.yml")]
    verb = ["test", "--no-command-borders", "--scenario-name", scenario]
    command = [str(Path(sys.executable).with_name("molecule")), *shared, *verb]
    # Molecule looks for ansible-playbook on the PATH, and colours the lines that are read here.
    path = f"{Path(sys.executable).parent}:{os.environ.get('PATH', os.defpath)}"
    environment = {**os.environ, "PATH": path, "NO_COLOR": "1", "LC_ALL": "C.UTF-8"}
    phases: list[str] = []
    taken: list[str] = []
    begin = time.monotonic()
    with subprocess.Popen(
        command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as molecule:
        assert molecule.stdout is not None
        for line in molecule.stdout:
            print(line, end="", flush=True)
            if matrix := MATRIX.search(line):
                phases = matrix[1].split(", ")
            elif BEGIN.search(line):
                begin = time.monotonic()
            elif end := END.search(line):
                # What follows a failure is not in the matrix.
                phase = phases.pop(0) if phases and phases[0].split()[0] == end[1] else end[1]
                taken.append(f"  {phase:<30}{time.monotonic() - begin:6.1f} s  {end[2].lower()}")
    return molecule.returncode == 0, taken


def main(arguments: Sequence[str]) -> int:
    unknown = sorted(set(arguments) - set(SCENARIOS))
    if unknown:
        print(f"There is no scenario {', '.join(unknown)}. There are: {', '.join(SCENARIOS)}.", file=sys.stderr)
        return 2
    lines, failed = [], False
    for scenario in arguments or SCENARIOS:
        begin = time.monotonic()
        passed, taken = run(scenario)
        failed |= not passed
        lines += [f"{scenario}: {'passed' if passed else 'FAILED'} in {time.monotonic() - begin:.0f} s", *taken]
    print("", *lines, sep="\n")
    return int(failed)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
