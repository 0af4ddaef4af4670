"""What every engine does."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import numpy.typing as npt

from yais.core.tensor import TensorSpec

__all__ = ["Array", "Engine"]

Array = npt.NDArray[Any]


class Engine(Protocol):
    """Runs one loaded model. `execute` may be called from several threads at once.

    Attributes
    ----------
    inputs, outputs
        The model's tensors, in its own order until `select`; -1 stands for a dimension of any size.
    """

    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]

    def select(self, inputs: Sequence[str], outputs: Sequence[str]) -> None:
        """Take the inputs, all of them, and give the outputs, or some of them, in this order.

        Only before the first `execute`.
        """

    def execute(self, inputs: Sequence[Array]) -> Sequence[Array]:
        """Run the model.

        Parameters
        ----------
        inputs
            One array per input, in their order, with the element types of `DataType.numpy`. They may be
            read-only and are only valid during the call.

        Returns
        -------
        Sequence
            One array per output, in their order, sharing no memory with the inputs.
        """

    def close(self) -> None:
        """Give back what the model holds. Nothing is executed afterwards. Idempotent."""
