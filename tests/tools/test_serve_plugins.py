"""`yais serve` with models of installed packages."""

from __future__ import annotations

import signal
import sys
from pathlib import Path

import numpy as np
import pytest
from serving_models import Wire, infer_request, outputs_of
from yais_command import yais_serve

from yais.protocol import kserve_pb2 as pb

sys.path.append(str(Path(__file__).parents[1] / "engines"))

from plugin_packages import write_package


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a repository: a model of a package, one of a broken package, one of none."""
    points = {"scale": "scale_engines:KIND", "broken": "scale_engines:GONE"}
    packages = write_package(tmp_path / "packages", points)
    monkeypatch.setenv("PYTHONPATH", str(packages), prepend=":")
    root = tmp_path / "models"
    for name, file in (("thrice", "model.scale"), ("sick", "model.sick"), ("foreign", "saved_model.pb")):
        (root / name / "1").mkdir(parents=True)
        (root / name / "1" / file).write_text("3")
    (root / "sick" / "config.pbtxt").write_text("backend: 'broken'")
    (root / "foreign" / "config.pbtxt").write_text("platform: 'tensorflow_savedmodel'")
    return root


def test_a_package_brings_a_kind_of_models(root: Path) -> None:
    with yais_serve("--model-repository", root, "--exit-on-error", "false") as serving:
        with Wire(serving.port) as wire:
            response = wire.infer(infer_request("thrice", {"x": np.ones((2, 2), np.float32)}))
            np.testing.assert_array_equal(outputs_of(response)["y"], np.full((2, 2), 3, np.float32))
            config = wire.call("ModelConfig", pb.ModelConfigRequest(name="thrice"))
            assert (config.config.backend, config.config.platform) == ("scale", "scale_number")
            index = wire.call("RepositoryIndex", pb.RepositoryIndexRequest())
            reasons = {model.name: model.reason for model in index.models}
        status, errors = serving.end(signal.SIGTERM)
    assert status == 0
    assert reasons["thrice"] == ""
    assert "scale_engines:GONE cannot be used: AttributeError" in reasons["sick"]
    assert "expected one of 'onnxruntime', 'python', 'tensorrt', 'pytorch', 'scale', or" in reasons["foreign"]
    assert errors.count("no engines of kind 'broken', from scale_engines:GONE: AttributeError") == 1
