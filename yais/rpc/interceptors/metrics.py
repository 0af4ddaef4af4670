"""Counts and durations of all calls, for Prometheus."""

from __future__ import annotations

import collections
import threading
import time
from bisect import bisect_left
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from yais.core.clock import NANOSECONDS, Clock, monotonic
from yais.errors import Code
from yais.rpc.interceptor import Ended, IncomingCall, Interceptor
from yais.telemetry.trace_ids import current_trace_ids

if TYPE_CHECKING:
    from prometheus_client.core import Metric
    from prometheus_client.registry import Collector

    from yais.telemetry.exemplar import Exemplar
else:
    Collector = object  # prometheus_client asks for no more than the method, and is imported when it asks

__all__ = ["OTHER", "Metrics"]

OTHER = "_OTHER"
"""Label of the methods that have none of their own, as OpenTelemetry names them."""

_DECADES = (1e-4, 1e-3, 1e-2, 1e-1, 1.0)
_BOUNDS = (*(factor * decade for decade in _DECADES for factor in (1, 2.5, 5)), 10.0, 60.0)

_BULK = 1024  # durations that are counted together, which is what makes the histogram cheap


class Metrics(Interceptor, Collector):
    """Counts calls by method, and is a collector for Prometheus. Thread-safe.

    - `yais_rpc_started_total{method}`: calls that have arrived and got a context
    - `yais_rpc_handled_total{method,code}`: calls that are over, by their status, such as "OK"
    - `yais_rpc_in_flight{method}`: the difference of the two
    - `yais_rpc_seconds{method}`: histogram of how long they took, from arrival to end
    - `yais_rpc_context_seconds{method}`: histogram of how long they waited for a context before they began,
      as far as the server knows (`IncomingCall.waited`); a part of the former

    As the first of `Server(interceptors=...)` it counts what the others refuse, too. Several servers may
    share one.

    Callers can ask for methods that do not exist, under any name: these are counted as "_OTHER". So is every
    method beyond `max_methods`, since a mounted handler may take any name.

    Parameters
    ----------
    bounds
        Upper bounds of the histograms' buckets, in seconds, ascending; one without a bound is added.
    max_methods
        How many methods have a label of their own, at most.
    exemplars
        Whether calls that have a sampled span of OpenTelemetry, by `Tracing`, are exemplars of
        `yais_rpc_seconds`, for who asks for OpenMetrics. Without it nothing is looked for.
    clock
        Measures the durations.

    Examples
    --------
    >>> metrics = Metrics()
    >>> server = Server("0.0.0.0:50051", interceptors=[metrics])
    >>> MetricsServer([metrics], address="0.0.0.0", port=9100)
    """

    def __init__(
        self,
        *,
        bounds: Sequence[float] = _BOUNDS,
        max_methods: int = 500,
        exemplars: bool = False,
        clock: Clock = monotonic,
    ) -> None:
        if not bounds or list(bounds) != sorted(set(bounds)):
            raise ValueError(f"got bounds={bounds!r}, expected numbers of seconds, ascending")
        if max_methods < 1:
            raise ValueError(f"got max_methods={max_methods}, expected at least 1")
        self._bounds = tuple(bounds)
        self._max_methods = max_methods
        self._exemplars = exemplars
        self._clock = clock
        self._lock = threading.Lock()
        self._other = _Counts(self._bounds)
        self._methods: dict[str, _Counts] = {}

    def __repr__(self) -> str:
        with self._lock:
            methods = self._all()
            started = sum(counts.started for counts in methods.values())
            in_flight = sum(counts.in_flight for counts in methods.values())
        return f"<Metrics: {len(methods)} methods, {started} calls, {in_flight} in flight>"

    def begin(self, call: IncomingCall) -> Ended:
        """Count the call, and again when it is over."""
        waited = call.waited
        with self._lock:
            counts = self._methods.get(call.method)
            if counts is None:
                counts = self._new(call)
            counts.started += 1
            if waited:
                counts.wait(waited)
        clock = self._clock
        arrived = clock() - waited

        def ended(code: Code) -> None:
            taken = clock() - arrived
            exemplar = _exemplar(taken) if self._exemplars else None
            with self._lock:
                counts.end(code, taken, exemplar)

        return ended

    def collect(self) -> Iterator[Metric]:
        """Yield every metric family; what prometheus_client calls."""
        from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily

        from yais.telemetry.exemplar import with_exemplars

        label = ("method",)
        started = CounterMetricFamily("yais_rpc_started", "Calls that got a context.", labels=label)
        handled = CounterMetricFamily(
            "yais_rpc_handled", "Calls that are over, by status.", labels=("method", "code")
        )
        in_flight = GaugeMetricFamily("yais_rpc_in_flight", "Calls that are not over.", labels=label)
        seconds = HistogramMetricFamily("yais_rpc_seconds", "From arrival to end.", labels=label)
        waits = HistogramMetricFamily(
            "yais_rpc_context_seconds", "From arrival until a context was free.", labels=label
        )
        with self._lock:
            for method, counts in self._all().items():
                started.add_metric((method,), counts.started)
                in_flight.add_metric((method,), counts.in_flight)
                for code, count in counts.codes.items():
                    handled.add_metric((method, code.name), count)
                counts.count()
                buckets = with_exemplars(counts.taken.cumulative(), counts.exemplars)
                seconds.add_metric((method,), buckets, counts.taken.sum)
                waits.add_metric((method,), counts.waits.cumulative(), counts.waits.sum)
        yield from (started, handled, in_flight, seconds, waits)

    def _new(self, call: IncomingCall) -> _Counts:
        if not call.known or len(self._methods) == self._max_methods:
            return self._other
        counts = self._methods[call.method] = _Counts(self._bounds)
        return counts

    def _all(self) -> dict[str, _Counts]:
        return self._methods | {OTHER: self._other} if self._other.started else self._methods


