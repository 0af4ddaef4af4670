"""Percentiles of latencies, as the tools report them."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt

__all__ = ["latency_text", "percentiles"]


def percentiles(seconds: npt.ArrayLike) -> dict[str, float] | None:
    """Return p50, p90, p99 and max of latencies, in ms; None where there are none."""
    milliseconds = np.asarray(seconds, np.float64) * 1e3
    if not milliseconds.size:
        return None
    p50, p90, p99 = np.percentile(milliseconds, (50, 90, 99)).tolist()
    return {"p50": p50, "p90": p90, "p99": p99, "max": milliseconds.max().item()}


def latency_text(latency: Mapping[str, float]) -> str:
    """Return them as a line."""
    return "latency in ms: " + ", ".join(f"{name} {value:.3f}" for name, value in latency.items())
