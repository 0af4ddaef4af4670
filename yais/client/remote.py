"""Models of remote servers, with the surface that local ones have."""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import Any, Self

import grpc

from yais.client.inference_service import service_method
from yais.core.arrays import prepared, presented
from yais.core.clock import Deadline
from yais.core.future import Future
from yais.core.tensor import DataType, TensorSpec
from yais.core.thread_pool import ThreadPool
from yais.errors import Code, DeadlineExceeded, FailedPrecondition, Unavailable, YaisError
from yais.infer_runner import AbstractInferRunner, Array, Post, Pre
from yais.protocol import kserve_pb2 as pb
from yais.protocol.tensor_codec import decode, encode
from yais.rpc.client import Channels, ClientUnary, Retry

__all__ = ["InferRemoteRunner", "RemoteInferenceManager"]

_THREADS = {"pre": 1, "post": 3}  # as a local manager has


class RemoteInferenceManager:
    """The models of one or several KServe v2 servers (yais, Triton). Thread-safe; a context manager.

    Parameters
    ----------
    addresses
        "host:port", or a sequence of numeric addresses of servers with the same models, which are asked in
        turn. Servers that cannot be reached are left out while others can. A name that stands for several
        addresses is one for all of them with `balancing="round_robin"`.
    timeout
        Seconds any call may take, unless `infer_with_deadline` says otherwise.
    tls, retry, balancing, health_service, channels
        See `yais.rpc.client.Channels`; `channels` is its `count`. Several addresses are balanced by
        "round_robin" unless something else is said.

    Examples
    --------
    >>> with RemoteInferenceManager("localhost:8001") as manager:
    ...     digits = manager.infer_runner("digits")
    ...     digits.infer(image=images).get()["probabilities"]
    """

    def __init__(
        self,
        addresses: str | Sequence[str],
        *,
        timeout: float = 30.0,
        tls: bool | grpc.ChannelCredentials | None = None,
        retry: Retry | None = None,
        balancing: str | None = None,
        health_service: str | None = None,
        channels: int = 1,
    ) -> None:
        self.addresses = (addresses,) if isinstance(addresses, str) else tuple(addresses)
        self._timeout = timeout
        if balancing is None and not isinstance(addresses, str):
            balancing = "round_robin"
        self._channels = Channels(
            addresses,
            count=channels,
            tls=tls,
            retry=retry,
            balancing=balancing,
            health_service=health_service,
            max_message_bytes=-1,
            options=[("grpc.max_send_message_length", -1)],
        )
        self._lock = threading.Lock()
        self._pools: dict[str, ThreadPool] = {}
        self._closed = False

    def __repr__(self) -> str:
        return f"<RemoteInferenceManager of {', '.join(self.addresses)}>"

    def server_ready(self) -> bool:
        """Whether the server takes inference requests; False when it cannot be reached."""
        try:
            reply = self._call("ServerReady", pb.ServerReadyRequest())
        except YaisError as error:
            if error.code is Code.UNAVAILABLE:
                return False
            raise
        return bool(reply.ready)

    def get_models(self) -> list[str]:
        """Return the names of the models that take requests. Raises what the server answers."""
        index = self._call("RepositoryIndex", pb.RepositoryIndexRequest(ready=True))
        return sorted({model.name for model in index.models})

    def infer_runner(
        self, name: str, version: str = "", *, pre: Pre | None = None, post: Post | None = None
    ) -> InferRemoteRunner:
        """Return a runner for a model, asking the server what it takes and gives.

        Parameters
        ----------
        version
            Empty for the latest.
        pre, post
            Make the model's inputs of what `infer` is given, and the future's result of the outputs. They run
            on threads of this manager.

        Raises
        ------
        YaisError
            What the server answers: NotFound for an unknown model, Unavailable for one not ready or a
            server that cannot be reached.
        """
        metadata = self._call("ModelMetadata", pb.ModelMetadataRequest(name=name, version=version))
        config = self._call("ModelConfig", pb.ModelConfigRequest(name=name, version=version))
        return InferRemoteRunner(
            service_method(self._channels, "ModelInfer", self._timeout),
            metadata,
            config.config.max_batch_size,
            version,
            self._timeout,
            pre=pre,
            post=post,
            pools=self,
        )

    def threads(self, stage: str) -> ThreadPool:
        """Return the threads for `pre` or `post` callables, started when first asked for.

        Raises
        ------
        FailedPrecondition
            The manager is closed.
        """
        with self._lock:
            if self._closed:
                raise FailedPrecondition(f"{self!r} is closed, expected an open one")
            if stage not in self._pools:
                self._pools[stage] = ThreadPool(_THREADS[stage], name=f"remote-{stage}")
            return self._pools[stage]

    def close(self, timeout: float = 30.0) -> bool:
        """Close the connections; calls in flight are cancelled.

        Returns
        -------
        bool
            Whether callables that were running ended within `timeout` seconds.
        """
        self._channels.close()
        with self._lock:
            self._closed = True
            pools = list(self._pools.values())
        return all([pool.close(timeout) for pool in pools])  # noqa: C419 - close every one

    def __enter__(self) -> Self:
        """Return the manager itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close."""
        self.close()

    def _call(self, rpc: str, request: Any) -> Any:
        return service_method(self._channels, rpc, self._timeout).call(request)


class InferRemoteRunner(AbstractInferRunner[Any]):
    """One model of a remote server. Thread-safe; made by `RemoteInferenceManager.infer_runner`."""

    def __init__(
        self,
        infer: ClientUnary[Any, Any],
        metadata: pb.ModelMetadataResponse,
        max_batch_size: int,
        version: str,
        timeout: float,
        *,
        pre: Pre | None,
        post: Post | None,
        pools: RemoteInferenceManager,
    ) -> None:
        super().__init__(
            metadata.name,
            {tensor.name: _spec(tensor) for tensor in metadata.inputs},
            {tensor.name: _spec(tensor) for tensor in metadata.outputs},
            max_batch_size,
            pre=pre,
            post=post,
            threads=pools.threads,
        )
        self._method = infer
        self._version = version
        self._timeout = timeout

    def _submit(self, arrays: Mapping[str, Any], deadline: Deadline) -> Future[Any]:
        request = pb.ModelInferRequest(model_name=self.name, model_version=self._version)
        for name, array in prepared(arrays, self._inputs, self.name).items():
            request.inputs.add(name=name, datatype=self._inputs[name].datatype.value, shape=array.shape)
            request.raw_input_contents.append(bytes(encode(array)))
        seconds = deadline.remaining()
        failed: Future[Any] = Future()
        if seconds == 0.0:  # gRPC tells it when it next looks at its timers, and meanwhile an answer may come
            failed.set_exception(
                DeadlineExceeded(f"the request to model '{self.name}' was not sent before its deadline")
            )
            return failed
        try:
            return self._method.submit(request, timeout=self._timeout if seconds is None else seconds)
        except FailedPrecondition:
            failed.set_exception(Unavailable(f"the manager of model '{self.name}' is closed"))
            return failed

    def _arrays(self, answer: Any) -> dict[str, Array]:
        arrays = {}
        for output, data in zip(answer.outputs, answer.raw_output_contents, strict=True):
            datatype = DataType(output.datatype)
            arrays[output.name] = presented(decode(datatype, tuple(output.shape), data), datatype)
        return arrays


def _spec(tensor: pb.ModelMetadataResponse.TensorMetadata) -> TensorSpec:
    return TensorSpec(tensor.name, DataType(tensor.datatype), tuple(tensor.shape))
