"""Models of a remote server, with the surface that local ones have."""

from __future__ import annotations

from collections.abc import Mapping
from types import TracebackType
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from yais.core.future import Future
from yais.core.tensor import DataType, TensorSpec
from yais.errors import Code, InvalidArgument, YaisError
from yais.protocol import kserve_pb2 as pb
from yais.protocol.tensor_codec import bf16_to_float32, decode, encode, float32_to_bf16
from yais.rpc.client import Channels, ClientUnary

__all__ = ["InferRemoteRunner", "RemoteInferenceManager"]

Array = npt.NDArray[Any]

_SERVICE = "/inference.GRPCInferenceService/"


class RemoteInferenceManager:
    """The models of a KServe v2 server (yais, Triton). Thread-safe; a context manager.

    Parameters
    ----------
    address
        "host:port".
    timeout
        Seconds any call may take, unless `infer` is told otherwise.

    Examples
    --------
    >>> with RemoteInferenceManager("localhost:8001") as manager:
    ...     digits = manager.infer_runner("digits")
    ...     digits.infer(image=images).get()["probabilities"]
    """

    def __init__(self, address: str, *, timeout: float = 30.0) -> None:
        self.address = address
        self._timeout = timeout
        unlimited = [("grpc.max_send_message_length", -1)]
        self._channels = Channels(address, max_message_bytes=-1, options=unlimited)

    def server_ready(self) -> bool:
        """Whether the server takes inference requests; False when it cannot be reached."""
        try:
            reply = self._call("ServerReady", pb.ServerReadyRequest(), pb.ServerReadyResponse)
        except YaisError as error:
            if error.code is Code.UNAVAILABLE:
                return False
            raise
        return bool(reply.ready)

    def infer_runner(self, name: str, version: str = "") -> InferRemoteRunner:
        """Return a runner for a model, asking the server what it takes and gives.

        Raises
        ------
        YaisError
            What the server answers: NotFound for an unknown model, Unavailable for one not ready or a
            server that cannot be reached.
        """
        metadata = self._call(
            "ModelMetadata", pb.ModelMetadataRequest(name=name, version=version), pb.ModelMetadataResponse
        )
        config = self._call(
            "ModelConfig", pb.ModelConfigRequest(name=name, version=version), pb.ModelConfigResponse
        )
        infer: ClientUnary[Any, Any] = self._method("ModelInfer", pb.ModelInferResponse)
        return InferRemoteRunner(infer, metadata, config.config.max_batch_size, version, self._timeout)

    def close(self) -> None:
        """Close the connection; calls in flight are cancelled."""
        self._channels.close()

    def __enter__(self) -> Self:
        """Return the manager itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close."""
        self.close()

    def _method(self, rpc: str, response: type[Any]) -> ClientUnary[Any, Any]:
        return ClientUnary(
            self._channels,
            _SERVICE + rpc,
            lambda message: message.SerializeToString(),
            response.FromString,
            timeout=self._timeout,
        )

    def _call(self, rpc: str, request: Any, response: type[Any]) -> Any:
        return self._method(rpc, response).call(request)


