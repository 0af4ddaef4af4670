"""Tensors of requests in system shared memory, which a server on the same machine reads and writes there."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import Self

from yais.client.endpoint import Endpoint
from yais.client.infer_call import InputTensor, SharedTensor, WantedOutput
from yais.errors import InvalidArgument, YaisError
from yais.memory.shared_region import SharedRegion
from yais.protocol import kserve_pb2 as pb

__all__ = ["SharedRegions"]

_ALIGNMENT = 64  # bytes: a cache line, enough for whatever an engine loads at once


class SharedRegions:
    """Regions of this process that a server knows for as long as the block lasts. Not thread-safe.

    The end of the block, however it comes, takes them away from the server and the machine. Requests that
    use them must have ended.

    Parameters
    ----------
    endpoint
        The server. It must see this process' shared memory, and must allow clients to name regions
        (`--allow-client-shm`).

    Examples
    --------
    >>> with SharedRegions(endpoint) as regions:
    ...     (inputs,) = regions.inputs([generated(model)])
    ...     outputs = regions.outputs({"OUTPUT0": 64})
    ...     call = InferCall(model.model, inputs, outputs)
    """

    def __init__(self, endpoint: Endpoint) -> None:
        self._endpoint = endpoint
        self._regions: list[SharedRegion] = []

    def __repr__(self) -> str:
        names = ", ".join(region.name for region in self._regions)
        return f"<SharedRegions {names or 'none'}>"

    def inputs(self, requests: Sequence[Sequence[InputTensor]]) -> list[tuple[InputTensor, ...]]:
        """Copy the contents of requests into one region; return the requests that refer to it.

        Raises
        ------
        ResourceExhausted
            There is not so much shared memory.
        YaisError
            What the server answers, when it cannot open the region, for example.
        """
        sizes = [len(_contents(tensor)) for tensors in requests for tensor in tensors]
        region, places = self._region(sizes)
        shared, place = [], iter(places)
        for tensors in requests:
            moved = []
            for tensor in tensors:
                where = next(place)
                region.view(where.offset, where.byte_size)[:] = _contents(tensor)
                moved.append(InputTensor(tensor.spec, where))
            shared.append(tuple(moved))
        return shared

    def outputs(self, sizes: Mapping[str, int]) -> tuple[WantedOutput, ...]:
        """Return outputs that are written into a region.

        All requests with them write to the same place: for who measures, not for who reads them.

        Parameters
        ----------
        sizes
            Bytes by the name of the output.

        Raises
        ------
        ResourceExhausted, YaisError
            As of `inputs`.
        """
        _, places = self._region([*sizes.values()])
        return tuple(WantedOutput(name, shared=place) for name, place in zip(sizes, places, strict=True))

    def close(self) -> None:
        """Take them away, from the server and from the machine. Idempotent."""
        while self._regions:
            with self._regions.pop() as region, contextlib.suppress(YaisError):
                # A server that does not answer has nothing that could be taken away.
                self._endpoint.call(
                    "SystemSharedMemoryUnregister",
                    pb.SystemSharedMemoryUnregisterRequest(name=region.name.lstrip("/")),
                )

    def __enter__(self) -> Self:
        """Return the regions themselves."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Take them away."""
        self.close()

    def _region(self, sizes: Sequence[int]) -> tuple[SharedRegion, list[SharedTensor]]:
        """Make a region for tensors of so many bytes, known to the server; return it and their places."""
        offsets, end = [], 0
        for size in sizes:
            offsets.append(end)
            end += -(-size // _ALIGNMENT) * _ALIGNMENT
        region = SharedRegion.create(max(end, 1))
        self._regions.append(region)
        name = region.name.lstrip("/")
        self._endpoint.call(
            "SystemSharedMemoryRegister",
            pb.SystemSharedMemoryRegisterRequest(name=name, key=region.name, byte_size=region.size),
        )
        places = [SharedTensor(name, size, offset) for size, offset in zip(sizes, offsets, strict=True)]
        return region, places


def _contents(tensor: InputTensor) -> bytes | memoryview:
    if isinstance(tensor.data, SharedTensor):
        raise InvalidArgument(f"got input '{tensor.spec.name}' in shared memory, expected its contents")
    return tensor.data
