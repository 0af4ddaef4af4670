"""The gRPC service of the KServe v2 protocol."""

from __future__ import annotations

from typing import Any

from yais.protocol import kserve_pb2 as pb
from yais.rpc.client import Channels, ClientUnary

__all__ = ["SERVICE", "response_type", "service_method"]

SERVICE = "/inference.GRPCInferenceService/"
"""What the names of its methods begin with."""


def response_type(rpc: str) -> type[Any]:
    """Return the message that answers a unary RPC, "ModelInfer" for example."""
    found: type[Any] = getattr(pb, f"{rpc}Response")
    return found


def service_method(channels: Channels, rpc: str, timeout: float) -> ClientUnary[Any, Any]:
    """Return a unary RPC to call; it may take `timeout` seconds."""
    return ClientUnary(
        channels,
        SERVICE + rpc,
        lambda message: message.SerializeToString(),
        response_type(rpc).FromString,
        timeout=timeout,
    )
