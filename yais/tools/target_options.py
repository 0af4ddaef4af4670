"""Which model of which server: ADDRESS and MODEL, or the flags of the original clients."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import wraps
from typing import Any, TypeVar

import click

from yais.tools.option_groups import with_options
from yais.tools.protocol_option import DEFAULT_ADDRESSES, protocol_of, protocol_option

__all__ = ["Target", "target_options"]

F = TypeVar("F", bound=Callable[..., Any])


@dataclass(frozen=True, slots=True)
class Target:
    """A model of a server.

    Attributes
    ----------
    address
        As it was given, perhaps with "http://" or "https://": what `connection_options` takes.
    version
        Empty for the latest.
    protocol
        "grpc" or "http".
    """

    address: str
    model: str
    version: str
    protocol: str


_OPTIONS = (
    click.argument("address", required=False),
    click.argument("model", required=False),
    click.option(
        "--url",
        "-u",
        metavar="ADDRESS",
        help="Server, host:port, instead of ADDRESS. By default localhost:8001 for gRPC, localhost:8000 "
        "for HTTP.",
    ),
    click.option("--model-name", "-m", metavar="MODEL", help="Model, instead of MODEL."),
    click.option(
        "--model-version", "-x", metavar="VERSION", default="", help="Its version; by default the latest."
    ),
    protocol_option,
)


def target_options(command: F) -> F:
    """Give a command arguments and options; it gets `target: Target`.

    ADDRESS and MODEL may be given by position, each may be given by its flag instead. A single argument is
    the model if the address is given by its flag or if no model is given by its own.
    """

    @with_options(_OPTIONS)
    @wraps(command)
    def given(
        *arguments: Any,
        address: str | None,
        model: str | None,
        url: str | None,
        model_name: str | None,
        model_version: str,
        protocol: str | None,
        **others: Any,
    ) -> Any:
        address, model = _placed(address, model, url, model_name)
        protocol = protocol_of(address, protocol)
        target = Target(address or DEFAULT_ADDRESSES[protocol], model, model_version, protocol)
        return command(*arguments, target=target, **others)

    return given  # type: ignore[return-value]  # its parameters are those of the options


def _placed(
    first: str | None, second: str | None, url: str | None, model_name: str | None
) -> tuple[str | None, str]:
    positions = [text for text in (first, second) if text is not None]
    model = model_name or (positions.pop() if positions else None)
    address = url or (positions.pop() if positions else None)
    if positions:
        raise click.UsageError(
            f"got the argument {positions[0]} beside flags for the same, expected one of them"
        )
    if model is None:
        raise click.UsageError("got no model, expected ADDRESS MODEL or -m MODEL")
    return address, model
