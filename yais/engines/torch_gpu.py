"""A GPU, as PyTorch has it."""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import Any, Protocol

from yais.engines.torch_tensors import torch_module
from yais.errors import FailedPrecondition
from yais.memory.device_array import DeviceArray

__all__ = ["TorchGpu", "TorchMemory"]


class TorchMemory(Protocol):
    """What PyTorch is asked for besides running the model.

    Attributes
    ----------
    name
        PyTorch's name of the device.
    """

    name: str

    def synchronize(self) -> None:
        """Wait for all work on the device."""

    def release(self) -> None:
        """Give back to the device what no tensor has."""

    def on(self, stream: Any) -> AbstractContextManager[Any]:
        """Make a lane's stream PyTorch's, of this thread, while the context lasts."""

    def view(self, array: DeviceArray) -> Any:
        """Return a tensor on device memory, within `on` its stream."""


class TorchGpu:
    """A GPU, as PyTorch has it; see `TorchMemory`.

    PyTorch keeps what tensors leave behind for each stream, and gives it to what is allocated on this stream
    next: so an execution's own tensors, all of one stream, may be freed while the stream still uses them.

    Raises
    ------
    FailedPrecondition
        This PyTorch has no such GPU.
    """

    def __init__(self, gpu: int) -> None:
        torch = torch_module()
        count = torch.cuda.device_count() if torch.cuda.is_available() else 0
        if gpu >= count:
            what = f"{count} GPUs" if torch.version.cuda else "no CUDA: it is a build for CPUs"
            raise FailedPrecondition(f"got GPU {gpu}, and this PyTorch {torch.__version__} has {what}")
        self.name = f"cuda:{gpu}"

    def synchronize(self) -> None:
        """Wait for the GPU; see `TorchMemory`."""
        torch_module().cuda.synchronize(self.name)

    def release(self) -> None:
        """Give back to the GPU what no tensor has; see `TorchMemory`."""
        torch_module().cuda.empty_cache()

    def on(self, stream: Any) -> AbstractContextManager[Any]:
        """Make a lane's stream PyTorch's; see `TorchMemory`."""
        stream.device.activate()  # or PyTorch goes back to another GPU afterwards, and makes a context there
        cuda = torch_module().cuda
        context: AbstractContextManager[Any] = cuda.stream(
            cuda.ExternalStream(stream.handle, device=self.name)
        )
        return context

    def view(self, array: DeviceArray) -> Any:
        """Return a tensor on device memory; see `TorchMemory`."""
        return torch_module().from_dlpack(array)  # for which the stream is current: it is not waited for
