"""The house of DESIGN: who may import whom."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]

FLOORS = {
    "yais.errors": 0,
    "yais.core": 1,
    "yais.telemetry": 1,
    "yais.memory": 2,
    "yais.rpc": 2,
    "yais.lane": 3,
    "yais.infer_runner": 4,
    "yais.engines": 4,
    "yais.protocol": 4,
    "yais.inference": 5,
    "yais.client": 5,
    "yais.repository": 6,
    "yais.load": 6,
    "yais.build": 6,
    "yais.lb": 6,
    "yais.serving": 7,
    "yais.tools": 8,
}
"""Rooms and their floors. A room may import from itself and from rooms on lower floors, not from its like."""


ROOT_FROM = 7
"""The lowest floor that may import `yais` itself, for its version."""

FORBIDDEN = {
    "yais.core": {"grpc", "cuda", "onnxruntime", "google", "prometheus_client"},
    "yais.inference": {"grpc", "google.protobuf", "yais.protocol"},
    "yais.engines": {"grpc", "google.protobuf", "yais.inference", "yais.protocol"},
    "yais.rpc": {"numpy", "onnxruntime"},
}
"""What a room must not import, whatever its floor."""

ONLY = {
    "grpc._cython": {"yais.rpc.completion_queue", "yais.rpc.core_channel"},
    "onnxruntime": {"yais.engines.onnx", "yais.engines.onnx_libraries"},
    "prometheus_client": {
        "yais.telemetry",
        "yais.rpc.interceptors.metrics",
        "yais.serving.metrics",
        "yais.serving.nv_metrics",
        "yais.serving.host_metrics",
        "yais.serving.gpu_metrics",
        "yais.serving.backend",
        "yais.serving.frontends.frontend_metrics",
        "yais.serving.http",
    },
    "starlette": {"yais.serving.http"},
    "uvicorn": {"yais.serving.http"},
    "opentelemetry": {
        "yais.rpc.interceptors.tracing",
        "yais.serving.trace_export",
        "yais.serving.trace_spans",
    },
    "click": {"yais.tools"},
    "cuda": {"yais.memory.cuda"},
    "pynvml": {"yais.core.gpus"},
    "torch": {"yais.engines.torch_export", "yais.engines.torch_tensors"},
}
"""Foreign packages that only these modules, or those within them, import."""

LAZY = {("yais.inference", "yais.serving")}
"""Named exceptions: imports made when a function is called."""

SIMULATING = {"yais.tools.bench", "yais.tools.bench_simulated", "yais.tools.bench_trace"}
"""Modules that take a simulated GPU from `yais.testing`."""

NOT_WITH_YAIS = {
    "onnx",
    "onnxruntime",
    "tritonclient",
    "cuda",
    "prometheus_client",
    "click",
    "tensorrt",
    "tensorrt_lean",
    "tensorrt_rtx_bindings",
    "torch",
    "opentelemetry",
    "uvloop",
    "pynvml",
}
"""What `import yais` must not bring with it."""


def module_name(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def is_within(name: str, package: str) -> bool:
    return name == package or name.startswith(f"{package}.")


def room_of(name: str) -> str | None:
    return next((room for room in FLOORS if is_within(name, room)), None)


def is_exempt(module: str) -> bool:
    """Whether it is the table of contents, or of the helpers for tests."""
    return module == "yais" or is_within(module, "yais.testing")


MODULES = {module_name(path): path for path in sorted((ROOT / "yais").rglob("*.py"))}


def imports(module: str) -> set[str]:
    """Return what a module imports, as dotted names: modules, or names within them."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(MODULES[module].read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{module} has a relative import in line {node.lineno}"
            found.update(f"{node.module}.{alias.name}" for alias in node.names)
    return found


IMPORTS = {module: imports(module) for module in MODULES}


def test_every_module_has_a_floor():
    assert [module for module in MODULES if not is_exempt(module) and room_of(module) is None] == []
    assert [room for room in FLOORS if not any(is_within(module, room) for module in MODULES)] == []


@pytest.mark.parametrize("module", [module for module in MODULES if not is_exempt(module)])
def test_a_module_imports_from_its_room_and_from_below(module):
    room = room_of(module)
    assert room is not None
    above = []
    for name in IMPORTS[module]:
        if not is_within(name, "yais"):
            continue
        other = room_of(name)
        if is_within(name, "yais.testing"):
            allowed = module in SIMULATING
        elif other is None:  # yais itself, or a name of it
            allowed = FLOORS[room] >= ROOT_FROM
        else:
            allowed = other == room or FLOORS[other] < FLOORS[room] or (room, other) in LAZY
        if not allowed:
            above.append(name)
    assert above == []


@pytest.mark.parametrize("room", FORBIDDEN)
def test_what_a_room_must_not_know(room):
    found = {
        (module, name)
        for module, names in IMPORTS.items()
        if is_within(module, room)
        for name in names
        if any(is_within(name, package) for package in FORBIDDEN[room])
    }
    assert found == set()


@pytest.mark.parametrize("package", ONLY)
def test_what_only_some_may_know(package):
    users = {module for module, names in IMPORTS.items() if any(is_within(name, package) for name in names)}
    assert users
    assert {user for user in users if not any(is_within(user, allowed) for allowed in ONLY[package])} == set()


def test_messages_are_known_from_the_protocol_up():
    generated = {"kserve_pb2", "model_config_pb2"}
    for module, names in IMPORTS.items():
        room = room_of(module)
        if room is not None and any(set(name.split(".")) & generated for name in names):
            assert FLOORS[room] >= FLOORS["yais.protocol"], module


def test_the_root_is_light():
    """What `import yais` brings with it is paid for by every program and tool."""
    program = "import sys, yais; print(*{name.partition('.')[0] for name in sys.modules})"
    command = [sys.executable, "-W", "error", "-c", program]
    loaded = subprocess.run(command, capture_output=True, text=True, timeout=50, check=True).stdout.split()
    assert "grpc" in loaded
    assert NOT_WITH_YAIS & set(loaded) == set()
