"""Server reflection, by grpcio's own servicer, so that grpcurl and its kin need no .proto files."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

from google.protobuf import descriptor_pool
from google.protobuf.descriptor import Descriptor
from grpc_reflection.v1alpha import reflection

from yais.rpc.servicers import ServicerHost

__all__ = ["enable_reflection"]


class _Pools:
    """Several descriptor pools as one: services may be described in pools of their own."""

    def __init__(self, pools: Sequence[Any]) -> None:
        self._pools = pools

    def FindFileByName(self, name: str) -> Any:  # noqa: N802
        return self._first(lambda pool: pool.FindFileByName(name))

    def FindFileContainingSymbol(self, symbol: str) -> Any:  # noqa: N802
        return self._first(lambda pool: pool.FindFileContainingSymbol(symbol))

    def FindMessageTypeByName(self, name: str) -> Any:  # noqa: N802
        return self._first(lambda pool: pool.FindMessageTypeByName(name))

    def FindExtensionByNumber(self, message: Descriptor, number: int) -> Any:  # noqa: N802
        return self._first(lambda pool: pool.FindExtensionByNumber(message, number))

    def FindAllExtensions(self, message: Descriptor) -> Any:  # noqa: N802
        return self._first(lambda pool: pool.FindAllExtensions(message))

    def _first(self, find: Callable[[Any], Any]) -> Any:
        for pool in self._pools[:-1]:
            try:
                return find(pool)
            except KeyError:
                continue
        return find(self._pools[-1])


def enable_reflection(host: ServicerHost, services: Iterable[str], pools: Iterable[Any]) -> None:
    """Mount the reflection service.

    Parameters
    ----------
    services
        Full names to list.
    pools
        Where they are described, besides protobuf's default pool, which is asked last.
    """
    chain = _Pools([*dict.fromkeys(pools), descriptor_pool.Default()])
    reflection.enable_server_reflection([*services, reflection.SERVICE_NAME], host, pool=chain)
