"""Tables of text for 80 columns."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence

__all__ = ["table"]

_WIDTH = 80
_LEAST = 24  # columns that the last column has, whatever is before it


def table(head: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """Return a table: numbers to the right, the last column, where it is long, in several lines."""
    cells = [[_text(cell) for cell in row] for row in rows]
    right = [
        bool(rows) and all(isinstance(row[column], int | float | None) for row in rows)
        for column in range(len(head))
    ]
    widths = [max(map(len, column)) for column in zip(head, *cells, strict=True)]
    before = sum(widths[:-1]) + 2 * (len(head) - 1)
    lines = []
    for row in (list(head), *cells):
        last = textwrap.wrap(row[-1], max(_LEAST, _WIDTH - before)) or [""]
        for number, part in enumerate(last):
            texts = [*(row[:-1] if number == 0 else [""] * (len(head) - 1)), part]
            aligned = [
                text.rjust(width) if to_right else text.ljust(width)
                for text, width, to_right in zip(texts, widths, right, strict=True)
            ]
            lines.append("  ".join(aligned).rstrip())
    return "\n".join(lines)


def _text(cell: object) -> str:
    if cell is None:
        return "-"
    return f"{cell:.3f}" if isinstance(cell, float) else str(cell)
