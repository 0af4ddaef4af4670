"""A KServe v2 server over HTTP."""

from __future__ import annotations

from yais.client.connection import Connection

__all__ = ["HttpEndpoint"]


class HttpEndpoint:
    """See `yais.client.endpoint.Endpoint`."""

    def __init__(self, connection: Connection) -> None:
        raise NotImplementedError(connection)
