"""Spread units from rows over columns at the least convex cost: an exact minimum-cost flow."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from heapq import heappop, heappush

Marginal = int | None


def spread(
    rows: int,
    columns: Sequence[tuple[int, int]],
    enter: Callable[[int, int], Marginal],
    via: Callable[[int, int, int], Marginal],
    pair: Callable[[int, int, int], Marginal],
    start: Sequence[Iterable[int]] = (),
    price: int = 0,
) -> list[dict[int, int]]:
    """Send as many units as possible, and those at the least cost; returns per row {column: units}.

    A unit goes source → row → (row, zone of the column) → column. columns: (zone, capacity), zones counted from 0.
    enter(row, k), via(row, zone, k) and pair(row, column, k) give the cost of one more unit where k flow already:
    an integer that never falls as k grows, not below 0, or None where no more may pass.
    start: per row the distinct columns that have a unit already. Each such unit must enter and pass at cost 0 and pair
    at `price`, which no pair undercuts: then the start is the cheapest flow for its units, and the rest is added to it.

    Successive shortest paths with potentials (Ahuja, Magnanti, Orlin: Network Flows, 9.7 and 14.5): after every
    path the residual graph has no negative cycle, which proves that the units sent so far cost the least.
    """
    zones = 1 + max((zone for zone, _ in columns), default=-1)
    first_zone, first_column = rows, rows + rows * zones
    source, sink = first_column + len(columns), first_column + len(columns) + 1
    members: list[list[int]] = [[] for _ in range(zones)]
    for column, (zone, _) in enumerate(columns):
        members[zone].append(column)

    entered = [0] * rows
    passed = [0] * (rows * zones)
    sent: list[dict[int, int]] = [{} for _ in range(rows)]
    users: list[dict[int, None]] = [{} for _ in columns]
    room = [capacity for _, capacity in columns]
    potential = [0] * first_column + [price] * len(columns) + [0, price]
    for row, given in enumerate(start):
        for column in given:
            sent[row][column], users[column][row] = 1, None
            entered[row] += 1
            passed[row * zones + columns[column][0]] += 1
            room[column] -= 1

    def residual(node: int) -> Iterator[tuple[int, Marginal]]:
        if node == source:
            for row in range(rows - 1, -1, -1):
                yield row, enter(row, entered[row])
        elif node < first_zone:
            for zone in range(zones - 1, -1, -1):
                yield first_zone + node * zones + zone, via(node, zone, passed[node * zones + zone])
        elif node < first_column:
            row, zone = divmod(node - first_zone, zones)
            if units := passed[node - first_zone]:
                yield row, -(via(row, zone, units - 1) or 0)
            there = sent[row]
            for column in reversed(members[zone]):
                yield first_column + column, pair(row, column, there.get(column, 0))
        else:
            column = node - first_column
            for row in users[column]:
                cost = pair(row, column, sent[row][column] - 1)
                yield first_zone + row * zones + columns[column][0], -(cost or 0)
            if room[column]:
                yield sink, 0

    def shift(tail: int, head: int) -> None:
        if tail == source:
            entered[head] += 1
        elif head == sink:
            room[tail - first_column] -= 1
        elif tail < first_zone:
            passed[head - first_zone] += 1
        elif head < first_zone:
            passed[tail - first_zone] -= 1
        elif head >= first_column:
            row, column = (tail - first_zone) // zones, head - first_column
            sent[row][column] = sent[row].get(column, 0) + 1
            users[column][row] = None
        else:
            row, column = (head - first_zone) // zones, tail - first_column
            sent[row][column] -= 1
            if not sent[row][column]:
                del sent[row][column], users[column][row]

    while True:
        # Of equally near nodes the newest is taken, so that a free path is walked straight to the sink.
        near, came, done, ticket = {source: 0}, {source: source}, set[int](), 0
        heap = [(0, 0, source)]
        while heap:
            distance, _, node = heappop(heap)
            if node in done:
                continue
            done.add(node)
            if node == sink:
                break
            base = distance + potential[node]
            for head, cost in residual(node):
                if cost is None:
                    continue
                reach = base + cost - potential[head]
                if reach < near.get(head, reach + 1):
                    ticket -= 1
                    near[head], came[head] = reach, node
                    heappush(heap, (reach, ticket, head))
        else:
            return sent
        for node in done:
            potential[node] += near[node] - near[sink]
        node = sink
        while node != source:
            shift(came[node], node)
            node = came[node]
