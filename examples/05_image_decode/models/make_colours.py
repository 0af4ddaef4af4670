"""Writes the model `colours`: the colour that an image of 224x224 pixels has on average.

It stands for a network that classifies photos: the same input, and nothing to train.
`python examples/05_image_decode/models/make_colours.py` needs onnx.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

COLOURS = {
    "black": (0, 0, 0),
    "white": (255, 255, 255),
    "red": (220, 30, 30),
    "green": (30, 160, 60),
    "blue": (30, 60, 200),
    "yellow": (240, 220, 40),
    "grey": (128, 128, 128),
    "orange": (240, 140, 20),
}
SOFTNESS = 500.0  # squared distance in colours over which a score falls to 1/e; chosen by eye


def colours() -> onnx.ModelProto:
    """Return softmax(-|mean - colour|^2 / SOFTNESS), without the part that all colours have in common."""
    known = np.array([*COLOURS.values()], np.float32)
    weights = numpy_helper.from_array(2 * known.T / SOFTNESS, "weights")
    bias = numpy_helper.from_array(-np.square(known).sum(1) / SOFTNESS, "bias")
    nodes = [
        helper.make_node("ReduceMean", ["image"], ["mean"], axes=[2, 3], keepdims=0),
        helper.make_node("Gemm", ["mean", "weights", "bias"], ["distance"]),
        helper.make_node("Softmax", ["distance"], ["scores"]),
    ]
    graph = helper.make_graph(
        nodes,
        "colours",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, ["batch", 3, 224, 224])],
        [helper.make_tensor_value_info("scores", TensorProto.FLOAT, ["batch", len(COLOURS)])],
        [weights, bias],
    )
    return helper.make_model(graph, ir_version=8, opset_imports=[helper.make_opsetid("", 17)])


def main() -> None:
    folder = Path(__file__).parent / "colours"
    onnx.save(colours(), folder / "1/model.onnx")
    (folder / "labels.txt").write_text("".join(f"{name}\n" for name in COLOURS))


if __name__ == "__main__":
    main()
