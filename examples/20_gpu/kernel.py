"""A kernel as a model: compiled here, run on the GPU's lanes, asked like any other model."""

import contextlib
import sys
from collections.abc import Sequence

import numpy as np

import yais
from yais.core.tensor import DataType, TensorSpec
from yais.engines.device_function import DeviceFunctionEngine
from yais.errors import FailedPrecondition
from yais.memory.cuda.device import cuda_device
from yais.memory.cuda.stream import CudaStream
from yais.memory.device_array import DeviceArray

Arrays = Sequence[DeviceArray]

SOURCE = r"""
extern "C" __global__ void brighten(const float *image, float *result, long long count) {
    long long i = blockIdx.x * (long long)blockDim.x + threadIdx.x;
    if (i < count) result[i] = fminf(1.0f, 1.5f * image[i]);
}
"""


def main() -> None:
    try:
        device = cuda_device(0)
    except FailedPrecondition as error:
        sys.exit(f"this example needs a GPU: {error}")
    from cuda.core import LaunchConfig, Program, ProgramOptions, launch

    options = ProgramOptions(arch=f"sm_{device.core().arch}")
    kernel = Program(SOURCE, "c++", options).compile("cubin").get_kernel("brighten")

    def brighten(inputs: Arrays, outputs: Arrays, stream: CudaStream, _scratch: object) -> None:
        image, result = inputs[0], outputs[0]
        grid = LaunchConfig(grid=-(-image.size // 256), block=256)
        launch(stream.core(), grid, kernel, image.address, result.address, image.size)

    image, result = (TensorSpec(name, DataType.FP32, (-1, 3, 64, 64)) for name in ("image", "result"))
    engine = DeviceFunctionEngine(brighten, [image], [result], max_batch=8)
    with contextlib.closing(yais.InferenceManager(max_exec_concurrency=2)) as manager:
        manager.register("brighten", engine, max_batch_size=8)
        print(manager.allocate())
        runner = manager.infer_runner("brighten")
        images = np.random.default_rng(0).random((8, 3, 64, 64), np.float32)
        answers = [runner.infer(image=images) for _ in range(100)]
        for answer in answers:
            np.testing.assert_allclose(
                answer.get(timeout=30)["result"], np.minimum(1, 1.5 * images), rtol=1e-6
            )
    print(f"{len(answers)} batches of 8 images on {device.name}, all right")


if __name__ == "__main__":
    main()
