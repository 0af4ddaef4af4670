"""examples/99_load_balancer: what its README says to run does what it says."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path

import pytest
from balancers import KINDS, Balancer, envoy, serving

sys.path.append(str(Path(__file__).parents[1] / "examples"))

from balanced_servers import inferences, reserved
from programs import ROOT
from readme_commands import commands
from serving_models import SOON, eventually
from shell_programs import environment, script

EXAMPLE = "99_load_balancer"

pytestmark = pytest.mark.timeout(300)


def free_ports() -> int:
    """Find two free ports that follow each other; return the first."""
    while True:
        with ExitStack() as stack:
            first = stack.enter_context(reserved())
            try:
                stack.enter_context(socket.socket()).bind(("127.0.0.1", first + 1))
            except OSError:
                continue
            return first


def siege(address: str) -> list[str]:
    (words,) = commands(EXAMPLE)
    assert words[2] == "127.0.0.1:50050" and words[-2:] == ["--duration", "10"]
    return [*words[:2], address, *words[3:]]


@pytest.mark.parametrize("kind", KINDS)
def test_a_server_goes_while_siege_runs(kind):
    first, port, admin_port = free_ports(), free_ports(), free_ports()
    path = f"{Path(envoy()[0]).parent}{os.pathsep}{environment()['PATH']}"
    ports = {"PATH": path, "FIRST_PORT": first, "PORT": port, "ADMIN_PORT": admin_port}
    with (
        script(f"examples/{EXAMPLE}/launch_services.sh", 2, **ports) as services,
        script(f"examples/{EXAMPLE}/run_loadbalancer.sh", 2, kind, **ports) as running,
    ):
        process = int(services.line(rf"server 0: port {first}, process (\d+)")[1])
        balancer = Balancer(kind, f"127.0.0.1:{port}", f"127.0.0.1:{admin_port}")
        eventually(lambda: running.process.poll() is None and serving(balancer) == 2)
        with subprocess.Popen(
            siege(balancer.address), cwd=ROOT, env=environment(), stdout=subprocess.PIPE, text=True
        ) as sieging:
            eventually(lambda: inferences(first) > 50)
            os.kill(process, signal.SIGTERM)
            services.line("^Stopped$")
            assert sieging.poll() is None  # so it had requests to lose
            told, _ = sieging.communicate(timeout=SOON)
            # What a busy machine could not send in time was not lost.
            asked, sent, completed, failed = map(int, re.search(r"requests +(.*)", told)[1].split())
            assert asked == 2000 and sent == completed > 1000 and failed == 0, told
        eventually(lambda: balancer.serving() == 1)
        assert inferences(first + 1) > 400
        assert services.end() == 0
