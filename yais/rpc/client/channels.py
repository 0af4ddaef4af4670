"""Connections of a client to its server, or to several servers."""

from __future__ import annotations

import ipaddress
import itertools
import json
from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import Any, Self

import grpc

from yais.errors import InvalidArgument
from yais.rpc.client.service_config import Retry, service_config
from yais.rpc.core_channel import CoreChannel

__all__ = ["Channels"]


class Channels:
    """One or several channels, taken in turn, call by call. Thread-safe; a context manager.

    Each channel has connections and one thread of its own. Several help where one connection is the limit:
    its thread, or the streams that a server or proxy allows on it. Nothing is connected before the first
    call.

    Parameters
    ----------
    addresses
        A target in gRPC's notation ("host:port", "dns:///host:port", "unix:/path"), or a sequence of numeric
        addresses ("10.0.0.1:50051", "[::1]:50051") that are one service.
    count
        Channels.
    tls
        True for TLS with the system's roots, or credentials made with `grpc.ssl_channel_credentials`; with
        None or False the connection is not encrypted.
    retry
        When to try a call again; by default not at all.
    balancing
        "round_robin" spreads calls over all addresses, "pick_first" keeps to the first that connects, which
        is what gRPC does by default.
    health_service
        Name to ask each server's `grpc.health.v1` service about, "" for the server as a whole: with
        `round_robin`, servers that do not say SERVING get no calls. None asks nothing.
    service_config
        A complete service config of gRPC's, instead of the three above.
    max_message_bytes
        Longest reply to accept; -1 for no limit.
    options
        Further channel arguments of gRPC core, such as `("grpc.keepalive_time_ms", 20000)`. They win.

    Raises
    ------
    InvalidArgument
        `addresses` or `count` is not as above, or a service config is given twice.

    Examples
    --------
    >>> with Channels("localhost:50051", retry=Retry(attempts=3)) as channels:
    ...     say = ClientUnary(channels, DESCRIPTOR.services_by_name["Echo"].methods_by_name["Say"])
    ...     print(say.call(EchoRequest(text="hello")).text)
    """

    def __init__(
        self,
        addresses: str | Sequence[str],
        *,
        count: int = 1,
        tls: bool | grpc.ChannelCredentials | None = None,
        retry: Retry | None = None,
        balancing: str | None = None,
        health_service: str | None = None,
        service_config: Mapping[str, Any] | None = None,
        max_message_bytes: int = 4 << 20,
        options: Sequence[tuple[str, Any]] = (),
    ) -> None:
        if count < 1:
            raise InvalidArgument(f"got {count} channels, expected at least 1")
        self.target = _target(addresses)
        arguments = dict(
            (
                # With the pool that gRPC's channels share by default they would share their connections too.
                ("grpc.use_local_subchannel_pool", 1),
                ("grpc.max_receive_message_length", max_message_bytes),
                *_config(service_config, retry, balancing, health_service),
                *options,
            )
        )
        credentials = _credentials(tls)
        self._channels = [
            CoreChannel(self.target, tuple(arguments.items()), credentials) for _ in range(count)
        ]
        self._turns = itertools.cycle(self._channels)

    def __repr__(self) -> str:
        return f"<Channels: {len(self._channels)} to {self.target}>"

    def take(self) -> CoreChannel:
        """Return the channel whose turn it is."""
        return next(self._turns)

    def close(self) -> None:
        """Cancel what is in flight, wait until the callbacks of those calls have run, and disconnect.

        In such a callback it does not wait. A second time it does nothing; later calls raise
        FailedPrecondition.
        """
        for channel in self._channels:
            channel.close("the client was closed")

    def __enter__(self) -> Self:
        """Return the channels themselves."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close."""
        self.close()


def _config(
    config: Mapping[str, Any] | None, retry: Retry | None, balancing: str | None, health_service: str | None
) -> list[tuple[str, str]]:
    plain = service_config(retry, balancing, health_service)
    if config is not None and plain is not None:
        raise InvalidArgument(
            f"got a service config and {plain}, expected it to say retry, balancing and health itself"
        )
    text = json.dumps(config) if config is not None else plain
    return [] if text is None else [("grpc.service_config", text)]


def _credentials(tls: bool | grpc.ChannelCredentials | None) -> grpc.ChannelCredentials | None:
    if tls is True:
        return grpc.ssl_channel_credentials()
    return tls or None


def _target(addresses: str | Sequence[str]) -> str:
    if isinstance(addresses, str):
        return addresses
    versions = {_version(address) for address in addresses}
    if len(versions) != 1:
        raise InvalidArgument(f"got addresses {list(addresses)!r}, expected some, all IPv4 or all IPv6")
    return f"ipv{versions.pop()}:{','.join(addresses)}"


def _version(address: str) -> int:
    host, _, port = address.rpartition(":")
    try:
        if not 0 < int(port) < 65536:
            raise ValueError
        return ipaddress.ip_address(host.removeprefix("[").removesuffix("]")).version
    except ValueError:
        raise InvalidArgument(
            f"got address {address!r}, expected a numeric one with its port, such as '10.0.0.1:50051'; "
            "give a name by itself, not in a sequence"
        ) from None
