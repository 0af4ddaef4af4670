"""A client in a process of its own, with Triton's helpers for shared memory: `program port`.

Adds and subtracts with the model `simple`, all tensors in shared memory, as Triton's own example does.
"""

from __future__ import annotations

import sys
from multiprocessing.shared_memory import SharedMemory

import numpy as np
import tritonclient.grpc as triton
from tritonclient.utils import shared_memory

BYTES = 64  # of each tensor: 16 of INT32
TIMEOUT = 20.0


def placed(tensor, region, offset=0):
    """Return an input or output whose contents are in a region."""
    tensor.set_shared_memory(region, BYTES, offset)
    return tensor


def add_and_subtract(client, run):
    """Check one request through regions of this run's own."""
    name = f"yais-client-{run}"
    inputs = shared_memory.create_shared_memory_region("inputs", f"/{name}-in", 2 * BYTES, create_only=True)
    outputs = SharedMemory(f"{name}-out", create=True, size=2 * BYTES)
    a, b = np.arange(16, dtype=np.int32) + run, np.full(16, 3, np.int32)
    shared_memory.set_shared_memory_region(inputs, [a, b])
    client.register_system_shared_memory("inputs", f"/{name}-in", 2 * BYTES, client_timeout=TIMEOUT)
    client.register_system_shared_memory("outputs", outputs.name, 2 * BYTES, client_timeout=TIMEOUT)
    assert set(client.get_system_shared_memory_status(client_timeout=TIMEOUT).regions) == {
        "inputs",
        "outputs",
    }
    result = client.infer(
        "simple",
        [
            placed(triton.InferInput("INPUT0", [1, 16], "INT32"), "inputs"),
            placed(triton.InferInput("INPUT1", [1, 16], "INT32"), "inputs", BYTES),
        ],
        outputs=[
            placed(triton.InferRequestedOutput("OUTPUT0"), "outputs"),
            placed(triton.InferRequestedOutput("OUTPUT1"), "outputs", BYTES),
        ],
        client_timeout=TIMEOUT,
    )
    said = {output.name: dict(output.parameters) for output in result.get_response().outputs}
    assert said["OUTPUT1"]["shared_memory_offset"].int64_param == BYTES, said
    assert "shared_memory_offset" not in said["OUTPUT0"]
    assert list(result.get_response().raw_output_contents) == [b"", b""]
    got = np.frombuffer(outputs.buf, np.int32).reshape(2, 16).copy()
    np.testing.assert_array_equal(got, [a + b, a - b])
    client.unregister_system_shared_memory("inputs", client_timeout=TIMEOUT)
    client.unregister_system_shared_memory(client_timeout=TIMEOUT)
    assert not client.get_system_shared_memory_status(client_timeout=TIMEOUT).regions
    shared_memory.destroy_shared_memory_region(inputs)
    outputs.close()
    outputs.unlink()


def main():
    """Run a few times over one connection."""
    with triton.InferenceServerClient(f"127.0.0.1:{sys.argv[1]}") as client:
        # As the examples begin.
        client.unregister_system_shared_memory(client_timeout=TIMEOUT)
        client.unregister_cuda_shared_memory(client_timeout=TIMEOUT)
        assert not client.get_cuda_shared_memory_status(client_timeout=TIMEOUT).regions
        for run in range(5):
            add_and_subtract(client, run)
    print("done")


if __name__ == "__main__":
    main()
