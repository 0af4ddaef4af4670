"""`yais models`: what a server has, and what it shall have."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
from google.protobuf import text_format

from yais.protocol import kserve_pb2 as pb
from yais.serving.http.proto_json import to_json
from yais.tools.models_text import index_text, metadata_text, server_text, statistics_text
from yais.tools.server_options import Server, server_options

__all__ = ["models"]

_json = click.option("--json", "as_json", envvar="YAIS_MODELS_JSON", is_flag=True, help="Print JSON.")
_version = click.option("--model-version", "-x", metavar="VERSION", default="", help="By default the latest.")


class _Models(click.Group):
    """`list` is what is done when nothing else is said."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        first = args[0] if args else "--"
        if first not in ctx.help_option_names and (first.startswith("-") or ":" in first):
            args = ["list", *args]
        return super().parse_args(ctx, args)


@click.group(cls=_Models)
def models() -> None:
    """List, describe, load and unload the models of a server.

    Without a command they are listed. ADDRESS is what has a colon in it; by default localhost:8001, for HTTP
    localhost:8000.
    """


@models.command("list")
@click.option("--ready", is_flag=True, help="Only those that take requests.")
@_json
@server_options("[ADDRESS]", most=0)
def list_models(server: Server, words: tuple[str, ...], ready: bool, as_json: bool) -> None:  # noqa: ARG001
    """List the models of the repository, loaded or not."""
    with server.endpoint() as endpoint:
        index = endpoint.call("RepositoryIndex", pb.RepositoryIndexRequest(ready=ready))
    click.echo(json.dumps(to_json(index)) if as_json else index_text(index))


@models.command()
@_version
@_json
@server_options("[ADDRESS] [MODEL]", most=1)
def metadata(server: Server, words: tuple[str, ...], model_version: str, as_json: bool) -> None:
    """Print what MODEL takes and gives.

    Without MODEL, what the server says of itself.
    """
    text: Callable[[Any], str] = metadata_text if words else server_text
    with server.endpoint() as endpoint:
        if words:
            request = pb.ModelMetadataRequest(name=words[0], version=model_version)
            said = endpoint.call("ModelMetadata", request)
        else:
            said = endpoint.call("ServerMetadata", pb.ServerMetadataRequest())
    click.echo(json.dumps(to_json(said)) if as_json else text(said))


@models.command()
@_version
@_json
@server_options("[ADDRESS] MODEL", most=1)
def config(server: Server, words: tuple[str, ...], model_version: str, as_json: bool) -> None:
    """Print the configuration of MODEL, as a config.pbtxt has it."""
    with server.endpoint() as endpoint:
        request = pb.ModelConfigRequest(name=_model(words), version=model_version)
        said = endpoint.call("ModelConfig", request).config
    click.echo(json.dumps(to_json(said)) if as_json else text_format.MessageToString(said), nl=as_json)


@models.command()
@_version
@_json
@server_options("[ADDRESS] [MODEL]", most=1)
def statistics(server: Server, words: tuple[str, ...], model_version: str, as_json: bool) -> None:
    """Print what MODEL, or each, has done so far."""
    with server.endpoint() as endpoint:
        request = pb.ModelStatisticsRequest(name="".join(words), version=model_version)
        said = endpoint.call("ModelStatistics", request)
    click.echo(json.dumps(to_json(said)) if as_json else statistics_text(said))


@models.command()
@_version
@_json
@server_options("[ADDRESS] [MODEL]", most=1)
def ready(server: Server, words: tuple[str, ...], model_version: str, as_json: bool) -> None:
    """Say whether MODEL takes requests.

    Without MODEL, whether the server does. If not, the exit status is 1.
    """
    with server.endpoint() as endpoint:
        if words:
            said = endpoint.call("ModelReady", pb.ModelReadyRequest(name=words[0], version=model_version))
        else:
            said = endpoint.call("ServerReady", pb.ServerReadyRequest())
    click.echo(json.dumps({"ready": said.ready}) if as_json else "ready" if said.ready else "not ready")
    if not said.ready:
        raise click.exceptions.Exit(1)


@models.command()
@click.option(
    "--config", metavar="JSON|FILE", help="Configuration to use instead of that of the repository, in JSON."
)
@click.option(
    "--file",
    "files",
    envvar="YAIS_MODELS_LOAD_FILE",
    multiple=True,
    metavar="PATH=FILE",
    help="File to send as one of the model's directory, such as 1/model.onnx=new.onnx; wants --config.",
)
@_json
@server_options("[ADDRESS] MODEL", most=1)
def load(
    server: Server, words: tuple[str, ...], config: str | None, files: tuple[str, ...], as_json: bool
) -> None:
    """Load MODEL, or load it again if it has changed.

    Ends when it is loaded, which may want a longer --timeout. The server must be one whose models are
    controlled by clients (--model-control-mode explicit).
    """
    request = pb.RepositoryModelLoadRequest(model_name=_model(words))
    if config is not None:
        text = config if config.lstrip().startswith("{") else _contents(config).decode("utf-8", "replace")
        request.parameters["config"].string_param = text
    for file in files:
        path, equals, local = file.partition("=")
        if not equals:
            raise click.UsageError(f"got --file {file}, expected PATH=FILE, such as 1/model.onnx=new.onnx")
        request.parameters[f"file:{path}"].bytes_param = _contents(local)
    with server.endpoint() as endpoint:
        endpoint.call("RepositoryModelLoad", request)
    click.echo(json.dumps({"loaded": words[0]}) if as_json else f"loaded {words[0]}")


@models.command()
@click.option(
    "--unload-dependents", is_flag=True, help="Unload the models that it, an ensemble, consists of."
)
@_json
@server_options("[ADDRESS] MODEL", most=1)
def unload(server: Server, words: tuple[str, ...], unload_dependents: bool, as_json: bool) -> None:
    """Unload MODEL; requests under way come to their end.

    The server must be one whose models are controlled by clients (--model-control-mode explicit).
    """
    request = pb.RepositoryModelUnloadRequest(model_name=_model(words))
    if unload_dependents:
        request.parameters["unload_dependents"].bool_param = True
    with server.endpoint() as endpoint:
        endpoint.call("RepositoryModelUnload", request)
    click.echo(json.dumps({"unloaded": words[0]}) if as_json else f"unloaded {words[0]}")


def _model(words: tuple[str, ...]) -> str:
    if not words:
        raise click.UsageError("got no MODEL, expected one")
    return words[0]


def _contents(path: str) -> bytes:
    try:
        return Path(path).read_bytes()
    except OSError as error:
        raise click.ClickException(f"{path}: {error.strerror}") from None
