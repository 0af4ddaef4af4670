"""Who may do what: bearer tokens, and APIs that want a header; one policy for gRPC and for HTTP."""

from __future__ import annotations

import hmac
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

from yais.errors import PermissionDenied, Unavailable
from yais.rpc.interceptor import IncomingCall, Interceptor
from yais.rpc.interceptors.bearer_token import BearerToken
from yais.rpc.interceptors.exemption import HEALTH
from yais.serving.api_categories import CATEGORIES, category_of_path, methods_of

__all__ = ["Access", "AccessOptions", "Restriction"]

_GRPC_PREFIX = "triton-grpc-protocol-"

_NO_TOKEN = frozenset({"/", "/v2/health/live", "/v2/health/ready"})
_NO_TOKEN_RPCS = tuple(f"/inference.GRPCInferenceService/{rpc}" for rpc in ("ServerLive", "ServerReady"))

_NAMES = {
    "protocol": re.compile(r"[0-9A-Za-z_.-]+"),  # all that gRPC lets clients send
    "api": re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+"),  # RFC 9110, 5.6.2
}


@dataclass(frozen=True, slots=True)
class Restriction:
    """A header that some APIs want.

    Attributes
    ----------
    apis
        Categories: health, metadata, inference, shared-memory, model-config, model-repository, statistics,
        trace, logging.
    key, value
        The header, without the prefix it has in gRPC, and what it must say.
    """

    apis: tuple[str, ...]
    key: str
    value: str


@dataclass(frozen=True, slots=True)
class AccessOptions:
    """Who may do what.

    Attributes
    ----------
    tokens
        File of bearer tokens, see `yais.rpc.interceptors.BearerToken.from_file`; None asks for none.
    grpc_restrictions, http_restrictions
        What needs a header.

    Raises
    ------
    ValueError
        A restriction names no category, or one that another names too; or its key can be no header.
    """

    tokens: Path | None = None
    grpc_restrictions: tuple[Restriction, ...] = ()
    http_restrictions: tuple[Restriction, ...] = ()

    def __post_init__(self) -> None:
        _check("protocol", self.grpc_restrictions)
        _check("api", self.http_restrictions)


class Access:
    """Lets requests in or refuses them. Thread-safe.

    Health (`grpc.health.v1`, ServerLive and ServerReady; `/v2/health/live` and `/v2/health/ready`) needs no
    token, since whoever probes has none; it can be restricted.

    Attributes
    ----------
    checks_http
        Whether any request over HTTP may be refused: without, there is no need to ask.

    Raises
    ------
    OSError, ValueError
        The file of tokens cannot be read or used.
    """

    def __init__(self, options: AccessOptions) -> None:
        self._bearer = (
            None
            if options.tokens is None
            else BearerToken.from_file(options.tokens, exempt=(*HEALTH, *_NO_TOKEN_RPCS))
        )
        self._grpc = {
            method: restriction
            for restriction in options.grpc_restrictions
            for api in restriction.apis
            for method in methods_of(api)
        }
        self._http = {api: each for each in options.http_restrictions for api in each.apis}
        self.checks_http = self._bearer is not None or bool(self._http)

    def __repr__(self) -> str:
        tokens = "with" if self._bearer else "without"
        return f"<Access {tokens} tokens, {len(self._grpc)} RPCs and {len(self._http)} HTTP APIs restricted>"

    def grpc_interceptors(self) -> list[Interceptor]:
        """Return what a gRPC server needs, none where nothing is asked of callers."""
        interceptors: list[Interceptor] = [] if self._bearer is None else [self._bearer]
        if self._grpc:
            interceptors.append(_RestrictedMethods(self._grpc))
        return interceptors

    def check_http(self, method: str, path: str, headers: Iterable[tuple[bytes, bytes]]) -> None:  # noqa: ARG002
        """Refuse a request, or return.

        Parameters
        ----------
        method
            Of HTTP; a category has all of them.
        path
            Decoded, without a query: as `path` of an ASGI scope.
        headers
            With lower-case names: as `headers` of an ASGI scope.

        Raises
        ------
        Unauthenticated
            There is no token, or it is not known.
        PermissionDenied
            The API is restricted, and the header is not what it must be.
        """
        if not self.checks_http:
            return
        headers = list(headers)
        if self._bearer is not None and path not in _NO_TOKEN:
            self._bearer.identity_of(_values(headers, b"authorization"))
        if not self._http:
            return
        restriction = self._http.get(category_of_path(path))
        if restriction is not None:
            name = restriction.key.lower()
            if not _matches(restriction, _values(headers, name.encode("ascii"))):
                raise PermissionDenied(f"This API is restricted, expecting header '{restriction.key}'")


class _RestrictedMethods(Interceptor):
    """Refuses calls of methods without the header that they want."""

    def __init__(self, restrictions: Mapping[str, Restriction]) -> None:
        self._restrictions = restrictions

    def begin(self, call: IncomingCall) -> None:
        """Refuse the call, or return."""
        restriction = self._restrictions.get(call.method)
        if restriction is None:
            return
        key = _GRPC_PREFIX + restriction.key
        if not _matches(restriction, call.metadata.get_all(key.lower())):
            raise Unavailable(f"This protocol is restricted, expecting header '{key}'")


def _values(headers: Iterable[tuple[bytes, bytes]], name: bytes) -> list[str | bytes]:
    return [value.decode("latin-1") for key, value in headers if key == name]


def _matches(restriction: Restriction, values: Iterable[str | bytes]) -> bool:
    expected = restriction.value.encode()
    return any(
        hmac.compare_digest(value.encode("latin-1", "replace") if isinstance(value, str) else value, expected)
        for value in values
    )


def _check(kind: str, restrictions: Iterable[Restriction]) -> None:
    seen: set[str] = set()
    for restriction in restrictions:
        for api in restriction.apis:
            if api not in CATEGORIES:
                raise ValueError(
                    f"unknown restricted {kind} '{api}', expected one of {', '.join(CATEGORIES)}"
                )
            if api in seen:
                raise ValueError(f"restricted {kind} '{api}' can not be specified in multiple config groups")
            seen.add(api)
        if not _NAMES[kind].fullmatch(restriction.key):
            _refuse(restriction)
        if not restriction.value.isascii() or not restriction.value.isprintable():
            _refuse(restriction)


def _refuse(restriction: Restriction) -> NoReturn:
    # Not the value, which is a secret.
    raise ValueError(f"got the key '{restriction.key}', expected the name of a header, and plain text for it")
