"""A model on several devices."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from yais.core.tensor import TensorSpec
from yais.engines.engine import Array, Engine

__all__ = ["PlacedEngine", "load_placed"]


class PlacedEngine:
    """The same model loaded several times, each for some of its instances.

    Parameters
    ----------
    engines
        At least one, all with the same tensors. Closed with this one.
    places
        For each instance, which of the engines is its.

    Attributes
    ----------
    optional
        Inputs that may be left out.
    """

    def __init__(self, engines: Sequence[Engine], places: Sequence[int]) -> None:
        self._engines = list(engines)
        self._places = list(places)
        self.inputs, self.outputs = self._engines[0].inputs, self._engines[0].outputs
        self.optional: tuple[TensorSpec, ...] = getattr(self._engines[0], "optional", ())

    def __repr__(self) -> str:
        shares = ", ".join(str(self._places.count(place)) for place in range(len(self._engines)))
        return f"<PlacedEngine {self._engines[0]!r}: {len(self._engines)} engines for {shares} instances>"

    @property
    def instances(self) -> int:
        """For how many instances there is a place."""
        return len(self._places)

    def at(self, instance: int) -> Engine:
        """Return what runs the batches of an instance."""
        return self._engines[self._places[instance]]

    def select(self, inputs: Sequence[str], outputs: Sequence[str]) -> None:
        """Fix the order of inputs and outputs; see `Engine`. Raises InvalidArgument."""
        for engine in self._engines:
            engine.select(inputs, outputs)
        self.inputs, self.outputs = self._engines[0].inputs, self._engines[0].outputs

    def execute(self, inputs: Sequence[Array]) -> Sequence[Array]:
        """Run the model where its first instance is; see `Engine`."""
        return self.at(0).execute(inputs)

    def close(self) -> None:
        """Close every engine. Idempotent."""
        for engine in self._engines:
            engine.close()


def load_placed(load: Callable[[int | None], Engine], gpus: Sequence[int | None]) -> Engine:
    """Return an engine for each GPU, as one; where one does not load, those before it are closed.

    Parameters
    ----------
    load
        Makes the engine of a GPU, or that of the CPUs for None. What it raises passes.
    gpus
        Of each instance, at least one.
    """
    used = list(dict.fromkeys(gpus))
    engines: list[Engine] = []
    try:
        for gpu in used:
            engines.append(load(gpu))  # noqa: PERF401 - closed if one fails
    except BaseException:
        for engine in engines:
            engine.close()
        raise
    return engines[0] if len(engines) == 1 else PlacedEngine(engines, [used.index(gpu) for gpu in gpus])
