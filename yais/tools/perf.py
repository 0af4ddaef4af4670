"""`yais perf`: throughput and latency of a model, measured and printed as perf_analyzer does it."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace

import click

from yais.client.connection import Connection
from yais.client.endpoint import connect
from yais.load.perf.calls import InputOptions
from yais.load.perf.results_json import results_json
from yais.load.perf.settings import PerfSettings
from yais.tools.connection_options import connection_options
from yais.tools.failure import reported
from yais.tools.option_groups import grouped
from yais.tools.perf_files import PerfFiles, perf_files
from yais.tools.perf_input_options import perf_input_options
from yais.tools.perf_refused_options import refused_options
from yais.tools.perf_run import PerfRun
from yais.tools.perf_settings_options import perf_settings_options
from yais.tools.perf_status import PerfCommand, PerfFailed
from yais.tools.target_options import Target, target_options

__all__ = ["perf"]

_output = grouped("Output")


@click.command(cls=PerfCommand)
@perf_settings_options
@perf_input_options
@_output("-v", "verbose", count=True, help="Print each window, and more of the client.")
@perf_files
@_output(
    "--json", "as_json", envvar="YAIS_PERF_JSON", is_flag=True, help="Print the results as JSON instead."
)
@target_options
@connection_options
@refused_options
def perf(
    target: Target,
    connection: Callable[[str], Connection],
    settings: PerfSettings,
    inputs: InputOptions,
    shared: bool,
    streams: int,
    sync: bool,
    verbose: int,
    files: PerfFiles,
    as_json: bool,
) -> None:
    """Measure MODEL at ADDRESS: throughput and latency at one or more levels of load.

    Each level is measured in windows of time until three in a row agree. Options and output are those of
    Triton's perf_analyzer and perf_client; -m and -u name the model and the server, too.

    The exit status is 0 if all went well, 2 if no measurement was stable, 99 after any other error, and 130
    after Ctrl-C, which prints what was measured so far.
    """
    if streams and target.protocol != "grpc":
        raise click.UsageError("Streaming is only allowed with gRPC protocol and Triton C API.")
    if streams and sync:
        raise PerfFailed("can not use streaming with synchronous API")
    settings = replace(settings, batch=inputs.batch, protocol=target.protocol)
    with reported(target.address), connect(connection(target.address), target.protocol) as endpoint:
        run = PerfRun(endpoint, target, settings, files, verbose=bool(verbose), quiet=as_json)
        status = run.run(inputs, shared=shared, streams=streams)
    if as_json:
        facts = {"address": target.address, "model": target.model, "protocol": target.protocol}
        levels = results_json(run.settings, run.results)
        click.echo(json.dumps({**facts, "batch": inputs.batch, "status": status, "levels": levels}))
    if status:
        raise click.exceptions.Exit(status)
