"""Compare `yais serve` in one process with `--frontends 1, 2, 4 ...`, up to the cores there are.

Requests/s, and the CPU time of each kind of process. Tables go to stdout as markdown, progress to stderr. See
benchmarks/README.md for the method.
"""

from __future__ import annotations

import argparse
import json
import os
import shlex
import signal
import sys
from dataclasses import asdict, dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

import numpy as np
from tritonclient.grpc import service_pb2

from benchmarks import h2load
from benchmarks.compare import say, terminate
from benchmarks.cpu_time import cpu_by_process, ended_children_seconds
from benchmarks.frontends import Roles
from benchmarks.generators import batched
from benchmarks.processes import BenchmarkError
from benchmarks.report import machine, medians
from benchmarks.scale_report import Key, Scaled, figures, reached, throughput_picture
from benchmarks.servers import YAIS, Running
from benchmarks.serving_models import FIRST, LARGE
from benchmarks.serving_servers import serving
from benchmarks.workloads import WORKLOADS

_CONNECTIONS = 8
"""For each frontend, of which the kernel gives each connection to one at random; at least twice as many."""


@dataclass(frozen=True)
class Load:
    """Requests to a model, and how many of them are in flight in each measurement."""

    model: str
    request: bytes
    concurrency: tuple[int, ...]


def _large() -> bytes:
    request = service_pb2.ModelInferRequest(model_name=FIRST)
    request.inputs.add(name="X", datatype="FP32", shape=[1, LARGE])
    request.raw_input_contents.append(np.arange(LARGE, dtype=np.float32).tobytes())
    return bytes(request.SerializeToString())


LOADS = {
    "simple": Load("simple", WORKLOADS["simple"].request, (8, 32, 128)),
    "600 KB": Load(FIRST, _large(), (8, 32)),
}


@dataclass(frozen=True)
class Plan:
    """What to measure, from the command line; 0 of `frontends` is one process that does everything."""

    rounds: int
    seconds: int
    concurrency: list[int] | None
    loads: list[str]
    frontends: list[int]
    environment: dict[str, str]

    def levels(self, load: str) -> list[int]:
        """Return how many requests are to be in flight."""
        return self.concurrency or list(LOADS[load].concurrency)

    def connections(self, concurrency: int) -> int:
        """Return how many share them, the same for every server."""
        return min(concurrency, _CONNECTIONS * max(2, *self.frontends))


