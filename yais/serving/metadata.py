"""Health and metadata: what the server and its models say of themselves."""

from __future__ import annotations

import yais
from yais.core.tensor import TensorSpec
from yais.errors import NotFound, Unavailable
from yais.protocol import kserve_pb2 as pb
from yais.repository.repository import ModelState
from yais.rpc.context import Context
from yais.serving.resources import ServingResources

__all__ = [
    "ModelConfigContext",
    "ModelMetadataContext",
    "ModelReadyContext",
    "ServerLiveContext",
    "ServerMetadataContext",
    "ServerReadyContext",
]

_EXTENSIONS = (
    "classification",
    "sequence",
    "model_repository",
    "model_repository(unload_dependents)",
    "schedule_policy",
    "model_configuration",
    "system_shared_memory",
    "cuda_shared_memory",
    "binary_tensor_data",
    "parameters",
    "statistics",
    "trace",
    "logging",
)


class ServerLiveContext(Context[pb.ServerLiveRequest, pb.ServerLiveResponse, ServingResources]):
    """Serves ServerLive: whoever answers is alive."""

    def execute(self, request: pb.ServerLiveRequest) -> pb.ServerLiveResponse:  # noqa: ARG002
        """Answer the request."""
        return pb.ServerLiveResponse(live=True)


class ServerReadyContext(Context[pb.ServerReadyRequest, pb.ServerReadyResponse, ServingResources]):
    """Serves ServerReady."""

    def execute(self, request: pb.ServerReadyRequest) -> pb.ServerReadyResponse:  # noqa: ARG002
        """Answer the request."""
        return pb.ServerReadyResponse(ready=self.resources.ready)


class ModelReadyContext(Context[pb.ModelReadyRequest, pb.ModelReadyResponse, ServingResources]):
    """Serves ModelReady. A model that is not there, or has lost its GPUs, is not ready; that is no error."""

    def execute(self, request: pb.ModelReadyRequest) -> pb.ModelReadyResponse:
        """Answer the request."""
        try:
            loaded = self.resources.models.find(request.name, request.version)
        except (NotFound, Unavailable):
            return pb.ModelReadyResponse(ready=False)
        return pb.ModelReadyResponse(ready=not loaded.model.lost)


class ServerMetadataContext(Context[pb.ServerMetadataRequest, pb.ServerMetadataResponse, ServingResources]):
    """Serves ServerMetadata."""

    def execute(self, request: pb.ServerMetadataRequest) -> pb.ServerMetadataResponse:  # noqa: ARG002
        """Answer the request."""
        return pb.ServerMetadataResponse(
            name=self.resources.name, version=yais.__version__, extensions=_EXTENSIONS
        )


class ModelMetadataContext(Context[pb.ModelMetadataRequest, pb.ModelMetadataResponse, ServingResources]):
    """Serves ModelMetadata."""

    def execute(self, request: pb.ModelMetadataRequest) -> pb.ModelMetadataResponse:
        """Answer the request."""
        loaded = self.resources.models.find(request.name, request.version)
        signature = loaded.model.signature
        batch = (-1,) if signature.max_batch else ()
        response = pb.ModelMetadataResponse(
            name=signature.name,
            versions=[loaded.model.version] if request.version else self._ready_versions(request.name),
            platform=loaded.config.platform or loaded.config.backend,
        )
        response.inputs.extend(_tensor(spec, batch) for spec in signature.inputs)
        response.outputs.extend(_tensor(spec, batch) for spec in signature.outputs)
        return response

    def _ready_versions(self, name: str) -> list[str]:
        entries = self.resources.models.entries
        return [entry.version for entry in entries if entry.name == name and entry.state is ModelState.READY]


class ModelConfigContext(Context[pb.ModelConfigRequest, pb.ModelConfigResponse, ServingResources]):
    """Serves ModelConfig: the configuration as it is in force, completed and normalised."""

    def execute(self, request: pb.ModelConfigRequest) -> pb.ModelConfigResponse:
        """Answer the request."""
        loaded = self.resources.models.find(request.name, request.version)
        return pb.ModelConfigResponse(config=loaded.config)


def _tensor(spec: TensorSpec, batch: tuple[int, ...]) -> pb.ModelMetadataResponse.TensorMetadata:
    return pb.ModelMetadataResponse.TensorMetadata(
        name=spec.name, datatype=spec.datatype.value, shape=(*batch, *spec.shape)
    )
