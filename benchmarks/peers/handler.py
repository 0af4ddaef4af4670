"""What both peer servers answer: the KServe v2 calls for the add/sub model, and an echo."""

# The names and signatures are those of the generated service.
# ruff: noqa: ARG002, D102, N802

from __future__ import annotations

import threading
import time
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import onnxruntime
from tritonclient.grpc import model_config_pb2, service_pb2, service_pb2_grpc

ROOT = Path(__file__).parents[2]
MODEL = ROOT / "examples" / "models" / "simple" / "1" / "model.onnx"

NAME, VERSION, WIDTH = "simple", "1", 16


def generic_handler(service: str, method: str, behavior: Any, request: Any, reply: Any) -> Any:
    """Return what a grpcio server needs to serve one unary method."""
    handler = grpc.unary_unary_rpc_method_handler(behavior, request.FromString, reply.SerializeToString)
    return grpc.method_handlers_generic_handler(service, {method: handler})


def stream_handlers(ping_pong: Any, replies: Any, messages: Any) -> Any:
    """Return what a grpcio server needs to serve the two methods of the stream workloads."""
    codec = messages.EchoRequest.FromString, messages.EchoReply.SerializeToString
    handlers = {
        "PingPong": grpc.stream_stream_rpc_method_handler(ping_pong, *codec),
        "Replies": grpc.unary_stream_rpc_method_handler(replies, *codec),
    }
    return grpc.method_handlers_generic_handler("yais.benchmarks.Streams", handlers)


class KServe(service_pb2_grpc.GRPCInferenceServiceServicer):  # type: ignore[misc]  # generated, untyped
    """The KServe v2 service for one model: one ONNX Runtime call for each request, no batching."""

    def __init__(self, model: Path) -> None:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        options.inter_op_num_threads = 1
        self._session = onnxruntime.InferenceSession(
            str(model), sess_options=options, providers=["CPUExecutionProvider"]
        )
        self._lock = threading.Lock()
        self._count = 0
        self._nanoseconds = 0

    def ModelInfer(self, request: Any, context: Any) -> Any:
        """Add and subtract the two inputs."""
        begin = time.perf_counter_ns()
        inputs = {
            tensor.name: np.frombuffer(raw, np.int32).reshape(tensor.shape)
            for tensor, raw in zip(request.inputs, request.raw_input_contents, strict=True)
        }
        added, subtracted = self._session.run(["OUTPUT0", "OUTPUT1"], inputs)
        reply = service_pb2.ModelInferResponse(model_name=NAME, model_version=VERSION, id=request.id)
        for name, array in (("OUTPUT0", added), ("OUTPUT1", subtracted)):
            reply.outputs.add(name=name, datatype="INT32", shape=array.shape)
            reply.raw_output_contents.append(array.tobytes())
        with self._lock:
            self._count += 1
            self._nanoseconds += time.perf_counter_ns() - begin
        return reply

    def ServerLive(self, request: Any, context: Any) -> Any:
        return service_pb2.ServerLiveResponse(live=True)

    def ServerReady(self, request: Any, context: Any) -> Any:
        return service_pb2.ServerReadyResponse(ready=True)

    def ModelReady(self, request: Any, context: Any) -> Any:
        return service_pb2.ModelReadyResponse(ready=request.name == NAME)

    def ServerMetadata(self, request: Any, context: Any) -> Any:
        return service_pb2.ServerMetadataResponse(name="bare", version="1", extensions=["statistics"])

    def ModelMetadata(self, request: Any, context: Any) -> Any:
        reply = service_pb2.ModelMetadataResponse(name=NAME, versions=[VERSION], platform="onnxruntime_onnx")
        for tensors, prefix in ((reply.inputs, "INPUT"), (reply.outputs, "OUTPUT")):
            for index in (0, 1):
                tensors.add(name=f"{prefix}{index}", datatype="INT32", shape=[1, WIDTH])
        return reply

    def ModelConfig(self, request: Any, context: Any) -> Any:
        config = model_config_pb2.ModelConfig(name=NAME, platform="onnxruntime_onnx", max_batch_size=0)
        for tensors, prefix in ((config.input, "INPUT"), (config.output, "OUTPUT")):
            for index in (0, 1):
                tensors.add(name=f"{prefix}{index}", data_type=model_config_pb2.TYPE_INT32, dims=[1, WIDTH])
        return service_pb2.ModelConfigResponse(config=config)

    def ModelStatistics(self, request: Any, context: Any) -> Any:
        with self._lock:
            count, nanoseconds = self._count, self._nanoseconds
        done = service_pb2.StatisticDuration(count=count, ns=nanoseconds)
        instant = service_pb2.StatisticDuration(count=count, ns=0)
        reply = service_pb2.ModelStatisticsResponse()
        model = reply.model_stats.add(
            name=NAME, version=VERSION, inference_count=count, execution_count=count
        )
        model.inference_stats.success.CopyFrom(done)
        model.inference_stats.compute_infer.CopyFrom(done)
        for stage in ("queue", "compute_input", "compute_output"):
            getattr(model.inference_stats, stage).CopyFrom(instant)
        return reply
