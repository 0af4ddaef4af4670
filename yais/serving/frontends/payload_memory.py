"""The contents of tensors on their way between two processes: in memory that both have mapped.

Who sends contents writes them once, and says where they are; who receives them reads them there, and gives
the place back when nobody refers to them any more. What is small travels with the message, and what finds no
room gets memory of its own, which goes with the message as a file descriptor.
"""

from __future__ import annotations

import collections
import contextlib
import fcntl
import mmap
import os
from collections.abc import Callable
from typing import Any, Self

import numpy as np

from yais.errors import InvalidArgument, ResourceExhausted
from yais.serving.frontends.free_space import FreeSpace

__all__ = ["INLINE", "Contents", "PayloadReader", "PayloadWriter"]

INLINE = 4096
"""Bytes up to which contents go with the message: as in the decoder of requests, a copy costs less."""

Contents = bytes | tuple[int, int]
"""Contents in a message: themselves; or their place and their size. The place is an offset in the shared
memory, or negative if the next file descriptor that comes with the message is that of their memory."""

_STEPS = 8  # in which memory is set aside
_MOST_OF_THEIR_OWN = 256  # memories at once: each is a file descriptor of the reader's, who may have 1024
_MOST_OF_A_MESSAGE = 64  # of these; the kernel takes up to 253 at once
_ALIGNMENT = 64  # bytes, as everywhere in yais.memory
_SEALS = fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SEAL


