"""JSON to Python values, with limits and Triton's words for what is wrong."""

from __future__ import annotations

import json
from typing import Any

from yais.errors import InvalidArgument

__all__ = ["parse_json"]

_MAX_DEPTH = 100  # Triton's number


def parse_json(text: bytes) -> Any:
    """Return what JSON says; NaN, Infinity and -Infinity are numbers.

    Raises
    ------
    InvalidArgument
        It is no JSON, no Unicode, or nested too deeply.
    """
    try:
        parsed = json.loads(text)
    except RecursionError:
        raise _too_deep() from None
    except ValueError as error:  # of text that is no Unicode, too
        raise InvalidArgument(f"failed to parse the request JSON buffer: {error}") from None
    # Counting is much cheaper than walking, and tells enough of most texts.
    if text.count(b"[") + text.count(b"{") > _MAX_DEPTH:
        _check_depth(parsed)
    return parsed


def _check_depth(parsed: Any) -> None:
    level = [parsed]
    for _ in range(_MAX_DEPTH):
        level = [
            child
            for node in level
            for child in (node.values() if isinstance(node, dict) else node)
            if isinstance(child, list | dict)
        ]
        if not level:
            return
    raise _too_deep()


def _too_deep() -> InvalidArgument:
    return InvalidArgument(f"JSON nesting depth exceeds maximum allowed limit ({_MAX_DEPTH})")
