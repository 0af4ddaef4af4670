"""200 interleaved sequences, with drops and restarts, against one after the other."""

from __future__ import annotations

import random

import numpy as np
import pytest
from sequence_models import controlled_sum

from yais.core.tensor import DataType, TensorSpec
from yais.engines.onnx import OnnxEngine
from yais.errors import YaisError
from yais.inference.job import Job
from yais.inference.layout import Signature
from yais.inference.request import InferRequest, SequenceStep
from yais.inference.scheduling.sequence import SequencePolicy, SequenceQueue, Strategy
from yais.inference.sequence_tensors import Control, ControlKind, SequenceAdapter, SequenceTensors, State
from yais.testing import ManualClock

INT = DataType.INT32
X = TensorSpec("x", INT, (1,))
SIGNATURE = Signature("M", (X,), (TensorSpec("sum", INT, (1,)), TensorSpec("id", DataType.UINT64, (1,))), 8)
TENSORS = SequenceTensors(
    (
        Control("START", ControlKind.START, INT),
        Control("READY", ControlKind.READY, INT),
        Control("END", ControlKind.END, INT),
        Control("CORRID", ControlKind.CORRID, DataType.UINT64),
    ),
    (State("sum_in", "sum_out", INT, (1,), np.zeros(1, np.int32)),),
)


class Server:
    """The queue, the adapter and an engine, run by hand: two instances, batches that overlap."""

    def __init__(self, strategy: Strategy) -> None:
        self.clock = ManualClock()
        self.queue: SequenceQueue[Job] = SequenceQueue(
            SequencePolicy(8, 2, strategy, candidates=20, max_idle=10**6), "M"
        )
        self.adapter = SequenceAdapter(TENSORS, batching=True)
        self.engine = OnnxEngine(controlled_sum().SerializeToString())
        self.engine.select(
            [X.name, *(spec.name for spec in TENSORS.inputs)],
            ["sum", "id", *(spec.name for spec in TENSORS.outputs)],
        )
        self.busy: list[int] = []
        self.answers: dict[Job, tuple[int, int] | YaisError] = {}

    def push(self, step: SequenceStep, value: int) -> Job:
        request = InferRequest([TensorSpec("x", INT, (1, 1))], [np.array([[value]], np.int32)])
        request.sequence = step
        job = Job(request, SIGNATURE.layout(request), self.clock())
        self.queue.push(job, self.clock())
        return job

    def run(self) -> bool:
        """Run a batch; its instance stays busy until `release`."""
        free = [number for number in range(2) if number not in self.busy]
        batch = self.queue.take(self.clock(), free)
        self.answers |= dict(self.queue.reap(self.clock()))
        if batch is None:
            return False
        self.busy.append(batch.instance)
        x = np.concatenate([np.asarray(job.request.data[0]) for job in batch.items])
        inputs = self.adapter.inputs([x], batch.items, batch)
        outputs = self.adapter.outputs(list(self.engine.execute(inputs)), batch.items, batch)
        for job, total, id_ in zip(batch.items, *outputs, strict=True):
            self.answers[job] = int(total[0]), int(id_[0])
        return True

    def release(self) -> None:
        while self.busy:
            self.queue.released(self.busy.pop(), self.clock())


@pytest.mark.parametrize("strategy", list(Strategy))
def test_every_answer_is_that_of_a_single_thread(strategy: Strategy) -> None:
    chance = random.Random(7)
    server = Server(strategy)
    expected: dict[Job, tuple[int, int]] = {}
    sums = dict.fromkeys(range(1, 201), 0)
    length = {id_: chance.randint(2, 9) for id_ in sums}
    sent = dict.fromkeys(sums, 0)
    dropped = restarted = 0
    while open_ := [id_ for id_ in sums if sent[id_] < length[id_]]:
        id_ = chance.choice(open_)
        start = sent[id_] == 0 or chance.random() < 0.1
        restarted += start and sent[id_] > 0
        sent[id_] += 1
        end = sent[id_] == length[id_] and chance.random() < 0.8  # the others are given up when idle
        dropped += sent[id_] == length[id_] and not end
        value = chance.randint(1, 1000)
        sums[id_] = value + (0 if start else sums[id_])
        expected[server.push(SequenceStep(id_, start, end), value)] = sums[id_], id_
        server.clock.advance_ns(1)
        if chance.random() < 0.3:
            server.run()
            if chance.random() < 0.5:
                server.release()
    for _ in range(10_000):
        if not len(server.queue):
            break
        if not server.run():
            server.clock.advance_ns(10**6)
        server.release()
    assert dropped > 10 and restarted > 20
    assert server.answers == expected
