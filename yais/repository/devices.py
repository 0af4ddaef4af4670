"""Devices that models may be placed on."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass

from yais.core.topology import Topology
from yais.engines.onnx import available_providers
from yais.errors import FailedPrecondition

__all__ = ["Devices"]


def _why_not(backend: str) -> str:
    """Return why engines of a kind cannot run on GPUs that are there; empty if they can."""
    from yais.memory.cuda.toolkit import why_no_cuda  # what follows looks for packages, some of them large

    if reason := why_no_cuda():
        return f"CUDA cannot be used: {reason}"
    if backend == "pytorch":
        from yais.engines.torch_tensors import torch_module

        try:
            torch = torch_module()
        except FailedPrecondition as error:
            return str(error)
        if not torch.cuda.is_available():
            return f"this PyTorch {torch.__version__} cannot use them"
    return ""


@dataclass(frozen=True, slots=True)
class Devices:
    """What there is to run models besides the CPUs.

    Attributes
    ----------
    gpus
        Numbers of the GPUs.
    providers
        Of ONNX Runtime, by their names.
    why_not
        Called with the name of a backend, not ONNX Runtime's: why its models cannot run on the GPUs; empty
        if they can.
    """

    gpus: tuple[int, ...] = ()
    providers: frozenset[str] = frozenset()
    why_not: Callable[[str], str] = _why_not

    @classmethod
    def here(cls) -> Devices:
        """Return those of this machine and this ONNX Runtime. Read once."""
        return _here()

    def missing_for(self, backend: str) -> str:
        """Return why models of a backend that uses GPUs cannot run on one; empty if they can.

        Those of ONNX Runtime need its CUDA provider, those of PyTorch its build for CUDA, and all but the
        former the extra "cuda".
        """
        if not self.gpus:
            return "no GPUs are available"
        if backend != "onnxruntime":
            return self.why_not(backend)
        if "CUDAExecutionProvider" not in self.providers:
            return (
                "this ONNX Runtime lacks CUDAExecutionProvider (pip install onnxruntime-gpu instead of "
                "onnxruntime)"
            )
        return ""


@functools.cache
def _here() -> Devices:
    gpus = Topology.read().gpus
    return Devices(tuple(gpu.index for gpu in gpus), available_providers())
