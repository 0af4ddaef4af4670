"""Options of `yais serve` that say who may do what: TLS, tokens, restricted APIs, shared memory."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click

from yais.rpc.tls import Tls
from yais.serving.access import Access, AccessOptions
from yais.serving.api_categories import CATEGORIES
from yais.tools.option_groups import grouped
from yais.tools.serve_values import restriction

__all__ = ["SECURITY_OPTIONS", "access_options", "grpc_tls", "http_tls"]

_FILE = click.Path(exists=True, dir_okay=False, path_type=Path)

_NOT_ASKED = "without --grpc-use-ssl-mutual=true clients are not asked for a certificate"

_option = grouped("Security")

_TLS = (
    _option("--grpc-use-ssl", type=bool, default=False, show_default=True, help="Serve gRPC with TLS."),
    _option(
        "--grpc-use-ssl-mutual",
        type=bool,
        default=False,
        show_default=True,
        help="Serve gRPC with TLS, to clients with a certificate of --grpc-root-cert.",
    ),
    _option("--grpc-server-cert", type=_FILE, help="PEM file of the certificate for gRPC."),
    _option("--grpc-server-key", type=_FILE, help="PEM file of its key."),
    _option("--grpc-root-cert", type=_FILE, help="PEM file of the authorities that certify clients."),
    _option("--http-server-cert", type=_FILE, help="Serve HTTP with TLS: PEM file of the certificate."),
    _option("--http-server-key", type=_FILE, help="PEM file of its key."),
    _option(
        "--http-root-cert",
        type=_FILE,
        help="Take only clients with a certificate of these authorities.",
    ),
)

SECURITY_OPTIONS = (
    *_TLS,
    _option(
        "--token-file",
        type=_FILE,
        help="Ask callers for a bearer token of this file: an identity and a token in each line.",
    ),
    _option(
        "--grpc-restricted-protocol",
        type=restriction,
        metavar="LIST:KEY=VALUE",
        multiple=True,
        help="Refuse calls of these without the header triton-grpc-protocol-KEY: VALUE; may be given more "
        f"than once. Of {', '.join(CATEGORIES)}.",
    ),
    _option(
        "--http-restricted-api",
        type=restriction,
        metavar="LIST:KEY=VALUE",
        multiple=True,
        help="Refuse requests for these without the header KEY: VALUE; may be given more than once.",
    ),
    _option(
        "--allow-client-shm",
        type=bool,
        help="Whether clients may use shared memory. By default if the server listens on loopback "
        "addresses only.",
    ),
)


def access_options(given: Mapping[str, Any]) -> AccessOptions:
    """Return tokens and restrictions.

    Raises
    ------
    click.UsageError
        They contradict each other, or the tokens cannot be used.
    """
    try:
        options = AccessOptions(
            given["token_file"], given["grpc_restricted_protocol"], given["http_restricted_api"]
        )
        Access(options)  # now, so that the error is one of usage
    except (OSError, ValueError) as error:
        raise click.UsageError(str(error)) from None
    return options


def grpc_tls(given: Mapping[str, Any]) -> tuple[Tls | None, list[str]]:
    """Return the certificates of gRPC, and warnings.

    Raises
    ------
    click.UsageError
        They cannot be used, or are for nothing.
    """
    mutual = given["grpc_use_ssl_mutual"]
    if not mutual and not given["grpc_use_ssl"]:
        for name in ("grpc_server_cert", "grpc_server_key", "grpc_root_cert"):
            if given[name] is not None:
                raise click.UsageError(f"{_flag(name)} wants --grpc-use-ssl=true")
        return None, []
    _want(given, "grpc_server_cert", "--grpc-use-ssl")
    _want(given, "grpc_server_key", "--grpc-use-ssl")
    root, warnings = given["grpc_root_cert"], []
    if mutual:
        _want(given, "grpc_root_cert", "--grpc-use-ssl-mutual")
    elif root is not None:  # Triton's own tests give it
        root = None
        warnings = [f"--grpc-root-cert has no effect: {_NOT_ASKED}"]
    return _tls(given["grpc_server_cert"], given["grpc_server_key"], root), warnings


def http_tls(given: Mapping[str, Any]) -> Tls | None:
    """Return the certificates of HTTP. Raises click.UsageError if they cannot be used, or are for nothing."""
    files = [given[name] for name in ("http_server_cert", "http_server_key", "http_root_cert")]
    if files == [None, None, None]:
        return None
    if not given["allow_http"]:
        raise click.UsageError("certificates for HTTP want --allow-http=true")
    _want(given, "http_server_cert", "TLS for HTTP")
    _want(given, "http_server_key", "TLS for HTTP")
    return _tls(*files)


def _tls(certificate: Path, key: Path, client_ca: Path | None) -> Tls:
    try:
        return Tls(certificate, key, client_ca)
    except (OSError, ValueError) as error:
        raise click.UsageError(str(error)) from None


def _want(given: Mapping[str, Any], name: str, what: str) -> None:
    if given[name] is None:
        raise click.UsageError(f"{what} wants {_flag(name)}")


def _flag(name: str) -> str:
    return "--" + name.replace("_", "-")
