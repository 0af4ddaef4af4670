"""Memory of a client's process as inputs of a model on the same GPU: not by way of the host."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from benchmarks.gpu_machine import GpuMachine, twice_function
from yais.core.tensor import DataType, TensorSpec
from yais.engines.device_function import DeviceFunctionEngine
from yais.errors import YaisError
from yais.inference.manager import InferenceManager
from yais.memory.cuda.device import CudaDevice
from yais.serving.cuda_copies import CudaCopies

ROOT = Path(__file__).parents[2]
CLIENT = ROOT / "benchmarks/gpu_client.py"
FLOATS = 1000


def test_a_client_with_its_tensors_on_the_gpu(
    machine: GpuMachine, real_gpu: CudaDevice, monkeypatch: pytest.MonkeyPatch
) -> None:
    with real_gpu.memory().allocate(64) as memory:
        try:
            real_gpu.export(memory)
        except YaisError as error:
            pytest.skip(f"this machine has no such handles: {error}")
    x, y = (TensorSpec(name, DataType.FP32, (-1, FLOATS)) for name in "xy")
    engine = DeviceFunctionEngine(twice_function(machine.kernels), [x], [y], max_batch=4, device=real_gpu)
    written: list[int] = []
    write = CudaCopies.write

    def refuse(*_: Any) -> None:
        raise AssertionError("an input was copied to the host")

    def noted(self: CudaCopies, address: int, contents: memoryview) -> None:
        written.append(contents.nbytes)
        write(self, address, contents)

    monkeypatch.setattr(CudaCopies, "read_into", refuse)
    monkeypatch.setattr(CudaCopies, "write", noted)
    with contextlib.closing(InferenceManager(2, gpus=lambda _: real_gpu)) as manager:
        manager.register("twice", engine, max_batch_size=4)
        manager.allocate()
        server = manager.serve(0, block=False, address="127.0.0.1")
        try:
            assert ask(server.port)["rate"] > 0  # it looks at what comes back
        finally:
            server.stop()
    assert written and set(written) == {4 * FLOATS}


def ask(port: int) -> dict[str, float]:
    command = [sys.executable, str(CLIENT), "--port", str(port), "--model", "twice", "--way", "cuda"]
    command += ["--floats", str(FLOATS), "--in-flight", "1", "--seconds", "0.2"]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), *filter(None, sys.path)])}
    child = subprocess.run(command, capture_output=True, text=True, timeout=50, env=environment, check=False)
    assert child.returncode == 0, child.stderr
    figures: dict[str, float] = json.loads(child.stdout)
    return figures
