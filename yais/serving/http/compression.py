"""Compression of responses: whether, and how."""

from __future__ import annotations

import zlib

__all__ = ["accepted_encoding", "compressed"]

_SUPPORTED = ("gzip", "deflate")  # deflate is zlib; the first is preferred where both are as welcome

_WORTH = 1024  # bytes; below, a response is one packet anyway
_SAMPLE = 4096  # bytes, which tell how well the rest can be compressed
_GAIN = 0.9  # of the size, that must be reached; random floats do not, and take long

_WINDOW = {"gzip": 16 + zlib.MAX_WBITS, "deflate": zlib.MAX_WBITS}


def accepted_encoding(header: str) -> str | None:
    """Return the encoding of those supported that an Accept-Encoding header likes best; None for none.

    One that it likes less than `identity`, where it names that, is not used.
    """
    weights: dict[str, float] = {}
    for item in header.lower().split(","):
        name, *parameters = (part.strip() for part in item.split(";"))
        weights[name] = _weight(parameters)
    others = weights.get("*", 0.0)
    best = max(_SUPPORTED, key=lambda name: weights.get(name, others))
    weight = weights.get(best, others)
    return best if weight > 0 and weight >= weights.get("identity", 0.0) else None


def _weight(parameters: list[str]) -> float:
    for parameter in parameters:
        if parameter.startswith("q="):
            try:
                weight = float(parameter[2:])
            except ValueError:
                return 0.0
            return weight if 0.0 <= weight <= 1.0 else 0.0
    return 1.0


def compressed(body: bytes, encoding: str) -> bytes | None:
    """Return a body compressed as gzip or deflate; None where that does not pay."""
    if len(body) < _WORTH or len(_encode(body[:_SAMPLE], encoding)) > _GAIN * min(len(body), _SAMPLE):
        return None
    return _encode(body, encoding)


def _encode(body: bytes, encoding: str) -> bytes:
    stream = zlib.compressobj(level=1, wbits=_WINDOW[encoding])  # the fastest: clients wait
    return stream.compress(body) + stream.flush()
