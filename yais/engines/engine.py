"""What every engine does."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from typing import Any, Protocol

import numpy.typing as npt

from yais.core.tensor import TensorSpec
from yais.lane import Lane
from yais.memory.buffer import Buffer

__all__ = ["Array", "DecoupledEngine", "DeviceEngine", "Engine", "Execution"]

Array = npt.NDArray[Any]


class Engine(Protocol):
    """Runs one loaded model. `execute` may be called from several threads at once.

    An engine may have a method `at(instance: int)`, which returns the engine that runs the batches of an
    instance of the model: where a session on another device, or a process of its own, does.

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
            One array per input, in their order, with the element types of `DataType.numpy`; None for one
            that may be left out and is. They may be read-only and are only valid during the call.

        Returns
        -------
        Sequence
            One array per output, in their order, sharing no memory with the inputs.
        """

    def close(self) -> None:
        """Give back what the model holds. Nothing is executed afterwards. Idempotent."""


class DecoupledEngine(Engine, Protocol):
    """An engine that answers a request any number of times, none included.

    Attributes
    ----------
    decoupled
        If True, `stream` is called instead of `execute`.
    """

    decoupled: bool

    def stream(self, inputs: Sequence[Array]) -> Generator[Sequence[Array], None, None]:
        """Run the model; each item is a response, as `execute` returns one.

        Closing the generator ends the work: nobody wants more.
        """


class Execution(Protocol):
    """One execution on a device. The calls come in this order, on threads of the lane it was begun on."""

    def launch(self, scratch: Buffer | None) -> None:
        """Queue the work on the lane's stream, using the activation memory of an execution token."""

    def wait(self) -> None:
        """Wait until the device is done with the scratch memory, so that the token can be given back."""

    def outputs(self) -> Sequence[Array]:
        """Wait for the outputs, in the lane's staging memory: valid until the lane is returned."""


class DeviceEngine(Engine, Protocol):
    """An engine that works on a device while threads of the host do other things.

    Attributes
    ----------
    scratch_size
        Bytes of activation memory that an execution borrows from its token.
    device_size
        Bytes of device memory that an execution of the largest batch takes of its lane.
    """

    scratch_size: int
    device_size: int

    def begin(self, inputs: Sequence[Array], lane: Lane) -> Execution:
        """Queue copies of the inputs to the device on the lane's stream; they stay valid until the end."""
