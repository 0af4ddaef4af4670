"""How to reach a server: options that all commands which talk to one have in common."""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import Any, TypeVar

import click

from yais.client.connection import Connection
from yais.tools.option_groups import with_options
from yais.tools.seconds import Seconds

__all__ = ["connection_options"]

F = TypeVar("F", bound=Callable[..., Any])

_FILE = click.Path(exists=True, dir_okay=False, path_type=Path)

_NAME = re.compile(r"[0-9a-z_.-]+")
_VALUE = re.compile(r"[ -~]*")
_PORT = re.compile(r":([0-9]+)$")
_LAST_PORT = 65535


class _Header(click.ParamType):  # type: ignore[type-arg]  # generic since click 8.2
    name = "NAME: VALUE"
    envvar_list_splitter = "\n"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[str, str]:
        """Return name, in lower case, and value."""
        if isinstance(value, tuple):
            return value
        name, colon, text = str(value).partition(":")
        key, text = name.strip().lower(), text.strip()
        binary = key.endswith("-bin")
        if not colon or binary or not _NAME.fullmatch(key) or not _VALUE.fullmatch(text):
            self.fail(f"got {value!r}, expected a name and a text of ASCII, such as 'tenant: a'", param, ctx)
        return key, text


_OPTIONS = (
    click.option("--tls", is_flag=True, help="Encrypt, trusting the system's authorities."),
    click.option("--ca", type=_FILE, help="Encrypt, trusting those of this PEM file."),
    click.option("--cert", type=_FILE, help="PEM file of a certificate to show to the server."),
    click.option("--key", type=_FILE, help="PEM file of its key."),
    click.option(
        "--server-name", metavar="NAME", help="Name in the server's certificate, if not that of the address."
    ),
    click.option("--token", help="Bearer token to send."),
    click.option("--token-file", type=_FILE, help="File with the bearer token to send."),
    click.option(
        "--header",
        "-H",
        type=_Header(),
        multiple=True,
        help="Send this with each request; may be given more than once.",
    ),
    click.option(
        "--timeout",
        type=Seconds(zero=False),
        default=30.0,
        show_default=True,
        help="Seconds a request may take.",
    ),
)


def connection_options(command: F) -> F:
    """Give a command the options; it gets `connection: Callable[[str], Connection]`.

    That takes an address, "host:port" with or without "http://" or "https://", of which the last implies
    TLS; it raises UsageError for one that cannot be.
    """

    @with_options(_OPTIONS)
    @wraps(command)
    def given(
        *arguments: Any,
        tls: bool,
        ca: Path | None,
        cert: Path | None,
        key: Path | None,
        server_name: str | None,
        token: str | None,
        token_file: Path | None,
        header: tuple[tuple[str, str], ...],
        timeout: float,
        **others: Any,
    ) -> Any:
        if (cert is None) != (key is None):
            raise click.UsageError("--cert and --key want each other")
        ca_bytes, cert_bytes, key_bytes = (_contents(path) for path in (ca, cert, key))
        authorisation = _authorisation(token, token_file)

        def connection(address: str) -> Connection:
            scheme, separator, rest = address.partition("://")
            return Connection(
                _checked(rest.rstrip("/") if separator and scheme in {"http", "https"} else address),
                tls or scheme == "https",
                ca_bytes,
                cert_bytes,
                key_bytes,
                server_name,
                (*header, *authorisation),
                timeout,
            )

        return command(*arguments, connection=connection, **others)

    return given  # type: ignore[return-value]  # its parameters are those of the options


def _checked(address: str) -> str:
    port = _PORT.search(address)
    if not address or (port is not None and int(port[1]) > _LAST_PORT):  # gRPC takes another port then
        raise click.UsageError(
            f"got the address {address!r}, expected host:port, with a port up to {_LAST_PORT}"
        )
    return address


def _contents(path: Path | None) -> bytes | None:
    return None if path is None else path.read_bytes()


def _authorisation(token: str | None, file: Path | None) -> tuple[tuple[str, str], ...]:
    if file is not None:
        if token is not None:
            raise click.UsageError("got both --token and --token-file, expected one of them")
        token = file.read_text("utf-8", "replace").strip()
    if token is not None and not _VALUE.fullmatch(token):
        raise click.UsageError("got a token with other characters than those of ASCII, or in several lines")
    return () if token is None else (("authorization", f"Bearer {token}"),)
