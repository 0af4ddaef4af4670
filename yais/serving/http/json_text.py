"""JSON to Python values and back, with limits and Triton's words for what is wrong."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from json.scanner import py_make_scanner  # type: ignore[attr-defined]
from typing import Any

from yais.errors import InvalidArgument

__all__ = ["LARGE", "PIECE", "dump_json", "parse_json"]

LARGE = 1 << 18
"""Bytes of JSON; to handle more takes longer than others should wait for."""

PIECE = 1 << 13
"""Characters or elements of what is large that are handled at a time; other threads run in between."""

_MAX_DEPTH = 100  # Triton's number


def parse_json(text: bytes) -> Any:
    """Return what JSON says; NaN, Infinity and -Infinity are numbers.

    However large it is, other threads are not kept from running for long, as `json.loads` would.

    Raises
    ------
    InvalidArgument
        It is no JSON, no UTF-8, or nested too deeply.
    """
    try:
        decoded = text.decode()
        parsed = json.loads(decoded) if len(decoded) < LARGE else _in_pieces.decode(decoded)
    except RecursionError:
        raise _too_deep() from None
    except ValueError as error:  # of text that is no UTF-8, too
        raise InvalidArgument(f"failed to parse the request JSON buffer: {error}") from None
    # Counting is much cheaper than walking, and tells enough of most texts.
    if text.count(b"[") + text.count(b"{") > _MAX_DEPTH:
        _check_depth(parsed)
    return parsed


def dump_json(value: Any) -> bytes:
    """Return a value as compact JSON. Half of a surrogate pair, which UTF-8 has not, is escaped."""
    text = json.dumps(value, separators=(",", ":"), ensure_ascii=False)
    return text.encode(errors="backslashreplace")


_PLAIN = re.compile(r'[^\[\]{}"]*')
_SPACE = re.compile(r"[ \t\n\r]*")


class _InPieces(json.JSONDecoder):
    """Decodes as `json.loads` does, but never much at a time."""

    def __init__(self) -> None:
        super().__init__()
        self.parse_array = _array
        self.scan_once = py_make_scanner(self)


def _array(
    text_and_start: tuple[str, int], scan_once: Callable[[str, int], tuple[Any, int]]
) -> tuple[list[Any], int]:
    """Return the array that starts behind a bracket, and where it ends."""
    text, position = text_and_start
    values: list[Any] = []
    may_end = True
    while True:
        # As many elements as a piece has, if they are no strings, arrays or objects.
        stop = _PLAIN.match(text, position, position + PIECE).end()  # type: ignore[union-attr]
        last = text[stop : stop + 1] == "]"
        end = stop if last else text.rfind(",", position, stop)
        if end >= 0:
            part = _elements(text, position, end)
            if not part and not (last and may_end):
                raise json.JSONDecodeError("Expecting value", text, position)
            values += part
            position = end + 1
        else:
            try:
                value, end = scan_once(text, _SPACE.match(text, position).end())  # type: ignore[union-attr]
            except StopIteration as error:
                raise json.JSONDecodeError("Expecting value", text, error.value) from None
            values.append(value)
            end = _SPACE.match(text, end).end()  # type: ignore[union-attr]
            last = text[end : end + 1] == "]"
            if not last and text[end : end + 1] != ",":
                raise json.JSONDecodeError("Expecting ',' delimiter", text, end)
            position = end + 1
        if last:
            return values, position
        may_end = False


def _elements(text: str, start: int, end: int) -> list[Any]:
    try:
        elements: list[Any] = json.loads(f"[{text[start:end]}]")
    except json.JSONDecodeError as error:
        raise json.JSONDecodeError(error.msg, text, start + error.pos - 1) from None
    return elements


_in_pieces = _InPieces()


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
