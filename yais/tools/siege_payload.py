"""What `yais siege` sends: requests to a model, or messages of any unary method."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import Any

import click

from yais.client.grpc_endpoint import GrpcEndpoint
from yais.client.transport import Transport
from yais.errors import Code, DeadlineExceeded, error_of
from yais.tools.request_options import RequestOptions

__all__ = ["method_message", "siege_payload"]

_UNUSABLE = (Code.UNAVAILABLE, Code.UNIMPLEMENTED)


def siege_payload(
    endpoint: GrpcEndpoint, model: str, requests: RequestOptions
) -> tuple[Transport, Sequence[Any]]:
    """Return what carries the requests, and those, to be sent in turn.

    Parameters
    ----------
    model
        A model; or a method, such as "/echo.Echo/Say", of which one call is made to see that it is there.

    Raises
    ------
    YaisError
        The server cannot be reached, or has no such model or method, or the model does not take such
        requests.
    click.UsageError
        The requests are asked for in a way that is for models.
    """
    if not model.startswith("/"):
        transport = endpoint.transport()
        return transport, [transport.encode(call) for call in requests.calls(endpoint, model)]
    if requests.batch != 1 or requests.shapes or requests.data != "random":
        raise click.UsageError("--batch, --shape and --input-data are for models, not methods")
    transport = endpoint.method_transport(model)
    message = method_message(requests.nbytes or 0)
    _check(transport, message, endpoint.connection.timeout)
    return transport, [message]


def method_message(nbytes: int) -> bytes:
    """Return a message of protobuf with so many bytes, which are text too, in field 1; of none, if zero."""
    if not nbytes:
        return b""
    length, rest = bytearray(), nbytes
    while rest > 0x7F:
        length.append(rest & 0x7F | 0x80)
        rest >>= 7
    return b"\x0a" + bytes((*length, rest)) + b"x" * nbytes


def _check(transport: Transport, message: bytes, timeout: float) -> None:
    ended, outcome = threading.Event(), []

    def done(code: Code, text: str, _reply: Any) -> None:
        outcome.append((code, text))
        ended.set()

    transport.send(message, done)
    if not ended.wait(timeout + 1):  # the transport itself says so at `timeout`
        raise DeadlineExceeded(f"no answer within {timeout:g} s")
    code, text = outcome[0]
    if code in _UNUSABLE:
        raise error_of(code, text)