class _Counts:
    """What is counted of one method. Not thread-safe."""

    __slots__ = ("_taken", "_waits", "codes", "exemplars", "handled", "started", "taken", "waits")

    def __init__(self, bounds: Sequence[float]) -> None:
        from yais.telemetry.histogram import Histogram  # brings numpy, which `import yais` does without

        self.started = 0
        self.handled = 0
        self.codes: collections.Counter[Code] = collections.Counter()
        self.taken = Histogram(bounds)
        self.waits = Histogram(bounds)
        self.exemplars: dict[int, Exemplar] = {}  # the last of each bucket of `taken`
        self._taken: list[int] = []  # ns, not in the histogram yet
        self._waits: list[int] = []  # the same of those that waited

    @property
    def in_flight(self) -> int:
        return self.started - self.handled

    def wait(self, waited: int) -> None:
        self._waits.append(waited)
        if len(self._waits) == _BULK:
            self.count()

    def end(self, code: Code, taken: int, exemplar: Exemplar | None) -> None:
        self.handled += 1
        self.codes[code] += 1
        self._taken.append(taken)
        if exemplar is not None:
            self.exemplars[bisect_left(self.taken.bounds, exemplar.value)] = exemplar
        if len(self._taken) == _BULK:
            self.count()

    def count(self) -> None:
        """Bring the histograms up to date."""
        for histogram, noted in ((self.taken, self._taken), (self.waits, self._waits)):
            histogram.observe([nanoseconds / NANOSECONDS for nanoseconds in noted])
            noted.clear()
        self.waits.counts[0] += self.started - self.waits.counts.sum()  # those that did not wait


def _exemplar(taken: int) -> Exemplar | None:
    """Return a call that took so many ns as an exemplar, if its span is exported."""
    from yais.telemetry.exemplar import Exemplar

    ids = current_trace_ids(sampled=True)
    return Exemplar(ids, taken / NANOSECONDS, time.time()) if ids else None
