"""The models that a pipeline can ask, bound to the request that it answers."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from yais.core.arrays import converted
from yais.core.future import Future
from yais.core.tensor import DataType, TensorSpec
from yais.engines.engine import Array
from yais.errors import InvalidArgument
from yais.inference.request import InferRequest, InferResponse, Respond
from yais.inference.response_stream import ResponseStream
from yais.inference.servable import FindModel, submit_to

__all__ = ["AskedModel", "PipelineModels"]


class PipelineModels:
    """`models["name"]`, or `models["name", "2"]` for one of its versions. Thread-safe.

    What they are asked has the id, the priority, the timeout, the sequence, the parameters and the deadline
    of the request that the pipeline answers.
    """

    def __init__(self, find: FindModel, request: InferRequest) -> None:
        self._find = find
        self._request = request

    def __repr__(self) -> str:
        return f"<PipelineModels for request '{self._request.id}'>"

    def __getitem__(self, key: str | tuple[str, str]) -> AskedModel:
        name, version = (key, "") if isinstance(key, str) else key
        return AskedModel(self._find, name, version, self._request)


class AskedModel:
    """A model that a pipeline asks. It is looked for when it is asked."""

    def __init__(self, find: FindModel, name: str, version: str, request: InferRequest) -> None:
        self._find = find
        self._name = name
        self._version = version
        self._asked = request

    def __repr__(self) -> str:
        return f"<AskedModel {self._name} version {self._version or 'latest'}>"

    async def infer(self, /, *, outputs: Sequence[str] | None = None, **arrays: Any) -> dict[str, Array]:
        """Return the outputs of some inputs, by name.

        Parameters
        ----------
        outputs
            Names of those wanted; by default all.
        arrays
            An array for each input, by name, or what numpy makes one of. BYTES are `bytes` or text, BF16 its
            bits as uint16, as in the pipeline's own inputs.

        Raises
        ------
        YaisError
            What the model answers: NotFound, Unavailable, InvalidArgument, DeadlineExceeded and so on.
        """
        return _arrays(await self._submit(arrays, outputs or (), None))

    def stream(self, /, *, outputs: Sequence[str] | None = None, **arrays: Any) -> ResponseStream:
        """Ask a decoupled model: `async for` gives its responses, each a dict of arrays by output name.

        It does not wait until they are taken: what it runs with may be needed for what is asked in between.
        """
        stream = ResponseStream(_arrays, ahead=math.inf)
        stream.follow(self._submit(arrays, outputs or (), stream.respond))
        return stream

    def _submit(
        self, arrays: Mapping[str, Any], outputs: Sequence[str], respond: Respond | None
    ) -> Future[InferResponse]:
        asked = self._asked
        given = self._converted(arrays)
        request = InferRequest(
            [TensorSpec(name, datatype, array.shape) for name, (datatype, array) in given.items()],
            [array for _, array in given.values()],
            tuple(outputs),
            asked.id,
            asked.parameters,
            asked.deadline,
            respond=respond,
            sequence=asked.sequence,
            priority=asked.priority,
            timeout=asked.timeout,
            arrays=True,
            volatile=asked.volatile,
        )
        if asked.trace is None:
            return submit_to(self._find, self._name, self._version, request)
        model = self._find(self._name, self._version)
        asked.trace.child(model.name, model.version, request)
        future = submit_to(self._find, self._name, self._version, request)
        assert request.trace is not None
        request.trace.follow(future)
        return future

    def _converted(self, arrays: Mapping[str, Any]) -> dict[str, tuple[DataType, Array]]:
        specs = {spec.name: spec for spec in self._find(self._name, self._version).signature.inputs}
        given = {}
        for name, value in arrays.items():
            if name not in specs:
                raise InvalidArgument(f"unexpected inference input '{name}' for model '{self._name}'")
            datatype = specs[name].datatype
            wanted = TensorSpec(name, DataType.UINT16, ()) if datatype is DataType.BF16 else specs[name]
            given[name] = (datatype, np.ascontiguousarray(converted(value, wanted)))
        return given


def _arrays(response: InferResponse) -> dict[str, Array]:
    outputs = zip(response.form.outputs, response.data, strict=True)
    return {spec.name: np.asarray(data).reshape(spec.shape) for spec, data in outputs}
