"""Many threads on one device."""

from __future__ import annotations

import functools
import random
import threading

import numpy as np

from yais.testing.cuda import FakeCuda

SOON = 60.0


def test_threads_that_allocate_copy_and_free():
    wrong = []

    def work(device, seed):
        rng = random.Random(seed)
        try:
            stream = device.stream()
            for turn in range(40):
                size = rng.randrange(1, 5000)
                with device.memory().allocate(size) as memory, device.staging().allocate(size) as pinned:
                    array = pinned.array(np.uint8)
                    array[:] = value = (seed * 41 + turn) % 256
                    stream.copy_in(memory.handle, array)
                    stream.completed().result(SOON)
                    array[:] = 0
                    graph = stream.capture(functools.partial(stream.copy_out, array, memory.handle))
                    graph.launch(stream)
                    event = stream.record()
                    event.sync()
                    if not (array == value).all():
                        wrong.append((seed, turn))
                    if rng.random() < 0.5:
                        graph.close()
                    del array, graph
                if rng.random() < 0.1:
                    stream.close()
                    stream = device.stream()
                if rng.random() < 0.1:
                    device.statistics()
        except BaseException as error:
            wrong.append(error)

    with FakeCuda(gpus=2) as cuda:
        threads = [threading.Thread(target=work, args=(cuda.device(seed % 2), seed)) for seed in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(SOON)
        assert not any(thread.is_alive() for thread in threads)
        assert wrong == []
        assert sum(cuda.device(index).statistics().held_bytes["pinned"] for index in (0, 1)) == 0
    assert cuda.held == {}
