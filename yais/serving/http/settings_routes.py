"""The settings of traces and of the log over HTTP."""

from __future__ import annotations

from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from yais.errors import InvalidArgument
from yais.protocol import kserve_pb2 as pb
from yais.serving.front_resources import FrontResources
from yais.serving.http.json_body import read_object
from yais.serving.http.json_fields import as_array, as_string, field
from yais.serving.http.json_response import json_response
from yais.serving.log_control import LogSettingsContext
from yais.serving.trace_control import TraceSettingContext

__all__ = ["log_settings", "trace_setting"]

_LEVEL = "trace_level"  # the one setting with several values


async def trace_setting(resources: FrontResources, request: Request) -> Response:
    """Answer the settings of traces, for a model or for all; POST changes some before."""
    asked = pb.TraceSettingRequest(model_name=request.path_params.get("model", ""))
    if request.method == "POST":
        fields = await read_object(request)
        for key in fields:
            asked.settings[as_string(key)].value.extend(_trace_values(fields, key))
    reply = await resources.perform(TraceSettingContext, asked)
    return json_response({key: _trace_value(key, reply.settings[key]) for key in sorted(reply.settings)})


async def log_settings(resources: FrontResources, request: Request) -> Response:
    """Answer the settings of the log; POST changes some before."""
    asked = pb.LogSettingsRequest()
    if request.method == "POST":
        for key, value in (await read_object(request)).items():
            if value is not None:  # as in Triton, nothing is changed then
                asked.settings[as_string(key)].CopyFrom(_log_value(key, value))
    reply = await resources.perform(LogSettingsContext, asked)
    settings = {}
    for key in sorted(reply.settings):
        setting = reply.settings[key]
        choice = setting.WhichOneof("parameter_choice")
        settings[key] = getattr(setting, choice) if choice else None
    return json_response(settings)


def _trace_values(fields: dict[str, Any], key: str) -> list[str]:
    """Return the values of a setting; none for null, which clears it."""
    if fields[key] is None:
        return []
    if key != _LEVEL:
        return [field(fields, key, as_string) or ""]
    return [field({key: level}, key, as_string) or "" for level in field(fields, key, as_array) or []]


def _trace_value(key: str, setting: pb.TraceSettingResponse.SettingValue) -> list[str] | str:
    values = list(setting.value)
    return values if key == _LEVEL else "".join(values[:1])


def _log_value(key: str, value: Any) -> pb.LogSettingsRequest.SettingValue:
    if isinstance(value, bool):
        return pb.LogSettingsRequest.SettingValue(bool_param=value)
    if isinstance(value, str):
        return pb.LogSettingsRequest.SettingValue(string_param=as_string(value))
    if isinstance(value, int) and 0 <= value < 1 << 32:
        return pb.LogSettingsRequest.SettingValue(uint32_param=value)
    raise InvalidArgument(
        f"Unable to parse '{key}': got {value!r:.100}, expected a boolean, text or a number of 32 bits"
    )
