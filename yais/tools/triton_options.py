"""Options of Triton that yais does not need: what is said when somebody gives one."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import click

from yais.tools.option_groups import OptionDecorator, grouped

__all__ = ["TRITON_OPTIONS", "check_triton_options"]

_WITHOUT_EFFECT = {
    "pinned-memory-pool-byte-size": "lanes have the pinned memory that models need",
    "cuda-memory-pool-byte-size": "lanes have the device memory that models need",
    "cuda-virtual-address-size": "device memory is not grown",
    "buffer-manager-thread-count": "inputs are copied by the threads of lanes",
    "backend-directory": "backends are part of yais",
    "repoagent-directory": "there are no repository agents",
    "cache-directory": "the cache is part of yais",
    "min-supported-compute-capability": "the engine decides",
    "host-policy": "lanes are placed by the topology: yais topology",
    "model-load-gpu-limit": "models are loaded as far as there is memory",
    "model-load-retry-count": "a model that cannot be loaded is loaded when it changes, or on demand",
    "http-thread-count": "one thread serves HTTP",
    "grpc-infer-thread-count": "one thread serves gRPC",
    "grpc-infer-allocation-pool-size": "contexts of requests are always kept",
    "grpc-http2-max-pings-without-data": "--grpc-keepalive-time alone says how often clients are asked",
}
"""Why they have none."""

_INSTEAD = {
    "response-cache-byte-size": "--cache-config=local,size=BYTES",
    "trace-file": "--trace-config=triton,file=FILE",
    "trace-level": "--trace-config=level=LEVEL",
    "trace-rate": "--trace-config=rate=N",
    "trace-count": "--trace-config=count=N",
    "trace-log-frequency": "--trace-config=triton,log-frequency=N",
}
"""What to give in their place."""

_ONLY = {
    "allow-grpc": (True, "gRPC is always served"),
    "model-namespacing": (False, "names of models are unique over all repositories"),
    "allow-sagemaker": (False, "there is no such service"),
    "allow-vertex-ai": (False, "there is no such service"),
}
"""The value that they can have, and why."""

_option = grouped("Of Triton, without effect here")


def _sentence(text: str) -> str:
    return text if text.startswith("--") else text[0].upper() + text[1:]


def _options() -> list[OptionDecorator]:
    without = [
        _option(f"--{name}", metavar="VALUE", help=f"{_sentence(why)}.")
        for name, why in _WITHOUT_EFFECT.items()
    ]
    instead = [
        _option(f"--{name}", metavar="VALUE", help=f"Refused: use {use}.") for name, use in _INSTEAD.items()
    ]
    only = [
        _option(f"--{name}", type=bool, help=f"Only {str(value).lower()}: {why}.")
        for name, (value, why) in _ONLY.items()
    ]
    return [*without, *only, *instead]


TRITON_OPTIONS = _options()


def check_triton_options(given: Mapping[str, Any]) -> list[str]:
    """Return what is to be said of those that were given and have no effect.

    Raises
    ------
    click.UsageError
        One asks for what there is not.
    """
    for name, use in _INSTEAD.items():
        if _of(given, name) is not None:
            raise click.UsageError(f"--{name} is not supported, use {use}")
    for name, (value, why) in _ONLY.items():
        if _of(given, name) is (not value):
            raise click.UsageError(f"--{name}={str(not value).lower()} is not supported: {why}")
    return [
        f"--{name} has no effect: {why}"
        for name, why in _WITHOUT_EFFECT.items()
        if _of(given, name) is not None
    ]


def _of(given: Mapping[str, Any], name: str) -> Any:
    return given[name.replace("-", "_")]
