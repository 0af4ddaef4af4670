"""`yais serve`: the inference server."""

from __future__ import annotations

import gc
import logging
import signal
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import click

from yais.errors import YaisError
from yais.repository.repository import ModelEntry, ModelRepository, ModelState
from yais.serving.server import InferenceServer, ServerOptions

__all__ = ["serve"]

_DIRECTORY = click.Path(exists=True, file_okay=False, path_type=Path)
_PORT = click.IntRange(0, 65535)
_SECONDS = click.FloatRange(min=0)


@click.command()
@click.option(
    "--model-repository",
    "--model-store",
    "repositories",
    envvar="YAIS_SERVE_MODEL_REPOSITORY",
    type=_DIRECTORY,
    multiple=True,
    required=True,
    help="Directory of models; may be given more than once.",
)
@click.option("--grpc-address", default="0.0.0.0", show_default=True, help="Where to listen for gRPC.")
@click.option(
    "--grpc-port", type=_PORT, default=8001, show_default=True, help="Port for gRPC; 0 takes a free one."
)
@click.option("--allow-metrics", type=bool, default=True, show_default=True, help="Whether to serve metrics.")
@click.option("--metrics-address", default="0.0.0.0", show_default=True, help="Where to offer metrics.")
@click.option(
    "--metrics-port",
    type=_PORT,
    default=8002,
    show_default=True,
    help="Port for metrics; 0 takes a free one.",
)
@click.option(
    "--id",
    "name",
    envvar="YAIS_SERVE_ID",
    default="triton",
    show_default=True,
    help="Name clients are told.",
)
@click.option(
    "--strict-readiness",
    type=bool,
    default=True,
    show_default=True,
    help="Report ready only if every model is.",
)
@click.option(
    "--exit-on-error",
    type=bool,
    default=False,
    show_default=True,
    help="Exit with status 1 if a model cannot be loaded.",
)
@click.option(
    "--exit-timeout-secs",
    type=_SECONDS,
    default=30.0,
    show_default=True,
    help="Seconds that requests in flight may take when the server stops.",
)
@click.option(
    "--drain-delay-secs",
    type=_SECONDS,
    default=0.0,
    show_default=True,
    help="Seconds between reporting not ready and refusing requests.",
)
@click.option("--log-verbose", default=0, show_default=True, help="1 for more, 2 for everything.")
def serve(
    repositories: tuple[Path, ...],
    grpc_address: str,
    grpc_port: int,
    allow_metrics: bool,
    metrics_address: str,
    metrics_port: int,
    name: str,
    strict_readiness: bool,
    exit_on_error: bool,
    exit_timeout_secs: float,
    drain_delay_secs: float,
    log_verbose: int,
) -> None:
    """Serve the models of a repository over the KServe v2 protocol.

    Triton's clients (tritonclient, perf_analyzer) work against it. SIGTERM and SIGINT drain: no new
    requests, those in flight end, then the server exits; a second signal does not wait.
    """
    _configure_logging(log_verbose)
    server = InferenceServer(
        ServerOptions(
            repositories=repositories,
            grpc_address=grpc_address,
            grpc_port=grpc_port,
            metrics_address=metrics_address,
            metrics_port=metrics_port if allow_metrics else None,
            name=name,
            strict_readiness=strict_readiness,
            grace=exit_timeout_secs,
            drain_delay=drain_delay_secs,
        )
    )
    # `run` takes the signals only once everything is started; before that, too, the end is to be clean.
    _on_signal(sys.exit)
    try:
        server.start(_show_progress if sys.stderr.isatty() else None)
        click.echo(_table(server.repository))
        if exit_on_error:
            _check_ready(server.repository)
        # What is there by now stays: the garbage collector need not look at it again.
        gc.collect()
        gc.freeze()
        _on_signal(lambda: threading.Thread(target=server.stop).start())
        started = [f"Started GRPCInferenceService at {grpc_address}:{server.port}"]
        if server.metrics_port is not None:
            started.append(f"Started Metrics Service at {metrics_address}:{server.metrics_port}")
        click.echo("\n".join(started))
        server.run()
    except (OSError, YaisError) as error:
        raise click.ClickException(str(error)) from None
    except SystemExit:  # a signal while models were loaded
        pass
    finally:
        server.stop()
    click.echo("Stopped")


def _on_signal(action: Callable[[], None]) -> None:
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda _number, _frame: action())


def _check_ready(repository: ModelRepository) -> None:
    failed = [
        f"'{entry.name}': {_line(entry.reason)}" for entry in repository.entries if entry.loaded is None
    ]
    if failed:
        raise click.ClickException(f"--exit-on-error, and models cannot be loaded: {'; '.join(failed)}")


def _configure_logging(verbose: int) -> None:
    level = {0: logging.WARNING, 1: logging.INFO}.get(verbose, logging.DEBUG)
    logging.basicConfig(level=level, format="%(asctime)s %(levelname).1s %(name)s] %(message)s")


def _show_progress(entry: ModelEntry) -> None:
    if entry.state is ModelState.LOADING:
        click.echo(f"loading {entry.name} version {entry.version} ...", err=True)


def _table(repository: ModelRepository) -> str:
    """Return the models, a line each, as Triton shows them at start."""
    rows = [("Model", "Version", "Status"), *(_row(entry) for entry in repository.entries)]
    widths = [max(len(row[column]) for row in rows) for column in range(2)]
    lines = [f"{model:<{widths[0]}}  {version:<{widths[1]}}  {status}" for model, version, status in rows]
    rule = "-" * max(len(line) for line in lines[:1])
    return "\n".join([lines[0], rule, *lines[1:]]) if len(rows) > 1 else "The repository has no models."


def _row(entry: ModelEntry) -> tuple[str, str, str]:
    if entry.loaded is None:
        return entry.name, entry.version or "-", f"{entry.state.value}: {_line(entry.reason)}"
    signature = entry.loaded.model.signature
    inputs = ", ".join(map(str, signature.inputs))
    outputs = ", ".join(map(str, signature.outputs))
    batch = f"batch {signature.max_batch}" if signature.max_batch else "no batch"
    took = f"{entry.seconds * 1e3:.0f} ms"
    return entry.name, entry.version, f"READY ({took}; {batch}; {inputs} -> {outputs})"


def _line(text: str) -> str:
    return " ".join(text.split())
