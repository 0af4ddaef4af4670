"""Memory calls of the kernel that the standard library does not have."""

from __future__ import annotations

import ctypes
import errno
import os
import platform

__all__ = ["mbind", "mlock"]

_libc = ctypes.CDLL(None, use_errno=True)

_MBIND = {"x86_64": 237, "aarch64": 235}.get(platform.machine())  # asm/unistd.h; glibc has no wrapper
_MPOL_PREFERRED = 1  # linux/mempolicy.h
_WORD = 8 * ctypes.sizeof(ctypes.c_ulong)


def mbind(address: int, size: int, node: int) -> None:
    """Have pages come from a NUMA node, or from the next one when that is full: mbind(2), MPOL_PREFERRED.

    Parameters
    ----------
    address, size
        Of whole pages, in bytes.
    node
        Its number.

    Raises
    ------
    OSError
        The kernel refuses: EPERM in a container without CAP_SYS_NICE, ENOSYS, or EINVAL for a node that is
        not there or not allowed.
    """
    if _MBIND is None:
        raise OSError(errno.ENOSYS, f"mbind is not known for {platform.machine()}")
    words = node // _WORD + 1
    mask = (ctypes.c_ulong * words)()
    mask[node // _WORD] = 1 << node % _WORD
    bits = words * _WORD + 1  # the kernel looks at one less than it is told
    _checked(
        _libc.syscall(
            ctypes.c_long(_MBIND),
            ctypes.c_void_p(address),
            ctypes.c_size_t(size),
            ctypes.c_long(_MPOL_PREFERRED),
            mask,
            ctypes.c_ulong(bits),
            ctypes.c_ulong(0),
        )
    )


def mlock(address: int, size: int) -> None:
    """Make pages present and keep them so until they are unmapped: mlock(2).

    Raises
    ------
    OSError
        ENOMEM or EPERM: more than RLIMIT_MEMLOCK. EAGAIN: not all could be locked.
    """
    _checked(_libc.mlock(ctypes.c_void_p(address), ctypes.c_size_t(size)))


def _checked(result: int) -> None:
    if result != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
