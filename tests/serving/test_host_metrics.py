"""The metrics of the machine, from files like those of /proc."""

from __future__ import annotations

import pytest

from yais.serving.host_metrics import HostCollector
from yais.telemetry.exposition import exposition
from yais.telemetry.metrics import registry_of
from yais.testing import ManualClock

# user nice system idle iowait irq softirq steal guest guest_nice, the last two of which are part of the first
FIRST = "cpu  100 10 40 800 50 0 0 0 90 0\ncpu0 100 10 40 800 50 0 0 0 90 0\n"
LATER = "cpu  140 10 50 830 70 0 0 0 130 0\ncpu0 140 10 50 830 70 0 0 0 130 0\n"
MEMORY = "MemTotal:       1000 kB\nMemFree:         100 kB\nMemAvailable:    400 kB\nHugePages_Total: 0\n"


@pytest.fixture
def proc(tmp_path):
    (tmp_path / "proc").mkdir()
    (tmp_path / "proc/stat").write_text(FIRST)
    (tmp_path / "proc/meminfo").write_text(MEMORY)
    return tmp_path / "proc"


def values(collector):
    lines = exposition(registry_of([collector])).splitlines()
    return {line.split()[0]: float(line.split()[1]) for line in lines if not line.startswith("#")}


def test_memory(proc):
    assert values(HostCollector(2.0, root=proc.parent)) == {
        "nv_cpu_memory_total_bytes": 1_024_000,
        "nv_cpu_memory_used_bytes": 614_400,
    }


def test_the_load_of_an_interval(proc):
    clock = ManualClock()
    collector = HostCollector(2.0, clock=clock, root=proc.parent)
    (proc / "stat").write_text(LATER)
    # 50 of 100 ticks; the first is told at once.
    assert values(collector)["nv_cpu_utilization"] == 0.5
    (proc / "stat").write_text(LATER.replace("830", "930"))
    clock.advance(1.9)
    assert values(collector)["nv_cpu_utilization"] == 0.5
    clock.advance(0.1)
    assert values(collector)["nv_cpu_utilization"] == 0


def test_time_that_goes_back(proc):
    """As it may for iowait; and a tick is long."""
    clock = ManualClock()
    collector = HostCollector(1.0, clock=clock, root=proc.parent)
    (proc / "stat").write_text("cpu  200 10 40 790 50 0 0 0 0 0\n")
    assert values(collector)["nv_cpu_utilization"] == 1
    clock.advance(1.0)
    assert values(collector)["nv_cpu_utilization"] == 1  # nothing has passed


def test_a_machine_that_tells_nothing(tmp_path):
    assert values(HostCollector(2.0, root=tmp_path)) == {}


def test_this_machine():
    found = values(HostCollector(2.0))
    assert 0 < found["nv_cpu_memory_used_bytes"] < found["nv_cpu_memory_total_bytes"]
