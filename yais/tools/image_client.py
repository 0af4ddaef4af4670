"""`yais image-client`: classify images, as Triton's image_client does."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import wraps
from itertools import cycle, islice
from pathlib import Path
from typing import Any

import click
import numpy.typing as npt

from yais.client.classify import ClassifiedBatch, check_batch, classified
from yais.client.connection import Connection
from yais.client.endpoint import Endpoint, connect
from yais.client.image import ImageInput, Scaling, preprocess, read_image
from yais.client.image_model import ImageModel, image_model
from yais.client.in_order import GRACE
from yais.errors import YaisError
from yais.tools.connection_options import connection_options
from yais.tools.exit_status import INTERRUPTED
from yais.tools.failure import reported
from yais.tools.image_client_text import Group, batch_json, batch_text
from yais.tools.option_groups import with_options
from yais.tools.target_options import Target, target_options

__all__ = ["image_client"]

# Requests in flight with --async and --streaming: enough to fill a server's batches, while only as many
# batches of images are in memory.
_AT_ONCE = 64


Array = npt.NDArray[Any]

_OPTIONS = (
    click.argument("image", required=False, metavar="IMAGE"),
    click.option(
        "--classes",
        "-c",
        type=click.IntRange(min=1),
        default=1,
        show_default=True,
        help="Best classes to print of each image.",
    ),
    click.option(
        "--batch-size",
        "-b",
        "batch",
        envvar="YAIS_IMAGE_CLIENT_BATCH_SIZE",
        type=click.IntRange(min=1),
        default=1,
        show_default=True,
        help="Images in a request. The last one is filled up from the first image on.",
    ),
    click.option(
        "--scaling",
        "-s",
        type=click.Choice([scaling.value for scaling in Scaling], case_sensitive=False),
        default="NONE",
        show_default=True,
        metavar="[NONE|INCEPTION|VGG]",
        help="What becomes of pixels: NONE leaves 0 to 255, INCEPTION makes them -1 to 1, VGG takes the mean "
        "colour of ImageNet away.",
    ),
    click.option(
        "--async",
        "-a",
        "at_once",
        envvar="YAIS_IMAGE_CLIENT_ASYNC",
        is_flag=True,
        help="Send without waiting for the answers before.",
    ),
    click.option("--streaming", is_flag=True, help="The same on a stream, which only gRPC has."),
    click.option(
        "--json", "as_json", envvar="YAIS_IMAGE_CLIENT_JSON", is_flag=True, help="Print the result as JSON."
    ),
)


def _image_last(command: Callable[..., Any]) -> Callable[..., Any]:
    # Whichever of the arguments before it are given by flags, the last one is IMAGE.
    @wraps(command)
    def given(*, address: str | None, model: str | None, image: str | None, **others: Any) -> Any:
        words = [word for word in (address, model, image) if word is not None]
        if not words:
            raise click.UsageError("got no IMAGE, expected a file or a folder")
        first, second, *_ = (*words[:-1], None, None)
        return command(address=first, model=second, image=Path(words[-1]), **others)

    return given


@click.command()
@_image_last
@target_options
@connection_options
@with_options(_OPTIONS)
def image_client(
    target: Target,
    connection: Callable[[str], Connection],
    image: Path,
    classes: int,
    batch: int,
    scaling: str,
    at_once: bool,
    streaming: bool,
    as_json: bool,
) -> None:
    """Classify IMAGE, a file or each file of a folder, with MODEL at ADDRESS (host:port).

    Any server of the KServe v2 protocol will do. The model takes one image and scores classes; its
    configuration says with `format` where an image's channels are. Needs Pillow: pip install 'yais[image]'.
    """
    if streaming and target.protocol != "grpc":
        raise click.UsageError("got --streaming over HTTP, expected gRPC: HTTP has no streams")
    files = _files(image)
    way = _Way(scaling=Scaling(scaling), classes=classes, at_once=at_once, streaming=streaming)
    found: list[dict[str, Any]] = []
    interrupted = False
    try:
        with reported(target.address), connect(connection(target.address), target.protocol) as endpoint:
            model = image_model(endpoint, target.model, target.version)
            check_batch(model, batch)  # first, since so many files are listed
            groups = _groups(files, batch)
            for answer in way.answers(endpoint, model, groups):
                group = groups[answer.number - 1]
                if as_json:
                    found.append(batch_json(group, answer))
                else:
                    click.echo(batch_text(group, answer))
    except KeyboardInterrupt:
        interrupted = True
    except click.ClickException:
        if found:  # what was answered before it
            _print_json(target, found)
        raise
    if as_json:
        _print_json(target, found)
    if interrupted:
        raise click.exceptions.Exit(INTERRUPTED)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Way:
    """How images are sent, as the options say it."""

    scaling: Scaling
    classes: int
    at_once: bool
    streaming: bool

    def answers(
        self, endpoint: Endpoint, model: ImageModel, groups: Sequence[Group]
    ) -> Iterator[ClassifiedBatch]:
        return classified(
            endpoint.stream_transport() if self.streaming else endpoint.transport(),
            model,
            _batches(groups, model.input, self.scaling),
            classes=self.classes,
            in_flight=_AT_ONCE if self.at_once or self.streaming else 1,
            timeout=endpoint.connection.timeout + GRACE,
        )


def _print_json(target: Target, found: Sequence[dict[str, Any]]) -> None:
    click.echo(json.dumps({"address": target.address, "model": target.model, "requests": found}))


def _files(image: Path) -> list[Path]:
    if image.is_file():
        return [image]
    if not image.is_dir():
        raise click.UsageError(f"got {image}, expected a file or a folder")
    files = sorted(path for path in image.iterdir() if path.is_file() and path.name[0] != ".")
    if not files:
        raise click.UsageError(f"got {image}, a folder without files, expected images in it")
    return files


def _groups(files: Sequence[Path], batch: int) -> list[Group]:
    # All files, and enough of them again to fill the last request.
    again = cycle(files)
    return [tuple(islice(again, batch)) for _ in range(-(-len(files) // batch))]


def _batches(groups: Iterable[Group], wanted: ImageInput, scaling: Scaling) -> Iterator[list[Array]]:
    for group in groups:
        try:
            yield [preprocess(read_image(path), wanted, scaling) for path in group]
        except YaisError as error:
            raise click.ClickException(str(error)) from None  # of a file, not of the server
