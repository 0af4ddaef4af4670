"""A frontend's end of its link to the engine process."""

from __future__ import annotations

import logging
import socket
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from yais.core.clock import Deadline
from yais.core.dispatcher import current_dispatcher
from yais.core.future import Future
from yais.errors import FailedPrecondition, Unavailable
from yais.inference.request import InferResponse, Respond
from yais.protocol.infer_request import InferMessage
from yais.rpc.metadata import Metadata
from yais.serving.caller import Caller
from yais.serving.frontends.link_future import LinkFuture
from yais.serving.frontends.link_outgoing import OutgoingRequest
from yais.serving.frontends.link_session import EngineSession
from yais.serving.frontends.link_statistics import LinkStatistics
from yais.serving.frontends.link_thread import LinkThread

__all__ = ["EngineLink"]

_log = logging.getLogger("yais.serving")

_STREAMS = 256  # that may wait for their readers at once; others wait for one of their threads
_POLL = 0.005  # seconds between two looks at what is pending, while closing


class EngineLink:
    """A frontend's end of a link. Thread-safe.

    Parameters
    ----------
    memory
        Bytes of shared memory for the contents of tensors, each way; a multiple of 8 pages.
    told
        Called with a topic and its value when the engine pushes one, on the link's thread, in order: a push
        comes before the answer to the call that led to it. Must not block; what it raises is logged.
    lost
        Called on the link's thread when the engine process is gone, after what was pending has failed. It may
        be connected to another one there.

    Attributes
    ----------
    headers
        Whether the metadata of callers is sent along. False to begin with; set it as the engine says.
    """

    def __init__(
        self,
        *,
        memory: int = 64 << 20,
        told: Callable[[str, Any], None],
        lost: Callable[[], None] = lambda: None,
    ) -> None:
        self.headers = False
        self._memory = memory
        self._told = told
        self._lost = lost
        self._lock = threading.Lock()
        self._session: EngineSession | None = None
        self._before = LinkStatistics()  # of sessions that are over
        self._closed = False
        self._thread = LinkThread("engine-link")
        self._threads = ThreadPoolExecutor(_STREAMS, "engine-link-stream")

    def __repr__(self) -> str:
        return f"<EngineLink {'connected' if self.connected else 'not connected'}, {self.pending} pending>"

    def connect(self, connection: socket.socket) -> None:
        """Use a connection to an engine process, which the link closes in the end.

        Raises
        ------
        FailedPrecondition
            It is connected, or closed.
        ResourceExhausted
            There is no shared memory.
        """
        with self._lock:
            if self._closed or self._session is not None:
                raise FailedPrecondition(f"got a connection for {self!r}, expected it open and without one")
            self._session = EngineSession(
                connection,
                thread=self._thread,
                threads=self._threads,
                memory=self._memory,
                told=self._told,
                ended=self._ended,
            )

    @property
    def connected(self) -> bool:
        """Whether there is an engine process at the other end."""
        return self._session is not None

    @property
    def pending(self) -> int:
        """Requests without an answer."""
        session = self._session
        return 0 if session is None else session.pending

    def silence(self) -> float:
        """Return for how many seconds the engine process has not read what was sent to it.

        It is asked whether it does: call this every now and then.
        """
        session = self._session
        return 0.0 if session is None else session.silence()

    def infer(
        self, message: InferMessage, caller: Caller, *, respond: Respond | None = None, decoupled: str = ""
    ) -> Future[InferResponse]:
        """Submit a request to its model in the engine process; see `yais.serving.inference.infer`.

        Returns at once and raises nothing: errors are the future's, Unavailable if there is no engine process
        or when it is lost. On the thread of a dispatcher, requests are sent when that has run empty, else at
        once. Cancelling the future cancels the request, and succeeds even if it runs.

        The contents of the response are valid for as long as somebody refers to them; responses of one form
        have the same `form`. Callbacks of the future run on the link's thread, or on that of a dispatcher,
        which waits for answers: they must not block.

        Parameters
        ----------
        respond
            Called on a thread of the link's own, where it may wait. At most 16 responses wait for it; then
            the model does. What it raises is the future's error.
        """
        future: LinkFuture[InferResponse] = LinkFuture()
        session = self._session
        if session is None:
            future.fail(_no_engine())
        else:
            request = OutgoingRequest(
                message, caller, future, headers=self.headers, respond=respond, decoupled=decoupled
            )
            session.submit(request, current_dispatcher())
        return future

    def call(self, method: str, request: bytes, metadata: Metadata | None = None) -> Future[bytes]:
        """Have the engine process serve an RPC of the inference service, by its name.

        Returns at once and raises nothing: errors are the future's, `YaisError` all.
        """
        future: LinkFuture[bytes] = LinkFuture()
        session = self._session
        if session is None:
            future.fail(_no_engine())
        else:
            session.call(future, method, request, None if metadata is None else metadata.pairs())
        return future

    def statistics(self) -> LinkStatistics:
        """Return the numbers of now, of all engine processes so far."""
        with self._lock:
            session = self._session
            return self._before if session is None else self._before + session.statistics()

    def close(self, timeout: float) -> bool:
        """Wait until what was sent is answered, take no more requests, and give everything back. Idempotent.

        Return whether everything was answered within `timeout` seconds; the rest fails with Unavailable.
        """
        deadline = Deadline.after(timeout)
        pause = threading.Event()
        while self.pending and not deadline.expired():
            pause.wait(_POLL)
        with self._lock:
            self._closed = True
        answered = not self.pending
        self._thread.close(max(deadline.remaining() or 0.0, 1.0))
        self._threads.shutdown(wait=False)
        return answered

    def _ended(self) -> None:
        with self._lock:
            session, self._session = self._session, None
            if session is not None:
                self._before += session.statistics()
                self._before.pending = 0
            closed = self._closed
        if not closed:
            try:
                self._lost()
            except Exception:
                _log.exception("unexpected error after the engine process was gone")


def _no_engine() -> Unavailable:
    return Unavailable("there is no engine process now; try again later")
