"""The option `--simulated-gpu`: how long a GPU that is not there takes."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import click

__all__ = ["SimulatedGpuType", "Simulation"]

_KINDS = ("copy_in", "compute", "copy_out")
_UNITS = {"s": 1.0, "ms": 1e-3, "us": 1e-6}
_PART = re.compile(rf"({'|'.join(_KINDS)})=(\d+(?:\.\d+)?)({'|'.join(_UNITS)})(?:\*([1-9]\d{{0,3}}))?")


@dataclass(frozen=True, slots=True)
class Simulation:
    """What a GPU does for a batch.

    Attributes
    ----------
    seconds
        How long each stage takes, by its name: copy_in, compute, copy_out.
    engines
        How many batches can be in each of these stages at once.
    """

    seconds: Mapping[str, float]
    engines: Mapping[str, int]


class SimulatedGpuType(click.ParamType):  # type: ignore[type-arg]  # generic since click 8.2
    """Stages and times, such as copy_in=2ms,compute=6ms*4,copy_out=500us; stages left out take no time."""

    name = "stages"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Simulation:
        """Return what was said of each stage."""
        seconds: dict[str, float] = {}
        engines = dict.fromkeys(_KINDS, 1)
        for part in str(value).split(","):
            found = _PART.fullmatch(part)
            if found is None or found[1] in seconds:
                self.fail(
                    f"got {value}, expected each stage once, as in copy_in=2ms,compute=6ms*4,copy_out=500us",
                    param,
                    ctx,
                )
            kind, number, unit, at_once = found.groups()
            seconds[kind] = float(number) * _UNITS[unit]
            engines[kind] = int(at_once or 1)
        return Simulation(seconds, engines)
