"""Buffers: pieces of memory, given back when nobody can touch them any more."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from yais.memory.resource import MemoryResource

__all__ = ["Buffer"]

_log = logging.getLogger("yais.memory")

_BYTE = np.dtype(np.uint8)
_NOTHING = memoryview(b"")


class _Lease(np.ndarray[Any, np.dtype[np.uint8]]):
    """What all views of leased memory come from, and so the last of them to go."""

    _source: memoryview  # numpy itself would hold the object below, but not keep it from being resized
    _release: Callable[[], None]

    def __del__(self) -> None:
        release = vars(self).pop("_release", None)
        if release is None:  # an array made from a lease, which it keeps alive
            return
        del self._source
        try:
            release()
        except Exception:
            _log.exception("the release of a buffer of %d bytes raised", self.nbytes)


class Buffer:
    """A piece of host memory. The names are those of `cuda.core.Buffer`, as far as it has them.

    Views, arrays and DLPack capsules of a buffer keep its memory alive after `close`, which only ends this
    object's own claim. Python 3.12 and later also take the buffer itself where they want bytes, as in
    `memoryview(buffer)`; before that, only a class written in C can offer this: pass `buffer.view`.

    Not thread-safe: whoever holds a buffer has it alone. Its views may go away on any thread.

    Parameters
    ----------
    view
        The bytes, contiguous. Read-only bytes make a read-only buffer.
    release
        Called once, when this buffer is closed or collected and the last of what it gave out is gone: on
        the thread that drops it, or on any that collects garbage, so it must not wait for a lock. What
        it raises is logged. It is not called for what still lives when the interpreter exits.
    resource
        Where the memory comes from.

    Attributes
    ----------
    view
        The bytes, one dimension of format "B"; empty once closed.
    memory_resource
        Where the memory comes from, if known.
    """

    __slots__ = ("__weakref__", "memory_resource", "view")

    is_host_accessible = True
    device_id = -1

    def __init__(
        self,
        view: memoryview,
        release: Callable[[], None] | None = None,
        *,
        resource: MemoryResource | None = None,
    ) -> None:
        if release is not None:
            # With the memory as its base, so that numpy cannot shorten a chain of views past the lease.
            lease = _Lease(view.nbytes, _BYTE, view)
            lease._source, lease._release = view, release
            view = lease.data
        self.view = view
        self.memory_resource = resource

    @classmethod
    def of(cls, source: Any) -> Buffer:
        """Return a buffer over the memory of another object, which it keeps alive. Nothing is copied.

        Parameters
        ----------
        source
            A `Buffer`, which is returned itself; anything with the buffer protocol, contiguous; or else
            anything with DLPack. What is read-only stays so.

        Raises
        ------
        ValueError
            It is none of these, or not contiguous.
        """
        if isinstance(source, Buffer):
            return source
        try:
            data = np.frombuffer(source, _BYTE).data
        except TypeError:
            if not hasattr(source, "__dlpack__"):
                raise ValueError(f"got {type(source)!r}, expected a buffer or DLPack") from None
            return cls.from_dlpack(source)
        except (ValueError, BufferError) as error:
            raise ValueError(f"got a {type(source).__name__} that is not contiguous: {error}") from None
        return cls(data)

    @classmethod
    def from_dlpack(cls, source: Any) -> Buffer:
        """Return a buffer over a DLPack tensor in host memory, which it keeps alive. Nothing is copied.

        Raises
        ------
        ValueError
            The tensor is not in row-major order without gaps.
        BufferError, RuntimeError
            The tensor cannot be exported, or is not in host memory.
        """
        tensor = np.from_dlpack(source)
        if not tensor.flags.c_contiguous:
            raise ValueError(
                f"got a tensor of shape {tensor.shape} with strides {tensor.strides}, expected it contiguous"
            )
        return cls(tensor.reshape(-1).view(_BYTE).data)

    def __repr__(self) -> str:
        if self.view is _NOTHING:
            return "<Buffer: closed>"
        return f"<Buffer of {self.size} bytes{', read-only' if self.view.readonly else ''}>"

    @property
    def size(self) -> int:
        """Size in bytes; 0 once closed."""
        return self.view.nbytes

    @property
    def is_device_accessible(self) -> bool:
        """Whether a GPU can read and write it as well, as its resource says."""
        return self.memory_resource is not None and self.memory_resource.is_device_accessible

    @property
    def handle(self) -> int:
        """Address of the first byte; it means nothing for a buffer without bytes."""
        return int(self.array(_BYTE).ctypes.data)

    def array(
        self, dtype: npt.DTypeLike, shape: int | Sequence[int] | None = None, offset: int = 0
    ) -> npt.NDArray[Any]:
        """Return an array over the memory.

        Parameters
        ----------
        dtype
            Of its elements.
        shape
            Of the array, row-major; by default one dimension with all there is from the offset on.
        offset
            Where it begins, in bytes.

        Raises
        ------
        ValueError
            It does not lie within the buffer, or what is left is not a whole number of elements.
        """
        dtype = np.dtype(dtype)
        left = self.size - offset
        if offset < 0 or left < 0:
            raise ValueError(f"got offset={offset}, expected 0 to {self.size}")
        if shape is None:
            if left % dtype.itemsize:
                raise ValueError(f"got {left} bytes, expected a multiple of {dtype.itemsize} for {dtype}")
            shape = left // dtype.itemsize
        count = math.prod((shape,) if isinstance(shape, int) else shape)
        if count * dtype.itemsize > left:
            raise ValueError(
                f"got shape={shape} of {dtype}: {count * dtype.itemsize} bytes, expected at most {left}"
            )
        return np.frombuffer(self.view, dtype, count, offset).reshape(shape)

    def copy_to(self, destination: Buffer, *, stream: Any = None) -> Buffer:
        """Copy all bytes into another buffer of the same size, and return that.

        Raises
        ------
        ValueError
            The sizes differ, or a stream is given: host memory knows none.
        """
        destination.copy_from(self, stream=stream)
        return destination

    def copy_from(self, source: Buffer, *, stream: Any = None) -> None:
        """Copy all bytes of another buffer of the same size into this one; see `copy_to`."""
        _expect_no_stream(stream)
        if source.size != self.size:
            raise ValueError(f"got {source.size} bytes to copy, expected {self.size}")
        self.view[:] = source.view

    def close(self, stream: Any = None) -> None:
        """End this object's claim to the memory. Idempotent.

        Raises
        ------
        ValueError
            A stream is given: host memory knows none.
        """
        _expect_no_stream(stream)
        self.view = _NOTHING

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __buffer__(self, flags: int) -> memoryview:
        return self.view[:]

    def __array__(self, dtype: npt.DTypeLike | None = None, copy: bool | None = None) -> npt.NDArray[Any]:
        # Not `__array_interface__`: numpy would keep this object alive, and so not the memory after `close`.
        return np.array(self.array(_BYTE), dtype, copy=copy)

    def __dlpack__(self, **options: Any) -> Any:
        return self.array(_BYTE).__dlpack__(**options)

    def __dlpack_device__(self) -> tuple[int, int]:
        return self.array(_BYTE).__dlpack_device__()


def _expect_no_stream(stream: Any) -> None:
    if stream is not None:
        raise ValueError(f"got stream={stream!r}, expected None: host memory is not ordered by streams")
