"""Control of the models by clients: the index, load and unload."""

from __future__ import annotations

from collections.abc import Mapping

from yais.errors import InvalidArgument, Unavailable, Unimplemented
from yais.protocol import kserve_pb2 as pb
from yais.repository.repository import ModelEntry, ModelRepository, ModelState
from yais.rpc.context import Context
from yais.serving.resources import Models, ServingResources

__all__ = ["RepositoryIndexContext", "RepositoryModelLoadContext", "RepositoryModelUnloadContext"]

_FILE = "file:"


class RepositoryIndexContext(
    Context[pb.RepositoryIndexRequest, pb.RepositoryIndexResponse, ServingResources]
):
    """Serves RepositoryIndex: every version that is known, and every other directory."""

    async def execute(self, request: pb.RepositoryIndexRequest) -> pb.RepositoryIndexResponse:
        """Answer the request."""
        _check_repository(request.repository_name)
        models = self.resources.models
        entries = await models.index() if isinstance(models, ModelRepository) else models.entries
        response = pb.RepositoryIndexResponse()
        for entry in entries:
            if not request.ready or entry.state is ModelState.READY:
                _add(response, entry)
        return response


class RepositoryModelLoadContext(
    Context[pb.RepositoryModelLoadRequest, pb.RepositoryModelLoadResponse, ServingResources]
):
    """Serves RepositoryModelLoad: answers when the model is loaded."""

    async def execute(self, request: pb.RepositoryModelLoadRequest) -> pb.RepositoryModelLoadResponse:
        """Answer the request."""
        _check_repository(request.repository_name)
        repository = _controlled(self.resources.models)
        config, files = _load_parameters(request.parameters)
        await repository.load(request.model_name, config, files)
        return pb.RepositoryModelLoadResponse()


class RepositoryModelUnloadContext(
    Context[pb.RepositoryModelUnloadRequest, pb.RepositoryModelUnloadResponse, ServingResources]
):
    """Serves RepositoryModelUnload: answers when the model takes no requests any more."""

    async def execute(self, request: pb.RepositoryModelUnloadRequest) -> pb.RepositoryModelUnloadResponse:
        """Answer the request."""
        _check_repository(request.repository_name)
        repository = _controlled(self.resources.models)
        dependents = False
        for key, parameter in request.parameters.items():
            if key != "unload_dependents":
                raise InvalidArgument(f"unrecognized unload parameter '{key}'.")
            _check_kind(key, parameter, "bool_param")
            dependents = parameter.bool_param
        await repository.unload(request.model_name, dependents=dependents)
        return pb.RepositoryModelUnloadResponse()


def _add(response: pb.RepositoryIndexResponse, entry: ModelEntry) -> None:
    if entry.state is ModelState.UNKNOWN:
        response.models.add(name=entry.name)
    else:
        response.models.add(
            name=entry.name, version=entry.version, state=entry.state.value, reason=entry.reason
        )


def _check_repository(name: str) -> None:
    if name:
        raise Unimplemented(f"got repository '{name}', expected none: they are one")


def _controlled(models: Models) -> ModelRepository:
    if not isinstance(models, ModelRepository):
        raise Unavailable("explicit model load / unload is not allowed: the models are those of a program")
    return models


def _load_parameters(
    parameters: Mapping[str, pb.ModelRepositoryParameter],
) -> tuple[str | None, dict[str, bytes]]:
    config: str | None = None
    files: dict[str, bytes] = {}
    for key, parameter in parameters.items():
        if key == "config":
            _check_kind(key, parameter, "string_param")
            config = parameter.string_param
        elif key.startswith(_FILE):
            _check_kind(key, parameter, "bytes_param")
            files[key.removeprefix(_FILE)] = parameter.bytes_param
        else:
            raise InvalidArgument(f"unrecognized load parameter '{key}'.")
    return config, files


def _check_kind(key: str, parameter: pb.ModelRepositoryParameter, kind: str) -> None:
    if parameter.WhichOneof("parameter_choice") != kind:
        raise InvalidArgument(f"invalid value type for '{key}' parameter, expected {kind}.")
