"""LogSettings: what is logged, asked for and changed by clients."""

from __future__ import annotations

from yais.protocol import kserve_pb2 as pb
from yais.rpc.context import Context
from yais.serving.log_settings import LogValue
from yais.serving.resources import ServingResources

__all__ = ["LogSettingsContext"]


class LogSettingsContext(Context[pb.LogSettingsRequest, pb.LogSettingsResponse, ServingResources]):
    """Serves LogSettings: changes what is given, and answers with all settings."""

    def execute(self, request: pb.LogSettingsRequest) -> pb.LogSettingsResponse:
        """Answer the request."""
        settings = self.resources.logging
        settings.update({name: _value(value) for name, value in request.settings.items()})
        response = pb.LogSettingsResponse()
        for name, value in settings.values().items():
            _set(response.settings[name], value)
        return response


def _value(value: pb.LogSettingsRequest.SettingValue) -> LogValue | None:
    kind = value.WhichOneof("parameter_choice")
    known: LogValue | None = None if kind is None else getattr(value, kind)
    return known


def _set(target: pb.LogSettingsResponse.SettingValue, value: LogValue) -> None:
    if isinstance(value, bool):
        target.bool_param = value
    elif isinstance(value, int):
        target.uint32_param = value
    else:
        target.string_param = value
