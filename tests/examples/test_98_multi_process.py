"""Several processes for one model: what its README says to run."""

from __future__ import annotations

import re
import subprocess

import pytest
from programs import ROOT, TIMEOUT, client, lines
from readme_commands import commands, printed, program
from shell_programs import environment

EXAMPLE = "98_multi_process"


@pytest.mark.parametrize("number", [0, 1])
def test_what_the_readme_measures(number):
    (line,) = lines(*program(commands(EXAMPLE)[number]), "--seconds", 0.2)
    ((*shown,),) = printed(EXAMPLE)
    like = re.sub(r"[\d.]+", lambda _: r"[\d.]+", shown[number])
    assert re.fullmatch(like, line), line
    assert line.startswith("2 processes: ")


def test_a_model_that_is_not_there():
    ended = client(f"{EXAMPLE}/run_test.py", "latency", 1, "--model", "none")
    assert ended.returncode == 1 and "none" in ended.stderr
    assert ended.stderr.splitlines()[-1].startswith("NOT_FOUND: ") and "Traceback" not in ended.stderr


def test_no_process():
    ended = client(f"{EXAMPLE}/run_test.py", "latency", 0)
    assert ended.returncode == 2 and "got 0 copies, expected at least 1" in ended.stderr


@pytest.mark.parametrize("arguments", [[], ["begin"]])
def test_mps_needs_the_driver_and_to_be_told_what(arguments, tmp_path):
    def run(path: str) -> subprocess.CompletedProcess[str]:
        command = ["/bin/bash", f"examples/{EXAMPLE}/mps.sh", *arguments]
        env = {**environment(), "PATH": path}
        return subprocess.run(
            command, cwd=ROOT, env=env, capture_output=True, text=True, timeout=TIMEOUT, check=False
        )

    without = run("/none")
    assert without.returncode == 1 and "no nvidia-cuda-mps-control" in without.stderr
    (tmp_path / "nvidia-cuda-mps-control").write_text("#!/bin/sh\n")
    (tmp_path / "nvidia-cuda-mps-control").chmod(0o755)
    unsaid = run(str(tmp_path))
    assert unsaid.returncode == 2 and unsaid.stderr == "usage: mps.sh start|stop\n"


def test_mps_starts_and_stops_its_control(tmp_path):
    said = tmp_path / "said"
    control = tmp_path / "nvidia-cuda-mps-control"
    control.write_text(
        f'#!/bin/bash\necho "$CUDA_MPS_PIPE_DIRECTORY $*" >>{said}\n[[ $* ]] || cat >>{said}\n'
    )
    control.chmod(0o755)
    env = environment(CUDA_MPS_PIPE_DIRECTORY=tmp_path / "pipe", CUDA_MPS_LOG_DIRECTORY=tmp_path / "log")
    env["PATH"] = f"{tmp_path}:{env['PATH']}"
    for what in ("start", "stop"):
        subprocess.run([f"examples/{EXAMPLE}/mps.sh", what], cwd=ROOT, env=env, timeout=TIMEOUT, check=True)
    assert said.read_text() == f"{tmp_path}/pipe -d\n{tmp_path}/pipe \nquit\n"
    assert (tmp_path / "pipe").is_dir() and (tmp_path / "log").is_dir()
