"""Options of `yais perf` that say what to send: those of perf_analyzer."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import Any, TypeVar

import click

from yais.load.input_sizes import Shapes
from yais.load.made_up import Kind
from yais.load.perf.calls import InputOptions
from yais.tools.option_groups import grouped, with_options
from yais.tools.shape_option import shape_option

__all__ = ["perf_input_options"]

F = TypeVar("F", bound=Callable[..., Any])

_data = grouped("Input data")

_OPTIONS = (
    _data("-b", "batch", type=click.IntRange(min=1), default=1, show_default=True, help="Items per request."),
    shape_option(_data, otherwise="each of them needs one"),
    _data(
        "--input-data",
        metavar="random|zero|PATH",
        help="Values of the inputs: made up, zeros, those of a directory with a file for each input, or of a "
        "JSON file. [default: random]",
    ),
    _data("-z", "zeros", is_flag=True, help="The same as --input-data zero."),
    _data(
        "--data-directory",
        type=click.Path(exists=True, file_okay=False),
        help="The same as --input-data for a directory.",
    ),
    _data(
        "--string-length",
        type=click.IntRange(min=1),
        default=128,
        show_default=True,
        help="Bytes of each element of BYTES that is made up.",
    ),
    _data("--string-data", metavar="TEXT", help="The elements of BYTES, instead."),
    _data(
        "--shared-memory",
        type=click.Choice(["none", "system", "cuda"]),
        default="none",
        show_default=True,
        help="Where inputs and outputs are: in requests, or in regions that the server opens, too. Not cuda.",
    ),
    _data(
        "--output-shared-memory-size",
        type=click.IntRange(min=1),
        default=102400,
        show_default=True,
        help="Bytes of an item of each output there whose size is not known.",
    ),
)


def perf_input_options(command: F) -> F:
    """Give a command the options; it gets `inputs: InputOptions`, and `shared`: whether in shared memory."""

    @with_options(_OPTIONS)
    @wraps(command)
    def given(
        *arguments: Any,
        batch: int,
        shape: Shapes,
        input_data: str | None,
        zeros: bool,
        data_directory: str | None,
        string_length: int,
        string_data: str | None,
        shared_memory: str,
        output_shared_memory_size: int,
        **others: Any,
    ) -> Any:
        if shared_memory == "cuda":
            raise click.UsageError("--shared-memory=cuda is not supported: requests are made without a GPU")
        if zeros and data_directory:
            raise click.UsageError("The -z flag cannot be set when --data-directory is provided.")
        inputs = InputOptions(
            batch,
            _data_of(input_data or data_directory or ("zero" if zeros else "random")),
            shape,
            string_length,
            string_data,
            output_shared_memory_size,
        )
        return command(*arguments, inputs=inputs, shared=shared_memory == "system", **others)

    return given  # type: ignore[return-value]  # its parameters are those of the options


def _data_of(text: str) -> Kind | Path:
    match text:
        case "random" | "zero":
            return text
    if not Path(text).exists():
        raise click.UsageError(
            f"Failed to parse --input-data. Unsupported type provided: '{text}'. The available options are "
            "'zero', 'random', path to a directory, or a json file."
        )
    return Path(text)
