"""Options of `yais serve` that say which models are served, and how they are loaded."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click

from yais.repository.config import DEFAULT_MAX_BATCH_SIZE
from yais.repository.loader import ConfigDefaults
from yais.repository.repository import ControlMode
from yais.tools.option_groups import grouped
from yais.tools.seconds import Seconds
from yais.tools.serve_values import cache_size, default_max_batch, override, overrides_of, resource

__all__ = ["MODEL_OPTIONS", "model_options"]

_DIRECTORY = click.Path(exists=True, file_okay=False, path_type=Path)

_model = grouped("Models")
_gpus = grouped("GPUs")
_scheduling = grouped("Cache and rate limits")

MODEL_OPTIONS = (
    _model(
        "--model-repository",
        "--model-store",
        "repositories",
        envvar="YAIS_SERVE_MODEL_REPOSITORY",
        type=_DIRECTORY,
        multiple=True,
        required=True,
        help="Directory of models; may be given more than once.",
    ),
    _model(
        "--model-control-mode",
        type=click.Choice([mode.value for mode in ControlMode]),
        default=ControlMode.NONE.value,
        show_default=True,
        help="Load all models at the start, or as their directories change, or as clients ask.",
    ),
    _model(
        "--repository-poll-secs",
        type=Seconds(zero=False),
        default=15.0,
        show_default=True,
        help="Seconds between looks at the directories, in mode poll.",
    ),
    _model(
        "--load-model",
        multiple=True,
        help="Model to load at the start, in mode explicit; may be given more than once; '*' for all.",
    ),
    _model(
        "--model-load-thread-count",
        type=click.IntRange(min=1),
        default=4,
        show_default=True,
        help="Models that are loaded at once.",
    ),
    _model(
        "--exit-on-error",
        type=bool,
        default=False,
        show_default=True,
        help="Exit with status 1 if a model cannot be loaded.",
    ),
    _model(
        "--set",
        "overrides",
        envvar="YAIS_SERVE_SET",
        type=override,
        metavar="MODEL.FIELD=VALUE",
        multiple=True,
        help="Set a field of a model's configuration, whatever its file says; may be given more than once.",
    ),
    _model(
        "--disable-auto-complete-config",
        is_flag=True,
        help="Take nothing from the model itself that its configuration lacks.",
    ),
    _model(
        "--strict-model-config",
        type=bool,
        help="The older name: true is --disable-auto-complete-config.",
    ),
    _model(
        "--backend-config",
        type=default_max_batch,
        metavar="onnxruntime,default-max-batch-size=N",
        help="Largest batch of models that can batch and do not say.",
    ),
    _gpus(
        "--gpu-executions",
        type=click.IntRange(min=1),
        default=2,
        show_default=True,
        metavar="N",
        help="Batches at once on each GPU that has models.",
    ),
    _gpus(
        "--gpu-lanes",
        type=click.IntRange(min=1),
        metavar="N",
        help="Batches whose data is on its way to a GPU, in it or on its way back; by default twice those at "
        "once.",
    ),
    _scheduling(
        "--cache-config",
        type=cache_size,
        metavar="local,size=BYTES",
        help="Have a response cache.",
    ),
    _scheduling(
        "--rate-limit",
        type=click.Choice(["execution_count", "off"]),
        default="off",
        show_default=True,
        help="Whether models wait for the resources that their instance groups name.",
    ),
    _scheduling(
        "--rate-limit-resource",
        type=resource,
        metavar="NAME:COUNT[:DEVICE]",
        multiple=True,
        help="How many there are of a resource; may be given more than once.",
    ),
)
"""They come before all others, so that what is required is on top."""


def model_options(given: Mapping[str, Any]) -> dict[str, Any]:
    """Return the fields of `ServerOptions` that they are for.

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
    return {
        "repositories": given["repositories"],
        "control": control,
        "poll_seconds": given["repository_poll_secs"],
        "load": given["load_model"],
        "load_threads": given["model_load_thread_count"],
        "defaults": ConfigDefaults(
            overrides_of(given["overrides"]),
            auto_complete=_auto_complete(given),
            max_batch=DEFAULT_MAX_BATCH_SIZE if max_batch is None else max_batch,
        ),
        "gpu_executions": given["gpu_executions"],
        "gpu_lanes": given["gpu_lanes"],
        "cache_size": given["cache_config"] or 0,
        "rate_limit": None if given["rate_limit"] == "off" else limits,
    }


def _auto_complete(given: Mapping[str, Any]) -> bool:
    if given["disable_auto_complete_config"] and given["strict_model_config"] is False:
        raise click.UsageError("--disable-auto-complete-config contradicts --strict-model-config=false")
    return not (given["disable_auto_complete_config"] or given["strict_model_config"])
