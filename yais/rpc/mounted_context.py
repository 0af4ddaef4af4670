"""What a mounted servicer method gets as its context."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NoReturn

import grpc

from yais.errors import Code, YaisError, status_of
from yais.rpc.blocking_call import BlockingCall
from yais.rpc.completion_queue import seconds_left

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
        self._code: Any = None
        self._details: bytes | None = None
        self._trailing: Any = None

    def ok(self) -> bool:
        return self._code is None or self._code is grpc.StatusCode.OK

    def finish(self, message: bytes | None) -> None:
        self._end(Code.OK, "", message)

    def fail(self, error: BaseException) -> None:
        code, details = status_of(error)
        if not isinstance(error, YaisError):
            _log.error("%s raised", self._rpc.method, exc_info=error)
            details = f"Exception calling application: {details}"
        if self.ok():  # then it did not mean this
            self._code = None
            if isinstance(error, YaisError):
                self._details = None
        self._end(code, details)

    def _end(self, code: Code, details: str, message: bytes | None = None) -> None:
        """End the call with what the method said, or else with this."""
        if self._code is not None:
            known = isinstance(self._code, grpc.StatusCode)
            code = Code(self._code.value[0]) if known else Code.UNKNOWN
        if self._details is not None:
            details = self._details.decode("utf-8", "replace")
        self._rpc.end(code, details, self._trailing or (), message)

    def is_active(self) -> bool:
        return self._rpc.active and not self._rpc.ending

    def time_remaining(self) -> float:
        """Seconds until the deadline; infinity without one, where grpcio has a very large number."""
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

    def peer_identities(self) -> Sequence[bytes] | None:
        return self._rpc.call.peer_identities

    def peer_identity_key(self) -> str | None:
        return self._rpc.call.peer_identity_key

    def auth_context(self) -> Mapping[str, Any]:
        return self._rpc.call.auth_context

    def set_compression(self, compression: grpc.Compression) -> None:
        """Compress what is sent, if nothing has been sent yet; without, as the server does by default."""
        names = {grpc.Compression.Gzip: "gzip", grpc.Compression.Deflate: "deflate"}
        self._rpc.compression = names.get(grpc.Compression(compression))

    def disable_next_message_compression(self) -> None:
        self._rpc.compress_next = False

    def send_initial_metadata(self, initial_metadata: Any) -> None:
        self._rpc.send_initial_metadata(initial_metadata)

    def set_trailing_metadata(self, trailing_metadata: Any) -> None:
        self._trailing = trailing_metadata

    def trailing_metadata(self) -> Any:
        return self._trailing

    def abort(self, code: Any, details: str) -> NoReturn:
        if code is grpc.StatusCode.OK:
            _log.error("%s: abort was called with StatusCode.OK, expected an error", self._rpc.method)
            code, details = grpc.StatusCode.UNKNOWN, ""
        self._code = code
        self.set_details(details)
        raise Abort

    def abort_with_status(self, status: Any) -> NoReturn:
        self._trailing = status.trailing_metadata
        self.abort(status.code, status.details)

    def set_code(self, code: Any) -> None:
        self._code = code

    def code(self) -> Any:
        return self._code

    def set_details(self, details: str | bytes) -> None:
        self._details = details.encode() if isinstance(details, str) else details

    def details(self) -> bytes | None:
        return self._details
