"""Envoy and HAProxy as processes, configured by `yais lb render`."""

from __future__ import annotations

import csv
import json
import os
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

sys.path.append(str(Path(__file__).parents[1] / "client"))
sys.path.append(str(Path(__file__).parents[1] / "serving"))

from balanced_servers import reserved
from serving_models import SOON, eventually
from yais_command import run_yais

ROOT = Path(__file__).parents[2]
KINDS = ("envoy", "haproxy")


class Balancer:
    """A running balancer.

    Attributes
    ----------
    address
        Where it listens.
    """

    def __init__(self, kind: str, address: str, admin: str) -> None:
        self.address = address
        self._admin = f"http://{admin}"
        self.serving = self._envoy_serving if kind == "envoy" else self._haproxy_serving
        """Counts the servers that have answered that they serve."""

    def _envoy_serving(self) -> int:
        clusters = json.loads(_read(f"{self._admin}/clusters?format=json"))["cluster_statuses"]
        hosts = [host for cluster in clusters for host in cluster.get("host_statuses", [])]
        return sum(host["health_status"] == {"eds_health_status": "HEALTHY"} for host in hosts)

    def _haproxy_serving(self) -> int:
        rows = csv.DictReader(_read(f"{self._admin}/;csv").removeprefix("# ").splitlines())
        # UP from the start; after the first check it says of what kind that was, too.
        return sum(row["status"] == "UP" and row["check_status"] == "L7OK" for row in rows)


@contextmanager
def balancing(kind: str, at: Path, *render: object, servers: int) -> Iterator[Balancer]:
    """Run a balancer while the block lasts; it begins when so many servers are known to serve.

    Parameters
    ----------
    kind
        One of `KINDS`.
    at
        A directory for its files.
    render
        Arguments of `yais lb render`.
    """
    with reserved() as port, reserved() as admin_port:
        # Envoy's admin listens without SO_REUSEPORT, and writes down where.
        where = ("--address", "127.0.0.1", "--port", port)
        where += ("--haproxy", "--admin-port", admin_port) if kind == "haproxy" else ("--admin-port", 0)
        rendered = run_yais("lb", "render", *where, *render)
        assert rendered.returncode == 0, rendered.stderr
        (at / "config.yaml").write_text(rendered.stdout)
        (at / "admin").write_text(f"127.0.0.1:{admin_port}" if kind == "haproxy" else "")
        with _process(kind, at) as process:
            eventually(lambda: _runs(process, at) and (at / "admin").read_text())
            balancer = Balancer(kind, f"127.0.0.1:{port}", (at / "admin").read_text())
            eventually(lambda: _runs(process, at) and serving(balancer) == servers)
            yield balancer


def _runs(process: subprocess.Popen[bytes], at: Path) -> bool:
    assert process.poll() is None, (at / "log").read_text()
    return True


def serving(balancer: Balancer) -> int:
    """Count the servers that a balancer sends requests to; 0 before it listens."""
    try:
        return balancer.serving()
    except OSError:
        return 0


@contextmanager
def _process(kind: str, at: Path) -> Iterator[subprocess.Popen[bytes]]:
    command = (
        [*envoy(), "--admin-address-path", at / "admin", "-c"]
        if kind == "envoy"
        else ["haproxy", "-db", "-f"]
    )
    with (at / "log").open("w") as log:
        process = subprocess.Popen([*command, at / "config.yaml"], stdout=log, stderr=subprocess.STDOUT)
    try:
        yield process
    finally:
        process.terminate()
        try:
            process.wait(SOON)
        finally:
            process.kill()
            process.wait()


def envoy() -> list[str | Path]:
    """Return the command that runs Envoy, which is fetched if need be."""
    env = {**os.environ, "PYTHON": sys.executable}
    found = subprocess.run(
        [ROOT / "scripts/envoy"], stdout=subprocess.PIPE, text=True, env=env, timeout=300, check=True
    )
    return [found.stdout.strip(), "--disable-hot-restart", "--concurrency", "1", "--log-level", "warn"]


def _read(url: str) -> str:
    with urllib.request.urlopen(url, timeout=SOON) as response:
        return response.read().decode()
