"""Python models in a repository: served as any other, in the server's process or in their own."""

from __future__ import annotations

import os
import textwrap
import time
from pathlib import Path

import numpy as np
import pytest
import tritonclient.grpc as triton
from google.protobuf import text_format
from onnx_models import identity, write
from serving_models import eventually, serving_models
from tritonclient.utils import InferenceServerException

from yais.core.tensor import DataType, TensorSpec
from yais.engines.python import PythonEngine
from yais.errors import InvalidArgument
from yais.protocol.model_config_pb2 import ModelConfig
from yais.repository.backends import backend_of
from yais.repository.config import complete, read_config

EXAMPLES = Path(__file__).parents[2] / "examples" / "models_python"

SOON = 20.0

TENSORS = """
    backend: "python"
    input { name: "x" data_type: TYPE_FP32 dims: [ -1 ] }
    output { name: "y" data_type: TYPE_FP32 dims: [ -1 ] }
"""

WORKER = 'parameters { key: "worker_process" value { string_value: "true" } }'

SCALING = """
    class Model:
        def initialize(self, config):
            self.factor = float(config.parameters.get("factor", 2))

        def execute(self, inputs):
            if inputs["x"].flat[0] == -1:
                raise KeyError("minus one")
            if inputs["x"].flat[0] == -2:
                import os
                os._exit(3)
            return {"y": inputs["x"] * self.factor}
"""


def write_python(repository, name, source, config=TENSORS, version=1):
    folder = repository / name / str(version)
    folder.mkdir(parents=True)
    (folder / "model.py").write_text(textwrap.dedent(source), encoding="utf-8")
    (repository / name / "config.pbtxt").write_text(config, encoding="utf-8")


STREAM = "class Model:\n def execute(self, inputs):\n  yield {'y': inputs['x']}"


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    root = tmp_path_factory.mktemp("models")
    write(root, "onnx", identity("FP32"))
    write_python(
        root, "scaling", SCALING, TENSORS + 'parameters { key: "factor" value { string_value: "3" } }'
    )
    write_python(root, "worker", SCALING, TENSORS + WORKER + "instance_group { count: 1 }")
    batching = "class Model:\n def execute(self, inputs): return {'y': inputs['x'] + len(inputs['x'])}"
    write_python(root, "batching", batching, TENSORS + "max_batch_size: 8 dynamic_batching {}")
    write_python(root, "stream", STREAM)
    write_python(root, "broken", "x = 1\n1 / 0")
    write_python(root, "broken_worker", "import os\nos._exit(4)", TENSORS + WORKER)
    with serving_models(root, EXAMPLES) as running:
        yield running


@pytest.fixture(scope="module")
def client(server):
    with triton.InferenceServerClient(f"127.0.0.1:{server.port}") as connected:
        yield connected


def infer(client, model, values, names="xy"):
    array = np.array(values, np.float32)
    tensor = triton.InferInput(names[0], array.shape, "FP32")
    tensor.set_data_from_numpy(array)
    return client.infer(model, [tensor], client_timeout=SOON).as_numpy(names[1]).tolist()


def refusal(client, model, values):
    with pytest.raises(InferenceServerException) as caught:
        infer(client, model, values)
    return caught.value.status(), caught.value.message()


def answers(client, model):
    try:
        return infer(client, model, [1])
    except InferenceServerException as error:
        if error.status() != "StatusCode.UNAVAILABLE":
            raise
        return False


def entry(server, name):
    return next(entry for entry in server.repository.entries if entry.name == name)


@pytest.mark.parametrize(("model", "factor"), [("scaling", 3), ("worker", 2)])
def test_it_is_served(client, model, factor):
    assert infer(client, model, [1, 2]) == [factor, 2 * factor]
    assert infer(client, model, range(100_000))[-1] == 99_999 * factor


def test_it_is_batched_like_others(client):
    assert infer(client, "batching", [[1], [2]]) == [[3], [4]]
    assert client.get_model_metadata("batching").inputs[0].shape == [-1, -1]


