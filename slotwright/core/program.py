"""Mixed-integer programs with several goals, one more important than the next. Solved exactly by HiGHS (scipy)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import inf, prod

Terms = Mapping[int, float]
Goal = tuple[Terms, int]
"""A cost to be least, in integers, and how far its values lie apart at the most."""

# Seconds that one solve may take. What is not proved the best by then is refused, not guessed.
MOST_SECONDS = 120.0
# Goals are taken together, as one weighted sum, while no weight is beyond this: far from the solver's tolerance.
_MOST_WEIGHT = 200_000


class Unsolved(Exception):
    """The solver ran out of time."""


class Program:
    """Variables, rows low ≤ Σ terms ≤ high, and goals. All data are integers, so that values round safely."""

    def __init__(self) -> None:
        self.lower: list[float] = []
        self.upper: list[float] = []
        self.integral: list[int] = []
        self.rows: list[tuple[dict[int, float], float, float]] = []
        self.solution: list[float] = []

    def var(self, upper: float = 1, *, lower: float = 0, integral: bool = True) -> int:
        self.lower.append(lower)
        self.upper.append(upper)
        self.integral.append(int(integral))
        return len(self.upper) - 1

    def row(self, terms: Terms, low: float, high: float) -> None:
        self.rows.append((dict(terms), low, high))

    def fix(self, variable: int, value: float) -> None:
        self.lower[variable] = self.upper[variable] = value

    def squares(self, terms: Terms, most: int, constant: int = 0) -> dict[int, float]:
        """The cost of (Σ terms + constant)² - constant², for a sum of 0..most: steps that cost 1, 3, 5 … more."""
        steps = {self.var(integral=False): 2.0 * (constant + k) + 1 for k in range(most)}
        self.row({**dict.fromkeys(steps, 1.0), **{v: -c for v, c in terms.items()}}, 0, 0)
        return steps

    def reach(self, *goals: Goal) -> list[int] | None:
        """The least value of each goal among the solutions that reach the ones before it; only those that do stay.

        None where there is no solution at all. Raises Unsolved when the time is over.
        """
        values: list[int] = []
        for group in _grouped([(cost, span if cost else 0) for cost, span in goals]):
            spans = [span + 1 for _, span in group]
            weighted: dict[int, float] = {}
            for place, (cost, _) in enumerate(group):
                weight = prod(spans[place + 1 :])
                for variable, c in cost.items():
                    weighted[variable] = weighted.get(variable, 0) + c * weight
            if not all(self._least(cost) for cost, _ in group) and not self._solve(weighted):
                return None
            for cost, _ in group:
                values.append(round(self.value(cost)))
                if cost:
                    self.row(cost, -inf, values[-1])
        return values

    def value(self, cost: Terms) -> float:
        return sum(c * self.solution[v] for v, c in cost.items())

    def amount(self, variable: int) -> int:
        return round(self.solution[variable])

    def total(self, variables: Sequence[int]) -> int:
        return sum(map(self.amount, variables))

    def _least(self, cost: Terms) -> bool:
        """Whether the last solution reaches what the bounds of the variables allow at best."""
        if not self.solution or max(cost, default=-1) >= len(self.solution):
            return False
        return self.value(cost) <= sum(c * (self.lower[v] if c > 0 else self.upper[v]) for v, c in cost.items()) + 0.5

    def _solve(self, cost: Terms) -> bool:
        if not self.upper:
            return all(low <= 0 <= high for _, low, high in self.rows)
        # Imported here because loading it takes longer than any plan that needs no solver.
        import numpy as np
        from scipy.optimize import Bounds, LinearConstraint, milp
        from scipy.sparse import csr_array

        c = np.zeros(len(self.upper))
        for variable, weight in cost.items():
            c[variable] = weight
        starts = [0]
        columns: list[int] = []
        numbers: list[float] = []
        for terms, _, _ in self.rows:
            columns += terms.keys()
            numbers += terms.values()
            starts.append(len(columns))
        matrix = csr_array((numbers, columns, starts), shape=(len(self.rows), len(self.upper)))
        found = milp(
            c,
            constraints=LinearConstraint(matrix, [low for _, low, _ in self.rows], [high for _, _, high in self.rows]),
            bounds=Bounds(np.array(self.lower), np.array(self.upper)),
            integrality=np.array(self.integral),
            options={"mip_rel_gap": 0, "time_limit": MOST_SECONDS},
        )
        if found.status == 2:
            return False
        if found.status != 0:
            raise Unsolved(found.message)
        self.solution = found.x.tolist()
        return True


def _grouped(goals: Sequence[Goal]) -> list[list[Goal]]:
    groups: list[list[Goal]] = []
    for goal in goals:
        if groups and _heaviest([*groups[-1], goal]) <= _MOST_WEIGHT:
            groups[-1].append(goal)
        else:
            groups.append([goal])
    return groups


def _heaviest(group: Sequence[Goal]) -> float:
    """The largest weight that a variable gets when these goals are taken together."""
    largest, weight = 0.0, 1
    for cost, span in reversed(group):
        largest = max(largest, weight * max(map(abs, cost.values()), default=0.0))
        weight *= span + 1
    return largest
