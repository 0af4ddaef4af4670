"""TraceSetting: clients look at what is traced, and change it."""

from __future__ import annotations

from yais.protocol import kserve_pb2 as pb
from yais.rpc.context import Context
from yais.serving.resources import ServingResources

__all__ = ["TraceSettingContext"]


class TraceSettingContext(Context[pb.TraceSettingRequest, pb.TraceSettingResponse, ServingResources]):
    """Serves TraceSetting: answers with all settings, once those of the request are in force."""

    def execute(self, request: pb.TraceSettingRequest) -> pb.TraceSettingResponse:
        """Answer the request."""
        tracer, model = self.resources.tracer, request.model_name
        if request.settings:
            tracer.update(model, {name: list(setting.value) for name, setting in request.settings.items()})
        response = pb.TraceSettingResponse()
        for name, values in tracer.settings(model).items():
            response.settings[name].value.extend(values)
        return response
