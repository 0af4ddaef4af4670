"""Looks at the machine, and at the parts that inference is made of, one by one. See README.md."""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

import click
import numpy as np

import yais
from yais.core.affinity import allowed_cpus
from yais.core.cgroup import concurrency
from yais.core.pool import Lease
from yais.core.topology import Topology
from yais.lane import Lane, Lanes, placements
from yais.memory.buffer import Buffer
from yais.memory.host import HostMemoryResource
from yais.memory.numa import placement
from yais.memory.ring_arena import RingArena
from yais.memory.windowed_buffer import WindowedBuffer
from yais.testing import FakeMachine
from yais.tools.topology_drawing import draw

TIMEOUT = 10.0  # seconds, for whatever is waited for


def show(root: Path) -> None:
    """Draw a machine, and where lanes sit on it."""
    machine = Topology.read(root)
    for line in draw(machine, placements(machine), concurrency(root), encoding=sys.stdout.encoding):
        click.echo(f"   {line}")


def lanes(staging: int) -> None:
    """Run on the threads of each lane, and see where they and their memory are."""
    places = placements(Topology.read())
    with_threads = Lanes("demo", threads={"execute": 2}, count=2 * len(places), places=places)
    with_threads.reserve(staging, TIMEOUT)
    leases = [with_threads.pool.acquire(TIMEOUT) for _ in range(with_threads.size)]
    for lease in leases:
        lane = lease.item
        cpus, pages = lane.threads["execute"].submit(work, lane).result(TIMEOUT)
        print(f"   {lane}: threads on CPUs {cpus}, should be {lane.placement.cpus}; {where(pages)}")
    print(f"   while all are lent: {with_threads.pool!r}")
    for lease in leases:
        lease.release()
    print(f"   closed in time: {with_threads.close(TIMEOUT)}")


def work(lane: Lane) -> tuple[yais.CpuSet, dict[int, int] | None]:
    """Use a lane's memory on a lane's thread; return where both are."""
    memory = Buffer.of(lane.staging.take(lane.staging.size))
    memory.array(np.uint8)[:] = 1
    return allowed_cpus(), placement(memory)


def where(pages: dict[int, int] | None) -> str:
    """Say where memory is: `pages` by node, None where the machine does not tell."""
    if pages is None:
        return "the machine does not tell where its memory is"
    return "memory: " + ", ".join(f"{count} pages on node {node}" for node, count in sorted(pages.items()))


def pool() -> None:
    """Lend one thing to four who wait, of whom one gives up."""
    things = yais.Pool(["the only one"], name="things")
    lease, served = things.acquire(TIMEOUT), list[str]()

    def wait(name: str) -> yais.Future[Lease[str]]:
        """Join the line, in which threads (`acquire`) and coroutines (`acquire_async`) would wait too."""

        def lent(future: yais.Future[Lease[str]]) -> None:
            if not future.cancelled():
                served.append(name)
                future.result().release()

        future = things.acquire_future()
        future.add_done_callback(lent)
        return future

    waiting = [wait(name) for name in ("first", "second", "third", "fourth")]
    print(f"   {things!r}")
    waiting[1].cancel()
    lease.release()  # lends it to the first, who returns it at once, and so on
    print(f"   the second gave up; served: {', '.join(served)}")
    print(f"   {things!r}")


def ring_arena() -> None:
    """Take pieces until there is no room, and see when a segment can be used again."""
    ring = RingArena(HostMemoryResource(), segments=2, segment_size=4096)
    pieces = [ring.allocate(2048, timeout=TIMEOUT) for _ in range(4)]
    print(f"   four pieces of 2048 bytes: {ring!r}")
    pieces[0].close()
    try:
        ring.allocate(1024, timeout=0.01)
    except yais.DeadlineExceeded:
        print("   one of them gone: no room yet, its neighbour holds the segment")
    pieces[1].close()
    with ring.allocate(1024, timeout=TIMEOUT):
        print(f"   both gone, and a new one: {ring!r}")
    for piece in pieces:
        piece.close()
    ring.close()


def windowed_buffer() -> None:
    """Cut a stream of bytes, which arrives in pieces of five, into windows of eight."""
    with WindowedBuffer(8, 4, 4, timeout=TIMEOUT) as windows:
        for start in range(0, 20, 5):
            windows.append(bytes(range(start, start + 5)), timeout=TIMEOUT)
        print(f"   {windows!r}, {windows.size} bytes of memory")
    for window in windows:
        print("  ", *window.view)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--staging", type=int, default=1 << 20, help="bytes of memory of each lane")
    arguments = parser.parse_args()

    print("1. This machine")
    show(Path("/"))
    print("\n2. A machine that is not there, with two nodes and two GPUs")
    with tempfile.TemporaryDirectory() as directory:
        show(FakeMachine(sockets=2, cores=4, threads=2, gpus=[0, 1]).write(Path(directory)))
    print("\n3. Lanes: threads and memory of one place, lent as one")
    lanes(arguments.staging)
    print("\n4. Pool: who came first is served first")
    pool()
    print("\n5. RingArena: memory that comes back piece by piece")
    ring_arena()
    print("\n6. WindowedBuffer: windows that overlap, without copies")
    windowed_buffer()


if __name__ == "__main__":
    main()
