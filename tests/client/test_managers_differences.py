"""In what a manager of models elsewhere differs from one of models here: the table in docs/remote.md."""

from __future__ import annotations

import threading

import numpy as np
import pytest
from both_managers import SOON, Gate, register_all, served

import yais
from yais.inference.manager import InferenceManager

ONE = np.ones((1, 1), np.float32)
FOUR = np.ones((1, 4), np.float32)


@pytest.fixture
def own():
    """A manager to be changed by the test, one of the same models elsewhere, and their gate, open."""
    gate = Gate()
    gate.open.set()
    with InferenceManager(max_exec_concurrency=2) as here:
        register_all(here, gate)
        here.allocate()
        with (
            served(here) as server,
            yais.RemoteInferenceManager(f"127.0.0.1:{server.port}", timeout=SOON) as there,
        ):
            yield here, there, gate
            gate.open.set()


def test_arrays_of_outputs(local, remote):
    assert local.infer_runner("twice").infer(X=FOUR).get(SOON)["Y"].flags.writeable
    assert not remote.infer_runner("twice").infer(X=FOUR).get(SOON)["Y"].flags.writeable


def test_a_deadline_that_passes_while_it_is_executed(local, remote, gate):
    with gate.closed(local):
        here = local.infer_runner("gate").infer_with_deadline(0.5, X=ONE)
        assert gate.asked.acquire(timeout=SOON)
        assert not here.wait(0.6)
        gate.open.set()
        assert here.get(SOON)["Y"].tolist() == [[1.0]]
    with gate.closed(local):
        there = remote.infer_runner("gate").infer_with_deadline(0.05, X=ONE)
        with pytest.raises(yais.DeadlineExceeded):
            there.result(SOON)


def test_cancelling_what_is_executed(local, remote, gate):
    with gate.closed(local):
        here = local.infer_runner("gate").infer(X=ONE)
        assert gate.asked.acquire(timeout=SOON)
        assert here.running() and not here.cancel()
        there = remote.infer_runner("gate").infer(X=ONE)
        assert there.cancel() and there.cancelled()
        gate.open.set()
        assert here.get(SOON)["Y"].tolist() == [[1.0]]


def test_a_model_that_was_unregistered(own):
    here, there, _ = own
    runners = here.infer_runner("twice"), there.infer_runner("twice")
    assert here.unregister("twice", SOON)
    for runner, kind in zip(runners, (yais.Unavailable, yais.NotFound), strict=True):
        with pytest.raises(kind):
            runner.infer(X=FOUR).result(SOON)


def test_closing(own):
    here, there, gate = own
    gate.open.clear()
    future = there.infer_runner("gate").infer(X=ONE)
    assert gate.asked.acquire(timeout=SOON)
    assert there.close()
    with pytest.raises(yais.Cancelled):
        future.result(SOON)
    gate.open.set()
    assert here.infer_runner("gate").infer(X=ONE).get(SOON)
    gate.open.clear()
    future = here.infer_runner("gate").infer(X=ONE)
    closed = []
    closing = threading.Thread(target=lambda: closed.append(here.close(SOON)))
    closing.start()
    closing.join(0.05)
    assert not closed and not future.done()
    gate.open.set()
    assert future.result(SOON)["Y"].tolist() == [[1.0]]
    closing.join(SOON)
    assert closed == [True]
