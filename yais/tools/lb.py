"""`yais lb`: load balancers in front of servers."""

from __future__ import annotations

import click

from yais.errors import InvalidArgument
from yais.lb.balancer import MAX_REQUESTS, Balancer
from yais.lb.envoy import envoy_config
from yais.lb.haproxy import haproxy_config
from yais.lb.pool import GENERAL, Pool
from yais.lb.route import MODEL_HEADER, Route
from yais.lb.server_address import ServerAddress

__all__ = ["lb"]


@click.group()
def lb() -> None:
    """Configure load balancers in front of servers."""


@lb.command()
@click.argument("servers", metavar="SERVER...", nargs=-1, required=True)
@click.option("--haproxy", is_flag=True, help="Write HAProxy's, instead of Envoy's.")
@click.option("--address", default="0.0.0.0", show_default=True, help="Where the balancer listens for gRPC.")
@click.option("--port", default=50050, show_default=True, type=click.IntRange(0, 65535), help="Its port.")
@click.option("--admin-address", default="127.0.0.1", show_default=True, help="Where it tells about itself.")
@click.option(
    "--admin-port", default=9901, show_default=True, type=click.IntRange(0, 65535), help="Its port."
)
@click.option(
    "--pool",
    metavar="NAME=SERVER,SERVER",
    multiple=True,
    help="Further servers, for what routes name; may be given more than once.",
)
@click.option(
    "--route-model",
    metavar="MODEL=POOL",
    multiple=True,
    help="Send requests whose header names this model to a pool; may be given more than once.",
)
@click.option(
    "--route-method",
    metavar="METHOD=POOL",
    multiple=True,
    help="Send calls of this method to a pool, as ModelStreamInfer or package.Service/Method; may be given "
    "more than once.",
)
@click.option(
    "--model-header", default=MODEL_HEADER, show_default=True, help="Header in which clients name the model."
)
@click.option(
    "--max-requests",
    default=MAX_REQUESTS,
    show_default=True,
    type=click.IntRange(min=1),
    help="Requests in flight for each SERVER at most.",
)
@click.option("--connect-timeout", default=0.25, show_default=True, help="Seconds to connect to a server.")
@click.option(
    "--health-interval", default=1.0, show_default=True, help="Seconds between looks at a server's health."
)
@click.option(
    "--health-timeout", default=1.0, show_default=True, help="Seconds that an answer about health may take."
)
@click.option("--health-service", default="", help="What to ask about.  [default: the server as a whole]")
@click.option(
    "--retries",
    default=2,
    show_default=True,
    type=click.IntRange(0, 10),
    help="How often to try again what no server has begun to handle.",
)
def render(
    *,
    servers: tuple[str, ...],
    haproxy: bool,
    pool: tuple[str, ...],
    route_model: tuple[str, ...],
    route_method: tuple[str, ...],
    **given: str | float,
) -> None:
    """Write the configuration of a load balancer in front of servers: Envoy's, in YAML.

    A SERVER is HOST:PORT. A HOST may be a DNS name that stands for several servers, such as a headless
    service of Kubernetes. Each request goes to the server with the fewest in flight, with Envoy to the one of
    two at random that has fewer; those that do not report SERVING get none.
    """
    try:
        general = Pool(GENERAL, tuple(map(ServerAddress.parse, servers)))
        balancer = Balancer(
            pools=(general, *map(Pool.parse, pool)),
            routes=(*map(Route.of_model, route_model), *map(Route.of_method, route_method)),
            **given,  # type: ignore[arg-type]
        )
        text = haproxy_config(balancer) if haproxy else _yaml(balancer)
    except InvalidArgument as error:
        raise click.UsageError(str(error)) from None
    click.echo(text, nl=False)


def _yaml(balancer: Balancer) -> str:
    try:
        import yaml
    except ImportError as error:
        raise click.ClickException(f"writing YAML needs PyYAML ({error}): pip install 'yais[lb]'") from None
    return yaml.safe_dump(envoy_config(balancer), sort_keys=False)
