"""Servers that stand in for each other."""

from __future__ import annotations

import re
from dataclasses import dataclass

from yais.errors import InvalidArgument
from yais.lb.server_address import ServerAddress

__all__ = ["GENERAL", "Pool"]

GENERAL = "general"
"""Name of the pool of what no route names."""

_NAME = re.compile(r"[A-Za-z_][\w\-]{0,62}", re.ASCII)


@dataclass(frozen=True, slots=True)
class Pool:
    """Servers among which requests are spread, each to one with few in flight.

    HAProxy takes the one with the fewest; Envoy, of two at random, the one with fewer.

    Attributes
    ----------
    name
        For routes, and in the balancer's statistics.
    servers
        Their addresses, at least one.

    Raises
    ------
    InvalidArgument
        The name is none, there is no server, or one is there twice.
    """

    name: str
    servers: tuple[ServerAddress, ...]

    def __post_init__(self) -> None:
        if not _NAME.fullmatch(self.name):
            raise InvalidArgument(
                f"got pool {self.name!r}, expected a letter and up to 62 letters, digits, '_' and '-'"
            )
        if not self.servers:
            raise InvalidArgument(f"pool {self.name!r} has no server, expected at least one")
        twice = {str(server) for server in self.servers if self.servers.count(server) > 1}
        if twice:
            raise InvalidArgument(f"pool {self.name!r}: got {min(twice)} twice, expected each server once")

    @classmethod
    def parse(cls, text: str) -> Pool:
        """Return the pool that "NAME=SERVER,SERVER" names; InvalidArgument if it names none."""
        name, equals, servers = text.partition("=")
        if not equals:
            raise InvalidArgument(f"pool: got {text!r}, expected NAME=HOST:PORT,HOST:PORT")
        return cls(name, tuple(ServerAddress.parse(each) for each in servers.split(",")))