@pytest.mark.parametrize(("model", "text"), [("scaling", "'minus one'"), ("worker", "KeyError: 'minus one'")])
def test_what_it_raises_fails_the_request(client, model, text):
    assert refusal(client, model, [-1]) == ("StatusCode.INTERNAL", f"model '{model}' failed: {text}")
    assert infer(client, model, [1])


def test_a_crash_takes_nothing_else_down(client):
    status, text = refusal(client, "worker", [-2])
    assert status == "StatusCode.UNAVAILABLE"
    assert "the worker process of model 'worker' ended with exit status 3" in text
    assert infer(client, "onnx", [[1]], "XY") == [[1]] and infer(client, "scaling", [1]) == [3]

    eventually(lambda: answers(client, "worker"))


def test_a_file_that_cannot_be_loaded_keeps_nothing_from_being_served(server):
    broken = entry(server, "broken")
    assert broken.state == "UNAVAILABLE"
    assert broken.reason.endswith("broken/1/model.py, line 2: ZeroDivisionError: division by zero")
    assert entry(server, "broken_worker").reason == (
        "the worker process of model 'broken_worker' ended with exit status 4"
    )
    assert sum(entry.state == "READY" for entry in server.repository.entries) == 6


def test_it_is_not_run_before_there_are_requests(server):
    assert "unknown" in repr(entry(server, "stream").loaded.model)


def test_metadata_and_configuration_say_what_it_is(client):
    assert client.get_model_metadata("scaling").platform == "python"
    config = client.get_model_config("scaling").config
    assert (config.backend, config.default_model_filename) == ("python", "model.py")
    assert config.instance_group[0].count == 1
    assert client.get_model_config("stream").config.model_transaction_policy.decoupled
    assert not config.HasField("model_transaction_policy")


def test_a_decoupled_model_is_not_asked_for_one_answer(client):
    assert refusal(client, "stream", [1])[0] == "StatusCode.UNIMPLEMENTED"


def test_the_example(client):
    boxes = np.array([[0, 0, 10, 10], [1, 0, 11, 10], [20, 0, 30, 10], [20, 0, 20, 0]], np.float32)
    scores = np.array([0.5, 0.9, 0.1, 0.05], np.float32)
    inputs = [triton.InferInput("boxes", boxes.shape, "FP32"), triton.InferInput("scores", [4], "FP32")]
    inputs[0].set_data_from_numpy(boxes)
    inputs[1].set_data_from_numpy(scores)
    kept = client.infer("non_max_suppression", inputs, client_timeout=SOON).as_numpy("kept")
    assert kept.tolist() == [1, 2, 3]


# Configurations


def config_of(tmp_path, text, name="m"):
    path = tmp_path / "config.pbtxt"
    path.write_text(text, encoding="utf-8")
    return read_config(path, name)


def load(tmp_path, text, source="class Model:\n def execute(self, inputs): pass"):
    config = config_of(tmp_path, text)
    path = tmp_path / "model.py"
    path.write_text(source, encoding="utf-8")
    return backend_of(config).load(config, "1", path)


def parameter(key, value):
    return f"{TENSORS} parameters {{ key: '{key}' value {{ string_value: '{value}' }} }}"


LACKS = (
    "the configuration of model 'm' lacks 'input' or 'output', which a Python model does not say itself "
    "unless it has 'auto_complete_config'"
)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("backend: 'python'", LACKS),
        ("backend: 'python' input { name: 'x' data_type: TYPE_FP32 dims: 1 }", LACKS),
        ("backend: 'python' output { name: 'x' data_type: TYPE_FP32 dims: 1 }", LACKS),
        (
            TENSORS + "optimization { graph { level: 1 } }",
            "model 'm' is configured with 'optimization.graph', a Python model has none",
        ),
        (
            parameter("worker_process", "yes"),
            "got 'yes' for parameter 'worker_process' of 'm', expected 'true' or 'false'",
        ),
        *(
            (
                parameter("worker_timeout_seconds", value),
                (
                    f"got '{value}' for parameter 'worker_timeout_seconds' of 'm', expected seconds above 0, "
                    "at most 86400"
                ),
            )
            for value in ("", "0", "-1", "soon", "nan", "inf", "1e300")
        ),
    ],
)
def test_what_a_python_model_cannot_be_told(tmp_path, text, reason):
    with pytest.raises(InvalidArgument) as caught:
        load(tmp_path, text)
    assert str(caught.value) == reason


