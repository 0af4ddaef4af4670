"""A builder that stands for TensorRT 10: it has the names that are used of it, and no others."""

from __future__ import annotations

import enum
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

from yais.build.builder_package import BuilderPackage
from yais.testing.tensorrt_enums import DataType, Severity

_MEMORY = 80 << 30  # bytes of the GPU


class _Logger:
    INTERNAL_ERROR, ERROR, WARNING, INFO, VERBOSE = Severity

    def __init__(self) -> None:
        pass


class _Monitor:
    def __init__(self) -> None:
        pass


class _LayerType(enum.Enum):
    ACTIVATION = 1


class _BuilderFlag(enum.Enum):
    TF32 = 0
    WEIGHT_STREAMING = 1
    VERSION_COMPATIBLE = 2
    EXCLUDE_LEAN_RUNTIME = 3


class _Compatibility(enum.Enum):
    NONE = 0
    AMPERE_PLUS = 1
    SAME_COMPUTE_CAPABILITY = 2


class _CreationFlag(enum.IntEnum):
    STRONGLY_TYPED = 1


class _Verbosity(enum.Enum):
    DETAILED = 1


class _Pool(enum.Enum):
    WORKSPACE = 0


class _Tensor:
    is_shape_tensor = False

    def __init__(self, name: str, shape: tuple[int, ...], dtype: DataType) -> None:
        self.name, self.shape, self.dtype = name, shape, dtype


class _Layer:
    name = "relu"
    type = _LayerType.ACTIVATION


class _Network:
    num_inputs = num_outputs = num_layers = 1

    def __init__(self, module: FakeBuilder) -> None:
        self._module = module

    def get_input(self, _index: int) -> _Tensor:
        tensor = _Tensor("x", self._module.shape, DataType.FLOAT)
        tensor.is_shape_tensor = self._module.shape_input
        return tensor

    def get_output(self, _index: int) -> _Tensor:
        return _Tensor("y", self._module.shape, self._module.output)

    def get_layer(self, _index: int) -> _Layer:
        return _Layer()


class _Cache:
    def __init__(self, contents: bytes) -> None:
        self.contents = contents

    def serialize(self) -> bytes:
        return self.contents + b"+"


class _Profile:
    def __init__(self) -> None:
        self.shapes: dict[str, tuple[Any, Any, Any]] = {}

    def set_shape(self, name: str, least: Any, best: Any, most: Any) -> None:
        self.shapes[name] = (least, best, most)


class _Config:
    progress_monitor: Any = None
    profiling_verbosity: Any = None
    hardware_compatibility_level = _Compatibility.NONE

    def __init__(self, module: FakeBuilder) -> None:
        self._module = module
        self._level = 3
        self.set = {_BuilderFlag.TF32}
        self.profiles: list[_Profile] = []
        self.pools: dict[Any, int] = {}
        self.cache: _Cache | None = None
        module.config = self

    @property
    def builder_optimization_level(self) -> int:
        return self._level

    @builder_optimization_level.setter
    def builder_optimization_level(self, level: int) -> None:
        self._level = min(level, 5)

    def set_flag(self, flag: _BuilderFlag) -> None:
        self.set.add(flag)

    def clear_flag(self, flag: _BuilderFlag) -> None:
        self.set.discard(flag)

    def set_memory_pool_limit(self, pool: _Pool, size: int) -> None:
        if size <= _MEMORY:  # else nothing is done, and an error logged at most
            self.pools[pool] = size

    def get_memory_pool_limit(self, pool: _Pool) -> int:
        return self.pools.get(pool, _MEMORY)

    def add_optimization_profile(self, profile: _Profile) -> int:
        self.profiles.append(profile)
        return -1 if self._module.refuses_profiles else len(self.profiles) - 1

    def create_timing_cache(self, contents: bytes) -> _Cache:
        return _Cache(contents)

    def set_timing_cache(self, cache: _Cache, ignore_mismatch: bool) -> bool:
        assert not ignore_mismatch
        self.cache = cache
        return not cache.contents.startswith(b"other")

    def get_timing_cache(self) -> _Cache | None:
        return self.cache


