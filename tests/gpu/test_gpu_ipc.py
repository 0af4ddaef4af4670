"""CUDA's handles between two processes."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from yais.errors import YaisError
from yais.memory.cuda.device import CudaDevice

ROOT = Path(__file__).parents[2]
PROGRAM = Path(__file__).parent / "ipc_program.py"


def test_another_process_reads_and_writes(real_gpu: CudaDevice) -> None:
    array, stream = np.arange(5, dtype=np.float32), real_gpu.stream()
    with real_gpu.memory().allocate(array.nbytes) as memory:
        stream.copy_in(memory.handle, array)
        stream.sync()
        try:
            handle = real_gpu.export(memory)
        except YaisError as error:
            pytest.skip(f"this machine has no such handles: {error}")
        command = [sys.executable, str(PROGRAM), handle.hex(), str(len(array))]
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), *filter(None, sys.path)])}
        child = subprocess.run(
            command, capture_output=True, text=True, timeout=50, env=environment, check=False
        )
        assert child.returncode == 0, child.stderr
        assert child.stdout.split() == ["0.0", "1.0", "2.0", "3.0", "4.0"]
        stream.copy_out(array, memory.handle)
        stream.sync()
    np.testing.assert_array_equal(array, np.arange(5) + 1)
    stream.close()


def test_what_is_no_handle(real_gpu: CudaDevice) -> None:
    with pytest.raises(YaisError):
        real_gpu.open_ipc(bytes(64), 16)
