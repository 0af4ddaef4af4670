"""The options of `yais serve`, and what they say to the server."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, TypeVar

from yais.serving.server import ServerOptions
from yais.tools.option_groups import with_options
from yais.tools.serve_model_options import MODEL_OPTIONS, model_options
from yais.tools.serve_network_options import NETWORK_OPTIONS, network_options
from yais.tools.serve_security_options import SECURITY_OPTIONS, access_options, grpc_tls, http_tls
from yais.tools.serve_telemetry_options import TELEMETRY_OPTIONS, log_options, telemetry_options
from yais.tools.triton_options import TRITON_OPTIONS, check_triton_options

__all__ = ["server_options", "with_server_options"]

F = TypeVar("F", bound=Callable[..., Any])

_OPTIONS = (*MODEL_OPTIONS, *NETWORK_OPTIONS, *SECURITY_OPTIONS, *TELEMETRY_OPTIONS, *TRITON_OPTIONS)


def with_server_options(command: F) -> F:
    """Give a command the options; it gets them as arguments for `server_options`."""
    return with_options(_OPTIONS)(command)


def server_options(given: Mapping[str, Any]) -> tuple[ServerOptions, list[str]]:
    """Return what the options say, and warnings of those that have no effect.

    Raises
    ------
    click.UsageError
        They contradict each other, a file that they name cannot be used, or one asks for what there is not.
    """
    warnings = check_triton_options(given)
    network = network_options(given)
    tls, tls_warnings = grpc_tls(given)
    https = http_tls(given)
    if network["http"] is not None:
        network["http"] = replace(network["http"], tls=https)
    options = ServerOptions(
        **model_options(given),
        **network,
        **telemetry_options(given),
        tls=tls,
        access=access_options(given),
        allow_client_shm=given["allow_client_shm"],
        logging=log_options(given),
    )
    return options, [*warnings, *tls_warnings]
