"""NVML's package has what is used of it, and the tests' stand-ins have no more than that."""

from __future__ import annotations

import re
from pathlib import Path

import pynvml

ROOT = Path(__file__).parents[2]
USED = ("yais/core/gpus.py", "yais/serving/gpu_metrics.py")


def test_everything_used_is_there() -> None:
    text = "".join((ROOT / name).read_text() for name in USED)
    names = set(re.findall(r"nvml\.(nvml\w+|NVML\w+)", text))
    assert len(names) > 8
    assert sorted(names - set(dir(pynvml))) == []
