"""gRPC's own debugging services, channelz and CSDS, by grpcio's servicers. Both are optional packages."""

from __future__ import annotations

import importlib
from typing import Any

from yais.rpc.servicers import ServicerHost

__all__ = ["mount_channelz", "mount_csds"]


def mount_channelz(host: ServicerHost) -> None:
    """Mount `grpc.channelz.v1.Channelz`: the process's connections, streams and their counters.

    It tells whoever asks about all channels and servers of the process.

    Raises
    ------
    ImportError
        grpcio-channelz is not installed.
    """
    _require("grpc_channelz.v1.channelz").add_channelz_servicer(host)


def mount_csds(host: ServicerHost) -> None:
    """Mount `envoy.service.status.v3.ClientStatusDiscoveryService`: the xDS configuration of the process.

    Raises
    ------
    ImportError
        grpcio-csds is not installed.
    """
    _require("grpc_csds").add_csds_servicer(host)


def _require(module: str) -> Any:
    try:
        return importlib.import_module(module)
    except Exception as error:  # protobuf, too, refuses code that was made for a newer one
        raise ImportError(f"{module} cannot be imported ({error}): pip install 'yais[admin]'") from error
