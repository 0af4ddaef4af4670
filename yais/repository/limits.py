"""Bounds of configurations: no number in one takes the server's memory, or keeps it busy for ever.

They are far above what models need. A load that breaks one is refused.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from yais.core.tensor import DataType

__all__ = ["MAX_BYTES", "MAX_INSTANCES", "MAX_RUNS", "MAX_SLOTS", "MAX_THREADS", "MAX_WORKERS", "byte_size"]

MAX_INSTANCES = 1024
"""Instances of a model, in all of its groups and on all GPUs."""

MAX_WORKERS = 256
"""Of them where each is a process."""

MAX_THREADS = 1024
"""Threads of one kind in a session of ONNX Runtime."""

MAX_SLOTS = 100_000
"""Sequences that all instances of a model have at once."""

MAX_RUNS = 1000
"""Times that each instance runs a warm-up sample."""

MAX_BYTES = 1 << 30
"""What one thing that the server makes of a configuration may take: the inputs of a request to warm up or to
measure with, the initial states of a sequence, a file of either."""


def byte_size(datatype: DataType, dims: Sequence[int]) -> int:
    """Return what a tensor takes: with 1 for a dimension of any size or none, 8 for an element of BYTES."""
    return math.prod(max(size, 1) for size in dims) * (datatype.size or 8)
