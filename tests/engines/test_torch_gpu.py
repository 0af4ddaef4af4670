"""What PyTorch is asked for on a GPU: with a stand-in for it, which notes what is current."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest

from yais.engines import torch_gpu
from yais.engines.torch_gpu import TorchGpu
from yais.testing.cuda import FakeCuda


def test_the_streams_gpu_is_current_before_pytorch_looks(monkeypatch: pytest.MonkeyPatch) -> None:
    """PyTorch remembers which GPU was current, and goes back to it: to GPU 0 where there was none."""
    with FakeCuda(gpus=2) as fake:
        seen: list[Any] = []

        @contextlib.contextmanager
        def on(stream: Any) -> Iterator[None]:
            seen.append((stream, int(fake.toolkit.call("cuCtxGetCurrent"))))
            yield

        cuda = SimpleNamespace(
            is_available=lambda: True,
            device_count=lambda: 2,
            stream=on,
            ExternalStream=lambda handle, device: (handle, device),
        )
        monkeypatch.setattr(torch_gpu, "torch_module", lambda: SimpleNamespace(cuda=cuda))
        device = fake.device(1)
        stream = device.stream()
        device.activate()
        context = int(fake.toolkit.call("cuCtxGetCurrent"))
        fake.toolkit.call("cuCtxSetCurrent", 0)
        with TorchGpu(1).on(stream):
            assert seen == [((stream.handle, "cuda:1"), context)]
        stream.close()
