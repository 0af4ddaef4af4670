"""`yais client-async`: how fast a model answers many requests at once."""

from __future__ import annotations

from collections.abc import Callable

import click

from yais.client.connection import Connection
from yais.tools.client_run import run_client
from yais.tools.connection_options import connection_options
from yais.tools.request_options import RequestOptions, request_options

__all__ = ["client_async"]


@click.command()
@click.argument("address")
@click.argument("model")
@click.option(
    "--count", type=click.IntRange(min=1), default=10_000, show_default=True, help="Requests to send."
)
@click.option(
    "--max-in-flight",
    type=click.IntRange(min=1),
    default=950,
    show_default=True,
    help="Requests on their way at a time. Of more than 1000 Envoy, as it comes, refuses some with "
    "UNAVAILABLE; 950 leaves room for others.",
)
@request_options
@connection_options
@click.option(
    "--json", "as_json", envvar="YAIS_CLIENT_ASYNC_JSON", is_flag=True, help="Print the result as JSON."
)
def client_async(
    address: str,
    model: str,
    count: int,
    max_in_flight: int,
    requests: RequestOptions,
    connection: Callable[[str], Connection],
    as_json: bool,
) -> None:
    """Send input to MODEL at ADDRESS (host:port), many requests at a time, and measure.

    Any server of the KServe v2 protocol will do. The exit status is 1 if a request failed.
    """
    run_client(address, model, connection, requests, max_in_flight, count, as_json=as_json)
