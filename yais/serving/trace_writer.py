"""The thread that writes traces, so that nobody else has to wait for files and collectors."""

from __future__ import annotations

import logging
import threading
from typing import Protocol

from yais.core.thread_pool import ThreadPool
from yais.serving.call_trace import CallTrace
from yais.serving.trace_settings import TraceSetting

__all__ = ["TraceSink", "TraceWriter"]

_log = logging.getLogger("yais.serving")

_MOST_WAITING = 4096
"""Traces that wait for the thread; a guess. Further ones are lost."""

_MOST_BYTES = 256 << 20
"""Contents of tensors of traces that wait; a guess. Further ones are lost, but for a single one."""

_CLOSE_SECONDS = 10.0


class TraceSink(Protocol):
    """Where traces go. All calls come from one thread at a time."""

    def write(self, call: CallTrace) -> None:
        """Take a trace."""

    def settle(self, setting: TraceSetting) -> None:
        """Take that a setting makes no more traces, or that one of its last was lost."""

    def close(self) -> None:
        """Write all that is not written yet."""


class TraceWriter:
    """Hands traces to their sink, on a thread that begins with the first. Thread-safe.

    Traces for which there is no room are lost; that is logged once.
    """

    def __init__(self, sink: TraceSink) -> None:
        self._sink = sink
        self._lock = threading.Lock()
        self._pool: ThreadPool | None = None
        self._closed = False
        self._waiting = self._nbytes = self._lost = 0

    def __repr__(self) -> str:
        return f"<TraceWriter {self._sink!r}, {self._waiting} traces waiting, {self._lost} lost>"

    def write(self, call: CallTrace) -> None:
        """Take a trace."""
        with self._lock:
            if self._closed:
                return
            if self._pool is None:
                self._pool = ThreadPool(1, name="yais-traces")
            fits = not self._waiting or self._nbytes + call.nbytes <= _MOST_BYTES
            if fits and self._waiting < _MOST_WAITING:
                self._waiting += 1
                self._nbytes += call.nbytes
                self._pool.submit(self._write, call, call.nbytes)
                return
            self._lost += 1
            first = self._lost == 1
        if first:
            _log.error("%r: traces are made faster than they can be written", self)
        call.setting.lost()
        if call.setting.ended:  # or what waits for the thread would have no bound
            self.settle(call.setting)

    def settle(self, setting: TraceSetting) -> None:
        """Take that a setting makes no more traces, or that one of its last was lost."""
        with self._lock:
            if self._pool is not None and not self._closed:
                self._pool.submit(self._sink.settle, setting)

    def close(self) -> None:
        """Write all that was taken, in ten seconds at most, and close the sink. Idempotent.

        What fails is logged: it is no reason for a server not to stop.
        """
        with self._lock:
            if self._closed:
                return
            self._closed = True
        if self._pool is not None and not self._pool.close(_CLOSE_SECONDS):
            _log.error("%r: traces are lost, they could not be written in time", self)
            return
        try:
            self._sink.close()
        except Exception:
            _log.exception("%r: traces are lost, they could not be written at the end", self)

    def _write(self, call: CallTrace, nbytes: int) -> None:
        try:
            self._sink.write(call)
        except Exception:
            _log.exception("%r: a trace could not be written", self)
        with self._lock:
            self._waiting -= 1
            self._nbytes -= nbytes
