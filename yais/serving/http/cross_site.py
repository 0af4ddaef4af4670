"""Requests that a page of another site makes a browser send."""

from __future__ import annotations

from collections.abc import Mapping

from yais.errors import PermissionDenied

__all__ = ["check_site"]

_OWN = frozenset({b"same-origin", b"none"})

# What a page may send to any site without asking it, see "simple requests" in the Fetch standard.
_UNASKED = frozenset({b"", b"text/plain", b"application/x-www-form-urlencoded", b"multipart/form-data"})


def check_site(headers: Mapping[bytes, bytes]) -> None:
    """Refuse a request that changes something if a browser sent it for another site, unasked.

    Parameters
    ----------
    headers
        By their names in lower case.

    Raises
    ------
    PermissionDenied
        It is such a request. One of a type that browsers ask for first, and something in front of this server
        allowed, is none.
    """
    site = headers.get(b"sec-fetch-site")
    origin = headers.get(b"origin")
    if site is None and origin is None:  # no browser
        return
    if site is not None:
        own = site in _OWN
    else:  # a browser that is old, or has no HTTPS here
        own = origin is not None and origin.partition(b"://")[2] == headers.get(b"host")
    kind = headers.get(b"content-type", b"").partition(b";")[0].strip().lower()
    if not own and kind in _UNASKED:
        raise PermissionDenied("a page of another site may not send this request")