class PayloadWriter:
    """The memory of who sends. Not thread-safe.

    Parameters
    ----------
    size
        In bytes, a multiple of 8 pages. Set aside by an eighth, as it is needed.

    Attributes
    ----------
    descriptor
        Of the memory, for the other process; valid until `close`.
    shared_bytes, overflows
        What was put into memory, and how often that was memory of its own.

    Raises
    ------
    InvalidArgument
        The size is none.
    ResourceExhausted
        There is no memory, or no file descriptor is left.
    """

    def __init__(self, size: int) -> None:
        if size < 1 or size % (_STEPS * mmap.PAGESIZE):
            raise InvalidArgument(f"got size={size}, expected a multiple of {_STEPS} pages")
        self.size = size
        self.shared_bytes = self.overflows = 0
        self._space = FreeSpace()
        self._aside = 0  # bytes that were set aside
        self._places: dict[int, int] = {}  # sizes by offset
        self._own: set[int] = set()  # places of contents with memory of their own
        self._next_own = -1
        self.descriptor = _sealed(size)
        self._memory = memoryview(mmap.mmap(self.descriptor, size))

    def __repr__(self) -> str:
        return f"<PayloadWriter {sum(self._places.values())} of {self.size} bytes in use>"

    @property
    def live(self) -> int:
        """Contents that were not given back yet."""
        return len(self._places) + len(self._own)

    def put(self, parts: list[bytes | memoryview], size: int, descriptors: list[int]) -> Contents:
        """Return contents as they go into a message.

        Parameters
        ----------
        parts, size
            What they consist of, and their bytes in all.
        descriptors
            Of the message: one more, which whoever sends it closes, if they get memory of their own. Where
            there is none, contents of any size travel with the message.
        """
        if size <= INLINE:
            return b"".join(parts)
        self.shared_bytes += size
        room = -(-size // _ALIGNMENT) * _ALIGNMENT
        start = self._allocate(room)
        if start is None:
            self.overflows += 1
            return self._put_apart(parts, size, descriptors)
        self._places[start] = room
        offset = start
        for part in parts:
            end = offset + len(part)
            self._memory[offset:end] = part
            offset = end
        return start, size

    def take_back(self, offset: int) -> None:
        """Take back contents by their place. Raises InvalidArgument if none are there."""
        size = self._places.pop(offset, None)
        if size is not None:
            self._space.give(offset, size)
        elif offset in self._own:
            self._own.remove(offset)
        else:
            raise InvalidArgument(f"got place {offset} given back, expected one of contents that are out")

    def close(self) -> None:
        """Give the memory up; the other process keeps what it has. Idempotent."""
        descriptor, self.descriptor = self.descriptor, -1
        if descriptor >= 0:
            os.close(descriptor)
        self._memory = memoryview(b"")

    def _put_apart(self, parts: list[bytes | memoryview], size: int, descriptors: list[int]) -> Contents:
        if len(self._own) < _MOST_OF_THEIR_OWN and len(descriptors) < _MOST_OF_A_MESSAGE:
            with contextlib.suppress(ResourceExhausted):
                descriptors.append(_filled(parts, size))
                place = self._next_own
                self._next_own -= 1
                self._own.add(place)
                return place, size
        return b"".join(parts)

    def _allocate(self, size: int) -> int | None:
        if size > self.size or self.descriptor < 0:
            return None
        start = self._space.take(size)
        while start is None and self._aside < self.size:
            step = self.size // _STEPS
            try:  # what is not there should fail here, not at the first write
                os.posix_fallocate(self.descriptor, self._aside, step)
            except OSError:
                return None
            self._space.give(self._aside, step)
            self._aside += step
            start = self._space.take(size)
        return start


class PayloadReader:
    """The memory of the other process. Its views may be used and dropped on any thread.

    The memory stays mapped until the last of them is gone.

    Parameters
    ----------
    descriptor
        Of that memory, which is not needed afterwards.
    size
        In bytes.
    given_back
        Called with the place of contents that nobody refers to any more, on any thread and at any time,
        under any lock: must not take one.

    Raises
    ------
    InvalidArgument
        The memory is smaller, or might become so.
    """

    def __init__(self, descriptor: int, size: int, given_back: Callable[[int], object]) -> None:
        self.size = size
        self._memory = _mapped(descriptor, size)
        self._given_back = given_back

    @classmethod
    def take(
        cls, descriptors: collections.deque[int], size: int, given_back: Callable[[int], object]
    ) -> Self:
        """Return one for the memory of the first of the descriptors that have come. Raises as the class."""
        if not descriptors:
            raise InvalidArgument("got no file descriptor, expected that of the memory of a link")
        descriptor = descriptors.popleft()
        try:
            return cls(descriptor, size, given_back)
        finally:
            os.close(descriptor)

    def get(self, contents: Contents, descriptors: collections.deque[int]) -> bytes | memoryview:
        """Return contents of a message, read-only.

        Parameters
        ----------
        descriptors
            Of the messages that are not handled yet. The first is taken if these contents are in its memory.

        Raises
        ------
        InvalidArgument
            There is nothing of the kind.
        """
        if isinstance(contents, bytes):
            return contents
        offset, size = contents
        if offset < 0 and descriptors:
            descriptor = descriptors.popleft()
            try:
                block = _Block((size,), np.uint8, _mapped(descriptor, size))
            finally:
                os.close(descriptor)
        elif offset >= 0 and size > 0 and offset + size <= self.size:
            block = _Block((size,), np.uint8, self._memory, offset)
        else:
            raise InvalidArgument(f"got {size} bytes at {offset}, expected them within {self.size}")
        block.place = offset
        block.given_back = self._given_back
        return memoryview(block)  # type: ignore[arg-type]


class _Block(np.ndarray[Any, Any]):
    """Contents in the memory of the other process: given back when the last view of them is gone."""

    place: int
    given_back: Callable[[int], object]

    def __del__(self) -> None:
        self.given_back(self.place)


def _sealed(size: int) -> int:
    """Return the descriptor of new memory that nobody can make smaller."""
    try:
        descriptor = os.memfd_create("yais-link", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    except OSError as error:
        raise ResourceExhausted(f"no memory for a link: {error.strerror}") from None
    try:
        os.ftruncate(descriptor, size)
        fcntl.fcntl(descriptor, fcntl.F_ADD_SEALS, _SEALS)
    except OSError as error:
        os.close(descriptor)
        raise ResourceExhausted(f"no {size} bytes of memory for a link: {error.strerror}") from None
    return descriptor


def _filled(parts: list[bytes | memoryview], size: int) -> int:
    """Return the descriptor of new memory with these contents."""
    descriptor = _sealed(size)
    try:
        offset = 0
        for part in parts:
            rest = memoryview(part)
            while rest:
                written = os.pwrite(descriptor, rest, offset)
                offset += written
                rest = rest[written:]
    except OSError as error:
        os.close(descriptor)
        raise ResourceExhausted(f"no {size} bytes of memory for a tensor: {error.strerror}") from None
    return descriptor


def _mapped(descriptor: int, size: int) -> mmap.mmap:
    with contextlib.suppress(OSError):  # no memory that can be sealed
        if fcntl.fcntl(descriptor, fcntl.F_GET_SEALS) & fcntl.F_SEAL_SHRINK:
            have = os.fstat(descriptor).st_size
            if 0 < size <= have:
                return mmap.mmap(descriptor, size, prot=mmap.PROT_READ)
            raise InvalidArgument(f"got memory of {have} bytes, expected {size}")
    raise InvalidArgument("got a file descriptor, expected one of memory that cannot be made smaller")
