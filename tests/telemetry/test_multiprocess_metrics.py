"""Metrics of a service of several processes: what each tells of itself, and what all tell together."""

from __future__ import annotations

import collections
import os
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

import yais  # noqa: F401  # before grpc

import grpc  # isort: skip
from prometheus_client.parser import text_string_to_metric_families

PROGRAM = Path(__file__).with_name("service_process.py")
SOON = 20.0


class Process:
    """A process of the service, and where it listens."""

    def __init__(self, directory: Path, port: int) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-W", "error", PROGRAM, str(port)],
            env={**os.environ, "PROMETHEUS_MULTIPROC_DIR": str(directory)},
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self.process.stdout is not None
        self.port, self.metrics_port = map(int, self.process.stdout.readline().split())

    def metrics(self) -> dict[str, float]:
        """Return its page: values by names, with statuses."""
        url = f"http://127.0.0.1:{self.metrics_port}/metrics"
        with urllib.request.urlopen(url, timeout=SOON) as response:
            families = text_string_to_metric_families(response.read().decode())
        return {
            sample.name + sample.labels.get("code", ""): sample.value
            for family in families
            for sample in family.samples
        }

    def end(self) -> int:
        """Stop it; return its status."""
        self.process.send_signal(signal.SIGTERM)
        try:
            self.process.wait(SOON)
        finally:
            self.process.kill()
            self.process.communicate()
        return self.process.returncode


@pytest.fixture
def processes(tmp_path: Path) -> Iterator[list[Process]]:
    """Two processes that share a port."""
    first = Process(tmp_path, 0)
    started = [first]
    try:
        started.append(Process(tmp_path, first.port))
        yield started
    finally:
        for process in started:
            if process.process.poll() is None:
                process.end()


def order(port: int) -> int:
    """Call the service on a connection of its own; return the process that answered."""
    with grpc.insecure_channel(
        f"127.0.0.1:{port}", options=[("grpc.use_local_subchannel_pool", 1)]
    ) as channel:
        return int(channel.unary_unary("/shop.Orders/Order")(b"", timeout=SOON))


def test_each_tells_its_calls_and_all_tell_the_sum(processes: list[Process]) -> None:
    answered: collections.Counter[int] = collections.Counter()
    deadline = time.monotonic() + SOON
    while len(answered) < 2:  # the kernel spreads connections
        answered[order(processes[0].port)] += 1
        assert time.monotonic() < deadline, answered
    pages = [process.metrics() for process in processes]
    total = sum(answered.values())
    for process, page in zip(processes, pages, strict=True):
        assert page["yais_rpc_handled_totalOK"] == answered[process.process.pid]
        assert page["yais_rpc_seconds_count"] == answered[process.process.pid]
        assert page["shop_orders_total"] == total  # of prometheus-client's, by its files
    assert sum(page["yais_rpc_started_total"] for page in pages) == total
    # What one has counted stays in the sum when it ends; what it told of itself goes with it.
    assert processes[0].end() == 0
    page = processes[1].metrics()
    assert page["shop_orders_total"] == total
    assert page["yais_rpc_started_total"] == answered[processes[1].process.pid]
    assert processes[1].end() == 0
