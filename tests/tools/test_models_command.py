"""`yais models`, against live servers."""

from __future__ import annotations

import json
import re

import pytest
from google.protobuf import text_format
from onnx_models import EXAMPLES, identity, write
from serving_models import eventually, fill, serving_models
from yais_command import run_yais

from yais.protocol import kserve_pb2 as pb
from yais.protocol.model_config_pb2 import ModelConfig
from yais.repository.control import ControlMode
from yais.serving.http.options import HttpOptions
from yais.tools.models_text import index_text, statistics_text
from yais.tools.table import table

HTTP = HttpOptions("127.0.0.1", 0)


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    """A server whose models are controlled by its clients."""
    directory = fill(tmp_path_factory.mktemp("models"))
    write(directory, "broken", identity("FP32", (2,)), "max_batch_size: 3")
    with serving_models(
        EXAMPLES, directory, http=HTTP, control=ControlMode.EXPLICIT, load=("simple", "fixed")
    ) as running:
        yield running


@pytest.fixture(params=["grpc", "http"])
def address(request, server):
    return f"127.0.0.1:{server.port}" if request.param == "grpc" else f"http://127.0.0.1:{server.http_port}"


def printed(*arguments):
    done = run_yais("models", *arguments)
    assert (done.returncode, done.stderr) == (0, "")
    assert "--json" in arguments or max(map(len, done.stdout.splitlines())) <= 80
    return done.stdout


def found(*arguments):
    (line,) = printed(*arguments, "--json").splitlines()
    return json.loads(line)


def refused(*arguments, status=1):
    done = run_yais("models", *arguments)
    assert (done.returncode, done.stdout) == (status, "")
    assert "Traceback" not in done.stderr
    return done.stderr.splitlines()[-1]


@pytest.mark.parametrize("arguments", [(), ("list",)])
def test_list(address, arguments):
    lines = printed(*arguments, address).splitlines()
    assert lines[0].split() == ["MODEL", "VERSION", "STATE", "REASON"]
    rows = {line.split()[0]: line.split()[1:] for line in lines[1:]}
    assert rows["simple"] == ["1", "READY"]
    assert rows["scores"] == []  # there, and never loaded
    index = {model["name"]: model for model in found(*arguments, address)["models"]}
    assert index.keys() == rows.keys()
    assert index["simple"] == {"name": "simple", "version": "1", "state": "READY", "reason": ""}


def test_only_those_that_are_ready(address):
    assert {model["name"] for model in found("--ready", address)["models"]} == {"simple", "fixed"}


def test_metadata_of_a_model(address):
    assert printed("metadata", address, "simple").splitlines() == [
        "model simple, version 1, platform onnxruntime_onnx",
        "inputs",
        "    INPUT0: INT32[-1, 16]",
        "    INPUT1: INT32[-1, 16]",
        "outputs",
        "    OUTPUT0: INT32[-1, 16]",
        "    OUTPUT1: INT32[-1, 16]",
    ]
    assert found("metadata", address, "simple", "-x1")["inputs"][0] == {
        "name": "INPUT0",
        "datatype": "INT32",
        "shape": [-1, 16],
    }


def test_metadata_of_the_server(address):
    first, *extensions = printed("metadata", address).splitlines()
    assert re.fullmatch(r"server triton, version \S+", first)
    assert extensions[0].startswith("extensions: classification, sequence, ")
    assert "model_repository(unload_dependents)" in found("metadata", address)["extensions"]


def test_config(address):
    text = printed("config", address, "simple")
    assert text.endswith("\n") and not text.endswith("\n\n")
    config = text_format.Parse(text, ModelConfig())
    assert (config.name, config.max_batch_size, config.input[0].dims) == ("simple", 64, [16])
    described = found("config", address, "simple")
    assert (described["max_batch_size"], described["input"][0]["dims"]) == (64, [16])


def test_statistics(address):
    before = found("statistics", address, "fixed")["model_stats"][0]["inference_count"]
    run_yais("infer", address, "fixed", "--input=X=1,2,3,4,5,6")
    (model,) = found("statistics", address, "fixed")["model_stats"]
    assert (model["name"], model["inference_count"]) == ("fixed", before + 1)
    head, row, _ = printed("statistics", address, "fixed").splitlines()
    columns = dict(zip(head.split(), row.split(), strict=True))
    assert (columns["MODEL"], columns["REQUESTS"], columns["BATCH"]) == ("fixed", str(before + 1), "1.000")
    assert 0 < float(columns["COMPUTE"]) <= float(columns["LATENCY"])
    names = {model["name"] for model in found("statistics", address)["model_stats"]}
    assert {"fixed", "simple"} <= names


def test_ready(address):
    assert printed("ready", address) == printed("ready", address, "simple") == "ready\n"
    assert found("ready", address, "simple") == {"ready": True}
    for arguments, text in ((), "not ready\n"), (("--json",), '{"ready": false}\n'):
        done = run_yais("models", "ready", address, "none", *arguments)
        assert (done.returncode, done.stdout, done.stderr) == (1, text, "")


