"""Sizes as people write them."""

from __future__ import annotations

import re

import click

__all__ = ["byte_size"]

_FORM = re.compile(r"(\d+(?:\.\d+)?)(?:([kmgt])(i?))?b?", re.IGNORECASE)


def byte_size(text: str) -> int:
    """Return the bytes of "64", "64B", "1.5kB" (1000 each) or "4KiB" (1024 each).

    Raises
    ------
    click.BadParameter
        It is nothing like that.
    """
    found = _FORM.fullmatch(text.strip())
    if found is None:
        raise click.BadParameter(f"got {text!r}, expected a size such as 64, 10kB or 4KiB")
    number, prefix, binary = found.groups()
    power = " kmgt".index(prefix.lower()) if prefix else 0
    unit: int = (1024 if binary else 1000) ** power
    return round(float(number) * unit)
