"""`yais build`: a plan of TensorRT from an ONNX model."""

from __future__ import annotations

import tempfile
from pathlib import Path

import click

from yais.build.model_place import ModelPlace, model_name
from yais.build.options import BuildOptions
from yais.errors import YaisError
from yais.inference.plan import byte_text
from yais.tools.build_options import with_build_options
from yais.tools.build_run import run_build
from yais.tools.option_groups import GroupedCommand, grouped, with_options

__all__ = ["build"]

_output = grouped("Output")

_OUTPUT = (
    _output(
        "--output",
        type=click.Path(file_okay=False, path_type=Path),
        required=True,
        metavar="DIR",
        help="Model repository to write the model to; made if it is not there.",
    ),
    _output("--name", metavar="NAME", help="Of the model.  [default: that of the file]"),
    _output(
        "--model-version",
        "-x",
        "version",
        envvar="YAIS_BUILD_MODEL_VERSION",
        type=click.IntRange(1, 2**63 - 1),
        default=1,
        show_default=True,
        help="Version of the model to write.",
    ),
    _output(
        "--force",
        is_flag=True,
        help="Replace the version if it is there, and a configuration that does not fit.",
    ),
)


@click.command(cls=GroupedCommand)
@click.argument("model", type=click.Path(path_type=Path))
@with_options(_OUTPUT)
@with_build_options
def build(
    model: Path, options: BuildOptions, output: Path, name: str | None, version: int, force: bool
) -> None:
    """Build a plan of TensorRT from MODEL, an ONNX file, into a directory that is ready to be served.

    Written are config.pbtxt, the plan (1/model.plan), and a record of how it was built (1/build.json), which
    `yais inspect` reads. TensorRT-RTX builds on any machine, for the GPUs that --target names; TensorRT
    builds for the GPU that is there. Ctrl-C ends the build, and nothing is written.
    """
    place = ModelPlace(output, name if name is not None else model_name(model), version, force)
    folder = Path(tempfile.gettempdir())  # where a converted model is written to
    try:
        place.check()
        plan = run_build(model, options)
        folder = output
        path = place.write(plan)
    except YaisError as error:
        raise click.ClickException(str(error)) from None
    except OSError as error:
        raise click.ClickException(f"{error.filename or folder}: {error.strerror or error}") from None
    for warning in plan.warnings:
        click.echo(f"Warning: {warning}", err=True)
    record = plan.record
    targets = f" for {', '.join(record.targets)}" if record.targets else ""
    click.echo(
        f"{path}: {byte_text(len(plan.contents))}{targets}, built by {record.builder} {record.version} in "
        f"{record.seconds:.1f} s"
    )
