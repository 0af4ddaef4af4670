"""Shared memory over HTTP: what is registered, register and unregister."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping
from typing import Any

from google.protobuf.message import Message
from starlette.requests import Request
from starlette.responses import Response

from yais.errors import InvalidArgument
from yais.protocol import kserve_pb2 as pb
from yais.serving.front_resources import FrontResources
from yais.serving.http.json_body import read_object
from yais.serving.http.json_fields import as_object, as_signed, as_string, as_unsigned, field
from yais.serving.http.json_response import json_response
from yais.serving.http.proto_json import to_json
from yais.serving.shared_memory_control import (
    CudaSharedMemoryRegisterContext,
    CudaSharedMemoryStatusContext,
    CudaSharedMemoryUnregisterContext,
    SystemSharedMemoryRegisterContext,
    SystemSharedMemoryStatusContext,
    SystemSharedMemoryUnregisterContext,
)

__all__ = [
    "cuda_register",
    "cuda_status",
    "cuda_unregister",
    "system_register",
    "system_status",
    "system_unregister",
]


async def system_status(resources: FrontResources, request: Request) -> Response:
    """Answer the regions in system memory, or one of them, as an array."""
    asked = pb.SystemSharedMemoryStatusRequest(name=_region(request))
    return _rows((await resources.perform(SystemSharedMemoryStatusContext, asked)).regions)


async def system_register(resources: FrontResources, request: Request) -> Response:
    """Attach to a region in system memory."""
    fields = await read_object(request)
    _require(fields, key="key", byte_size="byte_size")
    asked = pb.SystemSharedMemoryRegisterRequest(
        name=_region(request),
        key=field(fields, "key", as_string) or "",
        offset=field(fields, "offset", as_unsigned) or 0,
        byte_size=field(fields, "byte_size", as_unsigned) or 0,
    )
    await resources.perform(SystemSharedMemoryRegisterContext, asked)
    return Response()


async def system_unregister(resources: FrontResources, request: Request) -> Response:
    """Let go of a region in system memory, or of all."""
    asked = pb.SystemSharedMemoryUnregisterRequest(name=_region(request))
    await resources.perform(SystemSharedMemoryUnregisterContext, asked)
    return Response()


async def cuda_status(resources: FrontResources, request: Request) -> Response:
    """Answer the regions on GPUs, or one of them, as an array."""
    asked = pb.CudaSharedMemoryStatusRequest(name=_region(request))
    return _rows((await resources.perform(CudaSharedMemoryStatusContext, asked)).regions)


async def cuda_register(resources: FrontResources, request: Request) -> Response:
    """Attach to a region on a GPU."""
    fields = await read_object(request)
    handle = field(fields, "raw_handle", as_object) or {}
    _require({**fields, **handle}, b64="raw_handle", device_id="device_id", byte_size="byte_size")
    text = field(handle, "b64", as_string) or ""
    try:
        raw_handle = base64.b64decode(text)
    except (binascii.Error, ValueError) as error:
        raise InvalidArgument(f"Unable to parse 'raw_handle': expected base64: {error}") from None
    asked = pb.CudaSharedMemoryRegisterRequest(
        name=_region(request),
        raw_handle=raw_handle,
        device_id=field(fields, "device_id", as_signed) or 0,
        byte_size=field(fields, "byte_size", as_unsigned) or 0,
    )
    await resources.perform(CudaSharedMemoryRegisterContext, asked)
    return Response()


async def cuda_unregister(resources: FrontResources, request: Request) -> Response:
    """Let go of a region on a GPU, or of all."""
    asked = pb.CudaSharedMemoryUnregisterRequest(name=_region(request))
    await resources.perform(CudaSharedMemoryUnregisterContext, asked)
    return Response()


def _region(request: Request) -> str:
    region: str = request.path_params.get("region", "")
    return region


def _rows(regions: Mapping[str, Message]) -> Response:
    return json_response([to_json(regions[name]) for name in sorted(regions)])


def _require(fields: Mapping[str, Any], **names: str) -> None:
    """Raise InvalidArgument if a field is missing; `names` says what clients call it."""
    for key, name in names.items():
        if key not in fields:
            raise InvalidArgument(f"Shared memory register request has no '{name}' field")