class FakeBuilder:
    """What stands for the module `tensorrt`.

    Attributes
    ----------
    shape, output
        Of the network's one input and its one output, and the type of the latter.
    has_gpu, refuses_profiles, shape_input
        Whether there is one; whether profiles are wrong; whether the input has sizes of others as values.
    errors
        Of the parser.
    during
        Called with the monitor while it builds; returns whether to go on.
    plan
        What is built; None for a failure.
    config
        The last one that was made.
    """

    __version__ = "10.16.1.11"
    ILogger, IProgressMonitor = _Logger, _Monitor
    BuilderFlag, HardwareCompatibilityLevel = _BuilderFlag, _Compatibility
    NetworkDefinitionCreationFlag, ProfilingVerbosity = _CreationFlag, _Verbosity
    MemoryPoolType, IBuilderConfig = _Pool, _Config
    DataType = DataType

    def __init__(self) -> None:
        self.shape: tuple[int, ...] = (-1, 4)
        self.output = DataType.FLOAT
        self.has_gpu, self.refuses_profiles, self.shape_input = True, False, False
        self.plan: bytes | None = b"ftrt plan"
        self.during: Callable[[Any], bool] = lambda _monitor: True
        self.config: Any = None
        self.parsed: list[str] = []
        self.errors: list[ParserError] = []
        self.log: Any = None

    def package(self) -> BuilderPackage:
        return BuilderPackage("tensorrt", self)

    def init_libnvinfer_plugins(self, log: Any, namespace: str) -> bool:
        assert namespace == ""
        return True

    def Builder(self, log: Any) -> Any:
        if not self.has_gpu:
            log.log(_Logger.ERROR, "CUDA initialization failure with error: 35")
            raise TypeError("pybind11::init(): factory function returned nullptr")
        self.log = log
        return _Builder(self)

    def OnnxParser(self, network: Any, log: Any) -> Any:
        return _Parser(self)


class ParserError:
    """An error of the parser."""

    def __init__(self, code: str, desc: str, node: int = -1, name: str = "", operator: str = "") -> None:
        self._code, self._desc, self._node, self._name, self._operator = code, desc, node, name, operator

    def code(self) -> SimpleNamespace:
        return SimpleNamespace(name=self._code)

    def desc(self) -> str:
        return self._desc

    def node(self) -> int:
        return self._node

    def node_name(self) -> str:
        return self._name

    def node_operator(self) -> str:
        return self._operator


class _Parser:
    def __init__(self, module: FakeBuilder) -> None:
        self._module = module
        self.num_errors = len(module.errors)

    def parse_from_file(self, file: str) -> bool:
        self._module.parsed.append(file)
        return not self.num_errors

    def get_error(self, index: int) -> ParserError:
        return self._module.errors[index]


class _Builder:
    def __init__(self, module: FakeBuilder) -> None:
        self._module = module

    def create_network(self, flags: int) -> _Network:
        assert flags == 1 << int(_CreationFlag.STRONGLY_TYPED)
        return _Network(self._module)

    def create_builder_config(self) -> _Config:
        return _Config(self._module)

    def create_optimization_profile(self) -> _Profile:
        return _Profile()

    def build_serialized_network(self, network: _Network, config: _Config) -> bytes | None:
        log = self._module.log
        log.log(_Logger.INFO, "Total Activation Memory: 4096 bytes")
        log.log(_Logger.INFO, "Total Weights Memory: 64 bytes")
        monitor = config.progress_monitor
        monitor.phase_start("Building engine", None, 2)
        goes_on = monitor.step_complete("Building engine", 0) and self._module.during(monitor)
        monitor.phase_finish("Building engine")
        if not goes_on or self._module.plan is None:
            log.log(_Logger.ERROR, "no kernel for node relu")
            return None
        return self._module.plan
