"""`yais infer`: one request to a model, and what it answers."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import click
import numpy as np
import numpy.typing as npt

from yais.client.datatypes import datatype_of
from yais.client.endpoint import Endpoint
from yais.client.image import Scaling
from yais.client.in_order import GRACE, answered_in_order
from yais.client.infer_call import InferAnswer, InferCall, InputTensor, WantedOutput
from yais.core.tensor import DataType
from yais.errors import YaisError
from yais.load.input_file import read_input_file
from yais.load.input_text import parse_input
from yais.load.inputs import ModelInputs, from_arrays, model_inputs
from yais.protocol.tensor_codec import encode
from yais.tools.answer_text import answer_json, answer_text
from yais.tools.output_file import output_file, writing
from yais.tools.server_options import Server, server_options

__all__ = ["infer"]


Array = npt.NDArray[Any]


@click.command()
@click.option("--model-version", "-x", metavar="VERSION", default="", help="By default the latest.")
@click.option(
    "--input",
    "texts",
    envvar="YAIS_INFER_INPUT",
    multiple=True,
    metavar="NAME=VALUES",
    help="Values of an input: 1,2,3 or [[1,2],[3,4]], or @FILE: a .npy, or any file as it lies in memory. "
    "Given for each input.",
)
@click.option(
    "--output",
    "names",
    envvar="YAIS_INFER_OUTPUT",
    multiple=True,
    metavar="NAME",
    help="Ask for this output only; may be given more than once.",
)
@click.option(
    "--classes", "-c", type=click.IntRange(min=1), help="Ask for so many best classes instead of values."
)
@click.option(
    "--scaling",
    "-s",
    type=click.Choice([scaling.value for scaling in Scaling], case_sensitive=False),
    default=Scaling.NONE.value,
    show_default=True,
    help="What becomes of an image's pixels: NONE leaves 0 to 255, INCEPTION makes them -1 to 1, VGG takes "
    "the mean colour of ImageNet away.",
)
@click.option(
    "--save",
    "saves",
    envvar="YAIS_INFER_SAVE",
    multiple=True,
    metavar="NAME=FILE",
    help="Write an output to a file: to a .npy, or to any other as it lies in memory.",
)
@click.option("--json", "as_json", envvar="YAIS_INFER_JSON", is_flag=True, help="Print the answer as JSON.")
@server_options("[ADDRESS] MODEL [FILE]", most=2)
def infer(
    server: Server,
    words: tuple[str, ...],
    model_version: str,
    texts: tuple[str, ...],
    names: tuple[str, ...],
    classes: int | None,
    scaling: str,
    saves: tuple[str, ...],
    as_json: bool,
) -> None:
    """Send one request to MODEL at ADDRESS (host:port) and print what it answers.

    FILE is for a model with one input: an image, which is made to fit (this needs Pillow: pip install
    'yais[image]'), or a .npy; an input of BYTES gets the file as it is. ADDRESS is what has a colon in it;
    by default localhost:8001, for HTTP localhost:8000. The batch dimension may be left out.
    """
    if not words:
        raise click.UsageError("got no MODEL, expected one")
    if bool(texts) == (len(words) == 2):
        got = "FILE and --input, expected one of them" if texts else "no inputs, expected FILE or --input"
        raise click.UsageError(f"got {got}")
    with server.endpoint() as endpoint:
        inputs = model_inputs(endpoint, words[0], model_version)
        tensors = _tensors(inputs, words[1:], texts, Scaling(scaling.upper()))
        outputs = {
            output.name: datatype_of(output.datatype, output.name) for output in inputs.metadata.outputs
        }
        files = _files(saves, outputs)
        call = InferCall(inputs.model, tensors, _wanted(names, classes, outputs), model_version)
        decoupled = inputs.config.model_transaction_policy.decoupled
        if decoupled and server.protocol == "http":
            raise click.ClickException(
                f"model '{inputs.model}' answers a request any number of times, which only gRPC can carry"
            )
        answers = _answers(endpoint, call, decoupled=decoupled)
    _save(answers, files)
    types = {} if classes else outputs
    if as_json:
        found = [answer_json(answer, types) for answer in answers]
        click.echo(json.dumps({"answers": found} if decoupled else found[0]))
    else:
        texts_of = [answer_text(answer, types, classes=classes is not None) for answer in answers]
        click.echo("\n\n".join(texts_of) or "no answer")


def _tensors(
    inputs: ModelInputs, files: Sequence[str], texts: Sequence[str], scaling: Scaling
) -> tuple[InputTensor, ...]:
    try:
        if files:
            return from_arrays(inputs, read_input_file(Path(files[0]), inputs, scaling))
        arrays: dict[str, Array] = {}
        for name, array in (parse_input(text, inputs) for text in texts):
            if name in arrays:
                raise click.UsageError(f"got --input {name} more than once")
            arrays[name] = array
        return from_arrays(inputs, arrays)
    except YaisError as error:  # of what was typed: the server has no part in it
        raise click.ClickException(str(error)) from None


def _wanted(
    names: Sequence[str], classes: int | None, outputs: Mapping[str, DataType]
) -> tuple[WantedOutput, ...]:
    for name in names:
        _check(name, outputs)
    if not names and classes is None:
        return ()
    return tuple(WantedOutput(name, classes or 0) for name in names or outputs)


def _files(saves: Sequence[str], outputs: Mapping[str, DataType]) -> dict[str, Path]:
    """Return the files to write, by the name of the output."""
    files = {}
    for text in saves:
        name, equals, path = text.partition("=")
        if not equals:
            raise click.UsageError(f"got --save {text}, expected NAME=FILE")
        _check(name, outputs)
        if name in files:
            raise click.UsageError(f"got --save {name} more than once")
        files[name] = output_file(path)
    return files


def _check(name: str, outputs: Mapping[str, DataType]) -> None:
    if name not in outputs:
        raise click.ClickException(f"got output '{name}', expected one of {', '.join(outputs)}")


def _answers(endpoint: Endpoint, call: InferCall, *, decoupled: bool) -> Sequence[InferAnswer]:
    # Only on a stream may a request have any number of answers.
    transport = endpoint.stream_transport() if decoupled else endpoint.transport()
    (answers,) = answered_in_order(transport, [call], 1, endpoint.connection.timeout + GRACE)
    return answers


def _save(answers: Sequence[InferAnswer], files: Mapping[str, Path]) -> None:
    if files and len(answers) != 1:
        raise click.ClickException(f"got {len(answers)} answers, expected one to save")
    for name, path in files.items():
        array = answers[0].outputs.get(name)
        if array is None:
            raise click.ClickException(f"got no output '{name}' to save")
        with writing(path):
            _write(array, path)


def _write(array: Array, path: Path) -> None:
    if array.dtype != np.object_:
        np.save(path, array) if path.suffix == ".npy" else path.write_bytes(encode(array))
    elif path.suffix == ".npy":
        raise click.ClickException(
            f"got {path} for an output of BYTES, which is no array, expected another name"
        )
    else:  # the contents of a file, which an element often is
        path.write_bytes(array.item() if array.size == 1 else encode(array))
