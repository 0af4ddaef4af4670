"""JSON with something wrong."""

from __future__ import annotations

import json
from dataclasses import dataclass
from random import Random
from typing import Any

from fuzz_bytes import ODD_NUMBERS, ODD_TEXTS, damaged


@dataclass(frozen=True)
class Raw:
    """Text that stands for a value as it is."""

    text: str


_VALUES = (
    *(None, True, False, [], {}, [[]], [None], {"": None}, 0.5, -0.0, 1e308, -1.0),
    *map(
        Raw, ("NaN", "-Infinity", "1e999", "-0", "01", "+1", "1.", ".5", "0x10", "'a'", "nul", "", ",", "//")
    ),
    *map(
        Raw, ('"\\ud800"', '"\\udc00\\ud800"', '"\\u0000"', '"\\x"', '"\t"', '"open', "9" * 400, "9" * 5000)
    ),
    *map(Raw, ("[" * 99 + "]" * 99, "[" * 101 + "]" * 101, "[" * 5000, '{"a":' * 200 + "1" + "}" * 200)),
    *ODD_NUMBERS,
    *ODD_TEXTS,
)


def _odd(random: Random) -> Any:
    """Return a value that is hardly expected anywhere."""
    return random.choice(_VALUES)


def text(value: Any) -> str:
    """Return a value as JSON; `Raw` as it is, a list of pairs in a tuple as an object."""
    match value:
        case Raw():
            return value.text
        case dict() | tuple():
            pairs = value.items() if isinstance(value, dict) else value
            return "{" + ",".join(f"{json.dumps(key)}:{text(each)}" for key, each in pairs) + "}"
        case list():
            return "[" + ",".join(map(text, value)) + "]"
    return json.dumps(value)


def changed(random: Random, value: Any, keys: tuple[str, ...] = ()) -> Any:
    """Return a value with one thing in it changed.

    Parameters
    ----------
    keys
        That may be added to an object.
    """
    if not isinstance(value, dict | list) or not value or not random.randrange(8):
        return _odd(random)
    if isinstance(value, list):
        items = list(value)
        at = random.randrange(len(items))
        match random.randrange(8):
            case 0:
                del items[at]
            case 1:
                items.append(items[at])
            case 2:
                items = [items]
            case _:
                items[at] = changed(random, items[at], keys)
        return items
    key = random.choice(list(value))
    match random.randrange(8):
        case 0:
            return {each: value[each] for each in value if each != key}
        case 1 if keys:
            return {**value, random.choice(keys): _odd(random)}
        case 2:  # the same key twice
            return (*value.items(), (key, _odd(random)))
    return {**value, key: changed(random, value[key], keys)}


def bad_json(random: Random, value: Any, keys: tuple[str, ...] = ()) -> bytes:
    """Return JSON like that of a value, with something wrong in its values, its bytes, or both."""
    how = random.randrange(5)
    for _ in range(random.choice((1, 1, 2, 3)) if how else 0):
        if not isinstance(value, tuple):
            value = changed(random, value, keys)
    said = text(value)
    encoded = said.encode(random.choice(("utf-8",) * 8 + ("utf-16", "utf-8-sig")), "surrogatepass")
    return encoded if how else damaged(random, encoded)
