"""Closed loops over streams: what `load.py` does with unary calls, for the two kinds of streams measured."""

from __future__ import annotations

import time
from typing import Any

from grpc._cython import cygrpc  # type: ignore[attr-defined]

from benchmarks.workloads import Workload


class _Stream:
    """One call, and the tag of its messages; the tag of statuses is None."""

    __slots__ = ("call", "since")

    call: Any
    since: float


class _StreamLoop:
    """Streams open on one channel, driven by one thread."""

    def __init__(self, target: str, workload: Workload) -> None:
        self._channel = cygrpc.Channel(target.encode(), (), None)
        self._method = workload.method.encode()
        self._request = workload.request
        self._open = 0

    def _begin(self, stream: _Stream, *operations: Any) -> None:
        first = (
            cygrpc.SendInitialMetadataOperation(None, 0),
            cygrpc.SendMessageOperation(self._request, 0),
            *operations,
            cygrpc.ReceiveInitialMetadataOperation(0),
            cygrpc.ReceiveMessageOperation(0),
        )
        last = (cygrpc.ReceiveStatusOnClientOperation(0),)
        stream.since = time.perf_counter()
        stream.call = self._channel.integrated_call(
            0, self._method, None, None, None, None, ((first, stream), (last, None)), None
        )
        self._open += 1

    def _check(self, answer: bytes | None) -> None:
        # The field of a request and of its answer have the same number, so the bytes are the same.
        if answer != self._request:
            raise SystemExit(f"the server's answer is wrong: {answer!r}")

    def _ended(self, event: Any) -> None:
        status = event.batch_operations[0]
        if status.code() != cygrpc.StatusCode.ok:
            raise SystemExit(f"the server ended a stream with {status.code()}: {status.details()}")
        self._open -= 1


class PingPong(_StreamLoop):
    """Streams on each of which one message is in flight."""

    def start(self) -> None:
        """Open one more stream."""
        self._begin(_Stream())

    def check(self) -> None:
        """Do nothing: every answer is looked at."""

    def run(self, seconds: float) -> tuple[int, list[float]]:
        """Go on for a while; return how many answers came, and how long each took, in seconds."""
        latencies = []
        next_event, send, receive = (
            self._channel.next_call_event,
            cygrpc.SendMessageOperation,
            cygrpc.ReceiveMessageOperation,
        )
        end = time.perf_counter() + seconds
        now = 0.0
        while now < end:
            event = next_event()
            stream = event.tag
            if stream is None:
                raise SystemExit("the server ended a stream")
            now = time.perf_counter()
            latencies.append(now - stream.since)
            self._check(event.batch_operations[-1].message())
            stream.since = now
            stream.call.operate((send(self._request, 0), receive(0)), stream)
        return len(latencies), latencies

    def drain(self) -> None:
        """Take the answers in flight, end all streams and wait for their statuses."""
        while self._open:
            event = self._channel.next_call_event()
            if event.tag is None:
                self._ended(event)
            elif len(event.batch_operations) > 1:
                event.tag.call.operate((cygrpc.SendCloseFromClientOperation(0),), event.tag)


class Replies(_StreamLoop):
    """Streams of answers, read as fast as they come; a new one follows each that ends."""

    def start(self) -> None:
        """Open one more stream."""
        self._begin(_Stream(), cygrpc.SendCloseFromClientOperation(0))

    def check(self) -> None:
        """Do nothing: every answer is looked at."""

    def run(self, seconds: float) -> tuple[int, list[float]]:
        """Go on for a while; return how many answers came, and how long whole streams took, in seconds."""
        count, durations = 0, []
        next_event, receive = self._channel.next_call_event, cygrpc.ReceiveMessageOperation
        end = time.perf_counter() + seconds
        while time.perf_counter() < end:
            event = next_event()
            stream = event.tag
            if stream is None:
                self._ended(event)
                self.start()
                continue
            answer = event.batch_operations[-1].message()
            if answer is None:  # no more of them
                durations.append(time.perf_counter() - stream.since)
                continue
            count += 1
            self._check(answer)
            stream.call.operate((receive(0),), stream)
        return count, durations

    def drain(self) -> None:
        """Read the streams to their ends."""
        while self._open:
            event = self._channel.next_call_event()
            if event.tag is None:
                self._ended(event)
            elif event.batch_operations[-1].message() is not None:
                event.tag.call.operate((cygrpc.ReceiveMessageOperation(0),), event.tag)