def test_load_and_unload(address):
    assert printed("load", address, "scores") == "loaded scores\n"
    assert printed("ready", address, "scores") == "ready\n"
    assert printed("unload", address, "scores") == "unloaded scores\n"

    def unloaded():
        rows = {model["name"]: model for model in found(address)["models"]}
        return (rows["scores"]["state"], rows["scores"]["reason"]) == ("UNAVAILABLE", "unloaded")

    eventually(unloaded)
    assert found("load", address, "scores") == {"loaded": "scores"}
    assert found("unload", address, "scores") == {"unloaded": "scores"}


def test_load_with_a_configuration(address, tmp_path):
    text = json.dumps({"max_batch_size": 16, "backend": "onnxruntime"})
    printed("load", address, "simple", "--config", text)
    assert found("config", address, "simple")["max_batch_size"] == 16
    (tmp_path / "config.json").write_text(text.replace("16", "32"))
    printed("load", address, "simple", "--config", tmp_path / "config.json")
    assert found("config", address, "simple")["max_batch_size"] == 32
    printed("load", address, "simple")
    assert found("config", address, "simple")["max_batch_size"] == 64


def test_load_files_that_are_sent(address, tmp_path):
    path = write(tmp_path, "m", identity("INT8", (7,))) / "1" / "model.onnx"
    assert path.exists()
    config = '{"backend": "onnxruntime"}'
    printed("load", address, "sent", "--config", config, "--file", f"1/model.onnx={path}")
    assert found("metadata", address, "sent")["inputs"][0]["shape"] == [7]
    printed("unload", address, "sent")


def test_unload_dependents(address):
    printed("load", address, "read_digit")
    assert printed("ready", address, "decode") == "ready\n"
    printed("unload", address, "read_digit", "--unload-dependents")
    eventually(lambda: run_yais("models", "ready", address, "decode").returncode == 1)


def test_reasons_of_several_lines():
    index = pb.RepositoryIndexResponse()
    index.models.add(name="a", version="1", state="READY")
    index.models.add(name="b", version="12", state="UNAVAILABLE", reason="it is no model of " + "x " * 40)
    assert index_text(index).splitlines() == [
        "MODEL  VERSION  STATE        REASON",
        "a      1        READY",
        f"b      12       UNAVAILABLE  it is no model of {'x ' * 16}x",
        f"                             {'x ' * 22}x",
    ]
    assert index_text(pb.RepositoryIndexResponse()) == "no models"


def test_tables_without_rows_and_of_long_words():
    assert table(("A", "B"), []) == "A  B"
    assert table(("A", "B"), [("n" * 70, "word " * 9)]).splitlines()[1:] == [
        f"{'n' * 70}  word word word word word",
        f"{' ' * 70}  word word word word",
    ]
    assert statistics_text(pb.ModelStatisticsResponse()).startswith("MODEL")


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (("metadata", "{}", "none"), "{}: Request for unknown model: 'none' is not found"),
        (("config", "{}", "none"), "{}: Request for unknown model: 'none' is not found"),
        (("statistics", "{}", "none"), "{}: requested model 'none' is not available"),
        (("load", "{}", "none"), "{}: failed to load 'none', failed to poll from model repository"),
        (("load", "{}", "broken"), "{}: load failed for model 'broken': version 1 is at UNAVAILABLE state: "),
        (("load", "{}", "simple", "--config", "none.json"), "none.json: No such file or directory"),
        (("load", "{}", "simple", "--config={{"), "{}: failed to load 'simple', "),
        (("load", "{}", "simple", "--config={{}}", "--file=a=none"), "none: No such file or directory"),
    ],
)
def test_what_the_server_refuses(address, arguments, text):
    done = refused(*(argument.format(address) for argument in arguments))
    assert done.startswith(f"Error: {text.format(address)}")


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (("lst",), "No such command 'lst'. Did you mean 'list'?"),
        (("list", "simple"), "got simple, expected [ADDRESS]"),
        (("config",), "got no MODEL, expected one"),
        (("load", "localhost:1"), "got no MODEL, expected one"),
        (("load", "a", "b"), "got a b, expected [ADDRESS] MODEL"),
        (
            ("load", "a", "--file=b"),
            "got --file b, expected PATH=FILE, such as 1/model.onnx=new.onnx",
        ),
    ],
)
def test_what_cannot_be_asked_for(arguments, text):
    assert refused(*arguments, status=2) == f"Error: {text}"


def test_help():
    done = run_yais("models", "--help")
    assert done.returncode == 0 and "  unload " in done.stdout


@pytest.mark.parametrize("scheme", ["", "http://"])
def test_a_server_that_is_not_there(scheme):
    with serving_models(EXAMPLES) as server:
        port = server.port
    text = refused(f"{scheme}127.0.0.1:{port}")
    assert text.startswith(f"Error: {scheme}127.0.0.1:{port}: ") and "refused" in text.lower()
