"""Executions on the host: the one shape the runner knows, for engines that do all their work in one call."""

from __future__ import annotations

from collections.abc import Sequence

from yais.engines.engine import Array, Engine
from yais.memory.device_buffer import DeviceBuffer

__all__ = ["HostExecution"]


class HostExecution:
    """An execution that is over when `launch` returns; see `yais.engines.engine.Execution`."""

    __slots__ = ("_engine", "_outputs", "inputs")

    def __init__(self, engine: Engine, inputs: Sequence[Array]) -> None:
        self._engine = engine
        self.inputs = inputs
        self._outputs: Sequence[Array] = ()

    def launch(self, scratch: DeviceBuffer | None) -> None:  # noqa: ARG002 - a host engine has memory of its own
        """Run the engine."""
        self._outputs = self._engine.execute(self.inputs)

    def wait(self) -> None:
        """Do nothing: the engine is done."""

    def outputs(self) -> Sequence[Array]:
        """Return them. They are memory of their own, not the lane's."""
        return self._outputs
