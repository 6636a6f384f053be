"""When what happened in a drill, from what each node said of itself and of the others."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import combinations

from slotwright.core.slots import Slots


@dataclass(frozen=True)
class Sample:
    """What a node said from this moment on. at: seconds since the epoch. id: "" where it did not answer.

    state: cluster_state. master, slots: of itself. link_up: of a replica, to its master. failing: ids that it calls
    FAIL. suspected: those it calls PFAIL.
    """

    at: float
    node: str
    id: str = ""
    state: str = ""
    master: bool = False
    link_up: bool = False
    slots: Slots = field(default_factory=Slots)
    failing: frozenset[str] = frozenset()
    suspected: frozenset[str] = frozenset()

    @property
    def serves(self) -> bool:
        """Takes writes, as far as it knows."""
        return self.master and bool(self.slots) and self.state == "ok"


@dataclass(frozen=True)
class Shard:
    """A shard as it was before the fault. master: its node's name."""

    master: str
    id: str
    slots: Slots


def failing_since(samples: Iterable[Sample], node_id: str, since: float) -> float | None:
    """When the first other node called it FAIL (a majority had agreed then); None: never."""
    return next((s.at for s in samples if s.at >= since and s.id != node_id and node_id in s.failing), None)


def promoted(samples: Iterable[Sample], shard: Shard, since: float) -> Sample | None:
    """The first word of another node that serves the shard's slots."""
    for sample in samples:
        if sample.at >= since and sample.id not in ("", shard.id) and sample.serves and shard.slots <= sample.slots:
            return sample
    return None


def overlap(samples: Sequence[Sample], shard: Shard, until: float) -> float:
    """Seconds in which more than one node believed that it serves slots of the shard: both take writes, one side's
    are lost. As exact as the samples are frequent."""
    return sum(
        end - begin
        for begin, end, now in _stretches(samples, until)
        if any(
            one.slots & other.slots & shard.slots
            for one, other in combinations([s for s in now.values() if s.serves], 2)
        )
    )


def whole_since(samples: Sequence[Sample], nodes: Collection[str], until: float) -> float | None:
    """From when on all of these nodes answered, in a cluster that serves, with every replica in touch with its master.

    None where that is not so in the end.
    """
    since: float | None = None
    for begin, _, now in _stretches(samples, until):
        if not all(name in now and _well(now[name]) for name in nodes):
            since = None
        elif since is None:
            since = begin
    return since


def _well(sample: Sample) -> bool:
    return bool(sample.id) and sample.state == "ok" and not sample.failing and (sample.master or sample.link_up)


def _stretches(samples: Sequence[Sample], until: float) -> Iterator[tuple[float, float, Mapping[str, Sample]]]:
    """Begin, end, and what each node has said last, between every two samples; of what is before until."""
    now: dict[str, Sample] = {}
    for sample, following in zip(samples, [*(s.at for s in samples[1:]), until], strict=False):
        now[sample.node] = sample
        end = min(following, until)
        if end > sample.at:
            yield sample.at, end, now
