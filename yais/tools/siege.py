"""`yais siege`: requests at a rate, whether the server keeps up or not."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime

import click

import yais
from yais.client.connection import Connection
from yais.client.grpc_endpoint import GrpcEndpoint
from yais.errors import InvalidArgument
from yais.load.objective import Objective
from yais.load.rate_finding import find_rate
from yais.load.rate_search import RateSearch
from yais.load.schedule import HIGHEST_RATE
from yais.tools.arrival_options import Arrivals, arrival_options
from yais.tools.connection_options import connection_options
from yais.tools.exit_status import end
from yais.tools.failure import reported
from yais.tools.recording_files import RecordingFiles, recording_files
from yais.tools.request_options import RequestOptions, request_options
from yais.tools.siege_payload import siege_payload
from yais.tools.siege_report import SiegeResult, siege_report, siege_text
from yais.tools.siege_run import SiegeRun

__all__ = ["siege"]

_TOLERANCE = 0.01  # runs of some seconds on a real machine do not tell rates apart that are closer


def _objective(text: str) -> Objective:
    try:
        return Objective.parse(text)
    except InvalidArgument as error:
        raise click.BadParameter(str(error)) from None


@click.command()
@click.argument("address")
@click.argument("model")
@arrival_options
@click.option(
    "--max-outstanding",
    type=click.IntRange(min=1),
    default=950,
    show_default=True,
    help="Requests on their way at a time; what comes due beyond waits, and that counts as latency. Of more "
    "than 1000 Envoy, as it comes, refuses some.",
)
@click.option(
    "--slo",
    type=_objective,
    metavar="p99<10ms",
    help="Objective for the latencies: a percentile, avg or max. Decides the exit status.",
)
@request_options
@recording_files
@connection_options
@click.option("--json", "as_json", envvar="YAIS_SIEGE_JSON", is_flag=True, help="Print the result as JSON.")
def siege(
    address: str,
    model: str,
    arrivals: Arrivals,
    max_outstanding: int,
    slo: Objective | None,
    requests: RequestOptions,
    files: RecordingFiles,
    connection: Callable[[str], Connection],
    as_json: bool,
) -> None:
    """Send requests to MODEL at ADDRESS (host:port) at a rate, and measure.

    The rate is kept whether the server answers or not, and latency is measured from the moment at which a
    request was due: a server that stalls is seen to make all of them wait.

    A MODEL that begins with a slash is a method, such as /echo.Echo/Say: it gets messages with --bytes of
    text in field 1.

    The exit status is 1 if a request failed or was not sent in time; with --slo, if that was not kept.
    """
    if arrivals.search and slo is None:
        raise click.UsageError("--find-max-qps wants --slo")
    schedule, found = arrivals.schedule(), None
    with reported(address), GrpcEndpoint(connection(address)) as endpoint:
        transport, payload = siege_payload(endpoint, model, requests)
        run = SiegeRun(
            transport,
            payload,
            duration=arrivals.duration,
            count=arrivals.count,
            max_outstanding=max_outstanding,
            warn=not arrivals.search,
        )
        if slo is not None and arrivals.search:
            search = RateSearch(arrivals.rate, _TOLERANCE, highest=HIGHEST_RATE)
            found = find_rate(search, slo, lambda rate: run(arrivals.at(rate).schedule()))
            arrivals, recording = arrivals.at(found.at), found.recording
            schedule = arrivals.schedule()
        else:
            recording = run(schedule)
        # Before anything ends: Ctrl-C again, or a full disk, must not lose what was measured.
        result = SiegeResult(address, model, arrivals, recording, slo, found)
        facts = _facts(result, len(payload[0]), max_outstanding)
        try:
            files.write(result.title, facts, recording, slo, schedule)
        finally:
            click.echo(json.dumps(siege_report(result)) if as_json else siege_text(result))
    end(recording, well=result.well)


def _facts(result: SiegeResult, nbytes: int, max_outstanding: int) -> dict[str, str]:
    return {
        "Server": result.address,
        "Model": result.model,
        "Arrivals": str(result.arrivals),
        "Request": f"{nbytes} bytes",
        "Outstanding": f"at most {max_outstanding}",
        "Date": f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC",
        "yais": yais.__version__,
    }
