"""Numbers and times of a drill as people read them. What was not measured is a dash."""

from __future__ import annotations

from datetime import UTC, datetime

NONE = "–"


def seconds(value: float | None) -> str:
    """3.42 s, 20 s, 125 s: three digits say enough."""
    if value is None:
        return NONE
    return f"{short(value)} s"


def short(value: float) -> str:
    digits = 2 if abs(value) < 10 else 1 if abs(value) < 100 else 0
    text = f"{value:,.{digits}f}"
    text = text.rstrip("0").rstrip(".") if "." in text else text
    return "0" if text == "-0" else text


def count(value: int | None) -> str:
    return NONE if value is None else f"{value:,}"


def difference(predicted: float | None, measured: float | None, unit: str) -> str:
    """How far the measurement is from the prediction, with its sign."""
    if predicted is None or measured is None:
        return NONE
    less = measured - predicted
    return f"{'+' if less > 0 else ''}{short(less)} {unit}".strip()


def word(value: str) -> str:
    return value or NONE


def minute(at: float | None) -> str:
    """2026-11-22 16:55 UTC."""
    return _clock(at, "%Y-%m-%d %H:%M UTC")


def second(at: float | None) -> str:
    """16:55:03.120, in UTC."""
    text = _clock(at, "%H:%M:%S.%f")
    return text if text == NONE else text[:-3]


def after(at: float | None, fault_at: float | None) -> str:
    """+3.1 s: how long after the fault."""
    if at is None or fault_at is None:
        return NONE
    return f"{at - fault_at:+,.1f} s"


def cut(text: str, width: int) -> str:
    """Short enough to fit, without the middle: the ends of a node's name tell most."""
    if len(text) <= width:
        return text
    tail = width * 3 // 5
    return f"{text[: width - tail - 1]}…{text[-tail:]}"


def plural(number: int | None, noun: str) -> str:
    return f"{count(number)} {noun}{'' if number == 1 else 's'}"


def _clock(at: float | None, form: str) -> str:
    if at is None:
        return NONE
    try:
        return datetime.fromtimestamp(at, UTC).strftime(form)
    except (OverflowError, ValueError, OSError):
        return NONE
