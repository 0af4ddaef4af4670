"""Memory shared between processes."""

from __future__ import annotations

import contextlib
import errno
import mmap
import os
import re
import secrets
import stat
import weakref
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Self

from yais.errors import (
    AlreadyExists,
    FailedPrecondition,
    InvalidArgument,
    NotFound,
    OutOfRange,
    PermissionDenied,
    ResourceExhausted,
    YaisError,
)
from yais.memory.buffer import Buffer

__all__ = ["SharedRegion"]

_DIRECTORY = Path("/dev/shm")  # where shm_open of the C library keeps them on Linux
_NAME = re.compile(r"/?([A-Za-z0-9_.-]{1,254})")
_FOREIGN_NAME = re.compile(r"/?([^/\0]{1,255})")  # of what others made
_KINDS: dict[int, type[YaisError]] = {
    errno.ENOENT: NotFound,
    errno.EEXIST: AlreadyExists,
    errno.EACCES: PermissionDenied,
    errno.EPERM: PermissionDenied,
    errno.EISDIR: PermissionDenied,
    errno.ELOOP: PermissionDenied,
    errno.ENXIO: PermissionDenied,
    errno.ENAMETOOLONG: InvalidArgument,
    errno.ENOSPC: ResourceExhausted,
    errno.ENOMEM: ResourceExhausted,
    errno.EFBIG: ResourceExhausted,
    errno.EMFILE: ResourceExhausted,
    errno.ENFILE: ResourceExhausted,
}
_FLAGS = os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC


