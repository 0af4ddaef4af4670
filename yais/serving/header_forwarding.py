"""Headers of a call as parameters of its inference requests."""

from __future__ import annotations

import re
from collections.abc import Callable

from yais.serving.caller import Caller

__all__ = ["Forward", "forwarded", "header_pattern"]

Forward = Callable[[Caller], dict[str, str]]
"""Returns the headers that become parameters, by their lower-case names."""

_CASE_MATTERS = "(?-i)"

_NOTHING = re.compile(r"(?!)")


def forwarded(*, grpc: str, http: str) -> Forward | None:
    """Return what takes the headers whose whole names match a pattern.

    Binary metadata ("-bin") is no text and not taken. Of a header that occurs more than once the last counts.

    Parameters
    ----------
    grpc, http
        The patterns, see `header_pattern`; an empty one matches none. With two of them there is nothing to
        do, and None is returned.

    Raises
    ------
    ValueError
        One is no regular expression.
    """
    if not grpc and not http:
        return None
    of_grpc, of_http = (header_pattern(each).fullmatch for each in (grpc, http))

    def forward(caller: Caller) -> dict[str, str]:
        matches = of_http if caller.protocol == "HTTP" else of_grpc
        pairs = caller.metadata.pairs()
        return {key: value for key, value in pairs if isinstance(value, str) and matches(key)}

    return forward


def header_pattern(pattern: str) -> re.Pattern[str]:
    """Compile a pattern of names of headers.

    Case does not matter, as for headers in general, unless the pattern begins with "(?-i)". An empty one
    matches nothing.

    Raises
    ------
    ValueError
        It is no regular expression.
    """
    if not pattern:
        return _NOTHING
    try:
        if pattern.startswith(_CASE_MATTERS):
            return re.compile(pattern.removeprefix(_CASE_MATTERS))
        return re.compile(pattern, re.IGNORECASE)
    except re.error as error:
        raise ValueError(f"got '{pattern}', expected a regular expression: {error}") from None
