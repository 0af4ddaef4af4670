"""A PyTorch module as a model on device memory: copied are inputs and outputs, on the lane's stream."""

import contextlib
import sys
from collections.abc import Sequence

import numpy as np

import yais
from yais.core.tensor import DataType, TensorSpec
from yais.engines.device_function import DeviceFunctionEngine
from yais.memory.cuda.stream import CudaStream
from yais.memory.device_array import DeviceArray

Arrays = Sequence[DeviceArray]


def main() -> None:
    try:
        import torch
    except ImportError:
        sys.exit("this example needs PyTorch: pip install 'yais[torch]'")
    if not torch.cuda.is_available():
        sys.exit("this example needs a GPU, and a PyTorch with CUDA")
    torch.manual_seed(0)
    network = torch.nn.Sequential(
        torch.nn.Conv2d(3, 16, 3, padding=1),
        torch.nn.ReLU(),
        torch.nn.Flatten(),
        torch.nn.Linear(16 * 32 * 32, 10),
    ).eval()
    array = np.random.default_rng(0).random((8, 3, 32, 32), np.float32)
    with torch.inference_mode():
        expected = network(torch.from_numpy(array)).numpy()
    network.cuda()

    def classify(inputs: Arrays, outputs: Arrays, stream: CudaStream, _scratch: object) -> None:
        with torch.inference_mode(), torch.cuda.stream(torch.cuda.ExternalStream(stream.handle)):
            torch.from_dlpack(outputs[0]).copy_(network(torch.from_dlpack(inputs[0])))

    images = TensorSpec("images", DataType.FP32, (-1, 3, 32, 32))
    scores = TensorSpec("scores", DataType.FP32, (-1, 10))
    engine = DeviceFunctionEngine(classify, [images], [scores], max_batch=8)
    with contextlib.closing(yais.InferenceManager(max_exec_concurrency=2)) as manager:
        manager.register("classify", engine, max_batch_size=8)
        manager.allocate()
        runner = manager.infer_runner("classify")
        for answer in [runner.infer(images=array) for _ in range(100)]:
            np.testing.assert_allclose(answer.get(timeout=30)["scores"], expected, rtol=1e-2, atol=1e-2)
    print("100 batches of 8 images, as on the host")


if __name__ == "__main__":
    main()
