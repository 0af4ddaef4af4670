"""What PyTorch is asked for on a GPU: with a stand-in for it, which notes what is current."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest

from yais.core.tensor import DataType
from yais.engines import torch_gpu
from yais.engines.torch_gpu import TorchGpu
from yais.memory.device_array import DeviceArray
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


def test_a_tensor_on_a_lanes_memory_waits_for_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """PyTorch says which stream is its own, and within `on` that is the lane's."""
    current: list[int] = []

    @contextlib.contextmanager
    def on(handle: int) -> Iterator[None]:
        current.append(handle)
        yield

    def from_dlpack(array: DeviceArray) -> Any:  # as PyTorch does with what is on a GPU
        return array.__dlpack_device__(), array.__dlpack__(max_version=(1, 0), stream=current[-1])

    cuda = SimpleNamespace(
        is_available=lambda: True,
        device_count=lambda: 2,
        stream=on,
        ExternalStream=lambda handle, device: handle,
    )
    torch = SimpleNamespace(cuda=cuda, from_dlpack=from_dlpack)
    monkeypatch.setattr(torch_gpu, "torch_module", lambda: torch)
    with FakeCuda(gpus=2) as fake:
        stream, memory = fake.device(1).stream(), TorchGpu(1)
        array = DeviceArray(0x1000, (2, 3), DataType.BF16, gpu=1, stream=stream)
        with memory.on(stream):
            before = len(fake.calls)
            device, capsule = memory.view(array)
            assert (device, type(capsule).__name__) == ((2, 1), "PyCapsule")
            assert fake.calls[before:] == []
        stream.close()
