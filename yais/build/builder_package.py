"""The packages that build plans: TensorRT, and TensorRT-RTX, which needs no GPU for it."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from yais.errors import FailedPrecondition

__all__ = ["BUILDERS", "BuilderPackage", "builder_package"]

BUILDERS = {"tensorrt": ("tensorrt",), "tensorrt-rtx": ("tensorrt_rtx", "tensorrt_rtx_bindings")}
"""The extras of yais that bring a builder, in the order they are looked for, and the modules it may be in."""

_TITLES = {"tensorrt": "TensorRT", "tensorrt-rtx": "TensorRT-RTX"}


@dataclass(frozen=True, slots=True)
class BuilderPackage:
    """An installed builder.

    Attributes
    ----------
    name
        One of `BUILDERS`.
    module
        Its Python module.
    """

    name: str
    module: Any

    @property
    def title(self) -> str:
        """The name for people."""
        return _TITLES[self.name]

    @property
    def version(self) -> str:
        """Its version, such as "10.16.1.11"."""
        return str(self.module.__version__)

    @property
    def ahead_of_time(self) -> bool:
        """Whether it builds for GPUs that need not be there."""
        return hasattr(self.module.IBuilderConfig, "set_compute_capability")


def builder_package(
    name: str | None = None, *, find: Callable[[str], Any] = importlib.import_module
) -> BuilderPackage:
    """Return a builder.

    Parameters
    ----------
    name
        One of `BUILDERS`; None for the first that is installed.
    find
        What imports modules.

    Raises
    ------
    FailedPrecondition
        It is not installed, or cannot be loaded; the message names the extra.
    """
    reasons = []
    for extra in [name] if name else BUILDERS:
        for module in BUILDERS[extra]:
            try:
                return BuilderPackage(extra, find(module))
            except (ImportError, OSError, RuntimeError) as error:  # it, or its libraries, lack or are broken
                reasons.append(f"{module}: {error}")
    extras = " or ".join(f"'yais[{extra}]'" for extra in ([name] if name else reversed(BUILDERS)))
    what = _TITLES[name] if name else "TensorRT-RTX or TensorRT"
    raise FailedPrecondition(f"building needs {what} ({'; '.join(reasons)}): pip install {extras}")
