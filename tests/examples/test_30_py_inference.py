"""The example of one manager for models here and elsewhere."""

from __future__ import annotations

import numpy as np
import pytest
from programs import client, lines, module, server

import yais

digits = module("30_py_inference", "digits")


@pytest.fixture(scope="module")
def here():
    """What is printed when the models are in the same process: the plan, and how it went."""
    return lines("30_py_inference/local.py")


def test_here(here):
    *plan, found = here
    assert plan[0].startswith("Creating 2 execution tokens") and plan[-1].startswith("Total host memory")
    assert found.startswith("['decide', 'digits']: 35")


def test_elsewhere_is_no_different(here):
    with server("30_py_inference/server.py") as port:
        assert lines("30_py_inference/remote.py", "--port", port) == here[-1:]
        (undecided,) = lines("30_py_inference/remote.py", "--port", port, "--certain", "1.1")
        assert undecided == "['decide', 'digits']: 0 of 0 right, 360 undecided"


def test_elsewhere_on_several_servers(here):
    with server("30_py_inference/server.py") as one, server("30_py_inference/server.py") as two:
        assert lines("30_py_inference/remote.py", "--port", one, two) == here[-1:]


def test_there_is_no_server():
    ended = client("30_py_inference/remote.py", "--port", "1")
    assert (ended.returncode, ended.stderr.split(":")[0]) == (1, "UNAVAILABLE")


def test_bad_answers_are_said_to_be_bad(capsys):
    images, labels = digits.held_out()
    with digits.local_manager() as manager:
        assert digits.recognise(manager, images[:40], 0.0).shape == (40,)  # more than a batch
        assert digits.report(manager, 0.5)
        manager.unregister("decide")
        manager.register(
            "decide",
            lambda arrays: {"digit": np.zeros(len(arrays["probabilities"]), np.int64)},
            inputs=[digits.PROBABILITIES, digits.CERTAIN],
            outputs=[digits.DIGIT],
        )
        assert not digits.report(manager, 0.5)
        assert f": {int(np.sum(labels == 0))} of {len(labels)} right" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("certain", "expected"), [(0.0, [1, 0]), (0.7, [-1, 0]), (0.9, [-1, 0]), (1.0, [-1, -1])]
)
def test_deciding(certain, expected):
    probabilities = np.zeros((2, 10), np.float32)
    probabilities[0, :2] = 0.4, 0.6
    probabilities[1, :2] = 0.95, 0.05
    decided = digits.decide({"probabilities": probabilities, "certain": np.array([certain], np.float32)})
    assert decided["digit"].tolist() == expected


def test_what_decides_is_a_model_like_another():
    with digits.local_manager() as manager, pytest.raises(yais.InvalidArgument, match="certain"):
        manager.infer_runner("decide").infer(probabilities=np.zeros((1, 10)))
