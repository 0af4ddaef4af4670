"""What load generators send: options that they have in common."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import wraps
from pathlib import Path
from typing import Any, TypeVar

import click

from yais.client.endpoint import Endpoint
from yais.client.infer_call import InferCall
from yais.load.input_data import read_input_data
from yais.load.input_sizes import Shapes
from yais.load.inputs import generated, model_inputs
from yais.tools.byte_size import byte_size
from yais.tools.option_groups import with_options
from yais.tools.shape_option import shape_option

__all__ = ["RequestOptions", "request_options"]

F = TypeVar("F", bound=Callable[..., Any])

_TOO_LARGE = 2 << 30


@dataclass(frozen=True, slots=True)
class RequestOptions:
    """What to send.

    Attributes
    ----------
    batch
        Items in each request.
    shapes
        Of one item, for inputs with dimensions of any size.
    data
        "random", "zero", or the path of a file or directory with inputs.
    nbytes
        Of all tensors of a request; None: as the shapes give it.
    """

    batch: int
    shapes: Shapes
    data: str
    nbytes: int | None

    def calls(self, endpoint: Endpoint, model: str) -> list[InferCall]:
        """Return the requests, to be sent in turn.

        Raises
        ------
        YaisError
            What the server answers when it is asked about the model; InvalidArgument if the model does not
            take this, or the file is none.
        """
        inputs = model_inputs(endpoint, model)
        match self.data:
            case "random" | "zero" as kind:
                data = [generated(inputs, self.batch, self.shapes, kind, nbytes=self.nbytes)]
            case path:
                data = read_input_data(Path(path), inputs, self.batch, self.shapes)
        return [InferCall(model, tensors) for tensors in data]


_OPTIONS = (
    click.option(
        "--batch", type=click.IntRange(min=1), default=1, show_default=True, help="Items per request."
    ),
    shape_option(),
    click.option(
        "--bytes",
        "bytes",
        type=byte_size,
        metavar="SIZE",
        help="Bytes of all tensors of a request, such as 64 or 4KiB: decides the dimension of any size, or "
        "the length of texts.",
    ),
    click.option(
        "--input-data",
        default="random",
        show_default=True,
        metavar="random|zero|PATH",
        help="Values of the inputs: made up, zeros, or those of a file or directory in the forms of "
        "perf_analyzer.",
    ),
)


def request_options(command: F) -> F:
    """Give a command the options; it gets `requests: RequestOptions`."""

    @with_options(_OPTIONS)
    @wraps(command)
    def given(
        *arguments: Any,
        batch: int,
        shape: Shapes,
        bytes: int | None,  # noqa: A002 - named after the option
        input_data: str,
        **others: Any,
    ) -> Any:
        if bytes is not None and bytes >= _TOO_LARGE:
            raise click.UsageError(f"got --bytes of {bytes}, expected less than 2 GiB: no message is larger")
        made_up = input_data in {"random", "zero"}
        if not made_up and not Path(input_data).exists():
            raise click.UsageError(f"got --input-data {input_data}, expected random, zero or a path")
        if not made_up and bytes is not None:
            raise click.UsageError("--bytes is for inputs that are made up, not those of --input-data")
        requests = RequestOptions(batch, shape, input_data, bytes)
        return command(*arguments, requests=requests, **others)

    return given  # type: ignore[return-value]  # its parameters are those of the options
