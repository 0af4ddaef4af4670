"""One model in several sessions, each for some of its instances."""

from __future__ import annotations

import numpy as np
import pytest
from small_models import identity, three_outputs

from yais.core.tensor import DataType
from yais.engines.onnx import OnnxEngine, OnnxOptions
from yais.engines.placed_engine import PlacedEngine
from yais.errors import InvalidArgument

ONE_THREAD = OnnxOptions(intra_op_threads=1)


def test_every_instance_has_its_engine():
    sessions = [OnnxEngine(identity(DataType.FP32, ("n",)), ONE_THREAD) for _ in range(2)]
    engine = PlacedEngine(sessions, [0, 0, 1])
    assert [engine.at(instance) for instance in range(3)] == [sessions[0], sessions[0], sessions[1]]
    assert engine.execute([np.ones(2, np.float32)])[0].tolist() == [1, 1]
    assert repr(engine).endswith("2 engines for 2, 1 instances>")


def test_all_are_selected_and_closed():
    sessions = [OnnxEngine(three_outputs(), ONE_THREAD) for _ in range(2)]
    engine = PlacedEngine(sessions, [1, 0])
    engine.select(["b", "a"], ["product"])
    for each in (engine, *sessions):
        assert [spec.name for spec in (*each.inputs, *each.outputs)] == ["b", "a", "product"]
    with pytest.raises(InvalidArgument):
        engine.select(["a"], ["product"])
    engine.close()
    for session in sessions:
        with pytest.raises(Exception, match="NoneType"):
            session.execute([np.ones((1, 2), np.float32)] * 2)
    engine.close()
