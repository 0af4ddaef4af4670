"""ONNX models for tests."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper, parser

DIGITS = Path(__file__).parents[2] / "examples/models/digits/1/model.onnx"


def model_of(text: str, *, opset: int = 17) -> onnx.ModelProto:
    """Return a model of the text form of ONNX."""
    return parser.parse_model(f'<ir_version: 9, opset_import: ["" : {opset}, "other" : 1]> {text}')


def saved(path: Path, model: onnx.ModelProto) -> Path:
    onnx.save(model, path)
    return path


def resnet(*, blocks: Sequence[int] = (1, 1, 1, 1), width: int = 16, classes: int = 10) -> onnx.ModelProto:
    """Return a residual network for images of 224 x 224, with random weights: a small ResNet."""
    network = _Network()
    x = network.convolution("image", 3, width, kernel=7, stride=2)
    x = network.node("MaxPool", [x], kernel_shape=[3, 3], strides=[2, 2], pads=[1, 1, 1, 1])
    channels = width
    for stage, count in enumerate(blocks):
        for block in range(count):
            stride = 2 if stage and not block else 1
            wide = width << stage
            y = network.convolution(x, channels, wide, kernel=3, stride=stride)
            y = network.convolution(y, wide, wide, kernel=3, relu=False)
            if stride != 1 or channels != wide:
                x = network.convolution(x, channels, wide, kernel=1, stride=stride, relu=False)
            x = network.node("Relu", [network.node("Add", [x, y])])
            channels = wide
    x = network.node("Flatten", [network.node("GlobalAveragePool", [x])])
    x = network.node("Gemm", [x, network.weight(classes, channels), network.weight(classes)], transB=1)
    network.node("Softmax", [x], output="probabilities")
    image = helper.make_tensor_value_info("image", TensorProto.FLOAT, ["N", 3, 224, 224])
    found = helper.make_tensor_value_info("probabilities", TensorProto.FLOAT, ["N", classes])
    graph = helper.make_graph(network.nodes, "resnet", [image], [found], network.weights)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)


class _Network:
    def __init__(self) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.weights: list[onnx.TensorProto] = []
        self._random = np.random.default_rng(7)

    def node(self, operator: str, inputs: Sequence[str], *, output: str = "", **attributes: Any) -> str:
        made = output or f"{operator.lower()}_{len(self.nodes)}"
        self.nodes.append(helper.make_node(operator, inputs, [made], name=f"{made}_node", **attributes))
        return made

    def weight(self, *shape: int, one: bool = False) -> str:
        name = f"weight_{len(self.weights)}"
        fan = max(1, int(np.prod(shape[1:])))
        values = np.ones(shape) if one else self._random.standard_normal(shape) * np.sqrt(2 / fan)
        self.weights.append(numpy_helper.from_array(values.astype(np.float32), name))
        return name

    def convolution(
        self, x: str, inputs: int, outputs: int, *, kernel: int, stride: int = 1, relu: bool = True
    ) -> str:
        y = self.node(
            "Conv",
            [x, self.weight(outputs, inputs, kernel, kernel)],
            kernel_shape=[kernel, kernel],
            strides=[stride, stride],
            pads=[kernel // 2] * 4,
        )
        scale, bias, mean = self.weight(outputs, one=True), self.weight(outputs), self.weight(outputs)
        y = self.node("BatchNormalization", [y, scale, bias, mean, self.weight(outputs, one=True)])
        return self.node("Relu", [y]) if relu else y
