"""What a mounted servicer method gets as its context."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NoReturn

import grpc

from yais.errors import Code, YaisError, status_of
from yais.rpc.blocking_call import BlockingCall
from yais.rpc.completion_queue import MetadataItem, seconds_left

# The methods are those of grpc.ServicerContext, and documented there.
# ruff: noqa: D102

__all__ = ["Abort", "MountedContext"]

_log = logging.getLogger("yais.rpc")


class Abort(Exception):
    """Ends a servicer method after `context.abort`, as grpcio does."""


class MountedContext(grpc.ServicerContext):
    """What a servicer method gets as its context: grpcio's interface over a `BlockingCall`."""

    def __init__(self, rpc: BlockingCall) -> None:
        self._rpc = rpc
        self._code: grpc.StatusCode | None = None
        self._details = ""
        self._trailing: Sequence[MetadataItem] = ()

    def ok(self) -> bool:
        return self._code is None or self._code is grpc.StatusCode.OK

    def finish(self, message: bytes | None) -> None:
        code = Code.OK if self._code is None else Code(self._code.value[0])
        self._rpc.end(code, self._details, self._trailing, message)

    def fail(self, error: BaseException) -> None:
        code, details = status_of(error)
        if not isinstance(error, YaisError):
            _log.error("%s raised", self._rpc.method, exc_info=error)
            details = f"Exception calling application: {details}"
        if self._code is not None and not self.ok():  # what the method said before it raised
            code, details = Code(self._code.value[0]), self._details or details
        self._rpc.end(code, details, self._trailing)

    def is_active(self) -> bool:
        return self._rpc.active

    def time_remaining(self) -> float:
        return max(0.0, seconds_left(self._rpc.call.deadline))

    def cancel(self) -> bool:
        self._rpc.call.cancel()
        return True

    def add_callback(self, callback: Callable[[], None]) -> bool:
        return self._rpc.add_callback(callback)

    def invocation_metadata(self) -> Any:
        return self._rpc.invocation_metadata

    def peer(self) -> str:
        return self._rpc.call.peer

    def peer_identities(self) -> Any:
        return None

    def peer_identity_key(self) -> str | None:
        return None

    def auth_context(self) -> Mapping[str, Any]:
        return {}

    def set_compression(self, compression: Any) -> None:
        """Ignore: what is sent is not compressed."""

    def disable_next_message_compression(self) -> None:
        """Ignore: what is sent is not compressed."""

    def send_initial_metadata(self, initial_metadata: Any) -> None:
        self._rpc.send_initial_metadata(initial_metadata)

    def set_trailing_metadata(self, trailing_metadata: Any) -> None:
        self._trailing = trailing_metadata

    def trailing_metadata(self) -> Any:
        return self._trailing

    def abort(self, code: Any, details: str) -> NoReturn:
        self._code = grpc.StatusCode.UNKNOWN if code is grpc.StatusCode.OK else code
        self._details = details
        raise Abort

    def abort_with_status(self, status: Any) -> NoReturn:
        self._trailing = status.trailing_metadata
        self.abort(status.code, status.details)

    def set_code(self, code: Any) -> None:
        self._code = code

    def code(self) -> Any:
        return self._code

    def set_details(self, details: str) -> None:
        self._details = details

    def details(self) -> Any:
        return self._details.encode()
