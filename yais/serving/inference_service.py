"""GRPCInferenceService: its RPCs and what serves them."""

from __future__ import annotations

from yais.protocol import kserve_pb2
from yais.protocol.infer_request import decode_infer_request
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

__all__ = ["inference_service"]


def inference_service(infer_contexts: int) -> Service:
    """Return the service, of whose two inference RPCs so many calls are served at once, each."""
    service = Service(kserve_pb2.DESCRIPTOR.services_by_name["GRPCInferenceService"])
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
    ):
        # The class is named for the RPC it serves.
        service.register(context.__name__.removesuffix("Context"), context, contexts=16)
    return service
