"""Who may do what: bearer tokens, and APIs that want a header."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

__all__ = ["AccessOptions", "Restriction"]


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
    """

    tokens: Path | None = None
    grpc_restrictions: tuple[Restriction, ...] = ()
    http_restrictions: tuple[Restriction, ...] = ()
