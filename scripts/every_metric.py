"""A server that shows every metric there is, and what its page says; for scripts and tests."""

from __future__ import annotations

import re
import subprocess
import sys
import tempfile
import threading
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NamedTuple

import yais  # before grpc

import grpc  # isort: skip
import numpy as np
import tritonclient.grpc as triton

from yais.serving.gpu_metrics import GpuCollector
from yais.telemetry.exposition import exposition
from yais.telemetry.memory import MemoryCollector
from yais.telemetry.metrics import registry_of

__all__ = ["Family", "every_metric", "parsed", "scraped", "serving", "use"]

_SOON = 30.0  # seconds

_PLAIN = "class Model:\n    def execute(self, inputs):\n        return {'y': inputs['x']}\n"
_MANY = "class Model:\n    def execute(self, inputs):\n        yield {'y': inputs['x']}\n"
_TENSORS = """
    input { name: "x" data_type: TYPE_FP32 dims: [ 1 ] }
    output { name: "y" data_type: TYPE_FP32 dims: [ 1 ] }
"""
_PYTHON = f'backend: "python" max_batch_size: 4 {_TENSORS}'
_ENSEMBLE = f"""
    platform: "ensemble" max_batch_size: 4 {_TENSORS}
    ensemble_scheduling {{ step {{ model_name: "plain" model_version: -1
        input_map {{ key: "x" value: "x" }} output_map {{ key: "y" value: "y" }} }} }}
"""
_MODELS = {
    "plain": (_PLAIN, _PYTHON),
    "cached": (_PLAIN, f"{_PYTHON} response_cache {{ enable: true }}"),
    "decoupled": (_MANY, f"{_PYTHON} model_transaction_policy {{ decoupled: true }}"),
    "ensemble": ("", _ENSEMBLE),
    "sequences": (_PLAIN, f"{_PYTHON} sequence_batching {{ direct {{ }} }}"),
}

_ANYWHERE = ("address=127.0.0.1", "port=0")
_EVERYTHING = (
    "--frontends=1",
    "--log-info=false",
    "--cache-config=local,size=1048576",
    "--metrics-config=histogram_latencies=true",
    "--metrics-config=summary_latencies=true",
)
_SERVICES = ("GRPC", "HTTP", "Metrics")  # as they are told when they are there


class Family(NamedTuple):
    """A metric, as a page of metrics shows it.

    Attributes
    ----------
    name
        Of histograms and summaries without the suffix of their samples.
    labels
        But for those of buckets and quantiles.
    samples
        Their names, as in queries.
    """

    name: str
    kind: str
    text: str
    labels: tuple[str, ...]
    samples: frozenset[str]


def every_metric() -> list[Family]:
    """Return all metrics: those of a server that was asked for all it has, and of what it takes more for."""
    with tempfile.TemporaryDirectory() as scratch, serving(Path(scratch)) as (port, metrics_port):
        use(port)
        text = scraped(metrics_port)
    elsewhere = [
        GpuCollector(_Nvml(), 2.0),
        MemoryCollector(dict, lambda: {"mbind": 1}),
        _rpcs(),
    ]
    found: dict[str, Family] = {}
    for family in parsed(text + exposition(registry_of(elsewhere))):
        if family.samples:
            found[family.name] = family
    return list(found.values())


@contextmanager
def serving(repository: Path) -> Iterator[tuple[int, int]]:
    """Run `yais serve` with models of every kind and all metrics; yield its port, and that of the metrics."""
    for name, (code, config) in _MODELS.items():
        version = repository / name / "1"
        version.mkdir(parents=True)
        (repository / name / "config.pbtxt").write_text(config)
        if code:
            (version / "model.py").write_text(code)
    command = [sys.executable, "-m", "yais.tools.main", "serve", "--model-repository", str(repository)]
    command += [f"--{door}-{what}" for door in ("grpc", "http", "metrics") for what in _ANYWHERE]
    process = subprocess.Popen([*command, *_EVERYTHING], stdout=subprocess.PIPE, text=True)
    watchdog = threading.Timer(_SOON, process.kill)
    watchdog.start()
    try:
        assert process.stdout is not None
        ports: dict[str, int] = {}
        while len(ports) < len(_SERVICES):
            line = process.stdout.readline()
            assert line, f"it ended; told so far were {ports}"
            ports.update({name: int(line.split(":")[-1]) for name in _SERVICES if name in line})
        yield ports["GRPC"], ports["Metrics"]
    finally:
        process.terminate()
        process.communicate()
        watchdog.cancel()


def use(port: int) -> None:
    """Ask every model of the server at a port."""
    with triton.InferenceServerClient(f"127.0.0.1:{port}") as client:
        for name in ("plain", "cached", "cached", "ensemble"):
            client.infer(name, [_input()], client_timeout=_SOON)
        client.infer("sequences", [_input()], sequence_id=1, sequence_start=True, client_timeout=_SOON)
        answered: list[Any] = []
        client.start_stream(lambda result, error: answered.append(error or result), stream_timeout=_SOON)
        client.async_stream_infer("decoupled", [_input()])
        client.stop_stream()  # once everything is answered
        assert isinstance(answered[0], triton.InferResult), answered


def scraped(port: int) -> str:
    """Return the page of metrics at a port."""
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=_SOON) as response:
        text: str = response.read().decode()
    return text


def parsed(text: str) -> list[Family]:
    """Return what a page of metrics shows, families without samples, too."""
    found = []
    for part in re.split("^# HELP ", text, flags=re.MULTILINE)[1:]:
        heading, kind, *lines = part.splitlines()
        name, _, said = heading.partition(" ")
        labels = {label for line in lines for label in re.findall(r'(\w+)="', line)} - {"le", "quantile"}
        samples = frozenset(re.split("[{ ]", line, maxsplit=1)[0] for line in lines)
        found.append(Family(name, kind.split()[-1], said, tuple(sorted(labels)), samples))
    return found


def _input() -> triton.InferInput:
    tensor = triton.InferInput("x", [1, 1], "FP32")
    tensor.set_data_from_numpy(np.ones((1, 1), np.float32))
    return tensor


class _Nvml:
    """The functions of `pynvml` that are used, of one GPU."""

    NVMLError = RuntimeError

    def __getattr__(self, name: str) -> Any:
        answers = {
            "nvmlDeviceGetCount": 1,
            "nvmlDeviceGetUUID": "GPU-0",
            "nvmlDeviceGetUtilizationRates": SimpleNamespace(gpu=0),
            "nvmlDeviceGetMemoryInfo": SimpleNamespace(total=0, used=0),
        }
        return lambda *_device: answers.get(name, 0)


def _rpcs() -> yais.Metrics:
    """Return the counts of a server that was asked for its health."""
    metrics = yais.Metrics()
    with (
        yais.Server("127.0.0.1:0", interceptors=[metrics]) as server,
        grpc.insecure_channel(f"127.0.0.1:{server.port}") as channel,
    ):
        channel.unary_unary("/grpc.health.v1.Health/Check")(b"", timeout=_SOON)
    return metrics
