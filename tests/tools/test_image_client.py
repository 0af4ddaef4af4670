"""`yais image-client`, with the digits of the examples on a live server."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from types import ModuleType

import numpy as np
import pytest
from onnx_models import EXAMPLES, identity, write
from PIL import Image
from serving_models import SOON, Wire, serving_models
from yais_command import YAIS, run_yais

from yais.client.grpc_endpoint import GrpcEndpoint
from yais.protocol import kserve_pb2 as pb
from yais.serving.http.server import HttpOptions

IMAGES = EXAMPLES.parent / "images" / "digits"
NAMES = ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"]

WAYS = pytest.mark.parametrize(
    ("protocol", "mode"),
    [("grpc", ()), ("grpc", ("-a",)), ("grpc", ("--streaming",)), ("http", ()), ("http", ("--async",))],
)

ROW = """
    input { name: "X" data_type: TYPE_FP32 format: FORMAT_NCHW dims: [ 1, 1, 4 ] }
    output { name: "Y" data_type: TYPE_FP32 dims: [ 1, 1, 4 ] }"""


# Answers what is black at once, and anything else when it may.
WAITING = f"""
import yais_test_light
class Model:
    def execute(self, inputs):
        if inputs["X"].any():
            yais_test_light.green.wait({SOON})
        return {{"Y": inputs["X"]}}
