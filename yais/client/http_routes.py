"""The RPCs without tensors as HTTP has them: a method, a path, JSON, and JSON again."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

from google.protobuf.json_format import ParseDict, ParseError
from google.protobuf.message import Message

from yais.client.http_connection import HttpReply
from yais.client.http_message import model_path, status_of_reply
from yais.errors import Code, Internal, Unimplemented, error_of
from yais.protocol import kserve_pb2 as pb

__all__ = ["HttpRoute", "route_of"]


@dataclass(frozen=True, slots=True)
class HttpRoute:
    """How an RPC is asked over HTTP.

    Attributes
    ----------
    path
        Of a request; those with a `body` are POST, others GET.
    body
        JSON of a request.
    fields
        JSON of the response message, of that of the response.
    yes
        Of RPCs that say only yes, with 200, or no, with 400: the field that says it.
    """

    path: Callable[[Any], str]
    body: Callable[[Any], Mapping[str, Any]] | None = None
    fields: Callable[[Any], Any] = lambda said: said
    yes: str = ""

    def request(self, message: Message) -> tuple[str, str, bytes]:
        """Return method, path and body."""
        if self.body is None:
            return "GET", self.path(message), b""
        return "POST", self.path(message), json.dumps(self.body(message)).encode()

    def response(self, message: Message, reply: HttpReply) -> Message:
        """Fill in a response message.

        Raises
        ------
        YaisError
            What the response says, if it is an error.
        Internal
            The response is none that the protocol knows.
        """
        if self.yes and reply.status in {200, 400}:
            setattr(message, self.yes, reply.status == 200)
            return message
        code, text = status_of_reply(reply)
        if code is not Code.OK:
            raise error_of(code, text)
        try:
            said = self.fields(json.loads(reply.body)) if reply.body else {}
            return ParseDict(said, message, ignore_unknown_fields=True)
        except (ValueError, TypeError, KeyError, ParseError) as error:
            raise Internal(f"got an answer that is no {message.DESCRIPTOR.name}: {error}") from None


def route_of(rpc: str) -> HttpRoute:
    """Return how an RPC is asked.

    Raises
    ------
    Unimplemented
        HTTP, or this client over HTTP, has it not.
    """
    route = _ROUTES.get(rpc)
    if route is None:
        raise Unimplemented(f"got RPC {rpc!r}, expected over HTTP one of {', '.join(_ROUTES)}")
    return route


def _model(message: Any) -> str:
    return model_path(message.name, message.version)


def _statistics(message: Any) -> str:
    return f"{_model(message)}/stats" if message.name else "/v2/models/stats"


def _repository(message: Any) -> str:
    name = message.repository_name
    return f"/v2/repository/{quote(name, safe='')}" if name else "/v2/repository"


def _control(verb: str) -> Callable[[Any], str]:
    return lambda message: f"{_repository(message)}/models/{quote(message.model_name, safe='')}/{verb}"


def _parameters(message: Any) -> dict[str, Any]:
    return {"parameters": {key: _parameter(value) for key, value in message.parameters.items()}}


def _parameter(parameter: pb.ModelRepositoryParameter) -> Any:
    value = getattr(parameter, parameter.WhichOneof("parameter_choice") or "string_param")
    return base64.b64encode(value).decode() if isinstance(value, bytes) else value


def _memory(kind: str, verb: str) -> Callable[[Any], str]:
    def path(message: Any) -> str:
        region = f"/region/{quote(message.name, safe='')}" if message.name else ""
        return f"/v2/{kind}{region}/{verb}"

    return path


def _region(message: Any) -> dict[str, Any]:
    return {"key": message.key, "offset": message.offset, "byte_size": message.byte_size}


def _nothing(_message: Any) -> dict[str, Any]:
    return {}


def _by_name(rows: list[dict[str, Any]]) -> dict[str, Any]:
    return {"regions": {row["name"]: row for row in rows}}


_SYSTEM, _CUDA = "systemsharedmemory", "cudasharedmemory"

_ROUTES = {
    "ServerLive": HttpRoute(lambda _: "/v2/health/live", yes="live"),
    "ServerReady": HttpRoute(lambda _: "/v2/health/ready", yes="ready"),
    "ServerMetadata": HttpRoute(lambda _: "/v2"),
    "ModelReady": HttpRoute(lambda message: f"{_model(message)}/ready", yes="ready"),
    "ModelMetadata": HttpRoute(_model),
    "ModelConfig": HttpRoute(
        lambda message: f"{_model(message)}/config", fields=lambda said: {"config": said}
    ),
    "ModelStatistics": HttpRoute(_statistics),
    "RepositoryIndex": HttpRoute(
        lambda message: f"{_repository(message)}/index",
        lambda message: {"ready": message.ready},
        lambda rows: {"models": rows},
    ),
    "RepositoryModelLoad": HttpRoute(_control("load"), _parameters),
    "RepositoryModelUnload": HttpRoute(_control("unload"), _parameters),
    "SystemSharedMemoryStatus": HttpRoute(_memory(_SYSTEM, "status"), fields=_by_name),
    "SystemSharedMemoryRegister": HttpRoute(_memory(_SYSTEM, "register"), _region),
    "SystemSharedMemoryUnregister": HttpRoute(_memory(_SYSTEM, "unregister"), _nothing),
    "CudaSharedMemoryStatus": HttpRoute(_memory(_CUDA, "status"), fields=_by_name),
    "CudaSharedMemoryUnregister": HttpRoute(_memory(_CUDA, "unregister"), _nothing),
}
