"""Requests on streams: ModelStreamInfer, each request and its answers known by an id of ours."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from yais.client.connection import Connection
from yais.client.infer_call import InferAnswer, InferCall
from yais.client.infer_message import answer_of, request_of
from yais.client.transport import Done, tell
from yais.core.clock import NANOSECONDS, monotonic
from yais.core.timer import Timer, TimerHandle
from yais.errors import Code, FailedPrecondition, InvalidArgument
from yais.protocol import kserve_pb2 as pb
from yais.protocol.infer_response import encode_varint
from yais.rpc.client import Channels, ClientStreaming, Status, WriteStream

__all__ = ["StreamRequest", "StreamTransport"]

_ID = b"\x1a"  # field 3 of ModelInferRequest, length-delimited; of several the last one counts
_FINAL = "triton_final_response"
_TELL_END = "triton_enable_empty_final_response"
_MANY = 1 << 30


class StreamRequest(NamedTuple):
    """A ModelInferRequest, and the id that its sender gave it."""

    message: bytes
    id: str


class _Pending:
    __slots__ = ("done", "due", "id", "replies")

    def __init__(self, request_id: str, done: Done, due: int) -> None:
        self.id = request_id
        self.done = done
        self.due = due
        self.replies: list[pb.ModelInferResponse] = []


class StreamTransport:
    """Carries requests on streams, taken in turn; each gets all its answers, a list of messages.

    A stream that breaks ends the requests on it with its status; the next one opens it again. What the server
    says in a stream instead of an answer has no status: it ends its request with UNKNOWN. See `Transport`.

    Parameters
    ----------
    channels
        Closed with this.

    Raises
    ------
    InvalidArgument
        `streams` is below 1.
    """

    def __init__(self, channels: Channels, method: str, connection: Connection, streams: int) -> None:
        if streams < 1:
            raise InvalidArgument(f"got {streams} streams, expected at least 1")
        self._channels = channels
        self._method: ClientStreaming[bytes, bytes] = ClientStreaming(
            channels, method, timeout=None, max_unsent=_MANY
        )
        self._metadata = connection.headers
        self._timeout = connection.timeout
        self._lock = threading.Lock()
        self._closed = False
        self._streams: list[_Stream | None] = [None] * streams
        self._turns = itertools.cycle(range(streams))
        self._numbers = itertools.count()
        self._timer = Timer("yais-client-timer")
        self._alarm: TimerHandle | None = None

    def __repr__(self) -> str:
        return f"<StreamTransport on {len(self._streams)} streams>"

    def encode(self, call: InferCall) -> StreamRequest:
        """Return a ModelInferRequest that asks to be told of its last answer."""
        message = request_of(call)
        message.parameters[_TELL_END].bool_param = True
        return StreamRequest(message.SerializeToString(), call.id)

    def send(self, request: StreamRequest, done: Done) -> None:
        """Write a request to the stream whose turn it is."""
        due = monotonic() + int(self._timeout * NANOSECONDS)
        with self._lock:
            if self._closed:
                raise FailedPrecondition("the streams are closed")
            turn = next(self._turns)
            stream = self._streams[turn]
            if stream is None or stream.ended:
                stream = self._streams[turn] = _Stream(self._open)
            number = str(next(self._numbers))
            # Before it is seen whether there is an alarm: one that goes off now must see the request.
            stream.expect(number, _Pending(request.id, done, due))
            if self._alarm is None:
                self._alarm = self._timer.call_at(due, self._end_overdue)
        stream.send(number, request.message)

    def answers(self, reply: Sequence[pb.ModelInferResponse]) -> Sequence[InferAnswer]:
        """Return the answers to a request, without the empty one that only ends them."""
        return [answer_of(message) for message in reply]

    def close(self) -> None:
        """See `Transport`."""
        with self._lock:
            self._closed = True
        self._timer.close(self._timeout)
        self._channels.close()

    def _open(self, on_reply: Callable[[bytes], None]) -> WriteStream[bytes, bytes]:
        return self._method.open(metadata=self._metadata, on_reply=on_reply)

    def _end_overdue(self) -> None:
        now = monotonic()
        text = f"no answer within {self._timeout:g} s"
        with self._lock:
            self._alarm = None
            streams = [stream for stream in self._streams if stream is not None]
        dues = [due for stream in streams if (due := stream.end_overdue(now, text)) is not None]
        with self._lock:
            if dues and not self._closed:
                if self._alarm is not None:  # of one that was sent meanwhile, and is due later
                    self._alarm.cancel()
                self._alarm = self._timer.call_at(min(dues), self._end_overdue)


class _Stream:
    """One stream and its requests. Those that leave `_pending` are told, by whoever takes them out."""

    def __init__(self, open_stream: Callable[[Callable[[bytes], None]], WriteStream[bytes, bytes]]) -> None:
        self._pending: dict[str, _Pending] = {}
        self._end: tuple[Code, str] | None = None
        self._stream = open_stream(self._replied)
        self._stream.status.add_done_callback(self._status_came)

    @property
    def ended(self) -> bool:
        """Whether the stream is over."""
        return self._end is not None

    def expect(self, number: str, pending: _Pending) -> None:
        """Wait for the answers to a request that will be sent."""
        self._pending[number] = pending

    def send(self, number: str, request: bytes) -> None:
        """Write a request; one that cannot be written ends with the status of the stream."""
        text = number.encode()
        message = b"".join((request, _ID, encode_varint(len(text)), text))
        if not self._stream.write(message) and self._end is not None:
            self._end_all()

    def end_overdue(self, now: int, text: str) -> int | None:
        """End the requests that are due; return when the next one is."""
        for number, pending in list(self._pending.items()):
            if pending.due > now:
                return pending.due
            if self._pending.pop(number, None) is not None:
                tell(pending.done, Code.DEADLINE_EXCEEDED, text, None)
        return None

    # What follows runs on the channel's thread.

    def _replied(self, reply: bytes) -> None:
        message = pb.ModelStreamInferResponse.FromString(reply)
        response = message.infer_response
        number = response.id
        pending = self._pending.get(number)
        if pending is None:  # nobody waits for it any more
            return
        response.id = pending.id
        if message.error_message:
            self._finish(number, Code.UNKNOWN, message.error_message, None)
            return
        final = _FINAL not in response.parameters or response.parameters[_FINAL].bool_param
        if response.outputs or not final:
            pending.replies.append(response)
        if final:
            self._finish(number, Code.OK, "", pending.replies)

    def _finish(self, number: str, code: Code, text: str, replies: Any) -> None:
        pending = self._pending.pop(number, None)
        if pending is not None:
            tell(pending.done, code, text, replies)

    def _status_came(self, status: Any) -> None:
        ended: Status = status.result()
        code = Code.UNAVAILABLE if ended.ok else ended.code
        self._end = code, ended.message or "the server ended the stream"
        self._end_all()

    def _end_all(self) -> None:
        code, text = self._end or (Code.UNAVAILABLE, "")
        for number in list(self._pending):
            self._finish(number, code, text, None)