class SharedRegion:
    """A region of POSIX shared memory: of this process, or attached to.

    Interoperates with `shm_open`. Made by `create` or `attach`. The name goes away with the process that
    created it, when that closes the region or exits, but not when it is killed. The memory stays until the
    last process has closed it and the last view of it is gone. Not thread-safe; its views may be used and
    dropped on any thread. A process that shrinks the file makes the others crash: share with those you trust,
    and look at `file_size` first.

    Attributes
    ----------
    name
        By which other processes attach, with a leading slash.
    size
        In bytes.
    """

    def __init__(self, descriptor: int, name: str, size: int) -> None:
        self.name = name
        self.size = size
        self._buffer: Buffer | None = Buffer(memoryview(mmap.mmap(descriptor, size)))
        self._descriptor = os.dup(descriptor)
        self._shut = weakref.finalize(self, os.close, self._descriptor)
        self._creator: int | None = None
        self._remove: weakref.finalize[[Path, int, int], SharedRegion] | None = None

    @classmethod
    def create(cls, size: int, *, name: str | None = None) -> SharedRegion:
        """Make a region of zeros that only processes of this user can attach to.

        Parameters
        ----------
        size
            In bytes, at least 1. All of it is set aside at once.
        name
            Letters, digits, "_", "-", "."; a leading slash may be left out. By default one that is free.

        Raises
        ------
        InvalidArgument
            The size or the name is none.
        AlreadyExists
            There is a region of that name.
        ResourceExhausted
            There is not so much shared memory.
        """
        if size < 1:
            raise InvalidArgument(f"got size={size}, expected at least 1 byte")
        path = _path(f"/yais-{secrets.token_hex(8)}" if name is None else name)
        with _translated(path), _opened(path, _FLAGS | os.O_CREAT | os.O_EXCL) as descriptor:
            inode = os.fstat(descriptor).st_ino
            try:
                # Rather than ftruncate: what is not there should fail here, not at the first write.
                os.posix_fallocate(descriptor, 0, size)
                region = cls(descriptor, f"/{path.name}", size)
            except BaseException:
                _unlink(path, os.getpid(), inode)
                raise
        region._creator = os.getpid()
        region._remove = weakref.finalize(region, _unlink, path, os.getpid(), inode)
        return region

    @classmethod
    def attach(cls, name: str, *, size: int | None = None, private: bool = False) -> SharedRegion:
        """Map a region that some process of this user has made.

        Parameters
        ----------
        name
            Of a file right there, whatever its characters; a leading slash may be left out.
        size
            Bytes to map, from the beginning; by default all.
        private
            Whether to refuse a region that other users may read or write.

        Raises
        ------
        InvalidArgument
            The name is none, or the region is smaller than asked.
        NotFound
            There is no region of that name.
        PermissionDenied
            It belongs to another user or is not private, or it is a link or something else that is no region.
        ResourceExhausted
            This process has too many files open, or too much memory mapped.
        """
        path = _path(name, _FOREIGN_NAME)
        with _translated(path), _opened(path, _FLAGS) as descriptor:
            status = os.fstat(descriptor)
            if not stat.S_ISREG(status.st_mode) or status.st_uid != os.geteuid():
                kind = stat.filemode(status.st_mode)
                raise PermissionDenied(
                    f"got {path}, {kind} of user {status.st_uid}, expected a file of user {os.geteuid()}"
                )
            if private and status.st_mode & 0o077:
                mode = stat.filemode(status.st_mode)
                raise PermissionDenied(f"got {path}, {mode}, expected nothing for group and others")
            size = status.st_size if size is None else size
            if not 0 < size <= status.st_size:
                raise InvalidArgument(f"got size={size} of {path}, expected 1 to {status.st_size} bytes")
            return cls(descriptor, f"/{path.name}", size)

    @staticmethod
    def unlink_left(prefix: str) -> list[str]:
        """Take away the names that begin so, of this user's regions: what a process that was killed has left.

        Whoever has such a region keeps the memory; nobody can attach any more.

        Parameters
        ----------
        prefix
            As a name of `create`, and of no other process that still runs.

        Returns
        -------
        list[str]
            The names, each with a leading slash.

        Raises
        ------
        InvalidArgument
            The prefix is no name.
        """
        start = _path(prefix).name
        left = []
        for path in _DIRECTORY.iterdir():
            with contextlib.suppress(FileNotFoundError):
                status = path.lstat()
                ours = stat.S_ISREG(status.st_mode) and status.st_uid == os.geteuid()
                if path.name.startswith(start) and ours:
                    path.unlink()
                    left.append(f"/{path.name}")
        return left

    def __repr__(self) -> str:
        state = ", closed" if self._buffer is None else ""
        return f"<SharedRegion {self.name}: {self.size} bytes{state}>"

    @property
    def file_size(self) -> int:
        """Bytes that the file has now. To touch what lies beyond kills the process.

        Raises
        ------
        FailedPrecondition
            The region is closed.
        """
        self._expect_open()
        return os.fstat(self._descriptor).st_size

    def reserve(self, offset: int, size: int) -> None:
        """Set memory aside for bytes of which whoever made the file may only have said that they are there.

        To touch them kills the process when there is no more shared memory. Their contents stay as they are.

        Parameters
        ----------
        offset, size
            Within the file, which grows otherwise; at least 1 byte.

        Raises
        ------
        ResourceExhausted
            There is not so much shared memory.
        FailedPrecondition
            The region is closed.
        """
        self._expect_open()
        with _translated(Path(self.name)):
            os.posix_fallocate(self._descriptor, offset, size)

    def view(self, offset: int = 0, size: int | None = None) -> memoryview:
        """Return `size` bytes from `offset` on, writable; by default up to the end.

        Raises
        ------
        InvalidArgument
            The offset or the size is negative.
        OutOfRange
            They reach beyond the end; the message says by how much.
        FailedPrecondition
            The region is closed.
        """
        buffer = self._expect_open()
        if offset < 0 or (size is not None and size < 0):
            raise InvalidArgument(f"got offset={offset}, size={size}, expected neither to be negative")
        end = max(offset, self.size) if size is None else offset + size
        if end > self.size:
            raise OutOfRange(
                f"got offset={offset}, size={size}: {end - self.size} bytes beyond the end of {self!r}"
            )
        return buffer.view[offset:end]

    def buffer(self, offset: int = 0, size: int | None = None) -> Buffer:
        """Return the same bytes as `view` does, as a buffer."""
        return Buffer(self.view(offset, size))

    def unlink(self) -> None:
        """Take the name away, so that nobody can attach any more. Idempotent.

        Raises
        ------
        PermissionDenied
            This is not the process that created the region.
        """
        if self._remove is None or self._creator != os.getpid():
            raise PermissionDenied(f"{self!r}: got process {os.getpid()}, expected the one that created it")
        self._remove()

    def close(self) -> None:
        """Give up this process' claim, and the name if it made the region. Views stay valid. Idempotent."""
        self._buffer = None
        self._shut()
        if self._remove is not None:
            self._remove()

    def _expect_open(self) -> Buffer:
        if self._buffer is None:
            raise FailedPrecondition(f"{self!r}: expected it open")
        return self._buffer

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _path(name: str, pattern: re.Pattern[str] = _NAME) -> Path:
    match = pattern.fullmatch(name)
    if match is None or match[1] in {".", ".."}:
        expected = 'up to 254 letters, digits, "_", "-", "."' if pattern is _NAME else "the name of a file"
        raise InvalidArgument(f"got name={name!r}, expected {expected}")
    return _DIRECTORY / match[1]


@contextlib.contextmanager
def _opened(path: Path, flags: int) -> Iterator[int]:
    descriptor = os.open(path, flags, 0o600)
    try:
        yield descriptor
    finally:
        os.close(descriptor)  # the mapping has its own


@contextlib.contextmanager
def _translated(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        kind = _KINDS.get(error.errno or 0)
        if kind is None:
            raise
        raise kind(f"{path}: {error.strerror}") from None


def _unlink(path: Path, creator: int, inode: int) -> None:
    """Remove the file, if this process made it: neither a forked child's parent's, nor a later namesake."""
    with contextlib.suppress(FileNotFoundError):
        if os.getpid() == creator and path.lstat().st_ino == inode:
            path.unlink()
