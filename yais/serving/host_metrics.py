"""What the machine has and does, under Triton's names."""

from __future__ import annotations

import re
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from yais.core.clock import NANOSECONDS, monotonic
from yais.core.sysfs import read_text

__all__ = ["HostCollector"]


class HostCollector(Collector):
    """Collects how busy the CPUs of the machine are, and how much memory is taken. Thread-safe.

    Of all the machine, as Triton has it, and not of the container that the server may be in.

    Parameters
    ----------
    interval
        Seconds that the load is measured over at least: several who ask do not spoil it for each other.
    clock
        Tells the time, ns.
    root
        The directory that holds `proc`.
    """

    def __init__(
        self, interval: float, *, clock: Callable[[], int] = monotonic, root: Path = Path("/")
    ) -> None:
        self._interval = int(interval * NANOSECONDS)
        self._clock = clock
        self._proc = root / "proc"
        self._lock = threading.Lock()
        self._load: float | None = None
        self._at = clock()
        self._times = self._read_times()

    def collect(self) -> Iterator[Metric]:
        """Yield every metric family; those that the machine does not tell are left out."""
        load = self._measure()
        if load is not None:
            yield GaugeMetricFamily("nv_cpu_utilization", "CPU utilization rate [0.0 - 1.0]", value=load)
        memory = dict(re.findall(r"(\w+): +(\d+) kB", read_text(self._proc / "meminfo")))
        if "MemTotal" in memory and "MemAvailable" in memory:
            total, free = int(memory["MemTotal"]) * 1024, int(memory["MemAvailable"]) * 1024
            yield GaugeMetricFamily(
                "nv_cpu_memory_total_bytes", "CPU total memory (RAM), in bytes", value=total
            )
            yield GaugeMetricFamily(
                "nv_cpu_memory_used_bytes", "CPU used memory (RAM), in bytes", value=total - free
            )

    def _measure(self) -> float | None:
        """Return the part of the time that the CPUs were busy; None if nothing is known."""
        with self._lock:
            now = self._clock()
            if self._load is None or now - self._at >= self._interval:
                before, self._times = self._times, self._read_times()
                self._at = now
                busy, total = (after - then for after, then in zip(self._times, before, strict=True))
                if total > 0:
                    self._load = min(max(busy / total, 0.0), 1.0)
            return self._load

    def _read_times(self) -> tuple[int, int]:
        """Return the time that all CPUs together were busy, and the time that has passed, in ticks."""
        found = re.match(r"cpu +([\d ]+)", read_text(self._proc / "stat"))
        times = [int(time) for time in found[1].split()[:8]] if found else []  # later ones are part of these
        idle = sum(times[3:5])  # idle, and waiting for disks
        return sum(times) - idle, sum(times)