def measure(plan: Plan, name: str, concurrency: int, server: Running) -> Scaled:
    """Load a running server once; CPU time and the server's count of requests are those of the whole run."""
    load = LOADS[name]
    connections = plan.connections(concurrency)
    roles = Roles(server.pid)
    counted, before = batched(server.target, load.model), cpu_by_process(server.pid)
    generator = ended_children_seconds()
    seen = h2load.load(server.target, load.request, connections, concurrency // connections, plan.seconds)
    requests, batches = (b - a for a, b in zip(counted, batched(server.target, load.model), strict=True))
    if not requests:
        raise BenchmarkError("the server has counted no request with status OK")
    generator = (ended_children_seconds() - generator) * 1e6 / requests
    used = dict.fromkeys(("server", "frontend", "engine"), 0.0)
    for process, seconds in cpu_by_process(server.pid).items():
        used[roles.of(process)] += (seconds - before.get(process, 0.0)) * 1e6 / requests
    cpu = sum(used.values())
    return Scaled(
        rate=seen.rate,
        p50=seen.p50,
        p99=seen.p99,
        batch=requests / batches,
        generator=generator,
        cpu=cpu,
        frontends=used["frontend"],
        engine=used["engine"],
    )


def visit(plan: Plan, frontends: int, results: dict[Key, list[Scaled]]) -> None:
    """Start a server, measure everything, and stop it."""
    options = ("--frontends", str(frontends)) if frontends else ()
    with serving(YAIS, plan.environment, None, options) as server:
        for name in plan.loads:
            # So that what a server does only once (allocate, specialise, start threads) is not measured.
            measure(plan, name, max(plan.levels(name)), server)
            for concurrency in plan.levels(name):
                one = measure(plan, name, concurrency, server)
                results.setdefault(Key(name, concurrency, frontends), []).append(one)
                say(
                    f"  {name}, {concurrency} in flight, {frontends} frontends: {one.rate:.0f} requests/s, "
                    f"{one.batch:.1f} a batch, CPU {one.cpu:.1f} µs/request, frontends {one.frontends:.1f}, "
                    f"engine {one.engine:.1f}"
                )


def run(plan: Plan) -> dict[Key, list[Scaled]]:
    """Measure everything, the servers taking turns inside each round."""
    results: dict[Key, list[Scaled]] = {}
    for turn in range(plan.rounds):
        say(f"round {turn + 1} of {plan.rounds}")
        first = turn % len(plan.frontends)
        for frontends in plan.frontends[first:] + plan.frontends[:first]:
            try:
                visit(plan, frontends, results)
            except BenchmarkError as error:
                say(f"  {frontends} frontends: not measured: {error}")
    return dict(sorted(results.items(), key=lambda item: (plan.loads.index(item[0].load), item[0])))


def counts(cores: int) -> list[int]:
    """Return 0, 1, 2, 4 ... up to the cores, and 6 where that is among them: there is a bound for it."""
    doubled = (1 << power for power in range(cores.bit_length()))
    return sorted({0, *doubled, *((6,) if cores >= 6 else ())})


def parse() -> tuple[Plan, Path | None, Path | None]:
    """Read the command line; return where JSON and a picture go, too."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=int, default=3, help="measured time for each figure")
    parser.add_argument("--concurrency", help="only these numbers of requests in flight, comma-separated")
    parser.add_argument("--loads", default=",".join(LOADS), help=f"comma-separated, of {', '.join(LOADS)}")
    parser.add_argument(
        "--frontends", help="comma-separated; 0 is a single process, which is always measured"
    )
    parser.add_argument(
        "--env", action="append", default=[], metavar="NAME=VALUE", help="set for every server; repeatable"
    )
    parser.add_argument("--json", type=Path, help="write every measurement to this file")
    parser.add_argument("--picture", type=Path, help="draw requests/s into this SVG file")
    options = parser.parse_args()
    if unknown := set(options.loads.split(",")) - set(LOADS):
        parser.error(f"unknown load: {', '.join(sorted(unknown))}; there are {', '.join(LOADS)}")
    if not h2load.has_h2load():
        parser.error("h2load is not there: apt-get install nghttp2-client")
    frontends = (
        {0, *map(int, options.frontends.split(","))} if options.frontends else counts(os.cpu_count() or 1)
    )
    plan = Plan(
        rounds=options.rounds,
        seconds=options.seconds,
        concurrency=[int(each) for each in options.concurrency.split(",")] if options.concurrency else None,
        loads=options.loads.split(","),
        frontends=sorted(frontends),
        environment=dict(pair.split("=", 1) for pair in options.env),
    )
    return plan, options.json, options.picture


def main() -> int:
    """Measure and print."""
    signal.signal(signal.SIGTERM, terminate)
    plan, document, picture = parse()
    command = shlex.join(["python", "benchmarks/scale.py", *sys.argv[1:]])
    try:
        results = run(plan)
    except KeyboardInterrupt:
        say("interrupted")
        return 130
    if not results:
        say("nothing could be measured")
        return 1
    middle = {key: medians(rounds) for key, rounds in results.items()}
    print(f"{machine()}\n\n    {command}\n\n{figures(middle)}\n\n{reached(middle, os.cpu_count() or 1)}")
    if document:
        cases = [asdict(key) | {"rounds": [asdict(one) for one in results[key]]} for key in results]
        found = {"command": command, "machine": machine(), "load": "h2load", "cases": cases}
        document.write_text(json.dumps(found, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    if picture:
        picture.write_text(throughput_picture(middle), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
