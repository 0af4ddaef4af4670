"""A server over HTTP: where it is, how it is spoken to, and what each request to it begins with."""

from __future__ import annotations

import asyncio
import os
import re
import ssl
from collections.abc import Sequence

from yais.client.connection import Connection
from yais.client.http_connection import HttpConnection
from yais.errors import InvalidArgument

__all__ = ["HttpPeer"]

_ADDRESS = re.compile(r"(?:\[(?P<six>[0-9a-fA-F:.%]+)\]|(?P<host>[^\s:/@\[\]]+)):(?P<port>\d{1,5})")
_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_VALUE = re.compile(r"[\t -~\x80-\xff]*")


class HttpPeer:
    """A server.

    Raises
    ------
    InvalidArgument
        The address is not "host:port", or a header or a certificate cannot be used.
    """

    def __init__(self, connection: Connection) -> None:
        self._address = connection.address
        self._host, self._port = _split(connection.address)
        self._tls = _context(connection) if connection.encrypted else None
        self._server_name = None if self._tls is None else connection.server_name or self._host
        host = f"Host: {connection.address}\r\n"
        self._lines = (host + "".join(map(_line, connection.headers))).encode("latin-1")

    def __str__(self) -> str:
        return self._address

    def head(self, method: str, path: str, headers: Sequence[tuple[str, str]], size: int) -> bytes:
        """Return what a request begins with; a body of `size` bytes follows it."""
        length = (("Content-Length", str(size)),) if size or method == "POST" else ()
        lines = "".join(map(_line, (*headers, *length)))
        return f"{method} {path} HTTP/1.1\r\n".encode() + self._lines + lines.encode() + b"\r\n"

    async def connect(self) -> HttpConnection:
        """Return a new connection, open.

        Raises
        ------
        OSError, UnicodeError
            The server cannot be reached, or not be trusted; its name is none.
        """
        _, connection = await asyncio.get_running_loop().create_connection(
            HttpConnection, self._host, self._port, ssl=self._tls, server_hostname=self._server_name
        )
        if not connection.open:
            connection.abort()
            raise ConnectionResetError("the server closed the connection")
        return connection


def _split(address: str) -> tuple[str, int]:
    match = _ADDRESS.fullmatch(address)
    if match is None or not 0 < int(match["port"]) < 65536:
        raise InvalidArgument(f"got address {address!r}, expected 'host:port' for HTTP")
    return match["six"] or match["host"], int(match["port"])


def _line(header: tuple[str, str]) -> str:
    name, value = header
    if not (_NAME.fullmatch(name) and _VALUE.fullmatch(value)):
        raise InvalidArgument(f"got header {name!r} with {value!r}, expected a name and a line of text")
    return f"{name}: {value}\r\n"


def _context(connection: Connection) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    try:
        if connection.ca is None:
            context.load_default_certs()
        else:
            context.load_verify_locations(cadata=connection.ca.decode("ascii", "ignore"))
        context.set_alpn_protocols(["http/1.1"])
        if connection.certificate is not None:
            _show(context, connection.certificate, connection.key or b"")
    except (ssl.SSLError, ValueError) as error:
        raise InvalidArgument(f"cannot use the certificates or the key: {error}") from None
    return context


def _show(context: ssl.SSLContext, certificate: bytes, key: bytes) -> None:
    # The module reads files only.
    descriptor = os.memfd_create("yais-tls")
    try:
        with open(descriptor, "wb", closefd=False) as stream:
            stream.write(certificate + b"\n" + key)
        context.load_cert_chain(f"/proc/self/fd/{descriptor}")
    finally:
        os.close(descriptor)
