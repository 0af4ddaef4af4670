"""The errors of yais: one short tree, each class with the gRPC status it ends an RPC with.

Raise one anywhere below an RPC and that RPC ends with its status and message. What is not one of
these is translated by `status_of`, the one table for foreign exceptions.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import enum
from collections.abc import Mapping
from types import MappingProxyType

__all__ = [
    "Aborted",
    "AlreadyExists",
    "Cancelled",
    "Code",
    "DataLoss",
    "DeadlineExceeded",
    "FailedPrecondition",
    "Internal",
    "InvalidArgument",
    "NotFound",
    "OutOfRange",
    "PermissionDenied",
    "ResourceExhausted",
    "Unauthenticated",
    "Unavailable",
    "Unimplemented",
    "Unknown",
    "YaisError",
    "error_of",
    "status_of",
]


class Code(enum.IntEnum):
    """gRPC's status codes, by their numbers on the wire."""

    OK = 0
    CANCELLED = 1
    UNKNOWN = 2
    INVALID_ARGUMENT = 3
    DEADLINE_EXCEEDED = 4
    NOT_FOUND = 5
    ALREADY_EXISTS = 6
    PERMISSION_DENIED = 7
    RESOURCE_EXHAUSTED = 8
    FAILED_PRECONDITION = 9
    ABORTED = 10
    OUT_OF_RANGE = 11
    UNIMPLEMENTED = 12
    INTERNAL = 13
    UNAVAILABLE = 14
    DATA_LOSS = 15
    UNAUTHENTICATED = 16


class YaisError(Exception):
    """Base of all errors yais raises. `code` is the gRPC status, `str(error)` its message.

    Attributes
    ----------
    trailing_metadata
        What a server sent with the status, by lower-case key, where the error is one that a client received.
    """

    code: Code = Code.UNKNOWN
    trailing_metadata: Mapping[str, str | bytes] = MappingProxyType({})


class Unknown(YaisError):
    """Unexpected: an error with no better status."""


class Cancelled(YaisError):
    """Expected: the caller no longer wants the answer."""

    code = Code.CANCELLED


class InvalidArgument(YaisError):
    """Expected: the request itself is wrong, whatever the state of the server."""

    code = Code.INVALID_ARGUMENT


class DeadlineExceeded(YaisError, TimeoutError):
    """Expected: the time given for the call, or for a wait, is over."""

    code = Code.DEADLINE_EXCEEDED


class NotFound(YaisError):
    """Expected: the named thing (model, region, ...) does not exist."""

    code = Code.NOT_FOUND


class AlreadyExists(YaisError):
    """Expected: the named thing is there already."""

    code = Code.ALREADY_EXISTS


class PermissionDenied(YaisError):
    """Expected: the caller is known and may not do this."""

    code = Code.PERMISSION_DENIED


class ResourceExhausted(YaisError):
    """Expected: a bounded queue, pool or size is full."""

    code = Code.RESOURCE_EXHAUSTED


class FailedPrecondition(YaisError):
    """Expected: the server is not in the state that the call needs."""

    code = Code.FAILED_PRECONDITION


class Aborted(YaisError):
    """Expected: a conflict with another call ended this one."""

    code = Code.ABORTED


class OutOfRange(YaisError):
    """Expected: a position past the end of what is there."""

    code = Code.OUT_OF_RANGE


class Unimplemented(YaisError):
    """Expected: the server does not do this."""

    code = Code.UNIMPLEMENTED


class Internal(YaisError):
    """Unexpected: an invariant of the server is broken."""

    code = Code.INTERNAL


class Unavailable(YaisError):
    """Expected: not now; the same call may succeed later."""

    code = Code.UNAVAILABLE


class DataLoss(YaisError):
    """Unexpected: data is lost or corrupt."""

    code = Code.DATA_LOSS


class Unauthenticated(YaisError):
    """Expected: the caller did not say who it is."""

    code = Code.UNAUTHENTICATED


# First match wins. What is not here is a fault of user code: UNKNOWN, as gRPC has it everywhere.
_FOREIGN: tuple[tuple[type[BaseException], Code], ...] = (
    (asyncio.CancelledError, Code.CANCELLED),
    (concurrent.futures.CancelledError, Code.CANCELLED),
    (TimeoutError, Code.DEADLINE_EXCEEDED),
    (NotImplementedError, Code.UNIMPLEMENTED),
    (MemoryError, Code.RESOURCE_EXHAUSTED),
)


def status_of(error: BaseException) -> tuple[Code, str]:
    """Return the gRPC status code and message for any exception. Raises nothing itself.

    A `YaisError` gives its own code and message. A foreign one is looked up in one table; its message
    names its type, since `KeyError('x')` alone prints as `'x'`.
    """
    name = type(error).__name__
    try:
        text = str(error)
        if isinstance(error, YaisError):
            return Code(error.code), text
    except BaseException:  # code of the user's, too: a message or a code that cannot be had
        return Code.UNKNOWN, name
    text = f"{name}: {text}" if text else name
    for kind, code in _FOREIGN:
        if isinstance(error, kind):
            return code, text
    return Code.UNKNOWN, text


def error_of(code: Code, message: str) -> YaisError:
    """Return the error for a status that a server answered; `YaisError` itself only for OK."""
    # Those of this module only: programs have errors of their own, with codes that are there already.
    kinds = {kind.code: kind for kind in YaisError.__subclasses__() if kind.__module__ == __name__}
    return kinds.get(code, YaisError)(message)
