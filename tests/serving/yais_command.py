"""The `yais` command, here and in processes of its own."""

from __future__ import annotations

import os
import queue
import re
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from click.testing import CliRunner
from serving_models import SOON

from yais.tools.main import main

YAIS = (sys.executable, "-W", "error", "-m", "yais.tools.main")


def run_yais(*arguments: object) -> subprocess.CompletedProcess[str]:
    """Run a command in this process, which is quicker; for what takes no signals and serves nothing."""
    result = CliRunner().invoke(main, [*map(str, arguments)])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return subprocess.CompletedProcess(arguments, result.exit_code, result.stdout, result.stderr)


def run_yais_process(*arguments: object) -> subprocess.CompletedProcess[str]:
    """Run a command to its end, in a process of its own."""
    command = [*YAIS, *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=SOON, check=False)


class Serving:
    """A running `yais serve`.

    Attributes
    ----------
    output
        Lines of its standard output so far, as far as `line` has read them.
    """

    def __init__(self, *arguments: object, env: Mapping[str, str] | None = None) -> None:
        self.process = subprocess.Popen(
            [*YAIS, "serve", *map(str, arguments)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            errors="replace",  # gRPC tells what it received as it is
            env={**os.environ, **(env or {})},
        )
        self.output: list[str] = []
        self._lines: queue.SimpleQueue[str] = queue.SimpleQueue()
        self._errors: list[str] = []
        self._error_lines: queue.SimpleQueue[str] = queue.SimpleQueue()
        self._readers = [
            threading.Thread(target=self._read, daemon=True),
            threading.Thread(target=self._read_errors, daemon=True),
        ]
        for reader in self._readers:
            reader.start()

    @property
    def port(self) -> int:
        """Port for gRPC, once it is started."""
        return int(self.line(r"Started GRPCInferenceService at .*:(\d+)$")[1])

    @property
    def http_port(self) -> int:
        """Port for HTTP, once it is started."""
        return int(self.line(r"Started HTTPService at .*:(\d+)$")[1])

    @property
    def metrics_port(self) -> int:
        """Port of the metrics, once they are."""
        return int(self.line(r"Started Metrics Service at .*:(\d+)$")[1])

    def line(self, pattern: str) -> re.Match[str]:
        """Wait for a line of its output."""
        for known in self.output:
            if found := re.search(pattern, known):
                return found
        while True:
            line = self._lines.get(timeout=SOON)
            assert line, f"it ended without {pattern!r}: {self.output} {self._errors}"
            self.output.append(line.rstrip("\n"))
            if found := re.search(pattern, line):
                return found

    def error(self, text: str) -> None:
        """Wait for a line of its standard error that has `text`."""
        while text not in (line := self._error_lines.get(timeout=SOON)):
            assert line, f"it ended without {text!r}: {self._errors}"

    def end(self, signal: int | None = None) -> tuple[int, str]:
        """Send it a signal, if one is given, and wait; return its status and what it said of errors."""
        if signal is not None:
            self.process.send_signal(signal)
        try:
            status = self.process.wait(SOON)
        finally:
            self.process.kill()
        for reader in self._readers:
            reader.join(SOON)
        while line := self._lines.get(timeout=SOON):
            self.output.append(line.rstrip("\n"))
        self.process.stdout.close()
        self.process.stderr.close()
        return status, "".join(self._errors)

    def _read(self) -> None:
        for line in self.process.stdout:
            self._lines.put(line)
        self._lines.put("")

    def _read_errors(self) -> None:
        for line in self.process.stderr:
            self._errors.append(line)
            self._error_lines.put(line)
        self._error_lines.put("")


@contextmanager
def yais_serve(*arguments: object) -> Iterator[Serving]:
    """Run `yais serve` on free ports while the block lasts; without metrics, unless they are allowed.

    Of its log there are warnings and errors.
    """
    address = ("--grpc-address", "127.0.0.1", "--http-address", "127.0.0.1", "--metrics-address", "127.0.0.1")
    ports = ("--grpc-port", 0, "--http-port", 0, "--metrics-port", 0, "--allow-metrics", 0)
    serving = Serving(*address, *ports, "--log-info", 0, *arguments)
    try:
        yield serving
    finally:
        if serving.process.poll() is None:
            serving.end(15)
