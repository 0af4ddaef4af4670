"""The server that is attacked: a process of its own, whose end would be seen."""

from __future__ import annotations

import os
import re
import socket
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from fuzz_models import REGION, REGION_SIZE, fill_fuzzed
from onnx_models import EXAMPLES
from serving_models import Wire, eventually
from yais_command import Serving, yais_serve

from yais.protocol import kserve_pb2 as pb

SHARED = Path("/dev/shm")


@dataclass(frozen=True)
class Usage:
    """What the server's process has: bytes of memory, threads, open files."""

    memory: int
    threads: int
    files: int

    def flat(self, before: Usage) -> bool:
        """Return whether it is not much more than before; what the server remembers takes some memory."""
        return (
            self.memory < before.memory + (100 << 20)
            and self.threads < before.threads + 16
            and self.files < before.files + 16
        )

    def __str__(self) -> str:
        return f"{self.memory >> 20} MiB, {self.threads} threads, {self.files} files"


class Target:
    """A running server.

    Attributes
    ----------
    port, http_port
        Of gRPC and HTTP.
    wire
        Calls of it.
    key
        Of a file in shared memory, this user's.
    """

    def __init__(self, serving: Serving, key: str) -> None:
        self.serving = serving
        self.port, self.http_port = serving.port, serving.http_port
        self.wire = Wire(self.port)
        self.key = key
        eventually(lambda: self.wire.call("ServerReady").ready)
        self.restore()

    @property
    def usage(self) -> Usage:
        """What it has now. Raises if it has ended."""
        process = Path(f"/proc/{self.serving.process.pid}")
        status = (process / "status").read_text()
        found = {name: int(re.search(rf"{name}:\s+(\d+)", status)[1]) for name in ("VmRSS", "Threads")}
        return Usage(found["VmRSS"] << 10, found["Threads"], len(os.listdir(process / "fd")))

    def restore(self) -> None:
        """Undo what attacks may have changed: settings, the region of shared memory."""
        alive = self.serving.process.poll() is None
        assert alive, f"the server has ended: {self.serving.end()}"
        settings = pb.LogSettingsRequest()
        for level in ("log_info", "log_warning"):
            settings.settings[level].bool_param = False
        settings.settings["log_error"].bool_param = True
        settings.settings["log_verbose_level"].uint32_param = 0
        self.wire.call("LogSettings", settings)
        self.wire.call("TraceSetting", pb.TraceSettingRequest(settings={"trace_level": {"value": ["OFF"]}}))
        self.wire.call("SystemSharedMemoryUnregister")
        region = pb.SystemSharedMemoryRegisterRequest(name=REGION, key=self.key, byte_size=REGION_SIZE)
        self.wire.call("SystemSharedMemoryRegister", region)


@contextmanager
def target() -> Iterator[Target]:
    """Start the server, and stop it; it must do so, and have had no unexpected errors."""
    with tempfile.TemporaryDirectory() as directory, tempfile.NamedTemporaryFile(dir=SHARED) as shared:
        shared.write(bytes(REGION_SIZE))
        shared.flush()
        models = fill_fuzzed(Path(directory) / "models")
        options = (
            "--model-control-mode=explicit",
            "--load-model=*",
            "--allow-client-shm=1",
            "--strict-readiness=0",
        )
        repositories = (f"--model-repository={EXAMPLES}", f"--model-repository={models}")
        with yais_serve(*options, *repositories) as serving:
            running = Target(serving, "/" + Path(shared.name).name)
            yield running
            running.wire.channel.close()
            status, errors = serving.end(15)
    assert status == 0, errors
    assert "Traceback" not in errors, errors[-20_000:]


def half_close(connection: socket.socket) -> None:
    """Send no more. Raises ConnectionError if the other side has closed the connection."""
    try:
        connection.shutdown(socket.SHUT_WR)
    except OSError as error:
        raise ConnectionError("it is closed already") from error
