"""Load a server with streams of every kind, kill clients at random, and see that nothing is lost or leaks.

The server is `soak_server.py` and the clients are processes of `soak_client.py`. Every answer is checked;
some streams are cancelled or given a deadline that passes, and now and then a whole process is killed. What
was found is printed as JSON, and the exit status is 1 if anything is wrong.
"""

from __future__ import annotations

import argparse
import collections
import contextlib
import json
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

ROOT = Path(__file__).parents[1]

MESSAGES_PER_SECOND = 2000
"""Of all clients together, roughly: streams stay open for seconds because callers take their time."""

SAMPLE_SECONDS = 0.25
SPARE_TASKS = 8
"""OS threads that gRPC core may keep for a while: its own come and go with the load."""


@dataclass(frozen=True)
class Plan:
    """How much load, for how long; `kill_every` in seconds.

    `patience` is the seconds that something may take to come to its end, `growth` the share by which memory
    may differ between two moments under the same load.
    """

    seconds: float
    connections: int
    streams: int
    processes: int
    kill_every: float
    patience: float
    growth: float
    seed: int


@dataclass
class Report:
    """What was found; `resident` is the memory of the server at even intervals, in MiB."""

    counts: collections.Counter[str] = field(default_factory=collections.Counter)
    kinds: collections.Counter[str] = field(default_factory=collections.Counter)
    killed: int = 0
    peak_in_flight: int = 0
    resident: list[float] = field(default_factory=list)
    before: dict[str, Any] = field(default_factory=dict)
    after: dict[str, Any] = field(default_factory=dict)
    wrong: list[str] = field(default_factory=list)


