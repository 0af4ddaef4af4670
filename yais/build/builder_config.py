"""What a builder is told."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from yais.build.builder_package import BuilderPackage
from yais.build.network import Network
from yais.build.options import BuildOptions
from yais.build.shape_ranges import Profile
from yais.errors import FailedPrecondition, InvalidArgument

__all__ = ["builder_config", "check_options"]

_COMPATIBILITY = {"same": "SAME_COMPUTE_CAPABILITY", "ampere+": "AMPERE_PLUS"}

_OWN_MEMORY = "REQUIRE_USER_ALLOCATION"

_NOT_AHEAD_OF_TIME = {
    "timing_cache": "timing cache: it measures no kernels, but compiles them where the plan is run",
    "version_compatible": "version compatibility",
    "compatibility": "hardware compatibility: name the GPUs as targets",
}
"""Options that TensorRT-RTX does not have, and why."""


def check_options(package: BuilderPackage, options: BuildOptions) -> None:
    """Check that a builder can do what is asked for, before a network is parsed for it.

    Raises
    ------
    FailedPrecondition
        It cannot.
    InvalidArgument
        A target, or a kind of compatibility, is none.
    """
    if options.compatibility not in {None, *_COMPATIBILITY}:
        raise InvalidArgument(f"got compatibility '{options.compatibility}', expected 'same' or 'ampere+'")
    if not package.ahead_of_time:
        if options.targets:
            raise FailedPrecondition(
                f"{package.title} {package.version} builds for the GPU that is here, and not for "
                f"{', '.join(options.targets)}: TensorRT-RTX does: pip install 'yais[tensorrt-rtx]'"
            )
        return
    for name, what in _NOT_AHEAD_OF_TIME.items():
        if getattr(options, name):
            raise FailedPrecondition(f"{package.title} {package.version} has no {what}")
    known = [name.lower() for name in package.module.ComputeCapability.__members__ if name.startswith("SM")]
    for target in options.targets:
        if target.lower() not in known:
            raise InvalidArgument(
                f"got the target '{target}', expected one of {', '.join(known)}, for which {package.title} "
                f"{package.version} builds"
            )


def builder_config(
    package: BuilderPackage, network: Network, options: BuildOptions, profiles: Sequence[Profile]
) -> Any:
    """Return the `IBuilderConfig` for checked options.

    Raises
    ------
    InvalidArgument
        The builder refuses a value.
    """
    module = package.module
    config = network.builder.create_builder_config()
    config.profiling_verbosity = module.ProfilingVerbosity.DETAILED
    _set_flags(module, config, options)
    if options.workspace is not None and options.workspace >= 2**64:
        raise InvalidArgument(f"got a workspace of {options.workspace} bytes, expected less than 2**64")
    if options.workspace is not None:
        config.set_memory_pool_limit(module.MemoryPoolType.WORKSPACE, options.workspace)
        if config.get_memory_pool_limit(module.MemoryPoolType.WORKSPACE) != options.workspace:
            raise InvalidArgument(
                f"got a workspace of {options.workspace} bytes, expected at most the memory of the GPU: "
                f"{package.title} {package.version} does not take it"
            )
    if options.level is not None:
        config.builder_optimization_level = options.level
        if config.builder_optimization_level != options.level:
            raise InvalidArgument(
                f"got the optimization level {options.level}, expected 0 to "
                f"{config.builder_optimization_level}"
            )
    if options.compatibility:
        config.hardware_compatibility_level = getattr(
            module.HardwareCompatibilityLevel, _COMPATIBILITY[options.compatibility]
        )
    if options.targets:
        config.num_compute_capabilities = len(options.targets)
        for index, target in enumerate(options.targets):
            if not config.set_compute_capability(getattr(module.ComputeCapability, target.upper()), index):
                raise InvalidArgument(f"{package.title} {package.version} refuses the target '{target}'")
    _add_profiles(network, config, profiles)
    return config


def _set_flags(module: Any, config: Any, options: BuildOptions) -> None:
    flags = {
        "TF32": options.tf32,
        "WEIGHT_STREAMING": options.weight_streaming,
        "VERSION_COMPATIBLE": options.version_compatible,
        # The plan need not bring a runtime of its own, as code for the host: tensorrt_lean reads it.
        "EXCLUDE_LEAN_RUNTIME": options.version_compatible,
    }
    # TensorRT-RTX may allocate in executions else, which spoils CUDA graphs. Streamed weights need that.
    if hasattr(module.BuilderFlag, _OWN_MEMORY):
        flags[_OWN_MEMORY] = not options.weight_streaming
    for name, wanted in flags.items():
        flag = getattr(module.BuilderFlag, name)
        if wanted:
            config.set_flag(flag)
        else:
            config.clear_flag(flag)


def _add_profiles(network: Network, config: Any, profiles: Sequence[Profile]) -> None:
    for profile in profiles:
        made = network.builder.create_optimization_profile()
        for name, shapes in profile.items():
            made.set_shape(name, shapes.least, shapes.best, shapes.most)
        if config.add_optimization_profile(made) < 0:
            said = ", ".join(f"{name} {shapes}" for name, shapes in profile.items())
            raise InvalidArgument(
                f"the builder does not take the profile {said}: a shape does not fit the network"
            )
