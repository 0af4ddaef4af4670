"""Models to trace requests to, and what is read of trace files."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import tritonclient.grpc as triton
from gated_models import TENSORS, row, tensors, write_gated, write_python
from onnx_models import write
from serving_models import FRONTENDS, SOON, serving_models

from yais.serving.server import InferenceServer
from yais.serving.trace_settings import TraceOptions

BATCHES = "max_batch_size: 4 dynamic_batching {}"

FAILING = """
class Model:
    def execute(self, inputs):
        raise ValueError("broken")
"""

COUNTING = """
class Model:
    def execute(self, inputs):
        for number in range(int(inputs["x"].max())):
            yield {"y": inputs["x"] * 0 + number}
"""

PIPELINE = """
async def pipeline(inputs, models):
    first = await models["twice"].infer(x=inputs["x"])
    return {"y": (await models["plain"].infer(x=first["y"]))["y"]}
"""

TWICE = """
    platform: "ensemble"
    max_batch_size: 4
    input { name: "x" data_type: TYPE_FP32 dims: [ -1 ] }
    output { name: "y" data_type: TYPE_FP32 dims: [ -1 ] }
    ensemble_scheduling {
        step { model_name: "plain" model_version: -1
            input_map { key: "x" value: "x" } output_map { key: "y" value: "between" } }
        step { model_name: "plain" model_version: -1
            input_map { key: "x" value: "between" } output_map { key: "y" value: "y" } }
    }
"""


def fill_traced(repository: Path) -> Path:
    """Write the models; return the repository. All take x: FP32[-1] and give y.

    plain     held up at its gate
    cached    the same, with a response cache
    failing   fails
    counting  decoupled: answers x times
    twice     an ensemble: plain, and then plain
    nested    a pipeline: twice, and then plain
    """
    write_gated(repository, "plain", BATCHES)
    write_gated(repository, "cached", f"{BATCHES} response_cache {{ enable: true }}")
    write_python(repository, "failing", FAILING, TENSORS + BATCHES)
    write_python(repository, "counting", COUNTING, TENSORS + "max_batch_size: 4")
    write_python(repository, "nested", PIPELINE, TENSORS + "max_batch_size: 4")
    write(repository, "twice", None, TWICE)
    (repository / "twice" / "1").mkdir()
    return repository


@contextmanager
def tracing(
    repository: Path, *, metrics_port: int | None = 0 if FRONTENDS else None, **options: Any
) -> Iterator[tuple[InferenceServer, triton.InferenceServerClient]]:
    """Serve the models, and trace as `TraceOptions` say: all, unless they say less."""
    trace = TraceOptions(**{"level": ("TIMESTAMPS",), "rate": 1, **options})
    with (
        serving_models(repository, trace=trace, cache_size=1 << 20, metrics_port=metrics_port) as server,
        triton.InferenceServerClient(f"127.0.0.1:{server.port}") as client,
    ):
        yield server, client


def ask(
    client: triton.InferenceServerClient, model: str, *values: float, **options: Any
) -> triton.InferResult:
    """Ask a model for one item."""
    return client.infer(model, tensors({"x": row(*values)}), client_timeout=SOON, **options)


@dataclass
class Traced:
    """What a file says of one request to a model."""

    id: int
    model: str
    version: int
    request_id: str
    parent: int
    moments: list[tuple[str, int]] = field(default_factory=list)
    tensors: list[tuple[str, dict[str, str]]] = field(default_factory=list)

    @property
    def names(self) -> list[str]:
        """Of its moments, as they stand in the file."""
        return [name for name, _ in self.moments]

    def at(self, name: str) -> int:
        """Return when something was, for the only time."""
        (moment,) = [at for each, at in self.moments if each == name]
        return moment


def read_traces(path: Path) -> list[Traced]:
    """Return the traces of a file, by their ids."""
    traces: dict[int, Traced] = {}
    for entry in json.loads(path.read_text()):
        if "model_name" in entry:
            traced = Traced(
                entry["id"],
                entry["model_name"],
                entry["model_version"],
                entry.get("request_id", ""),
                entry.get("parent_id", 0),
            )
            assert traces.setdefault(entry["id"], traced) is traced
        elif "timestamps" in entry:
            moments = [(moment["name"], moment["ns"]) for moment in entry["timestamps"]]
            traces[entry["id"]].moments += moments
        else:
            traces[entry["id"]].tensors.append((entry["activity"], entry["tensor"]))
    return sorted(traces.values(), key=lambda traced: traced.id)
