"""`yais topology`: the machine as yais sees it."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import click

from yais.core.cgroup import concurrency
from yais.core.topology import Topology
from yais.lane import Placement, placements
from yais.tools.topology_drawing import draw

__all__ = ["topology"]


@click.command()
@click.option(
    "--root",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    default=Path("/"),
    show_default=True,
    help="Directory that holds `proc` and `sys`, of this machine or a copy from another.",
)
@click.option("--json", "as_json", envvar="YAIS_TOPOLOGY_JSON", is_flag=True, help="Print it as JSON.")
def topology(root: Path, as_json: bool) -> None:
    """Draw the machine: nodes, CPUs, GPUs, limits, and where lanes sit."""
    try:
        machine = Topology.read(root)
        threads = concurrency(root)
    except ValueError as error:
        raise click.ClickException(f"{root}: {error}") from None
    lanes = placements(machine)
    if as_json:
        click.echo(json.dumps(_described(machine, lanes, threads)))
    else:
        click.echo("\n".join(draw(machine, lanes, threads, encoding=sys.stdout.encoding)))


def _described(machine: Topology, lanes: list[Placement], threads: int) -> dict[str, Any]:
    def places(part: Any) -> dict[str, str]:
        return {"cpus": str(part.cpus), "online": str(part.online)}

    return {
        "usable": str(machine.usable),
        "online": str(machine.online),
        "offline": str(machine.offline),
        "cpuset": None if machine.cpuset is None else str(machine.cpuset),
        "quota": machine.quota,
        "concurrency": threads,
        "sockets": [{"id": socket.id, **places(socket)} for socket in machine.sockets],
        "nodes": [
            {
                "id": node.id,
                "memory_bytes": node.memory_bytes,
                "distances": {str(other): distance for other, distance in node.distances.items()},
                **places(node),
            }
            for node in machine.nodes
        ],
        "cores": [
            {"id": core.id, "socket": core.socket, "die": core.die, **places(core)} for core in machine.cores
        ],
        "caches": [
            {"level": cache.level, "kind": cache.kind, "size_bytes": cache.size, **places(cache)}
            for cache in machine.caches
        ],
        "gpus": [
            {"index": gpu.index, "name": gpu.name, "pci": gpu.pci, "node": gpu.node, "cpus": str(gpu.cpus)}
            for gpu in machine.gpus
        ],
        "lanes": [
            {
                "name": lane.name,
                "node": None if lane.node is None else lane.node.id,
                "cpus": None if lane.cpus is None else str(lane.cpus),
                "gpu": None if lane.gpu is None else lane.gpu.index,
            }
            for lane in lanes
        ],
    }
