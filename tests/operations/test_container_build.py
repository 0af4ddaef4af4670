"""The Dockerfile, built without an engine: what is in the image, and that it serves as a pod would run it."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from containers import ROOT, Images, contained, run, stop

from yais import RemoteInferenceManager

BASE = "docker.io/library/python:3.11-slim-bookworm"
IMAGE = "yais:cpu"

LARGEST = 320 << 20
"""Bytes that the image may add to its base. 232 MB when this was written."""

RIGHTS = """
import json, os
writable = [
    folder for folder, _, _ in os.walk("/")
    if not folder.startswith(("/proc", "/sys", "/dev")) and os.access(folder, os.W_OK)
]
status = dict(line.rstrip("\\n").split(":\\t", 1) for line in open("/proc/self/status") if ":\\t" in line)
print(json.dumps([writable, os.getuid(), status["CapEff"], status["CapBnd"], status["NoNewPrivs"]]))
"""

pytestmark = pytest.mark.timeout(900)


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Images]:
    """The target cpu, on Debian's Python in the place of the image that would be pulled."""
    images = Images(tmp_path_factory.mktemp("images"))
    try:
        images.debian(BASE, "python3", "python3-venv", "ca-certificates")
        images.build("cpu", IMAGE)
        yield images
    finally:
        images.close()


@pytest.fixture(scope="module")
def tree(images: Images) -> Iterator[Path]:
    with images.tree(IMAGE) as tree:
        yield tree


@pytest.fixture(scope="module")
def config(images: Images) -> dict[str, Any]:
    return images.config(IMAGE)


def test_it_says_how_it_is_run(config: dict[str, Any]) -> None:
    assert config["Entrypoint"] == ["yais", "serve"] and "Cmd" not in config
    assert config["User"] == "10001:10001"
    assert config["StopSignal"] == "SIGTERM"
    assert sorted(config["ExposedPorts"]) == ["8000/tcp", "8001/tcp", "8002/tcp"]
    assert config["Labels"]["org.opencontainers.image.licenses"] == "BSD-3-Clause"


def test_what_is_installed_is_what_is_locked(tree: Path) -> None:
    """And each package has its dist-info, which scanners and bills of materials are made of."""
    text = (ROOT / "container/cpu.txt").read_text(encoding="utf-8")
    locked = {*re.findall(r"^([\w.-]+)==", text, re.MULTILINE), "yais"}
    found = [path.name.split("-")[0] for path in tree.glob("opt/yais/lib/python3*/site-packages/*.dist-info")]
    assert sorted(name.lower().replace("_", "-") for name in found) == sorted(locked)


def test_it_is_small_and_has_no_tools(tree: Path) -> None:
    installed = tree / "opt/yais"
    size = sum(path.lstat().st_size for path in installed.rglob("*"))
    print(f"/opt/yais has {size / 1e6:.0f} MB")
    assert size < LARGEST
    programs = {
        path.name
        for path in [*tree.glob("usr/bin/*"), *tree.glob("usr/local/bin/*"), *installed.glob("bin/*")]
    }
    assert "yais" in programs
    assert programs.isdisjoint({"gcc", "cc", "g++", "make", "git", "pip"})
    assert not (tree / "src").exists() and not (tree / "wheels").exists()


@pytest.mark.parametrize("frontends", [0, 2])
def test_it_serves_as_a_pod_does(tree: Path, config: dict[str, Any], frontends: int) -> None:
    ports = (
        f"--frontends={frontends}",
        "--grpc-port=0",
        "--http-port=0",
        "--metrics-port=0",
        "--grpc-address=127.0.0.1",
    )
    with contained(tree, config, *ports, mounts={"/models": ROOT / "examples/models"}) as process:
        assert process.stdout is not None
        lines = []
        for line in process.stdout:
            lines.append(line.strip())
            if line.startswith("Started GRPCInferenceService"):
                break
        address = lines[-1].rpartition(" ")[2]
        assert re.fullmatch(r"127\.0\.0\.1:\d+", address), lines
        with RemoteInferenceManager(address) as manager:
            x, y = np.arange(16, dtype=np.int32)[None], np.ones((1, 16), np.int32)
            outputs = manager.infer_runner("simple").infer(INPUT0=x, INPUT1=y).get()
            np.testing.assert_array_equal(outputs["OUTPUT0"], x + y)
        stop(process)
        output, errors = process.communicate(timeout=60)
        assert process.returncode == 0 and "Stopped" in output, errors
    assert "Error" not in errors and "Traceback" not in errors


def test_it_can_write_nowhere_but_where_it_may(tree: Path, config: dict[str, Any]) -> None:
    asked = {**config, "Entrypoint": ["python3", "-c", RIGHTS]}
    with contained(tree, asked, mounts={}) as process:
        output, errors = process.communicate(timeout=60)
    assert process.returncode == 0, errors
    assert json.loads(output) == [["/tmp"], 10001, "0" * 16, "0" * 16, "1"]


def test_the_wheel_is_built_of_what_is_there(tree: Path) -> None:
    """.dockerignore leaves nothing out that a wheel has."""
    packed = {path.relative_to(ROOT) for path in (ROOT / "yais").rglob("*.py")}
    (site,) = tree.glob("opt/yais/lib/python3*/site-packages")
    assert [str(path) for path in packed if not (site / path).is_file()] == []
    assert run("ls", site / "yais/py.typed")