@pytest.mark.parametrize("value", ["false", "False"])
def test_it_stays_in_the_process_of_the_server_unless_told(tmp_path, value):
    assert type(load(tmp_path, TENSORS)) is PythonEngine
    assert type(load(tmp_path, parameter("worker_process", value))) is PythonEngine


def test_every_instance_is_a_worker(tmp_path):
    engine = load(tmp_path, TENSORS + WORKER + "instance_group [ { count: 1 }, { } ]")
    assert len(set(engine.pids)) == 2 and os.getpid() not in engine.pids
    engine.close()


def test_a_request_that_takes_too_long_is_ended(tmp_path):
    source = "import time\nclass Model:\n def execute(self, inputs): time.sleep(3600)"
    engine = load(tmp_path, parameter("worker_timeout_seconds", "0.2") + WORKER, source)
    start = time.monotonic()
    with pytest.raises(TimeoutError, match=r"within 0.2 s"):
        engine.execute([np.ones(1, np.float32)])
    assert time.monotonic() - start < SOON
    engine.close()


def test_the_specs_have_the_batch_dimension(tmp_path):
    engine = load(tmp_path, TENSORS + "max_batch_size: 4")
    assert engine.inputs == (TensorSpec("x", DataType.FP32, (-1, -1)),)
    assert engine.outputs == (TensorSpec("y", DataType.FP32, (-1, -1)),)


@pytest.mark.parametrize(
    "named", ["backend: 'python'", "platform: 'python'", "backend: 'python' platform: 'python'"]
)
def test_a_configuration_is_completed(tmp_path, named):
    text = TENSORS.replace('backend: "python"', named)
    config = config_of(tmp_path, text)
    complete(config, load(tmp_path, text))
    expected = """
        name: "m" platform: "python" backend: "python" default_model_filename: "model.py"
        version_policy { latest { num_versions: 1 } }
        optimization { input_pinned_memory { enable: true } output_pinned_memory { enable: true } }
        input { name: "x" data_type: TYPE_FP32 dims: -1 }
        output { name: "y" data_type: TYPE_FP32 dims: -1 }
        instance_group { name: "m" count: 1 kind: KIND_CPU }
    """
    assert config == text_format.Parse(expected, ModelConfig())


@pytest.mark.parametrize("decoupled", [False, True])
def test_a_configuration_may_say_that_a_model_is_decoupled(tmp_path, decoupled):
    source = STREAM if decoupled else "class Model:\n def execute(self, inputs): pass"
    engine = load(tmp_path, TENSORS, source)
    for said in (False, True):
        text = f"{TENSORS} model_transaction_policy {{ decoupled: {str(said).lower()} }}"
        config = config_of(tmp_path, text)
        if said is decoupled:
            complete(config, engine)
            assert config.model_transaction_policy.decoupled is decoupled
        else:
            with pytest.raises(
                InvalidArgument, match=f"decoupled {said} for model 'm', expected {decoupled}"
            ):
                complete(config, engine)


def test_an_engine_is_closed_when_its_configuration_is_refused(tmp_path):
    source = """
        from pathlib import Path
        class Model:
            def execute(self, inputs): pass
            def finalize(self): Path(__file__).with_name("closed").touch()
    """
    config = TENSORS.replace("dims: [ -1 ] }\n", "dims: [ -1 ] label_filename: 'none.txt' }\n")
    config = config.replace("dims: [ -1 ] label_filename: 'none.txt' }", "dims: [ -1 ] }", 1)
    write_python(tmp_path, "m", source, config)
    with serving_models(tmp_path) as server:
        assert "cannot read label file 'none.txt'" in entry(server, "m").reason
    assert (tmp_path / "m/1/closed").exists()
