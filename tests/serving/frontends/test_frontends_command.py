"""`yais serve --frontends`: what it says, how it ends, and what it refuses."""

from __future__ import annotations

import os
import signal
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import grpc
import numpy as np
import pytest
from onnx_models import EXAMPLES, counter, identity, write
from serving_models import SOON, Wire, count_often, count_to, eventually, infer_request, outputs_of
from yais_command import Serving, run_yais_process, yais_serve

from yais.protocol import kserve_pb2 as pb

PATIENT = "max_batch_size: 8 dynamic_batching { max_queue_delay_microseconds: 60000000 }"


def gone(pid: int) -> bool:
    """Return whether a process has ended; one whose parent has ended before it may be left unreaped."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except FileNotFoundError:
        return True


@contextmanager
def frontends(*arguments: object) -> Iterator[tuple[Serving, list[int]]]:
    """Run it with two frontends; give its process numbers, too."""
    with yais_serve("--frontends", 2, *arguments) as serving:
        pids = [int(serving.line(rf"^{name}: pid (\d+)$")[1]) for name in NAMES]
        yield serving, pids
        eventually(lambda: all(map(gone, pids)))


NAMES = ("Engine process", "Frontend 0", "Frontend 1")


def test_from_start_to_sigterm() -> None:
    with frontends("--model-repository", EXAMPLES, "--allow-metrics", 1) as (serving, pids):
        assert len({*pids, serving.process.pid}) == 4
        a, b = np.arange(32, dtype=np.int32).reshape(2, 1, 16)
        with Wire(serving.port) as wire:
            response = wire.infer(infer_request("simple", {"INPUT0": a, "INPUT1": b}))
        np.testing.assert_array_equal(outputs_of(response)["OUTPUT0"], a + b)
        ports = [serving.port, serving.http_port, serving.metrics_port]
        assert serving.end(signal.SIGTERM) == (0, "")
    assert serving.output[0].split() == ["Model", "Version", "Status"]
    assert any(line.startswith("simple ") and "READY" in line for line in serving.output)
    assert serving.output[-7:] == [
        f"Started GRPCInferenceService at 127.0.0.1:{ports[0]}",
        f"Started HTTPService at 127.0.0.1:{ports[1]}",
        f"Started Metrics Service at 127.0.0.1:{ports[2]}",
        *(f"{name}: pid {pid}" for name, pid in zip(NAMES, pids, strict=True)),
        "Stopped",
    ]


@pytest.mark.parametrize("to", ["the server", "all processes"])
def test_sigterm_lets_requests_end(tmp_path: Path, to: str) -> None:
    """Service managers send it to every process."""
    write(tmp_path, "counter", counter())
    with frontends("--model-repository", tmp_path) as (serving, pids), Wire(serving.port) as wire:
        count_often(wire)
        call = wire.method("ModelInfer").future(count_to(500_000), timeout=SOON)
        assert wire.call("ServerLive").live  # on the same connection, so that the server has the first
        for pid in pids if to == "all processes" else ():
            os.kill(pid, signal.SIGTERM)
        assert serving.end(signal.SIGTERM) == (0, "")
        response = pb.ModelInferResponse.FromString(call.result(SOON))
        assert outputs_of(response)["counted"].tolist() == [500_000]
    assert serving.output[-1] == "Stopped"


def test_a_second_signal_does_not_wait(tmp_path: Path) -> None:
    write(tmp_path, "waiting", identity("FP32"), PATIENT)
    with frontends("--model-repository", tmp_path) as (serving, _), Wire(serving.port) as wire:
        request = infer_request("waiting", {"X": np.ones((1, 1), np.float32)})
        call = wire.method("ModelInfer").future(request, timeout=SOON)
        assert wire.call("ServerLive").live
        serving.process.send_signal(signal.SIGTERM)
        eventually(lambda: not listens(serving.port))
        assert not call.done()
        assert serving.end(signal.SIGTERM)[0] == 0
        assert call.exception(SOON) is not None


def test_the_drain_is_announced(tmp_path: Path) -> None:
    write(tmp_path, "counter", counter())
    arguments = ("--model-repository", tmp_path, "--drain-delay-secs", 60)
    with frontends(*arguments) as (serving, _), Wire(serving.port) as wire:
        assert wire.call("ServerReady").ready
        serving.process.send_signal(signal.SIGTERM)
        eventually(lambda: not wire.call("ServerReady").ready)
        assert outputs_of(wire.infer(count_to(3)))["counted"].tolist() == [3]  # others do not know it yet
        assert serving.end(signal.SIGTERM)[0] == 0


def test_a_server_that_has_clients_before_all_its_frontends_run_drains_too() -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    arguments = ("--model-repository", EXAMPLES, "--grpc-port", port, "--drain-delay-secs", 60)
    with yais_serve("--frontends", 2, *arguments) as serving, Wire(port) as wire:
        eventually(lambda: len(frontends_of(serving.process.pid)) == 2)
        late = frontends_of(serving.process.pid)[1]
        os.kill(late, signal.SIGSTOP)
        eventually(lambda: ready(wire))
        serving.process.send_signal(signal.SIGTERM)
        eventually(lambda: not ready(wire))
        os.kill(late, signal.SIGCONT)
        assert wire.call("ServerLive").live  # not UNAVAILABLE, as at the end of the drain
        assert serving.end(signal.SIGTERM)[0] == 0
    assert serving.output == ["Stopped"]


def frontends_of(supervisor: int) -> list[int]:
    """Return the frontends that run, the oldest first."""
    threads = Path(f"/proc/{supervisor}/task").glob("*/children")
    pids = sorted(int(pid) for path in threads for pid in path.read_text().split())
    return [pid for pid in pids if b"frontend_process" in Path(f"/proc/{pid}/cmdline").read_bytes()]


def test_without_the_supervisor_the_others_end(tmp_path: Path) -> None:
    """In order, too: what is in flight is answered."""
    write(tmp_path, "counter", counter())
    with frontends("--model-repository", tmp_path) as (serving, pids), Wire(serving.port) as wire:
        count_often(wire)
        call = wire.method("ModelInfer").future(count_to(500_000), timeout=SOON)
        assert wire.call("ServerLive").live
        serving.process.kill()
        response = pb.ModelInferResponse.FromString(call.result(SOON))
        assert outputs_of(response)["counted"].tolist() == [500_000]
        eventually(lambda: all(map(gone, pids)))
        serving.end()


def listens(port: int) -> bool:
    with socket.socket() as client:
        return client.connect_ex(("127.0.0.1", port)) == 0


@pytest.mark.parametrize("kind", ["grpc", "http", "metrics"])
def test_a_port_in_use(kind: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        free = [
            f"--{each}-{what}"
            for each in ("grpc", "http", "metrics")
            for what in ("address=127.0.0.1", "port=0")
        ]
        done = run_yais_process(
            "serve", "--frontends", 2, "--model-repository", EXAMPLES, *free, f"--{kind}-port", port
        )
    assert done.returncode == 1
    assert "Started" not in done.stdout
    (error,) = [line for line in done.stderr.splitlines() if line.startswith("Error: ")]
    assert f"127.0.0.1:{port}" in error
    assert "in use" in error
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (("--model-repository", "/nowhere"), "/nowhere"),
        (("--model-repository", EXAMPLES, "--grpc-address", "unix:/tmp/s"), "expected one of TCP"),
    ],
)
def test_what_cannot_be_served(arguments: tuple[object, ...], text: str) -> None:
    done = run_yais_process("serve", "--frontends", 2, "--http-port", 0, *arguments)
    assert done.returncode != 0
    assert text in done.stderr
    assert "Traceback" not in done.stderr


def test_one_log_for_all_processes(tmp_path: Path) -> None:
    write(tmp_path / "models", "good", identity("FP32"))
    write(tmp_path / "models", "bad", b"no model")
    log = tmp_path / "log"
    with yais_serve(
        "--frontends", 2, "--model-repository", tmp_path / "models", "--log-file", log
    ) as serving:
        assert serving.port
        assert serving.end(signal.SIGTERM)[0] == 0
    assert "failed to load 'bad'" in log.read_text()


def test_sigterm_while_models_load(tmp_path: Path) -> None:
    for number in range(300):
        write(tmp_path, f"model{number}", identity("FP32"))
    write(tmp_path, "a_broken_one", b"")
    with yais_serve("--frontends", 2, "--model-repository", tmp_path) as serving:
        serving.error("failed to load 'a_broken_one'")  # the first of all
        assert serving.end(signal.SIGTERM)[0] == 0
    assert serving.output == ["Stopped"]


def open_files(pid: int) -> int:
    return len(os.listdir(f"/proc/{pid}/fd"))


def ready(wire: Wire) -> bool:
    try:
        return bool(wire.call("ServerReady").ready)
    except grpc.RpcError:
        return False


def test_restarts_leave_no_files_open() -> None:
    with yais_serve("--frontends", 2, "--model-repository", EXAMPLES) as serving, Wire(serving.port) as wire:
        engine, first, second = (int(serving.line(rf"^{name}: pid (\d+)$")[1]) for name in NAMES)
        supervisor = serving.process.pid
        before = {pid: open_files(pid) for pid in (supervisor, first, second, engine)}
        os.kill(first, signal.SIGKILL)
        serving.error("frontend 0 was ended by SIGKILL; another is started in 0.1 s")
        eventually(lambda: open_files(supervisor) == before[supervisor])
        eventually(lambda: open_files(engine) == before[engine])
        os.kill(engine, signal.SIGKILL)
        serving.error("the engine process was ended by SIGKILL; another is started in 0.1 s")
        eventually(lambda: open_files(supervisor) == before[supervisor])
        eventually(lambda: ready(wire))
        calls = 0 if gone(second) else open_files(second) - before[second]
        assert calls <= 1  # the connection of the wire, which either frontend may have
        assert serving.end(signal.SIGTERM)[0] == 0


def test_an_engine_process_that_cannot_start_again_is_tried_until_it_can(tmp_path: Path) -> None:
    models, elsewhere = tmp_path / "models", tmp_path / "elsewhere"
    write(models, "counter", counter())
    with yais_serve("--frontends", 2, "--model-repository", models) as serving, Wire(serving.port) as wire:
        engine = int(serving.line(r"^Engine process: pid (\d+)$")[1])
        models.rename(elsewhere)
        os.kill(engine, signal.SIGKILL)
        serving.error("the engine process could not start")
        assert not ready(wire)
        elsewhere.rename(models)
        eventually(lambda: ready(wire))
        assert outputs_of(wire.infer(count_to(3)))["counted"].tolist() == [3]
        assert serving.end(signal.SIGTERM)[0] == 0
