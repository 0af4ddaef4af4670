"""Opens memory of another process, adds one to its floats, and says what they were."""

from __future__ import annotations

import sys

import numpy as np

from yais.memory.cuda.device import cuda_device


def main() -> None:
    handle, count = bytes.fromhex(sys.argv[1]), int(sys.argv[2])
    device = cuda_device(0)
    stream = device.stream()
    array = np.zeros(count, np.float32)
    with device.open_ipc(handle, array.nbytes) as memory:
        stream.copy_out(array, memory.handle)
        stream.sync()
        print(*array.tolist())
        stream.copy_in(memory.handle, array + 1)
        stream.sync()
    stream.close()
    assert device.close()


main()
