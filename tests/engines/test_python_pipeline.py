"""Files with a pipeline, and files that say their own configuration."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

import numpy as np
import pytest
from python_files import model_file

from yais.engines.python_model import PythonFile, load_python_model
from yais.engines.python_pipeline import PythonPipeline
from yais.engines.worker_engine import WorkerEngine
from yais.engines.worker_process import WorkerProcess
from yais.errors import FailedPrecondition, InvalidArgument, Unavailable

PIPELINE = """
    from pathlib import Path

    def initialize(config):
        global factor
        factor = int(config.parameters["factor"])

    def finalize():
        Path(__file__).with_name("closed").touch()

    async def pipeline(inputs, models):
        return {"y": inputs["x"] * factor}
"""

EMPTY = {"name": "m", "max_batch_size": 0, "input": [], "output": []}

COMPLETING = """
    class Model:
        @staticmethod
        def auto_complete_config(config):
            import os
            config.set_max_batch_size(3)
            config.add_input({"name": str(os.getpid()), "data_type": "TYPE_FP32", "dims": [-1]})
            return config

        def execute(self, inputs):
            return {"y": inputs["x"]}
"""


def modules():
    return {name for name in sys.modules if name.startswith("yais_python_model_")}


def test_a_pipeline_is_taken_from_its_file(tmp_path):
    before = modules()
    engine = load_python_model(model_file(tmp_path, PIPELINE, parameters={"factor": "3"}))
    assert type(engine) is PythonPipeline and not engine.decoupled
    x = np.ones(2, np.float32)
    assert asyncio.run(engine.function({"x": x}, None))["y"].tolist() == [3, 3]
    with pytest.raises(FailedPrecondition, match="calls other models"):
        engine.execute([x])
    engine.select(["x"], ["y"])
    assert repr(engine) == "<PythonPipeline x: FP32[-1] -> y: FP32[-1]>"
    engine.close()
    assert modules() == before
    (tmp_path / "closed").unlink()
    engine.close()
    assert not (tmp_path / "closed").exists()


def test_a_file_with_both_has_a_model(tmp_path):
    source = "async def pipeline(inputs, models): pass\n"
    source += "class Model:\n def execute(self, inputs): return {'y': [1]}"
    engine = load_python_model(model_file(tmp_path, source))
    assert engine.execute([np.ones(1, np.float32)])[0].tolist() == [1]
    engine.close()


def test_a_pipeline_may_answer_several_times(tmp_path):
    source = "async def pipeline(inputs, models):\n    yield {}"
    engine = load_python_model(model_file(tmp_path, source))
    assert engine.decoupled
    engine.close()


def test_a_pipeline_is_asynchronous(tmp_path):
    before = modules()
    with pytest.raises(InvalidArgument, match=r"model\.py has a 'pipeline' that is no 'async def'$"):
        load_python_model(model_file(tmp_path, "def pipeline(inputs, models): pass"))
    assert modules() == before


def test_a_pipeline_has_no_worker(tmp_path):
    with pytest.raises(InvalidArgument, match="a pipeline, which calls other models"):
        WorkerEngine(model_file(tmp_path, PIPELINE, parameters={"factor": "3"}))


def test_a_model_fills_its_configuration_in(tmp_path):
    config = model_file(tmp_path, COMPLETING)
    file = PythonFile(config.path)
    completed = file.auto_complete(EMPTY)
    assert completed is not None and completed["max_batch_size"] == 3
    file.close()


def test_a_model_that_says_nothing(tmp_path):
    file = PythonFile(model_file(tmp_path, "class Model:\n def execute(self, inputs): pass").path)
    assert file.auto_complete(EMPTY) is None
    assert repr(file).endswith("model.py: a model>")
    file.close()


@pytest.mark.parametrize(
    ("body", "why"),
    [
        (
            "return None",
            r"auto_complete_config of .*model\.py returned a NoneType, expected the configuration",
        ),
        ("return config.as_dict()", "returned a dict"),
        ("config.add_input({})", r"model\.py, line 3: ValueError: input in auto_complete_config"),
        ("1 / 0", r"model\.py, line 3: ZeroDivisionError"),
    ],
)
def test_a_configuration_that_cannot_be_filled_in(tmp_path, body, why):
    source = f"class Model:\n    def auto_complete_config(config):\n        {body}\n"
    file = PythonFile(model_file(tmp_path, source).path)
    with pytest.raises(InvalidArgument, match=why):
        file.auto_complete(EMPTY)
    file.close()


def test_a_worker_is_asked_for_the_configuration(tmp_path):
    process = WorkerProcess(model_file(tmp_path, COMPLETING), 20.0)
    completed = process.auto_complete(EMPTY, 20.0)
    assert completed is not None and completed["input"][0]["name"] == str(process.pid)
    assert not process.alive


def test_a_worker_that_cannot_say_its_configuration(tmp_path):
    source = "class Model:\n    def auto_complete_config(config):\n        {}\n"
    config = model_file(tmp_path, source.format("1 / 0"))
    with pytest.raises(InvalidArgument, match=r"model\.py, line 3: ZeroDivisionError"):
        WorkerProcess(config, 20.0).auto_complete(EMPTY, 20.0)
    Path(config.path).write_text(source.format("import os; os._exit(4)"))
    with pytest.raises(Unavailable, match="ended with exit status 4"):
        WorkerProcess(config, 20.0).auto_complete(EMPTY, 20.0)
