"""What all RPCs of the service share: the manager with its model, and images to measure with."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt

import yais
from yais.inference.counts import Counts
from yais.inference.scheduling.dynamic import BatchingPolicy
from yais.serving.managed import ManagedModels
from yais.serving.metrics import ModelCollector

DIGITS = Path(__file__).parents[1] / "models/digits"
NAME = "digits"
BATCH = 32


class InferenceResources(yais.Resources):
    """A manager of one model.

    Parameters
    ----------
    model
        An ONNX file: images FP32[-1, 1, 8, 8] to scores of ten digits.
    contexts
        Executions at once.
    buffers
        Requests whose data is in staging memory.
    window
        Microseconds that a request waits for others to run with.
    """

    def __init__(self, model: Path, *, contexts: int, buffers: int, window: int) -> None:
        self.manager = yais.InferenceManager(contexts, buffers)
        policy = BatchingPolicy(BATCH, max_delay=1000 * window)
        self.manager.register(NAME, model, max_batch_size=BATCH, batching=policy)
        self.collector = ModelCollector(ManagedModels(self.manager))

    def open(self) -> None:
        """Take the memory, and make what `own` names."""
        self.manager.allocate()
        self.model = self.manager.find(NAME)
        with np.load(DIGITS / "held_out.npz") as file:
            self.own: npt.NDArray[np.float32] = file["images"][:, None].astype(np.float32)

    def close(self) -> None:
        """Let what runs end, and free the memory."""
        self.manager.close()

    def counts(self) -> Counts:
        """Return what the model counts."""
        return self.model.counts()
