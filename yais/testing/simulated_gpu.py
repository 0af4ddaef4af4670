"""A GPU that takes time and computes nothing: streams in order, engines that are shared, any clock."""

from __future__ import annotations

import collections
import itertools
import threading
from collections.abc import Mapping
from types import TracebackType
from typing import Self, get_args

from yais.core.clock import Clock, Deadline, monotonic
from yais.telemetry.timeline import Span, Timeline, Track, in_rows
from yais.testing.clock import ManualClock
from yais.testing.simulated_stream import Kind, SimulatedStream, Work

__all__ = ["Kind", "SimulatedGpu", "SimulatedStream", "Work"]

_REMEMBERED = 100_000  # pieces of work in the timeline


class SimulatedGpu:
    """Streams, and the engines they share. Thread-safe. A context manager, whose end closes it.

    A piece of work starts when it is the first of its stream and an engine of its kind is free: who waits for
    one gets it in the order of coming. It takes its duration of the clock's time, then its function runs on
    the stream's thread, and stream and engine are free.

    Parameters
    ----------
    clock
        Measures durations. With a `ManualClock` time passes only when that is advanced.
    engines
        How many there are of each kind; a kind that is not named has as many as are wanted. A real GPU has
        one or two to copy each way, and what fills it may count as one to compute.

    Raises
    ------
    ValueError
        There are less than one engine of a kind.

    Examples
    --------
    >>> clock = ManualClock()
    >>> with SimulatedGpu(clock=clock, engines={"compute": 1}) as gpu:
    ...     done = gpu.stream().submit("compute", lambda: 7, duration=1000)
    ...     clock.advance_to(gpu.next_end())
    ...     assert done.result(10) == 7
    """

    def __init__(self, *, clock: Clock = monotonic, engines: Mapping[Kind, int] | None = None) -> None:
        self.clock = clock
        self.engines: Mapping[Kind, int] = dict(engines or {})
        for kind, count in self.engines.items():
            if count < 1:
                raise ValueError(f"got {count} engines of kind '{kind}', expected at least 1")
        self._free: dict[Kind, int] = dict(self.engines)
        self._waiting: dict[Kind, collections.deque[SimulatedStream]] = {
            kind: collections.deque() for kind in self.engines
        }
        self._lock = threading.Lock()
        self._streams: list[SimulatedStream] = []
        self._numbers = itertools.count()
        self._done: collections.deque[Work] = collections.deque(maxlen=_REMEMBERED)
        if isinstance(clock, ManualClock):
            clock.watch(self._on_time)

    def __repr__(self) -> str:
        return f"<SimulatedGpu: {len(self._streams)} streams, {self.pending} pieces of work>"

    def stream(self, name: str = "") -> SimulatedStream:
        """Return a new stream, named by a number if not otherwise."""
        stream = SimulatedStream(self, name or f"stream-{next(self._numbers)}")
        with self._lock:
            self._streams.append(stream)
        return stream

    @property
    def timeline(self) -> list[Work]:
        """What is done, in the order of its ends; the last 100,000 pieces."""
        with self._lock:
            return list(self._done)

    @property
    def pending(self) -> int:
        """Pieces of work that are submitted and not done."""
        return sum(self.pending_by_kind().values())

    @property
    def due(self) -> int:
        """Pieces of work whose time is over, and whose function or whose future's callbacks are not."""
        now = self.clock()
        with self._lock:
            telling = sum(stream._telling is not None for stream in self._streams)
            return telling + sum(end <= now for end in self._ends())

    def pending_by_kind(self) -> Mapping[Kind, int]:
        """Return how many pieces of each kind are submitted and not done."""
        with self._lock:
            return collections.Counter(piece.kind for stream in self._streams for piece in stream._undone())

    def next_end(self) -> int | None:
        """Return when the next piece of work that runs will be done, of those not due; None if none runs."""
        now = self.clock()
        with self._lock:
            return min((end for end in self._ends() if end > now), default=None)

    def record(self, timeline: Timeline) -> None:
        """Add what is done to a timeline: a track for each engine, or as many as were used at once."""
        done = self.timeline
        for kind in get_args(Kind):
            works = [work for work in done if work.kind == kind]
            name = kind.replace("_", " ")
            for work, row in zip(works, in_rows([(work.start, work.end) for work in works]), strict=True):
                track = Track("GPU", f"{name} {row}")
                arguments = {"stream": work.stream, "label": work.label}
                timeline.add([Span(track, name, work.start, work.end, arguments)])

    def close(self, timeout: float = 30.0) -> bool:
        """Let the streams finish; return whether they did within `timeout` seconds. Idempotent."""
        deadline = Deadline.after(timeout)
        with self._lock:
            streams = list(self._streams)
        return all([stream.close(deadline.remaining() or 0.0) for stream in streams])  # noqa: C419 - every one

    def __enter__(self) -> Self:
        """Return the GPU itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close."""
        self.close()

    # --- Below, the lock is held ------------------------------------------------------------------------

    def _ends(self) -> list[int]:
        first = [stream._pieces[0] for stream in self._streams if stream._pieces]
        return [piece.end for piece in first if piece.end is not None]

    def _ready(self, stream: SimulatedStream) -> None:
        """Start the first piece of a stream, or have it wait for an engine."""
        kind = stream._pieces[0].kind
        if kind in self._free and not self._free[kind]:
            self._waiting[kind].append(stream)
            return
        if kind in self._free:
            self._free[kind] -= 1
        self._start(stream)

    def _start(self, stream: SimulatedStream) -> None:
        stream._pieces[0].start = self.clock()
        stream._wake.notify()

    def _finish(self, stream: SimulatedStream) -> None:
        """Free the engine of a stream's first piece, and go on with the next."""
        piece = stream._telling = stream._pieces.popleft()
        kind, start = piece.kind, piece.start
        assert start is not None
        self._done.append(Work(stream.name, kind, piece.label, start, self.clock()))
        if kind in self._free:
            if self._waiting[kind]:
                self._start(self._waiting[kind].popleft())
            else:
                self._free[kind] += 1
        if stream._pieces:
            self._ready(stream)

    # --- And here it is not -----------------------------------------------------------------------------

    def _on_time(self) -> None:
        with self._lock:
            for stream in self._streams:
                stream._wake.notify()

    def _forget(self, stream: SimulatedStream) -> None:
        with self._lock:
            if stream in self._streams:
                self._streams.remove(stream)
