"""Time of place() for 30 to 1000 nodes in 5 zones. Run: python benchmarks/placement.py"""

from __future__ import annotations

import random
from statistics import median
from time import perf_counter

from slotwright.core.placement import place
from slotwright.core.topology import Instance, Topology, default_shards

ZONES, RUNS = 5, 5
SIZES = (30, 100, 300, 1000)
LAYOUTS = {"one a host": (1, 1), "four a host": (4, 4), "uneven hosts": (1, 6)}


def inventory(nodes: int, replicas: int, least: int, most: int) -> Topology:
    """nodes over 5 zones of equal size, with least to most instances a host (seeded)."""
    rng = random.Random(nodes)
    instances = []
    for zone in range(ZONES):
        host, left = 0, nodes // ZONES
        while left:
            size = min(left, rng.randint(least, most))
            name = f"z{zone}-{host}"
            instances += [Instance(f"{name}:{p}", name, f"z{zone}", f"10.{zone}.{host}.1", p) for p in range(size)]
            host, left = host + 1, left - size
    return Topology("bench", tuple(instances), replicas, default_shards(len(instances), replicas))


def main() -> None:
    print(f"median of {RUNS} runs, milliseconds\n{'nodes':>6} {'replicas':>8}  " + "  ".join(LAYOUTS))
    for nodes in SIZES:
        for replicas in (1, 2):
            cells = []
            for name, (least, most) in LAYOUTS.items():
                wanted, times = inventory(nodes, replicas, least, most), []
                for _ in range(RUNS):
                    start = perf_counter()
                    place(wanted)
                    times.append(perf_counter() - start)
                cells.append(f"{median(times) * 1000:>{len(name)}.1f}")
            print(f"{nodes:>6} {replicas:>8}  " + "  ".join(cells))


if __name__ == "__main__":
    main()
