"""The demo on this machine: it comes up, says so when there is nothing to do, and leaves nothing."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def demo(word: str, directory: Path) -> str:
    done = subprocess.run(
        [sys.executable, ROOT / "tools/demo.py", word],
        env=os.environ | {"SLOTWRIGHT_DEMO_DIR": str(directory)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_the_demo_comes_up_is_then_left_alone_and_leaves_nothing(tmp_path: Path) -> None:
    directory = tmp_path / "demo"
    try:
        first = demo("start", directory)
        picture = first.rpartition("PLAY RECAP")[2]
        assert "Cluster demo: healthy" in picture
        assert picture.count("survives") == 3
        assert picture.count("● ") == picture.count("○ ") == 3 + 1  # three shards, and the legend
        assert "The cluster is up." in picture
        again = demo("start", directory)
        assert "Nothing to change: the cluster is as the inventory says." in again
        clean = subprocess.run(
            [directory / "bin/redis-cli", "--cluster", "check", "127.0.11.1:7001"], capture_output=True, check=False
        )
        assert clean.returncode == 0
    finally:
        demo("stop", directory)
    assert not directory.exists()
    assert "127.0.11.1:7001" not in subprocess.run(["ps", "axww"], capture_output=True, text=True, check=True).stdout
