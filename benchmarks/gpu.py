"""Measure a GPU with yais: copies, batches a second, and where clients have their tensors.

Tables go to stdout as markdown, progress to stderr. --simulate runs the same code without a GPU, over
`yais.testing.cuda.FakeCuda`: its figures show that it runs, and nothing else.
"""

from __future__ import annotations

import argparse
import json
import platform
import shlex
import sys
import time
from dataclasses import asdict
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

import yais
from benchmarks.gpu_copies import ROUNDS, SIZES, Bandwidth, copies
from benchmarks.gpu_machine import GpuMachine, gpu_machine
from benchmarks.gpu_tables import copies_table, original_table, throughput_table, transports_table
from benchmarks.gpu_throughput import MILLISECONDS, Network, Throughput, Transport, throughput, transports
from yais.errors import FailedPrecondition

PARTS = ("copies", "throughput", "transports")


def say(text: str) -> None:
    """Report progress."""
    print(text, file=sys.stderr, flush=True)


def about(machine: GpuMachine) -> str:
    """Return one line: device, driver and versions."""
    if machine.simulated:
        return f"SIMULATED, no GPU: Python {platform.python_version()}, yais {yais.__version__}"
    driver = machine.device.toolkit.call("cuDriverGetVersion")
    packages = []
    for name in ("cuda-core", "cuda-bindings", "grpcio", "numpy"):
        try:
            packages.append(f"{name} {version(name)}")
        except PackageNotFoundError:
            packages.append(f"{name} of unknown version")
    return (
        f"{machine.device.name}, driver for CUDA {driver // 1000}.{driver % 1000 // 10}, "
        f"Python {platform.python_version()}, {', '.join(packages)}, yais {yais.__version__}"
    )


def main() -> None:
    """Measure what was asked for."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--only", choices=PARTS, action="append", help="a part; may be repeated")
    parser.add_argument("--seconds", type=float, default=3.0, help="of each measurement")
    parser.add_argument("--rounds", type=int, default=ROUNDS, help="of copies")
    parser.add_argument("--sizes", type=int, nargs="+", default=SIZES, help="of copies, bytes")
    parser.add_argument("--tokens", type=int, nargs="+", default=[1, 2, 4, 8])
    parser.add_argument("--milliseconds", type=float, default=MILLISECONDS, help="that a batch computes")
    parser.add_argument("--gpu", type=int, default=0)
    parser.add_argument("--simulate", action="store_true", help="without a GPU; the figures mean nothing")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write everything, for programs")
    given = parser.parse_args()
    wanted = given.only or PARTS
    try:
        measure(given, wanted)
    except FailedPrecondition as error:
        sys.exit(f"benchmarks/gpu.py: {error}")


def measure(given: argparse.Namespace, wanted: tuple[str, ...]) -> None:
    """Measure, print and write."""
    speeds: list[Bandwidth] = []
    rates: list[Throughput] = []
    ways: list[Transport] = []
    with gpu_machine(given.gpu, simulated=given.simulate) as machine:
        print(f"    {shlex.join(['python', *sys.argv])}\n\n{time.strftime('%Y-%m-%d')}, {about(machine)}")
        mark = " (SIMULATED)" if machine.simulated else ""
        if "copies" in wanted:
            say("copies ...")
            speeds = copies(machine, tuple(given.sizes), given.rounds)
            print(f"\nCopies, GB/s{mark}\n\n{copies_table(speeds)}")
        network = Network(machine, given.milliseconds)
        if "throughput" in wanted:
            for tokens in given.tokens:
                say(f"throughput with {tokens} tokens ...")
                rates.append(throughput(network, tokens, given.seconds))
            print(f"\nBatches a second{mark}\n\n{throughput_table(rates)}")
            print(f"\nThe original's table{mark}\n\n{original_table(rates)}")
        if "transports" in wanted:
            say("transports ...")
            ways = transports(network, max(given.tokens), given.seconds)
            print(f"\nWhere a client's tensors are{mark}\n\n{transports_table(ways)}")
        if given.json:
            found = {
                "about": about(machine),
                "simulated": machine.simulated,
                "copies": [asdict(speed) | {"ratio": speed.ratio} for speed in speeds],
                "throughput": [asdict(rate) for rate in rates],
                "transports": [asdict(way) for way in ways],
            }
            given.json.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