class InferRemoteRunner:
    """One model of a remote server. Thread-safe; made by `RemoteInferenceManager.infer_runner`."""

    def __init__(
        self,
        infer: ClientUnary[Any, Any],
        metadata: pb.ModelMetadataResponse,
        max_batch_size: int,
        version: str,
        timeout: float,
    ) -> None:
        self.name = metadata.name
        self._infer = infer
        self._version = version
        self._timeout = timeout
        self._max_batch_size = max_batch_size
        self._inputs = {tensor.name: _spec(tensor) for tensor in metadata.inputs}
        self._outputs = {tensor.name: _spec(tensor) for tensor in metadata.outputs}

    def __repr__(self) -> str:
        inputs = ", ".join(map(str, self._inputs.values()))
        outputs = ", ".join(map(str, self._outputs.values()))
        return f"<InferRemoteRunner {self.name}: ({inputs}) -> ({outputs})>"

    def input_bindings(self) -> dict[str, TensorSpec]:
        """Return what the model takes; a leading -1 is the batch of a batching model."""
        return dict(self._inputs)

    def output_bindings(self) -> dict[str, TensorSpec]:
        """Return what the model gives."""
        return dict(self._outputs)

    def max_batch_size(self) -> int:
        """Return the largest batch of one request; 0 for a model without a batch dimension."""
        return self._max_batch_size

    def infer(self, /, *, timeout: float | None = None, **inputs: npt.ArrayLike) -> Future[dict[str, Array]]:
        """Send a request; returns at once.

        Parameters
        ----------
        timeout
            Seconds for this request.
        inputs
            An array for each input, or what numpy makes one of. Of the model's type, or one that converts
            to it without loss of kind; of whole numbers any type that they fit.

        Returns
        -------
        Future
            Of a dict of arrays by output name; it fails with the `YaisError` of the server's status.

        Raises
        ------
        InvalidArgument
            An input is unknown or missing, or its values are none of the model's type.
        """
        request = self._request(inputs)
        return self._infer.submit(
            request, timeout=self._timeout if timeout is None else timeout, then=_arrays
        )

    def _request(self, inputs: Mapping[str, npt.ArrayLike]) -> pb.ModelInferRequest:
        if inputs.keys() != self._inputs.keys():
            raise InvalidArgument(
                f"got inputs {sorted(inputs)} for model '{self.name}', expected {sorted(self._inputs)}"
            )
        request = pb.ModelInferRequest(model_name=self.name, model_version=self._version)
        for name, spec in self._inputs.items():
            array = _converted(inputs[name], spec)
            request.inputs.add(name=name, datatype=spec.datatype.value, shape=array.shape)
            request.raw_input_contents.append(bytes(encode(array)))
        return request


def _converted(value: npt.ArrayLike, spec: TensorSpec) -> Array:
    if spec.datatype is DataType.BYTES:
        return _texts(value, spec)
    wanted = np.dtype(np.float32) if spec.datatype is DataType.BF16 else spec.datatype.numpy
    try:
        array = np.asarray(value)
        # Whether whole numbers fit is a matter of their values, not of their type.
        whole = array.dtype.kind in "iu" and wanted.kind in "iu"
        converted = array.astype(wanted, casting="unsafe" if whole else "same_kind", copy=False)
    except ValueError as error:
        raise InvalidArgument(f"input '{spec.name}': {error}") from None
    except TypeError:
        raise InvalidArgument(
            f"got an array of {array.dtype} for input '{spec.name}', expected {spec.datatype.value}"
        ) from None
    if whole and not np.array_equal(converted, array):
        raise InvalidArgument(
            f"got values from {array.min()} to {array.max()} for input '{spec.name}', which "
            f"{spec.datatype.value} cannot hold"
        )
    return float32_to_bf16(converted) if spec.datatype is DataType.BF16 else converted


def _texts(value: npt.ArrayLike, spec: TensorSpec) -> Array:
    array = np.asarray(value, np.object_)  # numpy's own types of text drop trailing NULs
    for element in array.flat:
        if not isinstance(element, bytes | str):
            raise InvalidArgument(f"got {element!r} for input '{spec.name}', expected bytes or text")
    return array


def _arrays(response: pb.ModelInferResponse) -> dict[str, Array]:
    arrays = {}
    for output, data in zip(response.outputs, response.raw_output_contents, strict=True):
        datatype = DataType(output.datatype)
        array = decode(datatype, tuple(output.shape), data)
        arrays[output.name] = bf16_to_float32(array) if datatype is DataType.BF16 else array
    return arrays


def _spec(tensor: pb.ModelMetadataResponse.TensorMetadata) -> TensorSpec:
    return TensorSpec(tensor.name, DataType(tensor.datatype), tuple(tensor.shape))
