"""`yais serve`: the inference server."""

from __future__ import annotations

import gc
import logging
import signal
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import click

from yais.errors import YaisError
from yais.repository.heap import keep_memory
from yais.repository.repository import ControlMode
from yais.serving.frontends.supervisor import Supervisor
from yais.serving.model_report import ModelReport
from yais.serving.server import InferenceServer, ServerOptions
from yais.tools.option_groups import GroupedCommand
from yais.tools.serve_options import server_options, with_server_options

__all__ = ["serve"]

Server = InferenceServer | Supervisor

_NOTHING = {
    ControlMode.NONE: "The repository has no models.",
    ControlMode.POLL: "The repository has no models yet.",
    ControlMode.EXPLICIT: "No model is loaded yet.",
}


@click.command(cls=GroupedCommand)
@with_server_options
def serve(*, exit_on_error: bool, **given: Any) -> None:
    """Serve the models of a repository over the KServe v2 protocol.

    Triton's clients (tritonclient, perf_analyzer) work against it. SIGTERM and SIGINT drain: no new
    requests, those in flight end, then the server exits; a second signal does not wait.

    With --frontends N other processes listen and decode, and one has the models.

    Options are written as --option=VALUE or --option VALUE, booleans as true or false, 1 or 0. Each can be
    given in the environment, too, as YAIS_SERVE_OPTION: YAIS_SERVE_GRPC_PORT=9001.
    """
    options, warnings = server_options(given)
    for warning in warnings:
        click.echo(f"Warning: {warning}", err=True)
    with _logging_to(options.logging.handler):
        _serve(options, exit_on_error=exit_on_error)


def _serve(options: ServerOptions, *, exit_on_error: bool) -> None:
    try:
        server: Server = Supervisor(options) if options.frontends else InferenceServer(options)
    except (ImportError, OSError, ValueError, YaisError) as error:
        raise click.ClickException(str(error)) from None
    keep_memory()
    # Until `run` takes the signals the end is to be clean, too.
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda _number, _frame: sys.exit())
    try:
        try:
            server.start()
            click.echo(_table(server.reports) or _NOTHING[options.control])
            if exit_on_error:
                _check_ready(server.reports)
            # What is there by now stays: the garbage collector need not look at it again.
            gc.collect()
            gc.freeze()
            server.run(started=lambda: click.echo("\n".join(_services(server))))
        finally:
            server.stop()
    except (OSError, YaisError) as error:
        raise click.ClickException(str(error)) from None
    except SystemExit:  # a signal before it served
        pass
    click.echo("Stopped")


def _services(server: Server) -> list[str]:
    """Return what listens and where, as Triton says it."""
    options = server.options
    lines = [f"Started GRPCInferenceService at {server.address}"]
    if options.http is not None:
        lines.append(f"Started HTTPService at {options.http.address}:{server.http_port}")
    if server.metrics_port is not None:
        lines.append(f"Started Metrics Service at {options.metrics_address}:{server.metrics_port}")
    if isinstance(server, Supervisor):
        lines.append(f"Engine process: pid {server.engine_pid}")
        lines += [f"Frontend {number}: pid {pid}" for number, pid in enumerate(server.frontend_pids)]
    return lines


def _check_ready(reports: Sequence[ModelReport]) -> None:
    failed = [f"'{report.name}': {_line(report.reason)}" for report in reports if not report.as_wanted]
    if failed:
        raise click.ClickException(f"--exit-on-error, and models cannot be loaded: {'; '.join(failed)}")


@contextmanager
def _logging_to(handler: logging.Handler | None) -> Iterator[None]:
    """Log while the block lasts; what and how is up to the server's `LogSettings`."""
    assert handler is not None
    root = logging.getLogger()
    root.addHandler(handler)
    try:
        yield
    finally:
        root.removeHandler(handler)
        handler.close()


def _table(reports: Sequence[ModelReport]) -> str:
    """Return the versions of models, a line each, as Triton shows them at start; empty for none."""
    rows = [("Model", "Version", "Status"), *map(_row, reports)]
    widths = [max(len(row[column]) for row in rows) for column in range(2)]
    lines = [f"{model:<{widths[0]}}  {version:<{widths[1]}}  {status}" for model, version, status in rows]
    rule = "-" * max(len(line) for line in lines[:1])
    return "\n".join([lines[0], rule, *lines[1:]]) if len(rows) > 1 else ""


def _row(report: ModelReport) -> tuple[str, str, str]:
    signature = report.signature
    if signature is None:
        return report.name, report.version or "-", f"{report.state.value}: {_line(report.reason)}"
    inputs = ", ".join(map(str, signature.inputs))
    outputs = ", ".join(map(str, signature.outputs))
    batch = f"batch {signature.max_batch}" if signature.max_batch else "no batch"
    took = f"{report.seconds * 1e3:.0f} ms"
    return report.name, report.version, f"READY ({took}; {batch}; {inputs} -> {outputs})"


def _line(text: str) -> str:
    return " ".join(text.split())
