"""Ports that several processes listen on: reserved by the one that starts them."""

from __future__ import annotations

import errno
import socket
from dataclasses import replace

from yais.serving.options import UNIX, ServerOptions

__all__ = ["ReservedPorts", "check_addresses"]


def check_addresses(options: ServerOptions) -> None:
    """Raise ValueError if processes cannot share an address, as unix sockets, or a port is none."""
    addresses = [(options.grpc_address, options.grpc_port)]
    if options.http is not None:
        addresses.append((options.http.address, options.http.port))
    for address, port in addresses:
        if address.startswith(UNIX):
            raise ValueError(f"got the address '{address}', expected one of TCP, which processes can share")
        if not 0 <= port < 65536:
            raise ValueError(f"got port {port}, expected 0 to 65535")


class ReservedPorts:
    """The ports of a server's frontends, which nobody else can have until they are released.

    The sockets are bound and do not listen: the kernel gives connections to those that do.

    Parameters
    ----------
    options
        Where to listen; of ports 0 free ones are taken.

    Attributes
    ----------
    options
        With the ports, to be shared with other processes.

    Raises
    ------
    OSError
        An address cannot be bound.
    ValueError
        See `check_addresses`.
    """

    def __init__(self, options: ServerOptions) -> None:
        check_addresses(options)
        self._sockets: list[socket.socket] = []
        try:
            self.options = self._reserved(options)
        except BaseException:
            self.release()
            raise

    def release(self) -> None:
        """Let others have the ports. Idempotent."""
        for each in self._sockets:
            each.close()

    def _reserved(self, options: ServerOptions) -> ServerOptions:
        transport = replace(options.transport, reuse_port=True)
        port = self._reserve(options.grpc_address, options.grpc_port, shared=options.transport.reuse_port)
        options = replace(options, grpc_port=port, transport=transport)
        if options.http is not None:
            http = options.http
            port = self._reserve(http.address, http.port, shared=http.reuse_port)
            options = replace(options, http=replace(http, port=port, reuse_port=True))
        return options

    def _reserve(self, address: str, port: int, *, shared: bool) -> int:
        try:
            family, kind, _, _, target = socket.getaddrinfo(
                address, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
            )[0]
            if port and not shared:
                _check_free(family, target)
            reserved = socket.socket(family, kind)
            taken = [each.getsockname() for each in self._sockets]
            self._sockets.append(reserved)
            for option in (socket.SO_REUSEADDR, socket.SO_REUSEPORT):
                reserved.setsockopt(socket.SOL_SOCKET, option, 1)
            reserved.bind(target)
            if reserved.getsockname() in taken:  # gRPC's and HTTP's: the kernel would let them share it, too
                raise OSError(errno.EADDRINUSE, "by itself")
        except OSError as error:
            if error.errno == errno.EADDRINUSE:
                raise OSError(f"cannot listen on '{address}:{port}': is the address in use?") from None
            raise OSError(f"cannot listen on '{address}:{port}': {error.strerror}") from None
        bound: int = reserved.getsockname()[1]
        return bound


def _check_free(family: int, target: tuple[object, ...]) -> None:
    """Raise OSError if others listen on an address: also those that would share it."""
    with socket.socket(family, socket.SOCK_STREAM) as alone:
        alone.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        alone.bind(target)
