"""Model files in the server's own process: how they are loaded, and what is said of those that cannot be."""

from __future__ import annotations

import pickle
import sys

import numpy as np
import pytest
from python_files import model_file

from yais.engines.python_model import load_python_model
from yais.errors import InvalidArgument

ONES = np.ones(2, np.float32)


OTHERS: set[str] = set()
"""Modules of models that tests in other files have left."""


@pytest.fixture(scope="module", autouse=True)
def no_others():
    OTHERS.update(modules())


def modules():
    return {name for name in sys.modules if name.startswith("yais_python_model_")} - OTHERS


def test_a_model_is_initialized_executed_and_finalized(tmp_path):
    config = model_file(
        tmp_path,
        """
        class Model:
            def initialize(self, config):
                self.factor = float(config.parameters["factor"])
                self.journal = config.path.with_name("journal")
                self.journal.write_text(f"{config.name} {config.version} {config.max_batch} {__name__}")

            def execute(self, inputs):
                return {"y": inputs["x"] * self.factor}

            def finalize(self):
                self.journal.write_text("finalized")
        """,
        parameters={"factor": "3"},
    )
    engine = load_python_model(config)
    journal = tmp_path / "journal"
    (name,) = modules()
    assert journal.read_text() == f"m 1 0 {name}"
    assert engine.execute([ONES])[0].tolist() == [3, 3]
    engine.close()
    assert journal.read_text() == "finalized"
    assert modules() == set()
    assert {path.name for path in tmp_path.iterdir()} == {"journal", "model.py"}  # no bytecode


def test_initialize_and_finalize_may_be_left_out(tmp_path):
    engine = load_python_model(
        model_file(tmp_path, "class Model:\n def execute(self, inputs): return {'y': [1]}")
    )
    assert engine.execute([ONES])[0].tolist() == [1]
    engine.close()


def test_every_load_is_a_module_of_its_own(tmp_path):
    config = model_file(
        tmp_path,
        """
        count = 0
        class Model:
            def execute(self, inputs):
                global count
                count += 1
                return {"y": [count]}
        """,
    )
    first, second = load_python_model(config), load_python_model(config)
    assert [engine.execute([ONES])[0][0] for engine in (first, first, second)] == [1, 2, 1]
    first.close()
    assert second.execute([ONES])[0][0] == 2
    second.close()
    assert "model" not in sys.modules and modules() == set()


def test_the_module_is_found_by_those_who_look_it_up(tmp_path):
    """As dataclasses do for annotations that are text, and pickle for classes."""
    source = """
        from __future__ import annotations
        import pickle
        from dataclasses import dataclass

        @dataclass
        class Point:
            x: int

        class Model:
            def execute(self, inputs):
                return {"y": [pickle.loads(pickle.dumps(Point(7))).x]}
        """
    engine = load_python_model(model_file(tmp_path, source))
    assert engine.execute([ONES])[0].tolist() == [7]
    engine.close()


REFUSES = """
import yais
class Model:
    def initialize(self, config):
        raise yais.InvalidArgument("no factor")
    def execute(self, inputs):
        pass
"""

BROKEN = {
    "syntax": ("x = 1\nclass Model\n", ", line 2: SyntaxError: expected ':'"),
    "raises": ("x = 1\n\nx / 0\n", ", line 3: ZeroDivisionError: division by zero"),
    "exits": ("import sys\nsys.exit('no licence')\n", ", line 2: SystemExit: no licence"),
    "import": ("import no_such_thing\n", ", line 1: ModuleNotFoundError: No module named 'no_such_thing'"),
    "no class": ("model = 1\n", " has no class 'Model' with a method 'execute'"),
    "no type": ("Model = 1\n", " has no class 'Model' with a method 'execute'"),
    "no execute": ("class Model: pass\n", " has no class 'Model' with a method 'execute'"),
    "not made": (
        "class Model:\n def __init__(self, x): pass\n def execute(self, inputs): pass\n",
        ": TypeError: Model.__init__() missing 1 required positional argument: 'x'",
    ),
    "not initialized": (
        "class Model:\n def initialize(self, config):\n  int('a')\n def execute(self, inputs): pass\n",
        ", line 3: ValueError: invalid literal for int() with base 10: 'a'",
    ),
    "refuses": (REFUSES, ", line 5: InvalidArgument: no factor"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_file_that_cannot_be_loaded(tmp_path, name):
    source, text = BROKEN[name]
    config = model_file(tmp_path, source)
    with pytest.raises(InvalidArgument) as caught:
        load_python_model(config)
    assert str(caught.value) == f"{config.path}{text}"
    assert modules() == set()


def test_the_module_is_forgotten_although_finalize_raises(tmp_path, caplog):
    source = "class Model:\n def execute(self, inputs): pass\n def finalize(self): 1 / 0"
    load_python_model(model_file(tmp_path, source)).close()
    assert "ZeroDivisionError" in caplog.text and modules() == set()


def test_its_configuration_can_be_sent_to_a_worker(tmp_path):
    config = model_file(tmp_path, "", parameters={"key": "value"})
    assert pickle.loads(pickle.dumps(config)) == config
