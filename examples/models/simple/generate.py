"""Write the model ``simple``: the sum and the difference of two rows of 16 integers.

``python generate.py [FOLDER]`` (needs ``onnx``) writes ``1/model.onnx`` next to this file, or into FOLDER.
"""

import sys
from pathlib import Path

import onnx
from onnx import TensorProto, helper


def build() -> onnx.ModelProto:
    def row(name: str) -> onnx.ValueInfoProto:
        return helper.make_tensor_value_info(name, TensorProto.INT32, ["batch", 16])

    graph = helper.make_graph(
        [
            helper.make_node("Add", ["INPUT0", "INPUT1"], ["OUTPUT0"], name="add"),
            helper.make_node("Sub", ["INPUT0", "INPUT1"], ["OUTPUT1"], name="subtract"),
        ],
        "simple",
        [row("INPUT0"), row("INPUT1")],
        [row("OUTPUT0"), row("OUTPUT1")],
    )
    # An IR version that old releases of ONNX Runtime read too.
    model = helper.make_model(
        graph, producer_name="yais", ir_version=8, opset_imports=[helper.make_opsetid("", 17)]
    )
    onnx.checker.check_model(model, full_check=True)
    return model


def main(folder: Path) -> None:
    path = folder / "1" / "model.onnx"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(build().SerializeToString(deterministic=True))


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).parent)
