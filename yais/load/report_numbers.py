"""Numbers as a report writes them."""

from __future__ import annotations

__all__ = ["count", "milliseconds", "share"]


def count(value: float) -> str:
    """Return a number with its thousands apart; with a digit after the point only below 100."""
    return f"{value:,.1f}".removesuffix(".0") if abs(value) < 100 else f"{value:,.0f}"


def milliseconds(value: float | None) -> str:
    """Return a latency with three digits and its unit: 0.312 ms, 12.4 ms, 1.25 s; a dash for none."""
    if value is None:
        return "-"
    if value >= 999.5:
        return f"{_three(value / 1000)} s"
    return f"{_three(value)} ms"


def share(part: float, whole: float) -> str:
    """Return a percentage; one that is not quite 0 or 100 is not written so."""
    percent = 100.0 * part / whole if whole else 0.0
    if 0 < percent < 0.01:
        return "< 0.01 %"
    if 99.99 < percent < 100:
        return "> 99.99 %"
    return f"{percent:.2f}".rstrip("0").rstrip(".") + " %"


def _three(value: float) -> str:
    digits = sum(value < full for full in (0.9995, 9.995, 99.95))
    return f"{value:,.{digits}f}"
