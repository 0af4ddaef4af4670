"""The options of `yais serve`, and what they say to the server."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from yais.repository.config import DEFAULT_MAX_BATCH_SIZE
from yais.repository.loader import ConfigDefaults
from yais.repository.repository import ControlMode
from yais.serving.server import ServerOptions
from yais.tools.serve_values import Seconds, cache_size, default_max_batch, override, overrides_of, resource

__all__ = ["server_options", "with_server_options"]

F = TypeVar("F", bound=Callable[..., Any])

_DIRECTORY = click.Path(exists=True, file_okay=False, path_type=Path)
_PORT = click.IntRange(0, 65535)
_SECONDS = Seconds()

_OPTIONS = (
    click.option(
        "--model-repository",
        "--model-store",
        "repositories",
        envvar="YAIS_SERVE_MODEL_REPOSITORY",
        type=_DIRECTORY,
        multiple=True,
        required=True,
        help="Directory of models; may be given more than once.",
    ),
    click.option(
        "--model-control-mode",
        type=click.Choice([mode.value for mode in ControlMode]),
        default=ControlMode.NONE.value,
        show_default=True,
        help="Load all models at the start, or as their directories change, or as clients ask.",
    ),
    click.option(
        "--repository-poll-secs",
        type=Seconds(zero=False),
        default=15.0,
        show_default=True,
        help="Seconds between looks at the directories, in mode poll.",
    ),
    click.option(
        "--load-model",
        multiple=True,
        help="Model to load at the start, in mode explicit; may be given more than once; '*' for all.",
    ),
    click.option(
        "--model-load-thread-count",
        type=click.IntRange(min=1),
        default=4,
        show_default=True,
        help="Models that are loaded at once.",
    ),
    click.option(
        "--set",
        "overrides",
        envvar="YAIS_SERVE_SET",
        type=override,
        metavar="MODEL.FIELD=VALUE",
        multiple=True,
        help="Set a field of a model's configuration, whatever its file says; may be given more than once.",
    ),
    click.option(
        "--disable-auto-complete-config",
        is_flag=True,
        help="Take nothing from the model itself that its configuration lacks.",
    ),
    click.option(
        "--backend-config",
        type=default_max_batch,
        metavar="onnxruntime,default-max-batch-size=N",
        help="Largest batch of models that can batch and do not say.",
    ),
    click.option(
        "--cache-config",
        type=cache_size,
        metavar="local,size=BYTES",
        help="Have a response cache.",
    ),
    click.option(
        "--rate-limit",
        type=click.Choice(["execution_count", "off"]),
        default="off",
        show_default=True,
        help="Whether models wait for the resources that their instance groups name.",
    ),
    click.option(
        "--rate-limit-resource",
        type=resource,
        metavar="NAME:COUNT[:DEVICE]",
        multiple=True,
        help="How many there are of a resource; may be given more than once.",
    ),
    click.option("--grpc-address", default="0.0.0.0", show_default=True, help="Where to listen for gRPC."),
    click.option(
        "--grpc-port", type=_PORT, default=8001, show_default=True, help="Port for gRPC; 0 takes a free one."
    ),
    click.option(
        "--allow-metrics", type=bool, default=True, show_default=True, help="Whether to serve metrics."
    ),
    click.option("--metrics-address", default="0.0.0.0", show_default=True, help="Where to offer metrics."),
    click.option(
        "--metrics-port",
        type=_PORT,
        default=8002,
        show_default=True,
        help="Port for metrics; 0 takes a free one.",
    ),
    click.option(
        "--id",
        "name",
        envvar="YAIS_SERVE_ID",
        default="triton",
        show_default=True,
        help="Name clients are told.",
    ),
    click.option(
        "--strict-readiness",
        type=bool,
        default=True,
        show_default=True,
        help="Report ready only if every model is.",
    ),
    click.option(
        "--exit-timeout-secs",
        type=_SECONDS,
        default=30.0,
        show_default=True,
        help="Seconds that requests in flight may take when the server stops.",
    ),
    click.option(
        "--drain-delay-secs",
        type=_SECONDS,
        default=0.0,
        show_default=True,
        help="Seconds between reporting not ready and refusing requests.",
    ),
)


def with_server_options(command: F) -> F:
    """Give a command the options; it gets them as arguments for `server_options`."""
    for option in reversed(_OPTIONS):
        command = option(command)
    return command


def server_options(given: dict[str, Any]) -> ServerOptions:
    """Return what the options say.

    Raises
    ------
    click.UsageError
        They contradict each other.
    """
    control = ControlMode(given["model_control_mode"])
    if given["load_model"] and control is not ControlMode.EXPLICIT:
        raise click.UsageError("--load-model wants --model-control-mode=explicit")
    limits = dict(given["rate_limit_resource"])
    if limits and given["rate_limit"] == "off":
        raise click.UsageError("--rate-limit-resource wants --rate-limit=execution_count")
    max_batch = given["backend_config"]
    return ServerOptions(
        repositories=given["repositories"],
        grpc_address=given["grpc_address"],
        grpc_port=given["grpc_port"],
        metrics_address=given["metrics_address"],
        metrics_port=given["metrics_port"] if given["allow_metrics"] else None,
        name=given["name"],
        strict_readiness=given["strict_readiness"],
        grace=given["exit_timeout_secs"],
        drain_delay=given["drain_delay_secs"],
        control=control,
        poll_seconds=given["repository_poll_secs"],
        load=given["load_model"],
        load_threads=given["model_load_thread_count"],
        defaults=ConfigDefaults(
            overrides_of(given["overrides"]),
            auto_complete=not given["disable_auto_complete_config"],
            max_batch=DEFAULT_MAX_BATCH_SIZE if max_batch is None else max_batch,
        ),
        cache_size=given["cache_config"] or 0,
        rate_limit=None if given["rate_limit"] == "off" else limits,
    )
