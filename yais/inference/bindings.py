"""Bindings: the inputs of one request, by name, in the staging memory of a lane."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping
from types import TracebackType
from typing import Any, Self

import numpy as np

from yais.core.arrays import converted
from yais.core.future import Future
from yais.core.pool import Lease
from yais.core.tensor import TensorSpec
from yais.engines.engine import Array
from yais.errors import FailedPrecondition, InvalidArgument
from yais.inference.layout import Signature
from yais.lane import Lane
from yais.memory.arena import Arena

__all__ = ["Bindings"]


class Bindings(Mapping[str, Array]):
    """Arrays over the staging memory of a lane, to be filled in place: what is written is not copied again.

    A context manager, whose end gives the lane back, once a request that is under way is answered. May be
    used for one request after another, not for two at once. Not thread-safe.

    Parameters
    ----------
    signature
        Of the model.
    lane
        Where the memory is.
    batch
        Items; at most the model's largest batch, and 1 for a model without a batch dimension.
    shapes
        For inputs with dimensions of any size, the shape of an item.

    Raises
    ------
    InvalidArgument
        The batch or a shape is none that the model takes.
    """

    def __init__(
        self, signature: Signature, lane: Lease[Lane], batch: int, shapes: Mapping[str, tuple[int, ...]]
    ) -> None:
        self._lane = lane
        self._signature = signature
        if not 1 <= batch <= max(1, signature.max_batch):
            raise InvalidArgument(
                f"got a batch of {batch} for model '{signature.name}', expected 1 to "
                f"{max(1, signature.max_batch)}"
            )
        known = [spec.name for spec in signature.inputs]
        for name in shapes:
            if name not in known:
                raise InvalidArgument(
                    f"got a shape of '{name}' for model '{signature.name}', expected of {known}"
                )
        leading = (batch,) if signature.max_batch else ()
        specs = [
            TensorSpec(spec.name, spec.datatype, (*leading, *_shape(spec, shapes, signature)))
            for spec in signature.inputs
        ]
        self._lock = threading.Lock()
        self._asked = 0  # requests that are not answered yet
        self._released = False
        arena = lane.item.staging
        self._size = sum(Arena.padded(spec.nbytes) for spec in specs)
        arena.reset(self._size)
        self._arrays = {spec.name: _array(spec, arena) for spec in specs}

    def __getitem__(self, name: str) -> Array:
        return self._arrays[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._arrays)

    def __len__(self) -> int:
        return len(self._arrays)

    def __repr__(self) -> str:
        arrays = ", ".join(f"{name}: {array.dtype}{list(array.shape)}" for name, array in self.items())
        return f"<Bindings of '{self._signature.name}' on {self._lane.item}: {arrays}>"

    @property
    def lane(self) -> Lane:
        """The lane whose memory this is. Raises FailedPrecondition once released."""
        if self._released:
            raise FailedPrecondition(
                f"got bindings of '{self._signature.name}' that are released, expected others"
            )
        return self._lane.item

    def rewind(self) -> Lane:
        """Return the lane, its memory free again but for the arrays: for the next request."""
        staging = self.lane.staging
        staging.reset()
        staging.take(self._size)  # the same bytes as before
        return self._lane.item

    def keep_until(self, answer: Future[Any]) -> None:
        """Keep the lane until a request is answered."""
        with self._lock:
            self._asked += 1
        answer.add_done_callback(self._on_answer)

    def bind(self, name: str, array: Any) -> None:
        """Use the caller's own memory for an input, instead of the lane's. An array is not copied.

        Raises
        ------
        InvalidArgument
            There is no such input, or the array is none that converts to its type.
        """
        spec = next((spec for spec in self._signature.inputs if spec.name == name), None)
        if spec is None:
            raise InvalidArgument(f"got input '{name}', expected one of {list(self._arrays)}")
        self._arrays[name] = converted(array, spec)

    def release(self) -> None:
        """Give the lane back, once nothing is asked any more; the arrays are not to be used. Idempotent."""
        with self._lock:
            self._released = True
            unused = not self._asked
        if unused:
            self._lane.release()

    def __enter__(self) -> Self:
        """Return the bindings themselves."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Release."""
        self.release()

    def _on_answer(self, _: Future[Any]) -> None:
        with self._lock:
            self._asked -= 1
            unused = self._released and not self._asked
        if unused:
            self._lane.release()


def _shape(spec: TensorSpec, shapes: Mapping[str, tuple[int, ...]], signature: Signature) -> tuple[int, ...]:
    profile = signature.profiles.get(spec.name)
    shape = shapes.get(spec.name, profile.usual if profile else spec.shape)
    if profile is not None and not profile.allows(shape):
        raise InvalidArgument(
            f"got shape {list(shape)} for input '{spec.name}' of model '{signature.name}', expected "
            f"{list(profile.smallest)} to {list(profile.largest)}, as in its profile"
        )
    fits = len(shape) == len(spec.shape) and all(
        size >= 0 and want in {-1, size} for size, want in zip(shape, spec.shape, strict=True)
    )
    if not fits:
        raise InvalidArgument(
            f"got shape {list(shape)} for input '{spec.name}' of model '{signature.name}', expected "
            f"{list(spec.shape)} (-1: any size, to be given in shapes)"
        )
    return tuple(shape)


def _array(spec: TensorSpec, arena: Arena) -> Array:
    if not spec.datatype.size:
        return np.full(spec.shape, b"", np.object_)
    return np.frombuffer(arena.take(spec.nbytes), spec.datatype.numpy).reshape(spec.shape)
