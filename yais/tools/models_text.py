"""What a server says of itself and its models, for people."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable

from yais.protocol import kserve_pb2 as pb
from yais.tools.table import table

__all__ = ["index_text", "metadata_text", "server_text", "statistics_text"]

_MILLISECOND = 1e6  # nanoseconds


def index_text(index: pb.RepositoryIndexResponse) -> str:
    """Return the models of a repository as a table."""
    if not index.models:
        return "no models"
    rows = [(model.name, model.version, model.state, model.reason) for model in index.models]
    return table(("MODEL", "VERSION", "STATE", "REASON"), rows)


def server_text(server: pb.ServerMetadataResponse) -> str:
    """Return what a server says of itself."""
    extensions = textwrap.fill(
        f"extensions: {', '.join(server.extensions)}", 80, subsequent_indent=" " * 4, break_on_hyphens=False
    )
    return f"server {server.name}, version {server.version}\n{extensions}"


def metadata_text(model: pb.ModelMetadataResponse) -> str:
    """Return the inputs and outputs of a model."""
    versions = f"version{'s' * (len(model.versions) != 1)} {', '.join(model.versions)}"
    head = f"model {model.name}, {versions}, platform {model.platform}"
    return "\n".join([head, "inputs", *_tensors(model.inputs), "outputs", *_tensors(model.outputs)])


def statistics_text(statistics: pb.ModelStatisticsResponse) -> str:
    """Return what models have done as a table."""
    head = ("MODEL", "VERSION", "REQUESTS", "FAILED", "BATCH", "LATENCY", "QUEUE", "COMPUTE")
    rows = [_row(model) for model in statistics.model_stats]
    return f"{table(head, rows)}\nlatency, queue and compute in ms, and the batch, on average"


def _tensors(tensors: Iterable[pb.ModelMetadataResponse.TensorMetadata]) -> list[str]:
    return [f"    {tensor.name}: {tensor.datatype}{list(tensor.shape)}" for tensor in tensors]


def _row(model: pb.ModelStatistics) -> tuple[object, ...]:
    spent = model.inference_stats
    requests = spent.success.count
    compute = spent.compute_input.ns + spent.compute_infer.ns + spent.compute_output.ns
    times = (spent.success.ns, spent.queue.ns, compute)
    return (
        model.name,
        model.version,
        requests,
        spent.fail.count,
        model.inference_count / model.execution_count if model.execution_count else None,
        *(ns / requests / _MILLISECOND if requests else None for ns in times),
    )
