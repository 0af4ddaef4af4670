"""`yais client-sync`: how fast a model answers one caller."""

from __future__ import annotations

from collections.abc import Callable

import click

from yais.client.connection import Connection
from yais.tools.client_run import run_client
from yais.tools.connection_options import connection_options
from yais.tools.request_options import RequestOptions, request_options

__all__ = ["client_sync"]


@click.command()
@click.argument("address")
@click.argument("model")
@click.option(
    "--count", type=click.IntRange(min=1), default=1000, show_default=True, help="Requests to send."
)
@request_options
@connection_options
@click.option(
    "--json", "as_json", envvar="YAIS_CLIENT_SYNC_JSON", is_flag=True, help="Print the result as JSON."
)
def client_sync(
    address: str,
    model: str,
    count: int,
    requests: RequestOptions,
    connection: Callable[[str], Connection],
    as_json: bool,
) -> None:
    """Send input to MODEL at ADDRESS (host:port), one request at a time, and measure.

    Any server of the KServe v2 protocol will do. The exit status is 1 if a request failed.
    """
    run_client(address, model, connection, requests, 1, count, as_json=as_json)
