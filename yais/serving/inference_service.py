"""GRPCInferenceService: its RPCs and what serves them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from yais.protocol import kserve_pb2
from yais.protocol.infer_request import decode_infer_request
from yais.rpc.context import Context
from yais.rpc.service import Service
from yais.serving.infer import InferContext, encode_response
from yais.serving.log_control import LogSettingsContext
from yais.serving.metadata import (
    ModelConfigContext,
    ModelMetadataContext,
    ModelReadyContext,
    ServerLiveContext,
    ServerMetadataContext,
    ServerReadyContext,
)
from yais.serving.model_control import (
    RepositoryIndexContext,
    RepositoryModelLoadContext,
    RepositoryModelUnloadContext,
)
from yais.serving.shared_memory_control import (
    CudaSharedMemoryRegisterContext,
    CudaSharedMemoryStatusContext,
    CudaSharedMemoryUnregisterContext,
    SystemSharedMemoryRegisterContext,
    SystemSharedMemoryStatusContext,
    SystemSharedMemoryUnregisterContext,
)
from yais.serving.statistics import ModelStatisticsContext
from yais.serving.stream_infer import ModelStreamInferContext
from yais.serving.trace_control import TraceSettingContext

__all__ = ["OPERATIONS", "OPERATION_CONTEXTS", "SERVICE", "inference_service", "operation"]

SERVICE = kserve_pb2.DESCRIPTOR.services_by_name["GRPCInferenceService"]

OPERATION_CONTEXTS = 16  # calls of each operation at once

Serve = Callable[[Service, str], None]
"""Registers the RPC of a name with a service."""

OPERATIONS: dict[str, type[Context[Any, Any, Any]]] = {
    context.__name__.removesuffix("Context"): context  # the class is named for the RPC it serves
    for context in (
        ServerLiveContext,
        ServerReadyContext,
        ModelReadyContext,
        ServerMetadataContext,
        ModelMetadataContext,
        ModelConfigContext,
        ModelStatisticsContext,
        RepositoryIndexContext,
        RepositoryModelLoadContext,
        RepositoryModelUnloadContext,
        SystemSharedMemoryStatusContext,
        SystemSharedMemoryRegisterContext,
        SystemSharedMemoryUnregisterContext,
        CudaSharedMemoryStatusContext,
        CudaSharedMemoryRegisterContext,
        CudaSharedMemoryUnregisterContext,
        TraceSettingContext,
        LogSettingsContext,
    )
}
"""What serves the RPCs but those of inference, by their names."""


def operation(service: Service, rpc: str) -> None:
    """Register the context that serves an RPC in this process."""
    service.register(rpc, OPERATIONS[rpc], contexts=OPERATION_CONTEXTS)


def inference_service(infer_contexts: int, serve: Serve = operation) -> Service:
    """Return the service.

    Parameters
    ----------
    infer_contexts
        Calls of each of the two inference RPCs that are served at once.
    serve
        Registers each of the others.
    """
    service = Service(SERVICE)
    service.register(
        "ModelInfer",
        InferContext,
        contexts=infer_contexts,
        deserialize=decode_infer_request,
        serialize=encode_response,
    )
    service.register(
        "ModelStreamInfer",
        ModelStreamInferContext,
        contexts=infer_contexts,
        deserialize=bytes,
        serialize=bytes,
    )
    for rpc in OPERATIONS:
        serve(service, rpc)
    return service