class Server:
    """The server's process."""

    def __init__(self, contexts: int) -> None:
        command = [sys.executable, str(ROOT / "benchmarks" / "soak_server.py"), "--contexts", str(contexts)]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.target = f"127.0.0.1:{self._line()['port']}"

    def _line(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise SystemExit(f"the server ended with {self._process.wait()}")
        answer: dict[str, Any] = json.loads(line)
        return answer

    def state(self, *, thorough: bool = False) -> dict[str, Any]:
        """Return `soak_server.state`."""
        assert self._process.stdin is not None
        self._process.stdin.write("thorough\n" if thorough else "state\n")
        self._process.stdin.flush()
        return self._line()

    def stop(self) -> dict[str, Any]:
        """End the server; return whether all calls had ended, and what was logged."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        return self._line()

    def end(self) -> None:
        """Be sure that the process is gone."""
        self._process.kill()
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                pipe.close()


class Clients:
    """The client processes; what each has printed is kept when it is killed."""

    def __init__(self, target: str, plan: Plan, folder: Path) -> None:
        self._target = target
        self._plan = plan
        self._folder = folder
        self._random = random.Random(plan.seed)
        self._logs: list[Path] = []
        self._running: dict[subprocess.Popen[bytes], Path] = {}  # with their logs

    def start(self, *further: str) -> None:
        """Start one more."""
        plan, number = self._plan, len(self._logs)
        command = [sys.executable, str(ROOT / "benchmarks" / "soak_client.py"), "--target", self._target]
        command += ["--connections", str(plan.connections // plan.processes)]
        command += ["--streams", str(plan.streams // plan.processes), "--seed", str(plan.seed + number)]
        command += ["--pause", str(plan.streams / MESSAGES_PER_SECOND)]
        log = self._folder / f"{number}"
        with log.open("wb") as output:
            process = subprocess.Popen([*command, *further], stdout=output, stderr=subprocess.STDOUT)
        self._logs.append(log)
        self._running[process] = log

    def kill_one(self) -> None:
        """Kill one, whatever it is doing."""
        process = self._random.choice(list(self._running))
        del self._running[process]
        process.kill()
        process.wait()

    def finish(self) -> list[str]:
        """Let all come to their end; return what is wrong with that."""
        # One that has just begun does not take the signal yet.
        until(lambda: all(log.stat().st_size for log in self._running.values()), self._plan.patience)
        for process in self._running:
            process.send_signal(signal.SIGTERM)
        return self.wait()

    def wait(self) -> list[str]:
        """Wait for all; return what is wrong with that."""
        wrong = []
        for process in self._running:
            try:
                code = process.wait(self._plan.patience)
            except subprocess.TimeoutExpired:
                wrong.append("a client did not end: some stream hangs")
                continue
            if code:
                wrong.append(f"a client ended with {code}")
        self.end()
        return wrong

    def end(self) -> None:
        """Be sure that all are gone."""
        for process in self._running:
            process.kill()
            process.wait()
        self._running.clear()

    def count(self, report: Report) -> None:
        """Add up what all have printed, each in its last whole line of JSON."""
        for log in self._logs:
            lines = log.read_text(encoding="utf-8", errors="replace").splitlines(keepends=True)
            said = [line for line in lines if line.startswith("{") and line.endswith("}\n")]
            other = [line for line in lines if not line.startswith("{")]
            report.wrong += [f"a client said: {line.rstrip()}" for line in other[-20:]]
            if said:
                last = json.loads(said[-1])
                report.counts.update(last["counts"])
                report.kinds.update(last["kinds"])
                report.wrong += last["wrong"]


def until(condition: Callable[[], bool], seconds: float) -> bool:
    """Wait for a condition; return whether it came true in time."""
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            return False
        time.sleep(0.1)
    return True


def warm_up(server: Server, clients: Clients, patience: float) -> None:
    """Let the server start whatever it starts only once: one client, until every kind has been served."""
    clients.start()
    until(lambda: server.state()["calls"] > 500, patience)


def load(plan: Plan, server: Server, clients: Clients, report: Report) -> None:
    """Run the clients, kill some, and watch the server."""
    for _ in range(plan.processes - 1):
        clients.start()
    begin = time.monotonic()
    kill_at = begin + plan.kill_every
    while (now := time.monotonic()) < begin + plan.seconds:
        state = server.state()
        report.peak_in_flight = max(report.peak_in_flight, state["in_flight"])
        report.resident.append(round(state["resident"], 1))
        if now > kill_at:
            kill_at = now + plan.kill_every
            clients.kill_one()
            clients.start()
            report.killed += 1
        time.sleep(SAMPLE_SECONDS)


def judge(server: Server, report: Report, growth: float) -> None:
    """Compare the server that has nothing to do any more with how it was before."""
    before = report.before

    def wrong() -> list[str]:
        state = report.after = server.state(thorough=True)
        return [
            f"{name}: got {state[name]}, expected {bound}"
            for name, bound, fine in (
                ("in_flight", 0, state["in_flight"] == 0),
                ("objects", 0, state["objects"] == 0),
                ("descriptors", before["descriptors"], state["descriptors"] <= before["descriptors"]),
                ("threads", before["threads"], state["threads"] == before["threads"]),
                ("tasks", before["tasks"], state["tasks"] <= before["tasks"] + SPARE_TASKS),
                ("errors", [], not state["errors"]),
            )
            if not fine
        ]

    until(lambda: not wrong(), 15.0)
    report.wrong += wrong()
    # The first third is the warm-up; the median of a sixth after it, and of the last one.
    sixth = max(1, len(report.resident) // 6)
    early, late = median(report.resident[2 * sixth : 3 * sixth]), median(report.resident[-sixth:])
    if late > early * (1 + growth):
        report.wrong.append(f"resident memory: got {late} MiB at the end, expected {early} MiB as before")
    report.resident = report.resident[::sixth]


@contextlib.contextmanager
def started(plan: Plan, contexts: int) -> Iterator[tuple[Server, Clients]]:
    """Start a server, and end it and all clients when the block is left."""
    with tempfile.TemporaryDirectory(prefix="yais-soak-") as folder:
        server = Server(contexts)
        clients = Clients(server.target, plan, Path(folder))
        try:
            yield server, clients
        finally:
            clients.end()
            server.end()


def soak(plan: Plan) -> Report:
    """Do all of it."""
    report = Report()
    contexts = max(8, plan.streams // 8)  # there are 19 RPCs, so that few streams have to wait
    with started(plan, contexts) as (server, clients):
        warm_up(server, clients, plan.patience)
        report.wrong += clients.finish()
        until(lambda: server.state()["in_flight"] == 0, plan.patience)
        report.before = server.state(thorough=True)
        clients.start()
        load(plan, server, clients, report)
        report.wrong += clients.finish()
        judge(server, report, plan.growth)
        clients.start("--probe", str(contexts))
        report.wrong += clients.wait()
        clients.count(report)
        last = server.stop()
        if not last["clean"] or last["errors"]:
            report.wrong.append(f"the server stopped with {last}")
    return report


def main() -> int:
    """Read the command line, run, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--connections", type=int, default=200)
    parser.add_argument("--streams", type=int, default=2600)
    parser.add_argument("--processes", type=int, default=8, help="which share connections and streams")
    parser.add_argument("--kill-every", type=float, default=2.0, help="seconds between kills of a process")
    parser.add_argument("--patience", type=float, default=90.0, help="seconds for what must come to an end")
    parser.add_argument("--growth", type=float, default=0.1, help="share by which memory may grow")
    parser.add_argument("--seed", type=int, default=0)
    plan = Plan(**vars(parser.parse_args()))
    report = soak(plan)
    print(json.dumps(vars(plan) | vars(report), indent=2))
    return 1 if report.wrong else 0


if __name__ == "__main__":
    sys.exit(main())
