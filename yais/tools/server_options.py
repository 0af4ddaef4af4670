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
from yais.tools.protocol_option import DEFAULT_ADDRESSES, protocol_of, protocol_option

__all__ = ["Server", "server_options"]

F = TypeVar("F", bound=Callable[..., Any])


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
        """
        with reported(self.address), connect(self.connection, self.protocol) as endpoint:
            yield endpoint


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
        @protocol_option
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
            protocol = protocol_of(address, protocol)
            address = address or DEFAULT_ADDRESSES[protocol]
            return command(server=Server(address, protocol, connection(address)), words=rest, **others)

        return given  # type: ignore[return-value]  # its parameters are those of the options

    return give
