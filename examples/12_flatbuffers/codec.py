"""What FlatBuffers messages are on the wire, and what code works with."""

# mypy: allow-untyped-calls

from __future__ import annotations

from typing import NamedTuple

import flatbuffers  # type: ignore[import-untyped]
import numpy as np
import samples_generated as generated
from numpy.typing import NDArray

import yais

Samples = NDArray[np.float32]


class Summary(NamedTuple):
    size: int
    mean: float
    deviation: float


def write_samples(values: Samples) -> bytes:
    builder = flatbuffers.Builder(values.nbytes + 64)
    vector = builder.CreateNumpyVector(values)
    generated.SamplesStart(builder)
    generated.SamplesAddValues(builder, vector)
    builder.Finish(generated.SamplesEnd(builder))
    return bytes(builder.Output())


def read_samples(message: bytes) -> Samples:
    """Return the values where they are in the message; nothing is parsed or copied."""
    samples = generated.Samples.GetRootAs(message)
    if samples.ValuesIsNone():
        raise yais.InvalidArgument("got a message without values")
    values: Samples = samples.ValuesAsNumpy()
    return values


def write_summary(summary: Summary) -> bytes:
    builder = flatbuffers.Builder(64)
    generated.SummaryStart(builder)
    generated.SummaryAddSize(builder, summary.size)
    generated.SummaryAddMean(builder, summary.mean)
    generated.SummaryAddDeviation(builder, summary.deviation)
    builder.Finish(generated.SummaryEnd(builder))
    return bytes(builder.Output())


def read_summary(message: bytes) -> Summary:
    summary = generated.Summary.GetRootAs(message)
    return Summary(summary.Size(), summary.Mean(), summary.Deviation())
