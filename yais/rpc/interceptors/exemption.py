"""Methods that an interceptor leaves alone."""

from __future__ import annotations

from collections.abc import Iterable

__all__ = ["HEALTH", "Exemption"]

HEALTH = ("/grpc.health.v1.Health/",)
"""What load balancers and kubelets ask: without a token, and all the more when the server is full."""


class Exemption:
    """A set of methods, asked with `in`.

    Parameters
    ----------
    names
        "/package.Service/" for all methods of a service, "/package.Service/Method" for one.

    Raises
    ------
    TypeError
        One string was given, which as a sequence of characters would exempt everything.
    ValueError
        A name has another form.
    """

    __slots__ = ("_methods", "_services")

    def __init__(self, names: Iterable[str]) -> None:
        if isinstance(names, str):
            raise TypeError(f"got exempt={names!r}, expected a sequence of names such as {HEALTH!r}")
        names = tuple(names)
        for name in names:
            if not (name.startswith("/") and name.find("/", 1) > 1):
                raise ValueError(
                    f"got {name!r} in exempt, expected '/package.Service/' or '/package.Service/Method'"
                )
        self._services = tuple(name for name in names if name.endswith("/"))
        self._methods = frozenset(names)

    def __contains__(self, method: str) -> bool:
        return method in self._methods or method.startswith(self._services)
