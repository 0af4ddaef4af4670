"""Values of options of `yais serve` that are more than a word or a number."""

from __future__ import annotations

from collections.abc import Sequence

import click

from yais.serving.access import Restriction
from yais.serving.header_forwarding import header_pattern

__all__ = [
    "cache_size",
    "default_max_batch",
    "override",
    "overrides_of",
    "pattern",
    "resource",
    "restriction",
    "verbosity",
]


def override(value: str) -> tuple[str, str]:
    """Return the model of "MODEL.FIELD=VALUE", and the rest."""
    field, equals, _ = value.partition("=")
    model, _, path = field.partition(".")
    if not (equals and model and path):
        raise click.BadParameter(f"got '{value}', expected MODEL.FIELD=VALUE")
    return model, value[len(model) + 1 :]


def default_max_batch(value: str) -> int:
    """Return the number of "onnxruntime,default-max-batch-size=N"."""
    setting, _, number = value.rpartition("=")
    if setting != "onnxruntime,default-max-batch-size" or not _is_number(number):
        raise click.BadParameter(f"got '{value}', expected onnxruntime,default-max-batch-size=N")
    return int(number)


def cache_size(value: str) -> int:
    """Return the bytes of "local,size=BYTES"."""
    setting, _, size = value.rpartition("=")
    if setting != "local,size" or not _is_number(size) or not int(size):
        raise click.BadParameter(f"got '{value}', expected local,size=BYTES")
    return int(size)


def resource(value: str) -> tuple[str | tuple[str, str], int]:
    """Return the name of "NAME:COUNT[:DEVICE]", or name and device; and the count."""
    name, *rest = value.split(":")
    if not name or len(rest) not in {1, 2} or not _is_number(rest[0]) or rest[1:] == [""]:
        raise click.BadParameter(f"got '{value}', expected NAME:COUNT[:DEVICE]")
    return (name, rest[1]) if rest[1:] else name, int(rest[0])


def pattern(value: str) -> str:
    """Return a pattern for names of headers."""
    try:
        header_pattern(value)
    except ValueError as error:
        raise click.BadParameter(str(error)) from None
    return value


def restriction(value: str) -> Restriction:
    """Return what "API,...:KEY=VALUE" says."""
    apis, colon, header = value.partition(":")
    key, equals, secret = header.partition("=")
    if not (apis and colon and key and equals and secret):
        # Not the value, which may be a secret in another form.
        raise click.BadParameter(f"got '{apis}' and more, expected API,...:KEY=VALUE")
    return Restriction(tuple(apis.split(",")), key, secret)


def verbosity(value: str) -> int:
    """Return a level of verbosity; "true" and "false" are 1 and 0."""
    number = {"true": "1", "false": "0"}.get(value.lower(), value)
    if not _is_number(number) or int(number) >= 1 << 31:
        raise click.BadParameter(f"got '{value}', expected 0 or more")
    return int(number)


def overrides_of(pairs: Sequence[tuple[str, str]]) -> dict[str, tuple[str, ...]]:
    """Return the overrides of each model, in their order."""
    overrides: dict[str, tuple[str, ...]] = {}
    for model, given in pairs:
        overrides[model] = (*overrides.get(model, ()), given)
    return overrides


def _is_number(text: str) -> bool:
    return text.isascii() and text.isdecimal() and len(text) < 19
