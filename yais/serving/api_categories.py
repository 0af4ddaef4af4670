"""The categories of the API, by which it can be restricted: which RPCs and which HTTP paths are in each."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

__all__ = ["CATEGORIES", "category_of_path", "methods_of"]

_SERVICE = "/inference.GRPCInferenceService/"
_MODEL = "/v2/models/.+"


@dataclass(frozen=True, slots=True)
class _Category:
    """RPCs, without the service if it is the inference service; a regular expression of paths."""

    rpcs: tuple[str, ...]
    paths: str


CATEGORIES: Mapping[str, _Category] = {
    "health": _Category(
        (
            "ServerLive",
            "ServerReady",
            "ModelReady",
            "/grpc.health.v1.Health/Check",
            "/grpc.health.v1.Health/List",
            "/grpc.health.v1.Health/Watch",
        ),
        f"/v2/health/.+|{_MODEL}/ready",
    ),
    "inference": _Category(("ModelInfer", "ModelStreamInfer"), f"{_MODEL}/(infer|generate|generate_stream)"),
    "shared-memory": _Category(
        tuple(
            f"{kind}SharedMemory{verb}"
            for kind in ("System", "Cuda")
            for verb in ("Status", "Register", "Unregister")
        ),
        "/v2/(system|cuda)sharedmemory(/.*)?",
    ),
    "model-config": _Category(("ModelConfig",), f"{_MODEL}/config"),
    "model-repository": _Category(
        ("RepositoryIndex", "RepositoryModelLoad", "RepositoryModelUnload"), "/v2/repository(/.*)?"
    ),
    "statistics": _Category(("ModelStatistics",), f"/v2/models/stats|{_MODEL}/stats|/metrics"),
    "trace": _Category(("TraceSetting",), f"/v2/trace(/.*)?|{_MODEL}/trace/setting"),
    "logging": _Category(("LogSettings",), "/v2/logging"),
    "metadata": _Category(("ServerMetadata", "ModelMetadata"), f"/v2|/v2/models|{_MODEL}"),
}
"""In the order in which a path is looked for: the last one has what is left of models."""

_PATHS = [(name, re.compile(category.paths, re.DOTALL)) for name, category in CATEGORIES.items()]


def methods_of(category: str) -> list[str]:
    """Return the RPCs of a category, as "/package.Service/Method"."""
    return [rpc if rpc.startswith("/") else _SERVICE + rpc for rpc in CATEGORIES[category].rpcs]


def category_of_path(path: str) -> str:
    """Return the category of a path of HTTP, decoded and without a query; "" if it has none.

    More slashes than there should be make no difference, nor does a line feed at the end, before which the
    routes' regular expressions end, too: what a server takes for a path is not to depend on them.
    """
    plain = "/" + "/".join(filter(None, path.removesuffix("\n").split("/")))
    return next((name for name, pattern in _PATHS if pattern.fullmatch(plain)), "")
