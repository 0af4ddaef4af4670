"""Child processes that are always ended: servers that come up, and load generators that report."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

import grpc

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from benchmarks.workloads import Workload

ROOT = Path(__file__).parents[1]
START_SECONDS = 30.0
STOP_SECONDS = 5.0
LOG_LINES = 15


class BenchmarkError(Exception):
    """A measurement that could not be made, with the reason."""


def free_port() -> int:
    """Return a TCP port nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def tail(text: str) -> str:
    """Return the last lines of a log, indented."""
    return "\n".join(f"    {line}" for line in text.splitlines()[-LOG_LINES:]) or "    (it printed nothing)"


def _end(process: subprocess.Popen[str]) -> None:
    """End a process and what it started: politely, then not."""
    try:
        process.terminate()
        process.wait(STOP_SECONDS)
    except subprocess.TimeoutExpired:
        pass
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait(STOP_SECONDS)


@contextlib.contextmanager
def child(
    command: Sequence[str], log: Path, *, cpu: int | None = None, environment: Mapping[str, str] | None = None
) -> Iterator[subprocess.Popen[str]]:
    """Start a command in a process group of its own; end the group when the block is left."""
    with log.open("w", encoding="utf-8") as output:
        process = subprocess.Popen(
            command,
            cwd=ROOT,
            env={**os.environ, **(environment or {})},
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            text=True,
        )
    try:
        if cpu is not None:
            os.sched_setaffinity(process.pid, {cpu})
        yield process
    finally:
        _end(process)


def output_of(command: Sequence[str], timeout: float, cpu: int | None = None) -> str:
    """Run a command to its end and return what it printed."""
    with tempfile.TemporaryDirectory(prefix="yais-bench-") as folder:
        log = Path(folder) / "log"
        with child(command, log, cpu=cpu) as process:
            try:
                code = process.wait(timeout)
            except subprocess.TimeoutExpired:
                raise BenchmarkError(f"{command[0]} did not end within {timeout:.0f} s") from None
        text = log.read_text(encoding="utf-8", errors="replace")
    if code:
        raise BenchmarkError(f"{Path(command[0]).name} ended with {code}:\n{tail(text)}")
    return text


def wait_until_ready(process: subprocess.Popen[str], target: str, workload: Workload, log: Path) -> None:
    """Wait until a server answers the workload's request, and check the answer."""
    give_up = time.monotonic() + START_SECONDS
    options = [("grpc.initial_reconnect_backoff_ms", 100), ("grpc.max_reconnect_backoff_ms", 200)]
    with grpc.insecure_channel(target, options=options) as channel:
        # This kind of call fits every kind of RPC; one answer is enough.
        call: grpc.StreamStreamMultiCallable[bytes, bytes] = channel.stream_stream(workload.method)
        while True:
            reason = "no answer"
            try:
                answers = call(iter([workload.request]), timeout=0.5, wait_for_ready=True)
                answer = next(answers)
                answers.cancel()
            except grpc.RpcError as error:
                reason = str(error.details())
            else:
                break
            if process.poll() is not None:
                raise BenchmarkError(f"the server ended with {process.returncode}:\n{_log_tail(log)}")
            if time.monotonic() > give_up:
                raise BenchmarkError(
                    f"the server was not ready in {START_SECONDS:.0f} s ({reason}):\n{_log_tail(log)}"
                )
            time.sleep(0.05)
    if not all(part in answer for part in workload.expected):
        raise BenchmarkError(f"the server answered {workload.name} wrongly: {answer!r}")


def _log_tail(log: Path) -> str:
    return tail(log.read_text(encoding="utf-8", errors="replace"))
