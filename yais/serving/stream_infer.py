"""ModelStreamInfer: many requests on one stream, to any models, with any number of responses."""

from __future__ import annotations

import logging
import threading
from collections.abc import Sequence
from concurrent.futures import CancelledError

from yais.core.future import Future
from yais.errors import DeadlineExceeded, Internal, Unavailable, YaisError, error_of, status_of
from yais.inference.request import InferResponse
from yais.protocol import kserve_pb2
from yais.protocol.infer_request import InferMessage, decode_infer_request
from yais.protocol.stream_response import encode_stream_error
from yais.rpc.stream import Stream
from yais.rpc.streaming_context import StreamingContext
from yais.serving.front_resources import FrontResources
from yais.serving.reply_order import ReplyOrder
from yais.serving.stream_reply import encode_reply
from yais.serving.stream_request import StreamRequest

__all__ = ["ModelStreamInferContext"]

_log = logging.getLogger("yais.serving")

_REPLACED = "the model was replaced by one with a decoupled transaction policy: ask again"

_STOPPING = "the server is shutting down"


class ModelStreamInferContext(StreamingContext[bytes, bytes, FrontResources]):
    """Serves ModelStreamInfer.

    Responses of models that answer once leave in the order of their requests; those of decoupled models when
    they come. What goes wrong with a request is said in the stream, in its place, and the stream goes on,
    unless the caller's metadata says "triton_grpc_error: true": then the first error ends it.

    Attributes
    ----------
    max_in_flight
        Requests whose responses have not been given to the stream; with that many none is read. Large,
        because the end of a sequence that others wait for must be read. Our choice.
    patience
        Seconds a decoupled model waits for a caller that does not read; then it is stopped. Our choice.
    """

    max_unsent = 64
    max_in_flight = 1024
    patience = 60.0

    def on_open(self, stream: Stream[bytes]) -> None:  # noqa: ARG002 - as in the base class
        """See `StreamingContext`."""
        self.due = self.deadline
        self._ends_on_error = self.metadata.get("triton_grpc_error") == "true"
        self._lock = threading.Lock()
        self._order: ReplyOrder[StreamRequest] = ReplyOrder()
        self._in_flight: set[StreamRequest] = set()
        self._room: Future[None] | None = None
        self._half_closed = self._draining = False

    def on_request(self, request: bytes, stream: Stream[bytes]) -> Future[None] | None:  # noqa: ARG002
        """Submit a request to its model; return what is done when the next one may be read.

        Raises
        ------
        Internal
            It is no ModelInferRequest, which ends the stream: there is no id to answer to.
        """
        begun = StreamRequest(self)
        try:
            message = decode_infer_request(request)
        except Internal:
            raise
        except YaisError as error:
            begun.id = kserve_pb2.ModelInferRequest.FromString(request).id
            self._begin(begun)
            self.fail(begun, error)
        else:
            begun.id = message.id
            self._submit(begun, message)
        if len(self._in_flight) < self.max_in_flight:
            return None
        return self._when_room()

    def on_requests_done(self, stream: Stream[bytes]) -> None:
        """See `StreamingContext`: what is in flight still ends."""
        with self._lock:
            self._half_closed = True
            idle = not self._in_flight
        if idle:
            stream.finish()

    def on_drain(self) -> None:
        """See `StreamContext`: refuse further requests, and end the stream when those in flight have."""
        with self._lock:
            self._draining = True
            idle = not self._in_flight
        if idle:
            self._part()

    def on_finish(self) -> None:
        """Cancel what is in flight: the caller has gone, or the stream has failed."""
        with self._lock:
            in_flight = list(self._in_flight)
        for request in in_flight:
            future = request.future
            if future is not None:
                future.cancel()

    # --- What requests tell, on any thread ------------------------------------------------------------

    def fail(self, request: StreamRequest, error: BaseException) -> None:
        """End a request with an error."""
        if not isinstance(error, YaisError):
            if not isinstance(error, CancelledError):
                _log.error("ModelStreamInfer: a response could not be sent", exc_info=error)
            error = error_of(*status_of(error))
        if self._ends_on_error:
            request.error = error
        self.end(request, encode_stream_error(str(error) or error.code.name, request.id))

    def end(self, request: StreamRequest, reply: bytes) -> None:
        """End a request; an empty reply is not sent."""
        error: YaisError | None = None
        with self._lock:
            if request.decoupled:
                request.reply = reply
                ready: Sequence[StreamRequest] = (request,)
            else:
                ready = self._order.end(request, reply)
            for each in ready:
                self._in_flight.discard(each)
                if error is None and each.error is None and each.reply:
                    self.stream.answer(each.reply)
                error = error or each.error
            room, self._room = self._room, None
            # Known here: others may begin, and be the last ones, before the stream is ended below.
            parts = (self._half_closed or self._draining) and not self._in_flight
        self.stream.go_on()
        for each in ready:
            if each.trace is not None:
                each.trace.sent()
        if error is not None:
            self.stream.fail(error)
        if room is not None and room.set_running_or_notify_cancel():
            room.set_result(None)
        if parts:
            self._part()

    def respond(self, response: InferResponse) -> bool:
        """Send one of several responses; return whether more are wanted.

        Waits for room, as long as `patience` says: never on a queue's thread, where no decoupled model runs.

        Raises
        ------
        DeadlineExceeded
            There was no room in time.
        """
        stream, reply = self.stream, encode_reply(response, final=False)
        if stream.write(reply, timeout=self.patience):
            return True
        if stream.connected:
            raise DeadlineExceeded(f"no response was taken for {self.patience} s, and the model was stopped")
        return False

    # ---------------------------------------------------------------------------------------------------

    def _submit(self, request: StreamRequest, message: InferMessage) -> None:
        try:
            if self._draining:
                raise Unavailable(_STOPPING)
            decoupled = self.resources.decoupled(message.model_name, message.model_version)
        except YaisError as error:
            self._begin(request)
            self.fail(request, error)
            return
        respond = None
        if decoupled:
            request.decoupled = True
            request.tells_end = any(
                parameter.key == "triton_enable_empty_final_response" and parameter.value is True
                for parameter in message.parameters
            )
            respond = self.respond
        self._begin(request)
        try:
            future = self.resources.infer(message, request, respond=respond, decoupled=_REPLACED)
        except YaisError as error:
            self.fail(request, error)
            return
        request.future = future
        future.add_done_callback(request.done)

    def _begin(self, request: StreamRequest) -> None:
        with self._lock:
            self._in_flight.add(request)
            if not request.decoupled:
                self._order.begin(request)

    def _when_room(self) -> Future[None] | None:
        with self._lock:
            if len(self._in_flight) < self.max_in_flight:
                return None
            self._room = room = Future[None]()
        return room

    def _part(self) -> None:
        """End the stream, which is to end, with nothing in flight."""
        if self._half_closed:
            self.stream.finish()
        else:
            self.stream.fail(Unavailable(_STOPPING))
