"""Python models whose batches a test can see and hold up, and requests that Triton's client sends to them."""

from __future__ import annotations

import os
import queue
import threading
from collections import defaultdict
from collections.abc import Iterator, Mapping
from concurrent.futures import Future
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import far_gates
import numpy as np
import tritonclient.grpc as triton
from onnx_models import write
from serving_models import FRONTENDS, SOON
from tritonclient.utils import np_to_triton_dtype

GATED = """
from gated_models import gates

class Model:
    def initialize(self, config):
        self.gate = gates[config.parameters.get("gate", config.name)]

    def execute(self, inputs):
        with self.gate.passing(inputs["x"][:, 0].tolist()):
            return {"y": inputs["x"]}
"""
"""A model that gives back what it gets, when its gate lets it pass."""

TENSORS = """
    backend: "python"
    input { name: "x" data_type: TYPE_FP32 dims: [ -1 ] }
    output { name: "y" data_type: TYPE_FP32 dims: [ -1 ] }
"""


class Gate:
    """Where the batches of a model pass. Thread-safe.

    Attributes
    ----------
    batches
        The first elements of the items of each, in the order in which they came.
    most
        Batches that were there at once, at most.
    """

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._held: tuple[float, ...] | None = ()  # values whose batches have to wait; None for all
        self._inside = 0
        self.batches: list[list[float]] = []
        self.most = 0

    @contextmanager
    def passing(self, values: list[float]) -> Iterator[None]:
        """Be a batch of these values that passes."""
        passed = self.enter(values)
        try:
            assert passed, "held up for too long"
            yield
        finally:
            self.leave()

    def enter(self, values: list[float]) -> bool:
        """Be a batch that has come; return when it may pass, False if that takes too long."""
        with self._changed:
            self.batches.append(values)
            self._inside += 1
            self.most = max(self.most, self._inside)
            self._changed.notify_all()
            return self._changed.wait_for(lambda: not self._holds(values), SOON)

    def leave(self) -> None:
        """Be a batch that has passed."""
        with self._changed:
            self._inside -= 1

    def note(self, what: Any) -> None:
        """Note something among the batches."""
        self.batches.append(what)

    def _holds(self, values: list[float]) -> bool:
        return self._held is None or not set(values).isdisjoint(self._held)

    @contextmanager
    def shut(self, *values: float) -> Iterator[None]:
        """Hold up the batches with one of these values, or all batches, while the block lasts."""
        self.batches.clear()
        self.most = 0
        self._held = values or None
        try:
            yield
        finally:
            with self._changed:
                self._held = ()
                self._changed.notify_all()

    def wait_for(self, batches: int) -> None:
        """Wait until so many batches have come since it was shut."""
        with self._changed:
            assert self._changed.wait_for(lambda: len(self.batches) >= batches, SOON)


def _gates() -> Any:
    if far_gates.ADDRESS in os.environ:
        return far_gates.FarGates()
    near: dict[str, Gate] = defaultdict(Gate)
    if FRONTENDS:
        far_gates.serve_gates(near)
    return near


gates: dict[str, Gate] = _gates()
"""By the names of models, or what their parameter `gate` says. They are in the process of the tests."""


def write_gated(repository: Path, name: str, config: str) -> None:
    """Write a model that is held up at its gate: x: FP32[-1] -> y."""
    write_python(repository, name, GATED, TENSORS + config)


def write_python(
    repository: Path, name: str, source: str, config: str | None = None, version: str = "1"
) -> None:
    """Write a Python model."""
    write(repository, name, source.encode(), config, version=version, filename="model.py")


def tensors(arrays: Mapping[str, np.ndarray]) -> list[triton.InferInput]:
    """Return arrays as Triton's client wants them."""
    inputs = []
    for name, array in arrays.items():
        tensor = triton.InferInput(name, list(array.shape), np_to_triton_dtype(array.dtype))
        tensor.set_data_from_numpy(array)
        inputs.append(tensor)
    return inputs


def row(*values: float) -> np.ndarray:
    """Return one item."""
    return np.array([values], np.float32)


class Sent:
    """A request on its way.

    Parameters
    ----------
    ended
        Gets the request when it has ended.
    """

    def __init__(
        self,
        client: triton.InferenceServerClient,
        model: str,
        arrays: Mapping[str, np.ndarray],
        *,
        ended: queue.Queue[Any] | None = None,
        **options: Any,
    ) -> None:
        self._future: Future[triton.InferResult] = Future()
        self._ended = ended
        options.setdefault("client_timeout", SOON)
        self._call = client.async_infer(model, tensors(arrays), self._answered, **options)

    def _answered(self, result: triton.InferResult, error: Exception | None) -> None:
        if error is not None:
            self._future.set_exception(error)
        else:
            self._future.set_result(result)
        if self._ended is not None:
            self._ended.put(self)

    @property
    def done(self) -> bool:
        """Whether it has ended."""
        return self._future.done()

    def cancel(self) -> None:
        """Ask for its end."""
        self._call.cancel()

    def result(self) -> triton.InferResult:
        """Wait for the answer."""
        return self._future.result(SOON)

    def array(self, name: str) -> np.ndarray:
        """Wait for an output."""
        array: np.ndarray = self.result().as_numpy(name)
        return array

    def error(self) -> tuple[str, str]:
        """Wait for the error; return its status and text."""
        error = self._future.exception(SOON)
        assert isinstance(error, triton.InferenceServerException), self._future.result(0)
        return error.status().removeprefix("StatusCode."), error.message()
