"""PyTorch as a kind of engines."""

from __future__ import annotations

from pathlib import Path

from yais.engines.engine import Engine
from yais.engines.kinds import EngineKind, EngineSettings

__all__ = ["KIND"]


def _load(path: Path, settings: EngineSettings) -> Engine:
    if settings.gpu is not None:
        from yais.engines.torch_device import TorchDeviceEngine

        return TorchDeviceEngine(path, settings)
    from yais.engines.torch import TorchEngine

    return TorchEngine(path, settings)


KIND = EngineKind(
    name="pytorch",
    platform="pytorch_libtorch",
    filename="model.pt",
    alternatives=("model.pt2",),
    suffixes=(".pt", ".pt2"),
    load=_load,
    uses_gpus=True,
    parameters=(
        "INTRA_OP_THREAD_COUNT",
        "INTER_OP_THREAD_COUNT",
        "INFERENCE_MODE",
        "DISABLE_OPTIMIZED_EXECUTION",
    ),
)
"""ExportedProgram and TorchScript; see docs/engines.md."""
