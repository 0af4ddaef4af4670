"""What every engine does."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from typing import Any, Protocol

import numpy.typing as npt

from yais.core.tensor import TensorSpec
from yais.lane import Lane
from yais.memory.device_buffer import DeviceBuffer

__all__ = ["Array", "DecoupledEngine", "DeviceEngine", "Engine", "Execution", "placed"]

Array = npt.NDArray[Any]


class Engine(Protocol):
    """Runs one loaded model. `execute` may be called from several threads at once.

    An engine may have a method `at(instance: int)`, which returns the engine that runs the batches of an
    instance of the model: where a session on another device, or a process of its own, does.

    One whose dimensions of any size have bounds may have attributes that say them: `max_batch`, the largest
    first dimension of all inputs, 0 for none; `smallest` and `largest`, mappings from the names of tensors to
    their bounds, shapes with the batch dimension.
    """

    @property
    def inputs(self) -> tuple[TensorSpec, ...]:
        """What the model takes, in its own order until `select`; -1 stands for a dimension of any size."""

    @property
    def outputs(self) -> tuple[TensorSpec, ...]:
        """What it gives, likewise."""

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
    """One execution on a device. The calls come in this order, on threads of the lane it was begun on.

    It may be dropped before `launch`: what it has queued by then uses the lane and the inputs only.
    """

    def launch(self, scratch: DeviceBuffer | None) -> None:
        """Queue the work on the lane's stream, using the activation memory of an execution token.

        Where it raises, nothing of its own is left on the stream, nor anything borrowed.
        """

    def wait(self) -> None:
        """Wait until the device is done with the scratch memory, so that the token can be given back."""

    def outputs(self) -> Sequence[Array]:
        """Wait for the outputs, in the lane's staging memory: valid until the lane is returned."""


class DeviceEngine(Engine, Protocol):
    """An engine that works on a device while threads of the host do other things.

    It may have an attribute `takes_device_arrays`. If that is True, inputs of `begin` may be
    `yais.memory.device_array.DeviceArray`s of its GPU: of any alignment, to be read by work on the lane's
    stream, and not to be written to.
    """

    @property
    def scratch_size(self) -> int:
        """Bytes of activation memory that an execution borrows from its token."""

    @property
    def device_size(self) -> int:
        """Bytes of device memory that an execution of the largest batch takes of its lane."""

    @property
    def gpu(self) -> int | None:
        """The GPU whose lanes and tokens it needs; None for whatever device the lane is on."""

    def begin(self, inputs: Sequence[Array], lane: Lane) -> Execution:
        """Queue copies of the inputs to the device on the lane's stream; they stay valid until the end."""


def placed(engine: Engine) -> Engine:
    """Return the engine that runs the first instance: one that says what it is limited to."""
    at = getattr(engine, "at", None)
    first: Engine = engine if at is None else at(0)
    return first
