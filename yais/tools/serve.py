"""`yais serve`: the inference server."""

from __future__ import annotations

import gc
import logging
import signal
import sys
import threading
from collections.abc import Callable
from typing import Any

import click

from yais.errors import YaisError
from yais.repository.repository import ControlMode, ModelEntry, ModelRepository, ModelState
from yais.serving.server import InferenceServer
from yais.tools.serve_options import server_options, with_server_options

__all__ = ["serve"]

_NOTHING = {
    ControlMode.NONE: "The repository has no models.",
    ControlMode.POLL: "The repository has no models yet.",
    ControlMode.EXPLICIT: "No model is loaded yet.",
}


@click.command()
@with_server_options
@click.option(
    "--exit-on-error",
    type=bool,
    default=False,
    show_default=True,
    help="Exit with status 1 if a model cannot be loaded.",
)
@click.option("--log-verbose", default=0, show_default=True, help="1 for more, 2 for everything.")
def serve(*, exit_on_error: bool, log_verbose: int, **given: Any) -> None:
    """Serve the models of a repository over the KServe v2 protocol.

    Triton's clients (tritonclient, perf_analyzer) work against it. SIGTERM and SIGINT drain: no new
    requests, those in flight end, then the server exits; a second signal does not wait.
    """
    _configure_logging(log_verbose)
    server = InferenceServer(server_options(given))
    # `run` takes the signals only once everything is started; before that, too, the end is to be clean.
    _on_signal(sys.exit)
    try:
        server.start(_show_progress if sys.stderr.isatty() else None)
        try:
            _announce(server, exit_on_error=exit_on_error)
        except BaseException:
            server.stop()
            raise
        server.run()
    except (OSError, YaisError) as error:
        raise click.ClickException(str(error)) from None
    except SystemExit:  # a signal before it served
        pass
    click.echo("Stopped")


def _announce(server: InferenceServer, *, exit_on_error: bool) -> None:
    options = server.options
    click.echo(_table(server.repository) or _NOTHING[options.control])
    if exit_on_error:
        _check_ready(server.repository)
    # What is there by now stays: the garbage collector need not look at it again.
    gc.collect()
    gc.freeze()
    _on_signal(lambda: threading.Thread(target=server.stop).start())
    started = [f"Started GRPCInferenceService at {options.grpc_address}:{server.port}"]
    if server.metrics_port is not None:
        started.append(f"Started Metrics Service at {options.metrics_address}:{server.metrics_port}")
    click.echo("\n".join(started))


def _on_signal(action: Callable[[], None]) -> None:
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda _number, _frame: action())


def _check_ready(repository: ModelRepository) -> None:
    failed = [f"'{entry.name}': {_line(entry.reason)}" for entry in repository.entries if not entry.as_wanted]
    if failed:
        raise click.ClickException(f"--exit-on-error, and models cannot be loaded: {'; '.join(failed)}")


def _configure_logging(verbose: int) -> None:
    level = {0: logging.WARNING, 1: logging.INFO}.get(verbose, logging.DEBUG)
    logging.basicConfig(level=level, format="%(asctime)s %(levelname).1s %(name)s] %(message)s")


def _show_progress(entry: ModelEntry) -> None:
    if entry.state is ModelState.LOADING:
        click.echo(f"loading {entry.name} version {entry.version} ...", err=True)


def _table(repository: ModelRepository) -> str:
    """Return the versions of models, a line each, as Triton shows them at start; empty for none."""
    rows = [("Model", "Version", "Status"), *(_row(entry) for entry in repository.entries)]
    widths = [max(len(row[column]) for row in rows) for column in range(2)]
    lines = [f"{model:<{widths[0]}}  {version:<{widths[1]}}  {status}" for model, version, status in rows]
    rule = "-" * max(len(line) for line in lines[:1])
    return "\n".join([lines[0], rule, *lines[1:]]) if len(rows) > 1 else ""


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
