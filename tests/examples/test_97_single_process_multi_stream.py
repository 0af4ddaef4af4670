"""One process, many streams: what its README says to run."""

from __future__ import annotations

import subprocess

import grpc
import pytest
from programs import ROOT, TIMEOUT
from readme_commands import commands
from shell_programs import environment, script

from yais.protocol import kserve_pb2 as pb

EXAMPLE = "97_single_process_multi_stream"
HERE = ("--grpc-address", "127.0.0.1", "--grpc-port", 0, "--allow-http", 0, "--allow-metrics", 0)


@pytest.fixture(scope="module")
def port():
    with script(f"examples/{EXAMPLE}/launch_service.sh", 3, *HERE) as service:
        yield service.line(r"Started GRPCInferenceService at .*:(\d+)$")[1]
        assert service.end() == 0


def test_the_model_has_as_many_executions(port):
    with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
        ask = channel.unary_unary(
            "/inference.GRPCInferenceService/ModelConfig",
            request_serializer=pb.ModelConfigRequest.SerializeToString,
            response_deserializer=pb.ModelConfigResponse.FromString,
        )
        config = ask(pb.ModelConfigRequest(name="digits"), timeout=TIMEOUT).config
    assert [group.count for group in config.instance_group] == [3]


@pytest.mark.parametrize("number", [0, 1])
def test_what_the_readme_measures(port, number):
    command = [word.replace(":8001", f":{port}") for word in commands(EXAMPLE)[number]]
    ended = subprocess.run(
        command, cwd=ROOT, env=environment(), capture_output=True, text=True, timeout=TIMEOUT, check=False
    )
    assert ended.returncode == 0, ended.stderr
    assert "inferences/s" in ended.stdout or "inf/s" in ended.stdout, ended.stdout
