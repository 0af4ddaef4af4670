"""What a plan is to be."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from yais.build.precision import Precision
from yais.build.shape_ranges import ShapeRange

__all__ = ["BuildOptions"]


@dataclass(frozen=True, slots=True)
class BuildOptions:
    """What a plan is to be.

    Attributes
    ----------
    builder
        One of `yais.build.builder_package.BUILDERS`; None for the first that is installed, or for
        TensorRT-RTX where there are `targets`.
    batches, shapes
        See `yais.build.shape_ranges.profiles`.
    precision
        Of the FP32 parts of the model.
    keep
        Names of nodes, and operators, that stay in FP32 all the same.
    tf32
        Whether FP32 products may be rounded to TF32, which GPUs from Ampere on multiply faster.
    targets
        GPUs to build for, such as "sm89"; none for the one that is here, for TensorRT-RTX all from Ampere on.
    workspace
        Bytes of device memory that a layer may use besides its tensors; None for as much as there is.
    level
        How long to look for fast kernels, from 0 to 5; None for the builder's own (3).
    timing_cache
        File in which measurements of kernels are kept from build to build.
    weight_streaming
        Whether weights may stay in host memory when the plan is run.
    version_compatible
        Whether other versions of TensorRT may run the plan.
    compatibility
        Other GPUs that may run it: None, "same" those of its compute capability, "ampere+" all from Ampere
        on.
    """

    builder: str | None = None
    batches: tuple[ShapeRange, ...] = ()
    shapes: Mapping[str, tuple[ShapeRange, ...]] = field(default_factory=dict)
    precision: Precision = Precision.FP32
    keep: tuple[str, ...] = ()
    tf32: bool = True
    targets: tuple[str, ...] = ()
    workspace: int | None = None
    level: int | None = None
    timing_cache: Path | None = None
    weight_streaming: bool = False
    version_compatible: bool = False
    compatibility: str | None = None
