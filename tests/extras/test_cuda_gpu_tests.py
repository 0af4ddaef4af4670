"""The tests of tests/gpu with the real cuda-core, on a driver that stands in for a GPU (driver/libcuda.c)."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SOURCE = Path(__file__).parent / "driver/libcuda.c"


@pytest.mark.timeout(180)
def test_tests_for_gpus_pass(tmp_path: Path) -> None:
    compiler = shutil.which("cc")
    if compiler is None:
        pytest.skip("there is no C compiler")
    library = tmp_path / "libcuda.so.1"
    subprocess.run([compiler, "-shared", "-fPIC", "-pthread", "-o", library, SOURCE], check=True, timeout=60)
    command = [sys.executable, "-m", "pytest", "-q", "-c", os.devnull, "--rootdir", str(ROOT), "-W", "error"]
    # TensorRT asks more of a driver; thousands of requests are for a GPU.
    command += [
        "-p",
        "no:asyncio",
        "-p",
        "no:cacheprovider",
        "-k",
        "not tensorrt and not serving",
        "tests/gpu",
    ]
    environment = {**os.environ, "LD_LIBRARY_PATH": str(tmp_path), "YAIS_GPU": "1"}
    ran = subprocess.run(
        command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=150, check=False
    )
    assert ran.returncode == 0, ran.stdout[-3000:]
    passed = re.search(r"(\d+) passed", ran.stdout)
    assert passed is not None
    assert int(passed[1]) >= 40
