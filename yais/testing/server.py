"""A server in the test's own process."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import grpc

from yais.rpc.resources import Resources
from yais.rpc.server import Server
from yais.rpc.service import Service

__all__ = ["Served", "serving"]


@dataclass(frozen=True, slots=True)
class Served:
    """A running server, its port, and a channel to it, as `serving` yields them."""

    server: Server
    port: int
    channel: grpc.Channel


@contextmanager
def serving(
    *services: Service, resources: Resources | None = None, **server_options: Any
) -> Iterator[Served]:
    """Run a server on a free port of the loopback interface while the block lasts.

    When the block ends, the channel is closed first, which cancels what is still called through it, and
    then the server is stopped.

    Parameters
    ----------
    services
        What to serve.
    resources
        The server's resources.
    server_options
        Further keyword arguments of `yais.Server`.

    Examples
    --------
    >>> with serving(service, grace=1.0) as served:
    ...     stub = EchoStub(served.channel)
    ...     assert stub.Say(EchoRequest(text="hello")).text == "hello"
    """
    server = Server("127.0.0.1:0", resources=resources, **server_options)
    for service in services:
        server.add(service)
    # With the pool that channels share by default, the next test on the same port might find a connection
    # of this one.
    own_connection = [("grpc.use_local_subchannel_pool", 1)]
    with server, grpc.insecure_channel(f"127.0.0.1:{server.port}", options=own_connection) as channel:
        yield Served(server, server.port, channel)
