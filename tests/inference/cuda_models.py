"""Models whose kernels a test can see, hold and make fail, on GPUs whose CUDA is a fake."""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
from gpu_sites import check_sites_idle
from managing import X, Y
from modelling import SOON

from yais.engines.device_function import DeviceFunctionEngine
from yais.inference.manager import InferenceManager
from yais.testing.cuda import FakeCuda

SCRATCH = 4096

NOTHING: Callable[[], None] = lambda: None  # noqa: E731


def on_gpu(cuda: FakeCuda, gpu: int, before: Callable[[], None] = NOTHING) -> DeviceFunctionEngine:
    """Return y = 2 x on a GPU, by way of the activation memory: who shares that gets another's answer."""

    def double(inputs: Any, outputs: Any, stream: Any, scratch: Any) -> None:
        def memory(address: int, size: int) -> Any:
            return np.frombuffer(cuda.view(address, size), np.float32)

        def first() -> None:
            before()
            memory(scratch.handle, inputs[0].nbytes)[:] = memory(inputs[0].address, inputs[0].nbytes)

        def second() -> None:
            memory(outputs[0].address, outputs[0].nbytes)[:] = 2 * memory(scratch.handle, outputs[0].nbytes)

        cuda.submit(stream.handle, "compute", first)
        cuda.submit(stream.handle, "compute", second)

    device = cuda.device(gpu)
    return DeviceFunctionEngine(double, [X], [Y], gpu=gpu, max_batch=8, scratch_size=SCRATCH, device=device)


@contextmanager
def managing(cuda: FakeCuda, tokens: int = 2, lanes: int = 3) -> Iterator[InferenceManager]:
    """A manager on the GPUs of a fake. In the end all came back, and is freed where CUDA still works."""
    manager = InferenceManager(tokens, lanes, gpus=cuda.device)
    try:
        yield manager
        check_sites_idle(manager)
    finally:
        assert manager.close(SOON)
    gc.collect()  # what was raised knows the frames it came through, and these the arrays
