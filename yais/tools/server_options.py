"""Which server, for commands whose first argument may be its address."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import wraps
from typing import Any, TypeVar

import click

from yais.client.connection import Connection
from yais.client.endpoint import Endpoint, connect
from yais.tools.connection_options import connection_options
from yais.tools.failure import reported

__all__ = ["Server", "server_options"]

F = TypeVar("F", bound=Callable[..., Any])

_DEFAULTS = {"grpc": "localhost:8001", "http": "localhost:8000"}

_INTERRUPTED = 130  # as a shell says it of what Ctrl-C ended


@dataclass(frozen=True, slots=True)
class Server:
    """A server, as the options say it.

    Attributes
    ----------
    address
        As it was given.
    protocol
        "grpc" or "http".
    """

    address: str
    protocol: str
    connection: Connection

    @contextmanager
    def endpoint(self) -> Iterator[Endpoint]:
        """Return the server's endpoint for a block.

        Raises
        ------
        click.ClickException
            In place of a YaisError in the block: "ADDRESS: text".
        click.exceptions.Exit
            After Ctrl-C.
        """
        try:
            with reported(self.address), connect(self.connection, self.protocol) as endpoint:
                yield endpoint
        except KeyboardInterrupt:
            raise click.exceptions.Exit(_INTERRUPTED) from None


def server_options(metavar: str, most: int) -> Callable[[F], F]:
    """Give a command arguments, of which the first may be an address, and how to reach that.

    The command gets `server: Server`, and `words: tuple[str, ...]`, its other arguments.

    Parameters
    ----------
    metavar
        What the arguments are called in the help.
    most
        Arguments at most, without the address.
    """

    def give(command: F) -> F:
        @click.argument("words", nargs=-1, metavar=metavar)
        @click.option(
            "--protocol",
            "-i",
            type=click.Choice(["grpc", "http"], case_sensitive=False),
            help="Protocol; by default gRPC, for an address that begins with http:// or https:// HTTP.",
        )
        @connection_options
        @wraps(command)
        def given(
            words: tuple[str, ...],
            protocol: str | None,
            connection: Callable[[str], Connection],
            **others: Any,
        ) -> Any:
            address, rest = (words[0], words[1:]) if words and ":" in words[0] else (None, words)
            if len(rest) > most:
                raise click.UsageError(f"got {' '.join(words)}, expected {metavar}")
            if protocol is None:
                protocol = "http" if (address or "").startswith(("http://", "https://")) else "grpc"
            address = address or _DEFAULTS[protocol]
            return command(server=Server(address, protocol, connection(address)), words=rest, **others)

        return given  # type: ignore[return-value]  # its parameters are those of the options

    return give
