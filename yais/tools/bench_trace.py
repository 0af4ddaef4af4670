"""What `yais bench --trace` writes: the batches of the measured time, as a Chrome trace or a picture."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import click

from yais.inference.batch_timeline import BatchTimeline
from yais.load.chart_style import Colour
from yais.load.timeline_picture import timeline_picture
from yais.telemetry.timeline import Timeline
from yais.tools.output_file import output_file, writing

if TYPE_CHECKING:
    from yais.testing import SimulatedGpu

__all__ = ["trace_file", "write_trace"]

_SUFFIXES = (".json", ".svg")
_ROUNDS = 4  # batches of each lane in a picture

_COLOURS: dict[str, Colour] = {
    "gather": "pale",
    "wait for token": "grey",
    "copy in": "blue",
    "execute": "orange",
    "compute": "orange",
    "wait for device": "green",
    "copy out": "green",
    "hand out": "deep",
}
"""By what is done: the stages of batches, and those of a GPU in the colours of what waits for them."""


def trace_file(_context: click.Context, _option: click.Parameter, text: str | None) -> Path | None:
    """Return where to write, checked now; a callback of click."""
    if text is None:
        return None
    path = output_file(text)
    if path.suffix not in _SUFFIXES:
        raise click.BadParameter(f"got {text}, expected a file that ends in {' or '.join(_SUFFIXES)}")
    return path


def write_trace(path: Path, title: str, batches: BatchTimeline, gpu: SimulatedGpu | None, lanes: int) -> str:
    """Write a file, and return a line that says what is in it.

    Parameters
    ----------
    title
        Of the picture.
    batches
        Of the measured time.
    gpu
        Whose work is shown, too.
    lanes
        How many there are: a picture shows some batches of each.
    """
    if not len(batches):
        raise click.ClickException(f"{path}: no batch ended in the measured time, there is nothing to show")
    timeline = Timeline()
    batches.record(timeline)
    if gpu is not None:
        gpu.record(timeline)
    timeline = timeline.between(*batches.window(len(batches)))
    with writing(path):
        if path.suffix == ".svg":
            window = batches.window(_ROUNDS * lanes)
            path.write_text(timeline_picture(title, timeline.spans, window, _COLOURS), "utf-8")
            return f"{path}: from the middle of {len(batches)} batches"
        path.write_text(json.dumps(timeline.chrome_trace()), "utf-8")
    cut = f", the first of {len(batches) + batches.left_out}" if batches.left_out else ""
    return f"{path}: {len(batches)} batches{cut}"
