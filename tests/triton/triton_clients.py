"""The four clients of Triton, called alike: gRPC and HTTP, each with and without asyncio."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Iterable, Mapping
from typing import Any, Self

import numpy as np
import tritonclient.grpc
import tritonclient.grpc.aio
import tritonclient.http
import tritonclient.http.aio
from serving_models import SOON
from tritonclient.utils import np_to_triton_dtype

from yais.serving.server import InferenceServer

CLASSES = {
    "grpc": tritonclient.grpc.InferenceServerClient,
    "grpc-aio": tritonclient.grpc.aio.InferenceServerClient,
    "http": tritonclient.http.InferenceServerClient,
    "http-aio": tritonclient.http.aio.InferenceServerClient,
}


class Client:
    """A client of one of the four classes whose answers are waited for.

    Attributes
    ----------
    raw
        The client itself.
    """

    def __init__(self, kind: str, server: InferenceServer, host: str = "127.0.0.1", **options: Any) -> None:
        self.kind = kind
        self.server = server
        self.http = kind.startswith("http")
        self.module = tritonclient.http if self.http else tritonclient.grpc
        self._runner = asyncio.Runner() if kind.endswith("aio") else None
        if kind == "http":
            options = {"connection_timeout": SOON, "network_timeout": SOON, **options}
        self.url = f"{host}:{server.http_port if self.http else server.port}"
        self.raw = self._made(CLASSES[kind], options)

    def _made(self, cls: Any, options: Mapping[str, Any]) -> Any:
        if self._runner is None:
            return cls(self.url, **options)

        async def make() -> Any:  # on the loop that is to run it
            return cls(self.url, **options)

        return self._runner.run(make())

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_error: object) -> None:
        self.call("close")
        if self._runner is not None:
            self._runner.close()

    def call(self, method: str, /, *args: Any, **options: Any) -> Any:
        """Call a method; return its answer, without messages of protobuf."""
        function = getattr(self.raw, method)
        if "as_json" in inspect.signature(function).parameters:
            options.setdefault("as_json", True)
        answer = function(*args, **options)
        if not inspect.iscoroutine(answer):
            return answer
        assert self._runner is not None
        return self._runner.run(asyncio.wait_for(answer, SOON))

    def input(self, name: str, array: np.ndarray, datatype: str | None = None, **options: Any) -> Any:
        """Return an input with contents."""
        tensor = self.module.InferInput(name, list(array.shape), datatype or np_to_triton_dtype(array.dtype))
        tensor.set_data_from_numpy(array, **options)
        return tensor

    def output(self, name: str, **options: Any) -> Any:
        """Return what is asked of an output."""
        return self.module.InferRequestedOutput(name, **options)

    def infer(
        self,
        model: str,
        arrays: Mapping[str, np.ndarray],
        outputs: Iterable[Any] | None = None,
        **options: Any,
    ) -> Any:
        """Call `infer` with binary contents."""
        inputs = [self.input(name, array) for name, array in arrays.items()]
        asked = None if outputs is None else list(outputs)
        return self.call("infer", model, inputs, outputs=asked, **options)

    def status(self, grpc: str, http: int) -> str:
        """Return how the client tells a status."""
        return str(http) if self.http else f"StatusCode.{grpc}"


def rows(*values: float, dtype: Any = np.float32) -> np.ndarray:
    """Return one item."""
    return np.array([values], dtype)


def texts(*values: bytes) -> np.ndarray:
    """Return one item of BYTES."""
    return np.array([values], object)