"""


@pytest.fixture(scope="module")
def green():
    """Lets the model `waiting` go on."""
    light = ModuleType("yais_test_light")
    light.green = threading.Event()
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(sys.modules, light.__name__, light)
        yield light.green


@pytest.fixture(scope="module")
def server(tmp_path_factory, green):
    repository = tmp_path_factory.mktemp("models")
    write(repository, "row", identity("FP32", (1, 1, 4)), ROW)
    config = ROW + 'backend: "python" instance_group { count: 2 }'
    nowhere = (
        b"class Model:\n    def execute(self, inputs):\n        return {'Y': inputs['X'] * float('nan')}\n"
    )
    write(repository, "nowhere", nowhere, ROW + 'backend: "python"', filename="model.py")
    write(repository, "waiting", WAITING.encode(), config, filename="model.py")
    with serving_models(EXAMPLES, repository, http=HttpOptions("127.0.0.1", 0)) as running:
        yield running


def address(server, protocol="grpc"):
    return f"127.0.0.1:{server.http_port if protocol == 'http' else server.port}"


def printed(*arguments):
    done = run_yais("image-client", *arguments)
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


def test_the_example_images_are_the_first_held_out_of_each_digit():
    with np.load(EXAMPLES / "digits" / "held_out.npz") as file:
        images, labels = file["images"], file["labels"]
    assert sorted(path.name for path in IMAGES.iterdir()) == [f"{digit}.png" for digit in range(10)]
    for digit in range(10):
        pixels = np.asarray(Image.open(IMAGES / f"{digit}.png"))
        assert pixels.dtype == np.uint8
        np.testing.assert_array_equal(pixels, np.rint(images[np.argmax(labels == digit)] * (255 / 16)))


@WAYS
def test_the_digits(server, protocol, mode):
    text = printed(address(server, protocol), "digits", IMAGES, "-i", protocol, *mode)
    assert text == "".join(
        f"Request {digit + 1}, batch size 1\n"
        f"Image '{IMAGES / f'{digit}.png'}':\n"
        f"    1.000000 ({digit}) = {name}\n"
        for digit, name in enumerate(NAMES)
    )


@WAYS
def test_the_last_batch_is_filled_from_the_first_image_on(server, protocol, mode):
    text = printed(address(server, protocol), "digits", IMAGES, "-i", protocol.upper(), "-b", 4, *mode)
    lines = text.splitlines()
    assert [line for line in lines if line.startswith("Request")] == [
        f"Request {number}, batch size 4" for number in (1, 2, 3)
    ]
    found = [line.rpartition(" = ")[2] for line in lines if line.startswith("    ")]
    assert found == [*NAMES, "zero", "one"]


@pytest.mark.parametrize(
    ("mode", "unused"),
    [((), "stream_transport"), (("-a",), "stream_transport"), (("--streaming",), "transport")],
)
def test_only_streaming_uses_streams(server, monkeypatch, mode, unused):
    monkeypatch.delattr(GrpcEndpoint, unused)
    assert printed(address(server), "digits", IMAGES / "4.png", *mode).endswith(" (4) = four\n")


def test_a_batch_larger_than_the_folder(server):
    text = printed(address(server), "digits", IMAGES, "-b", 32, "--json")
    (request,) = json.loads(text)["requests"]
    found = [image["classes"][0]["index"] for image in request["images"]]
    assert found == [*range(10), *range(10), *range(10), 0, 1]
    with Wire(server.port) as wire:
        stats = wire.call("ModelStatistics", pb.ModelStatisticsRequest(name="digits")).model_stats[0]
    assert 32 in {batch.batch_size for batch in stats.batch_stats}


def test_json_of_one_file(server):
    text = printed(address(server), "digits", IMAGES / "7.png", "-c", 3, "--json")
    assert text.count("\n") == 1
    found = json.loads(text)
    (request,) = found["requests"]
    (image,) = request["images"]
    assert (found["address"], found["model"], request["request"]) == (address(server), "digits", 1)
    assert image["file"] == str(IMAGES / "7.png")
    assert image["classes"][0] == {"value": 1.0, "index": 7, "label": "seven"}
    assert len(image["classes"]) == 3


@pytest.mark.parametrize(
    ("scaling", "pixels"),
    [
        ("NONE", [0, 51, 255, 153]),
        ("inception", [-1, -0.6, 1, 0.2]),
        ("VGG", [-128, -77, 127, 25]),
    ],
)
def test_scaling(server, tmp_path, scaling, pixels):
    """Sent to a model that scores each pixel with itself, of a model without labels and batches."""
    path = tmp_path / "row.png"
    Image.fromarray(np.array([[0, 51, 255, 153]], np.uint8)).save(path)
    text = printed(address(server), "row", path, "-s", scaling, "-c", 4)
    order = np.argsort(pixels)[::-1]
    assert text.splitlines()[2:] == [f"    {pixels[index]:.6f} ({index})" for index in order]


def test_the_flags_of_image_client(server):
    by_position = printed(address(server), "digits", IMAGES / "3.png")
    flags = ("-u", address(server), "-m", "digits", "-x", "1", "-i", "gRPC")
    assert printed(*flags, IMAGES / "3.png") == by_position
    assert printed("-m", "digits", address(server), IMAGES / "3.png") == by_position
    assert printed("-u", address(server), "digits", IMAGES / "3.png") == by_position
    assert printed(f"http://{address(server, 'http')}", "digits", IMAGES / "3.png") == by_position


def test_only_visible_files_of_a_folder_count_and_in_order(server, tmp_path):
    (tmp_path / "folder.png").mkdir()
    (tmp_path / ".hidden").write_text("not a picture")
    for name, digit in (("b", 2), ("a", 9), ("c", 5)):
        (tmp_path / name).write_bytes((IMAGES / f"{digit}.png").read_bytes())
    text = printed(address(server), "digits", tmp_path, "-b", 2)
    files = [line for line in text.splitlines() if line.startswith("Image")]
    assert files == [f"Image '{tmp_path / name}':" for name in ("a", "b", "c", "a")]


@pytest.mark.parametrize(
    ("model", "arguments", "text"),
    [
        ("nosuch", (), "{0}: Request for unknown model: 'nosuch' is not found"),
        ("digits", ("-x", "9"), "{0}: Request for unknown model: 'digits' version 9 is not found"),
        ("simple", (), "{0}: got 2 inputs and 2 outputs for model 'simple', expected one of each"),
        ("row", ("-b", "2"), "{0}: got batches of 2 images, but model 'row' takes no batches"),
        (
            "digits",
            ("-b33",),
            "{0}: got batches of 33 images, but model 'digits' takes batches of at most 32",
        ),
    ],
)
@pytest.mark.parametrize("protocol", ["grpc", "http"])
def test_what_the_server_does_not_do(server, protocol, model, arguments, text):
    where = address(server, protocol)
    done = run_yais("image-client", where, model, IMAGES, "-i", protocol, "--json", *arguments)
    assert (done.returncode, done.stdout, done.stderr) == (1, "", f"Error: {text.format(where)}\n")


def test_a_file_that_is_no_image(server, tmp_path):
    (tmp_path / "0.png").write_bytes((IMAGES / "0.png").read_bytes())
    text = tmp_path / "1.txt"
    text.write_text("not a picture")
    done = run_yais("image-client", address(server), "digits", tmp_path)
    assert done.returncode == 1
    assert done.stdout.splitlines()[-1] == "    1.000000 (0) = zero"
    assert done.stderr.startswith(f"Error: got {text}, expected an image: ")


@WAYS
def test_what_was_sent_before_a_file_that_is_no_image(server, tmp_path, protocol, mode):
    (tmp_path / "0.png").write_bytes((IMAGES / "0.png").read_bytes())
    (tmp_path / "1.png").write_bytes((IMAGES / "1.png").read_bytes()[:60])
    (tmp_path / "2.png").write_bytes((IMAGES / "2.png").read_bytes())
    done = run_yais(
        "image-client", address(server, protocol), "digits", tmp_path, "-i", protocol, *mode, "--json"
    )
    assert done.returncode == 1
    assert done.stderr.startswith(f"Error: got {tmp_path / '1.png'}, expected an image: ")
    (request,) = json.loads(done.stdout)["requests"]
    assert request["images"][0]["classes"][0]["label"] == "zero"


def test_scores_that_are_no_numbers(server):
    done = printed(address(server), "nowhere", IMAGES / "3.png", "--json", "-c", 2)
    (request,) = json.loads(done, parse_constant=pytest.fail)["requests"]
    assert [score["value"] for score in request["images"][0]["classes"]] == [None, None]


def test_more_images_than_could_be_listed(server):
    done = run_yais("image-client", address(server), "digits", IMAGES, "-b", 10**12)
    assert (done.returncode, done.stdout) == (1, "")
    assert "got batches of 1000000000000 images, but model 'digits' takes batches of at most" in done.stderr


def test_names_of_files_that_are_no_text(server, tmp_path):
    path = os.fsdecode(os.fsencode(tmp_path) + b"/\xff.png")
    with open(path, "wb") as file:
        file.write((IMAGES / "3.png").read_bytes())
    assert printed(address(server), "digits", tmp_path).splitlines()[1] == f"Image '{tmp_path}/\ufffd.png':"


def test_without_pillow(server, monkeypatch):
    monkeypatch.setitem(sys.modules, "PIL", None)
    done = run_yais("image-client", address(server), "digits", IMAGES)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == "Error: reading images needs Pillow: pip install 'yais[image]'\n"


@pytest.mark.parametrize("protocol", ["grpc", "http"])
def test_a_server_that_is_not_there(protocol):
    with serving_models(EXAMPLES, http=HttpOptions("127.0.0.1", 0)) as server:
        where = address(server, protocol)
    done = run_yais("image-client", where, "digits", IMAGES, "-i", protocol)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith(f"Error: {where}: ")
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ((), "got no IMAGE, expected a file or a folder"),
        (("nosuch.png",), "got no model, expected ADDRESS MODEL or -m MODEL"),
        (("digits", "nosuch.png"), "got nosuch.png, expected a file or a folder"),
        (("a:1", "digits", "nosuch", "more"), "unexpected extra argument (more)"),
        (("digits", IMAGES, "-b", "0"), "0 is not in the range x>=1"),
        (("digits", IMAGES, "-c", "0"), "0 is not in the range x>=1"),
        (("digits", IMAGES, "-s", "MOST"), "'MOST' is not one of 'none', 'inception', 'vgg'"),
        (("digits", IMAGES, "--streaming", "-i", "http"), "got --streaming over HTTP, expected gRPC"),
    ],
)
def test_wrong_usage(arguments, text):
    done = run_yais("image-client", *arguments)
    assert (done.returncode, done.stdout) == (2, "")
    assert text.lower() in " ".join(done.stderr.split()).lower()


def test_a_folder_without_files(tmp_path):
    done = run_yais("image-client", "digits", tmp_path)
    assert done.returncode == 2
    assert f"got {tmp_path}, a folder without files, expected images in it" in " ".join(done.stderr.split())


@pytest.mark.parametrize("mode", [(), ("--async",), ("--streaming",)])
def test_ctrl_c_ends_it_after_what_was_answered(server, green, tmp_path, mode):
    for number in range(2):
        Image.new("L", (4, 1), number).save(tmp_path / f"{number}.png")
    # The signal may come while the second file is being opened, which Python then closes by itself.
    python, *rest = YAIS
    command = [python, *rest[:2], "-W", "ignore:unclosed file:ResourceWarning", *rest[2:]]
    command += ["image-client", address(server), "waiting", str(tmp_path), *mode]
    green.clear()
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as running:
        watchdog = threading.Timer(SOON, running.kill)
        watchdog.start()
        lines = [running.stdout.readline() for _ in range(3)]
        running.send_signal(signal.SIGINT)
        rest, error = running.communicate(timeout=SOON)
        watchdog.cancel()
    green.set()
    assert (running.returncode, rest, error) == (130, "", "")
    assert lines == ["Request 1, batch size 1\n", f"Image '{tmp_path / '0.png'}':\n", "    0.000000 (0)\n"]
