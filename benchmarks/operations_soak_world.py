"""All that runs in benchmarks/operations_soak.py."""

from __future__ import annotations

import contextlib
import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from benchmarks.operations_soak_load import Checked
from benchmarks.operations_soak_samples import Usage, usages
from benchmarks.operations_soak_servers import HEALTH_SECONDS, LOCAL, Server, Vanishing, write_models
from benchmarks.processes import BenchmarkError, child, free_port, wait_until_ready
from benchmarks.workloads import WORKLOADS
from yais.client.connection import Connection
from yais.client.grpc_endpoint import GrpcEndpoint
from yais.lb.balancer import Balancer
from yais.lb.haproxy import haproxy_config
from yais.lb.pool import GENERAL, Pool
from yais.lb.server_address import ServerAddress


@dataclass(frozen=True)
class World:
    """What runs: the servers, the balancer before them, a client that vanishes; and what sends the load."""

    servers: tuple[Server, Server]
    balancer: int
    vanishing: Vanishing
    sender: Checked

    def usages(self) -> dict[tuple[str, int], Usage]:
        """Return what every process has, by its name and id."""
        found = [("HAProxy", self.balancer)]
        for server in self.servers:
            found += [(f"{server.name}: {server.roles.of(pid)}", pid) for pid in server.processes()]
        return usages(found)


@contextlib.contextmanager
def world(frontends: int) -> Iterator[World]:
    """Start everything, and end it when the block is left."""
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="yais-soak-")))
        write_models(folder / "models")
        servers = []
        for name in ("A", "B"):
            server = Server(name, frontends, folder / "models", folder)
            stack.callback(server.end)
            server.start()
            servers.append(server)
        first, second = servers
        first.spared = {first.pid, *first.processes("frontend")[:1]}
        target, balancer = stack.enter_context(balanced(servers, folder))
        endpoint = stack.enter_context(GrpcEndpoint(Connection(target)))
        vanishing = Vanishing(target)
        stack.callback(vanishing.end)
        yield World((first, second), balancer, vanishing, Checked(endpoint.transport()))


@contextlib.contextmanager
def balanced(servers: list[Server], folder: Path) -> Iterator[tuple[str, int]]:
    """Run HAProxy before the servers while the block lasts; give its address and process."""
    program = shutil.which("haproxy", path="/usr/sbin:/usr/bin:/usr/local/sbin")
    if program is None:
        raise BenchmarkError("haproxy is not there: apt-get install haproxy")
    balancer = Balancer(
        pools=(Pool(GENERAL, tuple(ServerAddress.parse(server.target) for server in servers)),),
        address=LOCAL,
        port=free_port(),
        admin_port=free_port(),
        health_interval=HEALTH_SECONDS,
    )
    config, log = folder / "haproxy.cfg", folder / "haproxy.log"
    config.write_text(haproxy_config(balancer), encoding="utf-8")
    with child([program, "-f", str(config), "-db"], log) as process:
        target = f"{LOCAL}:{balancer.port}"
        wait_until_ready(process, target, WORKLOADS["simple"], log)
        yield target, process.pid
