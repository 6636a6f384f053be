"""Pieces of SVG. ElementTree escapes whatever stands in attributes and text; colours come from classes."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from xml.etree.ElementTree import Element, SubElement, tostring


def root(width: float, height: float, label: str) -> Element:
    """A picture that shrinks with its place; `label` is what a screen reader says."""
    box = f"0 0 {_n(width)} {_n(height)}"
    return Element("svg", {"viewBox": box, "width": _n(width), "role": "img", "aria-label": label})


def add(parent: Element, tag: str, cls: str = "", text: str = "", **values: float | str) -> Element:
    """A child with numbers in tenths; an underscore in the name of an attribute stands for a hyphen."""
    attributes = {k.replace("_", "-"): v if isinstance(v, str) else _n(v) for k, v in values.items()}
    child = SubElement(parent, tag, {"class": cls, **attributes} if cls else attributes)
    child.text = text or None
    return child


def titled(element: Element, title: str) -> Element:
    """With what is shown under the pointer."""
    SubElement(element, "title").text = title
    return element


def path_of_boxes(boxes: Iterable[tuple[float, float, float, float]]) -> str:
    """x, y, width, height → one path: far shorter than a rect each."""
    return "".join(f"M{_n(x)} {_n(y)}h{_n(w)}v{_n(h)}h{_n(-w)}z" for x, y, w, h in boxes)


def path_of_steps(points: Iterable[tuple[float, float, float | None]]) -> str:
    """From x to x at y, broken where y is None."""
    parts, pen, last = [], False, 0.0
    for x, end, y in points:
        if y is None:
            pen = False
            continue
        if not pen:
            parts.append(f"M{_n(x)} {_n(y)}")
        elif y != last:
            parts.append(f"V{_n(y)}")
        parts.append(f"H{_n(end)}")
        pen, last = True, y
    return "".join(parts)


def text_of(svg: Element) -> str:
    return tostring(svg, encoding="unicode")


@dataclass(frozen=True)
class Axis:
    """Values from `low` to `high` on the pixels from `start` to `end`; log where asked."""

    low: float
    high: float
    start: float
    end: float
    log: bool = False

    def __call__(self, value: float) -> float:
        low, high, value = self.low, self.high, min(max(value, self.low), self.high)
        if self.log:
            low, high, value = math.log10(low), math.log10(high), math.log10(value)
        return self.start + (value - low) / (high - low) * (self.end - self.start)

    def ticks(self, wanted: int) -> Iterator[float]:
        """Round values: powers of ten on a log axis, else steps of 1, 2 or 5."""
        if self.log:
            every = max(1, round(math.log10(self.high / self.low) / wanted))
            yield from (10.0**n for n in range(round(math.log10(self.low)), round(math.log10(self.high)) + 1, every))
            return
        rough = (self.high - self.low) / wanted
        ten = 10.0 ** math.floor(math.log10(rough))
        step = next(ten * n for n in (1, 2, 5, 10) if ten * n >= rough * 0.999)
        first = math.ceil(self.low / step)
        yield from (i * step for i in range(first, math.floor(self.high / step + 1e-9) + 1))


def _n(value: float) -> str:
    text = f"{value:.1f}"
    return text[:-2] if text.endswith(".0") else text
