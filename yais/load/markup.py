"""Text inside HTML and SVG."""

from __future__ import annotations

import html
import re

__all__ = ["escape"]

_NOT_TEXT = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f\ud800-\udfff\ufffe\uffff]")
"""What neither may hold, escaped or not."""


def escape(text: str) -> str:
    """Return text as it is written between tags and within quoted attributes."""
    return html.escape(_NOT_TEXT.sub("\ufffd", text))
