"""Servers that stand in for each other."""

from __future__ import annotations

import re
from dataclasses import dataclass

from yais.errors import InvalidArgument
from yais.lb.backend import Backend

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
    backends
        The servers, at least one.

    Raises
    ------
    InvalidArgument
        The name is none, there is no backend, or one is there twice.
    """

    name: str
    backends: tuple[Backend, ...]

    def __post_init__(self) -> None:
        if not _NAME.fullmatch(self.name):
            raise InvalidArgument(
                f"got pool {self.name!r}, expected a letter and up to 62 letters, digits, '_' and '-'"
            )
        if not self.backends:
            raise InvalidArgument(f"pool {self.name!r} has no backend, expected at least one")
        twice = {str(backend) for backend in self.backends if self.backends.count(backend) > 1}
        if twice:
            raise InvalidArgument(f"pool {self.name!r}: got {min(twice)} twice, expected each backend once")

    @classmethod
    def parse(cls, text: str) -> Pool:
        """Return the pool that "NAME=BACKEND,BACKEND" names; InvalidArgument if it names none."""
        name, equals, backends = text.partition("=")
        if not equals:
            raise InvalidArgument(f"pool: got {text!r}, expected NAME=HOST:PORT,HOST:PORT")
        return cls(name, tuple(Backend.parse(each) for each in backends.split(",")))
