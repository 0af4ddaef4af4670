"""What a repository of models runs with: how it ends."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor

from serving_models import SOON

from yais.serving.options import ServerOptions
from yais.serving.repository_host import RepositoryHost

CONFIG = """
    backend: "python"
    input { name: "x" data_type: TYPE_FP32 dims: [ 1 ] }
    output { name: "y" data_type: TYPE_FP32 dims: [ 1 ] }
"""


def test_a_model_that_does_not_load_is_no_clean_end(tmp_path):
    gate, version = tmp_path / "gate", tmp_path / "models/slow/1"
    os.mkfifo(gate)
    version.mkdir(parents=True)
    (version.parent / "config.pbtxt").write_text(CONFIG)
    (version / "model.py").write_text(f"from pathlib import Path\nPath({str(gate)!r}).read_bytes()\n")
    host = RepositoryHost(ServerOptions((tmp_path / "models",)))
    with ThreadPoolExecutor(1) as threads:
        loading = threads.submit(host.repository.load_all)
        with gate.open("wb"):  # once the model reads
            assert host.close(0.1) is False
        loading.exception(SOON)
    assert host.close(SOON) is True
