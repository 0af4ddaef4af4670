"""Devices that models may be placed on."""

from __future__ import annotations

import functools
from dataclasses import dataclass

from yais.core.topology import Topology
from yais.engines.onnx import available_providers

__all__ = ["Devices"]


@dataclass(frozen=True, slots=True)
class Devices:
    """What there is to run models besides the CPUs.

    Attributes
    ----------
    gpus
        Numbers of the GPUs.
    providers
        Of ONNX Runtime, by their names.
    """

    gpus: tuple[int, ...] = ()
    providers: frozenset[str] = frozenset()

    @classmethod
    def here(cls) -> Devices:
        """Return those of this machine and this ONNX Runtime. Read once."""
        return _here()

    @property
    def missing(self) -> str:
        """Why ONNX models cannot run on a GPU; empty if they can."""
        if not self.gpus:
            return "no GPUs are available"
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
