"""What `yais lb render` writes, looked at by the programs that it is for."""

from __future__ import annotations

import subprocess

import pytest
from balancers import envoy

# isort: split
from serving_models import SOON
from yais_command import run_yais

CASES = {
    "one": ("127.0.0.1:8001",),
    "ipv6": ("[::1]:8001", "[2001:db8::1]:8001", "--address", "::", "--admin-address", "::1"),
    "name": ("localhost:8001", "127.0.0.1:8002"),
    "pools": (
        *("127.0.0.1:8001", "--pool", "a=127.0.0.1:8002,127.0.0.1:8003", "--pool", "b-c=localhost:1"),
        *("--route-model", "resnet-50.v2=a", "--route-model", "other=b-c", "--model-header", "x-model"),
        *("--route-method", "ModelStreamInfer=b-c", "--route-method", "/echo.Echo/Say=a"),
    ),
    "numbers": (
        *("127.0.0.1:8001", "--max-requests", 1, "--connect-timeout", 0.001, "--health-interval", 3600),
        *("--health-service", "a.b/c_d-e", "--retries", 0, "--port", 65535),
    ),
    "more": ("127.0.0.1:8001", "--connect-timeout", 12.3456, "--retries", 10, "--max-requests", 100000),
}


@pytest.mark.parametrize("case", CASES)
def test_envoy_takes_it(case, tmp_path):
    ended = run_yais("lb", "render", *CASES[case])
    (tmp_path / "envoy.yaml").write_text(ended.stdout)  # Envoy goes by the name
    command = [*envoy(), "--mode", "validate", "-c", tmp_path / "envoy.yaml"]
    looked = subprocess.run(command, capture_output=True, text=True, timeout=SOON, check=False)
    assert looked.returncode == 0, looked.stderr
    assert "warning" not in looked.stderr and "deprecated" not in looked.stderr, looked.stderr


@pytest.mark.parametrize("case", CASES)
def test_haproxy_takes_it(case, tmp_path):
    ended = run_yais("lb", "render", "--haproxy", *CASES[case])
    (tmp_path / "haproxy.cfg").write_text(ended.stdout)
    command = ["haproxy", "-c", "-f", tmp_path / "haproxy.cfg"]
    looked = subprocess.run(command, capture_output=True, text=True, timeout=SOON, check=False)
    assert looked.returncode == 0, looked.stderr
    assert "WARNING" not in looked.stderr, looked.stderr


def test_envoy_refuses_what_is_wrong(tmp_path):
    text = run_yais("lb", "render", "127.0.0.1:8001").stdout.replace("0.25s", "-1s", 1)
    (tmp_path / "envoy.yaml").write_text(text)
    command = [*envoy(), "--mode", "validate", "-c", tmp_path / "envoy.yaml"]
    assert subprocess.run(command, capture_output=True, timeout=SOON, check=False).returncode == 1
