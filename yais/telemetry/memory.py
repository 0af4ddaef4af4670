"""Memory by owner, for Prometheus."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Protocol

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

__all__ = ["MemoryCollector", "Usage"]


class Usage(Protocol):
    """What is told of each owner; `yais.memory.account.MemoryUsage` is one."""

    @property
    def bytes(self) -> int:
        """In use now."""

    @property
    def high_water_bytes(self) -> int:
        """Most that were in use at a time."""

    @property
    def buffers(self) -> int:
        """In use now."""


class MemoryCollector(Collector):
    """Collects what owners have of each kind of memory. As thread-safe as what it asks.

    - `yais_memory_bytes{owner,kind}`: bytes in use
    - `yais_memory_high_water_bytes{owner,kind}`: most that were in use at a time
    - `yais_memory_buffers{owner,kind}`: buffers in use
    - `yais_memory_fallbacks_total{feature}`: what was asked of the kernel and refused, such as "mbind"

    Parameters
    ----------
    usages
        Returns the numbers by (owner, kind), as `MemoryTracker.statistics` does.
    fallbacks
        Returns how often each feature was refused, as `yais.memory.fallbacks.fallbacks` does.

    Examples
    --------
    >>> collector = MemoryCollector(tracker.statistics, fallbacks)
    >>> MetricsServer([collector], address="0.0.0.0", port=9100)
    """

    def __init__(
        self,
        usages: Callable[[], Mapping[tuple[str, str], Usage]],
        fallbacks: Callable[[], Mapping[str, int]] = dict,
    ) -> None:
        self._usages = usages
        self._fallbacks = fallbacks

    def collect(self) -> Iterator[Metric]:
        """Yield every metric family; what prometheus_client calls."""
        labels = ("owner", "kind")
        now = GaugeMetricFamily("yais_memory_bytes", "Bytes in use.", labels=labels)
        high = GaugeMetricFamily(
            "yais_memory_high_water_bytes", "Most bytes that were in use at a time.", labels=labels
        )
        buffers = GaugeMetricFamily("yais_memory_buffers", "Buffers in use.", labels=labels)
        for key, usage in self._usages().items():
            now.add_metric(key, usage.bytes)
            high.add_metric(key, usage.high_water_bytes)
            buffers.add_metric(key, usage.buffers)
        refused = CounterMetricFamily(
            "yais_memory_fallbacks", "Refusals by the kernel, by what was asked.", labels=("feature",)
        )
        for feature, count in self._fallbacks().items():
            refused.add_metric((feature,), count)
        yield from (now, high, buffers, refused)
