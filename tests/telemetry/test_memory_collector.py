"""Memory by owner, as Prometheus reads it."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, generate_latest

from yais.memory.fallbacks import fall_back, fallbacks
from yais.memory.host import HostMemoryResource
from yais.memory.tracked import MemoryTracker, TrackedResource
from yais.telemetry.memory import MemoryCollector


def test_what_prometheus_reads() -> None:
    tracker = MemoryTracker()
    images = TrackedResource(HostMemoryResource(), owner="images", tracker=tracker)
    TrackedResource(HostMemoryResource(), owner="sounds", tracker=tracker)
    registry = CollectorRegistry()
    registry.register(MemoryCollector(tracker.statistics, fallbacks))
    buffers = [images.allocate(1000), images.allocate(500)]
    buffers.pop().close()
    fall_back("a feature", "this is a test of metrics")
    labels = {"owner": "images", "kind": "host"}
    assert registry.get_sample_value("yais_memory_bytes", labels) == 1000
    assert registry.get_sample_value("yais_memory_high_water_bytes", labels) == 1500
    assert registry.get_sample_value("yais_memory_buffers", labels) == 1
    assert registry.get_sample_value("yais_memory_bytes", {"owner": "sounds", "kind": "host"}) == 0
    assert registry.get_sample_value("yais_memory_fallbacks_total", {"feature": "a feature"}) == 1
    buffers.pop().close()
    assert registry.get_sample_value("yais_memory_bytes", labels) == 0
    assert registry.get_sample_value("yais_memory_high_water_bytes", labels) == 1500


def test_nothing_to_tell() -> None:
    registry = CollectorRegistry()
    registry.register(MemoryCollector(MemoryTracker().statistics))
    text = generate_latest(registry).decode()
    assert "# TYPE yais_memory_bytes gauge" in text
    assert "# TYPE yais_memory_fallbacks_total counter" in text
    assert all(line.startswith("#") for line in text.splitlines())
