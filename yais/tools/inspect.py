"""`yais inspect`: what is in a model."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

import click

from yais.errors import YaisError
from yais.tools.inspect_model import InspectedModel, inspect_directory, inspect_file
from yais.tools.inspect_text import description_dict, description_text, fact_lines, tensor_dict, tensor_lines

__all__ = ["inspect"]


@click.command()
@click.argument("model", type=click.Path(path_type=Path))
@click.option("--layers", is_flag=True, help="List every layer, or operator, and do not only count them.")
@click.option(
    "--load",
    is_flag=True,
    help="Load a plan on the GPU and ask its engine, instead of reading what yais build wrote beside it.",
)
@click.option(
    "--model-version",
    "-x",
    "version",
    envvar="YAIS_INSPECT_MODEL_VERSION",
    type=click.IntRange(min=1),
    help="Version to look at, in a directory.  [default: the latest]",
)
@click.option("--json", "as_json", envvar="YAIS_INSPECT_JSON", is_flag=True, help="Print JSON.")
def inspect(model: Path, layers: bool, load: bool, version: int | None, as_json: bool) -> None:
    """Say what is in MODEL: tensors, profiles, layers, memory, and who built it.

    MODEL is an ONNX file, a plan of TensorRT, or the directory of a model in a repository, of any backend. A
    plan itself tells without a GPU only who built it; the rest is in the record that `yais build` writes
    beside it.
    """
    if load:  # what TensorRT logs is in the error
        logging.getLogger("yais").addHandler(logging.NullHandler())
    try:
        if model.is_dir():
            found = inspect_directory(model, version, load=load)
            click.echo(json.dumps(_model_dict(found)) if as_json else _model_text(found, layers=layers))
            return
        described = inspect_file(model, load=load)
    except YaisError as error:
        raise click.ClickException(str(error)) from None
    except (OSError, MemoryError) as error:
        raise click.ClickException(f"{model}: {error}") from None
    text = json.dumps(description_dict(described)) if as_json else description_text(described, layers=layers)
    click.echo(text)


def _model_text(found: InspectedModel, *, layers: bool) -> str:
    inputs, outputs = found.tensors()
    lines = [f"model {found.config.name}", *fact_lines(found.facts())]
    lines += [*tensor_lines("inputs", inputs), *tensor_lines("outputs", outputs)]
    if found.described is not None:
        lines += ["", description_text(found.described, layers=layers)]
    return "\n".join(lines)


def _model_dict(found: InspectedModel) -> dict[str, Any]:
    inputs, outputs = found.tensors()
    return {
        "name": found.config.name,
        **{name.replace(" ", "_"): fact for name, fact in found.facts().items()},
        "inputs": [tensor_dict(tensor) for tensor in inputs],
        "outputs": [tensor_dict(tensor) for tensor in outputs],
        "described": None if found.described is None else description_dict(found.described),
    }
