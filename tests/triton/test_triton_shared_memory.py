"""Triton's utilities for shared memory with its four clients."""

from __future__ import annotations

import secrets

import numpy as np
import pytest
import tritonclient.utils.shared_memory as shm
from serving_models import eventually, one_process
from triton_clients import CLASSES, Client, rows, texts
from triton_models import fill_triton, triton_server
from tritonclient.utils import InferenceServerException, serialize_byte_tensor


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    with triton_server(fill_triton(tmp_path_factory.mktemp("models"))) as running:
        yield running


@pytest.fixture(scope="module", params=CLASSES)
def client(request, server):
    with Client(request.param, server) as connected:
        yield connected


class Regions:
    """Makes regions and registers them."""

    def __init__(self, client):
        self.client = client
        self.handles = []

    def make(self, name, size):
        handle = shm.create_shared_memory_region(
            name, f"/yais-test-{secrets.token_hex(8)}", size, create_only=True
        )
        self.handles.append(handle)
        self.client.call("register_system_shared_memory", name, handle._shm_key, size)
        return handle


@pytest.fixture
def regions(client):
    made = Regions(client)
    yield made
    client.call("unregister_system_shared_memory")
    for handle in made.handles:
        shm.destroy_shared_memory_region(handle)
    assert shm.mapped_shared_memory_regions() == []


def placed(client, name, shape, datatype, region, size, offset=0):
    tensor = client.module.InferInput(name, shape, datatype)
    tensor.set_shared_memory(region, size, offset=offset)
    return tensor


def asked(client, name, region, size, offset=0):
    output = client.output(name)
    output.set_shared_memory(region, size, offset=offset)
    return output


def test_simple_shm(client, regions):
    """As simple_*_shm_client: two inputs in one region, two outputs in another."""
    client.call("unregister_system_shared_memory")
    client.call("unregister_cuda_shared_memory")
    first, second = np.arange(16, dtype=np.int32), np.ones(16, np.int32)
    size = first.nbytes
    output, input_ = regions.make("output_data", 2 * size), regions.make("input_data", 2 * size)
    shm.set_shared_memory_region(input_, [first])
    shm.set_shared_memory_region(input_, [second], offset=size)
    inputs = [
        placed(client, "INPUT0", [1, 16], "INT32", "input_data", size),
        placed(client, "INPUT1", [1, 16], "INT32", "input_data", size, offset=size),
    ]
    outputs = [
        asked(client, "OUTPUT0", "output_data", size),
        asked(client, "OUTPUT1", "output_data", size, offset=size),
    ]
    answer = client.call("infer", "simple", inputs, outputs=outputs)
    for number, expected in enumerate((first + second, first - second)):
        told = answer.get_output(f"OUTPUT{number}")
        datatype, shape = (told["datatype"], told["shape"]) if client.http else (told.datatype, told.shape)
        assert (datatype, list(shape)) == ("INT32", [1, 16])
        got = shm.get_contents_as_numpy(output, np.int32, [1, 16], offset=number * size)
        np.testing.assert_array_equal(got[0], expected)
        del got  # a view of the region
    status = client.call("get_system_shared_memory_status")
    assert len(status if client.http else status["regions"]) == 2


def test_simple_string_shm(client, regions):
    """As simple_*_shm_string_client: text in and out."""
    first = np.array([str(number).encode() for number in range(16)], object)
    second = np.array([b"1"] * 16, object)
    contents = [serialize_byte_tensor(array) for array in (first, second)]
    sizes = [content.item().__len__() for content in contents]
    input_ = regions.make("input_data", sum(sizes))
    shm.set_shared_memory_region(input_, contents)
    output = regions.make("output_data", 1000)
    inputs = [
        placed(client, "INPUT0", [1, 16], "BYTES", "input_data", sizes[0]),
        placed(client, "INPUT1", [1, 16], "BYTES", "input_data", sizes[1], offset=sizes[0]),
    ]
    outputs = [
        asked(client, "OUTPUT0", "output_data", 500),
        asked(client, "OUTPUT1", "output_data", 500, 500),
    ]
    client.call("infer", "simple_string", inputs, outputs=outputs)
    for offset, expected in ((0, range(1, 17)), (500, range(-1, 15))):
        got = shm.get_contents_as_numpy(output, np.object_, [1, 16], offset=offset)
        assert [int(value) for value in got[0]] == list(expected)


def test_bytes_with_nuls(client, regions):
    array = texts(b"", b"\0", b"a\0b")
    content = serialize_byte_tensor(array)
    size = len(content.item())
    region = regions.make("r", size)
    shm.set_shared_memory_region(region, [content])
    answer = client.call("infer", "identity_bytes", [placed(client, "X", [1, 3], "BYTES", "r", size)])
    assert answer.as_numpy("Y").tolist() == array.tolist()


def test_one_in_memory_and_one_not(client, regions):
    """And of the outputs one is classified."""
    region = regions.make("r", 64)
    first = rows(*range(16), dtype=np.int32)
    shm.set_shared_memory_region(region, [first])
    inputs = [placed(client, "INPUT0", [1, 16], "INT32", "r", 64), client.input("INPUT1", first)]
    outputs = [client.output("OUTPUT0", class_count=2), asked(client, "OUTPUT1", "r", 64)]
    answer = client.call("infer", "simple", inputs, outputs=outputs)
    assert answer.as_numpy("OUTPUT0").tolist() == [[b"30:15", b"28:14"]]
    got = shm.get_contents_as_numpy(region, np.int32, [1, 16])
    assert not got.any()
    del got
    shm.set_shared_memory_region(region, [first])
    outputs = [asked(client, "OUTPUT0", "r", 64), client.output("OUTPUT1")]
    answer = client.call("infer", "simple", inputs, outputs=outputs)
    assert answer.as_numpy("OUTPUT1").tolist() == [[0] * 16]
    assert answer.get_output("OUTPUT0") is not None
    outputs[0].unset_shared_memory()
    shm.set_shared_memory_region(region, [first])
    answer = client.call("infer", "simple", inputs, outputs=outputs)
    np.testing.assert_array_equal(answer.as_numpy("OUTPUT0"), 2 * first)


def test_bad_places(client, regions):
    regions.make("r", 64)

    def refusal(size=16, offset=0, region="r", output=None):
        inputs = [placed(client, "X", [1, 4], "FP32", region, size, offset)]
        with pytest.raises(InferenceServerException) as caught:
            client.call("infer", "part", inputs, outputs=[output] if output else None)
        return caught.value.status(), caught.value.message()

    assert refusal(region="nix") == (
        client.status("NOT_FOUND", 404),
        "Unable to find shared memory region: 'nix'",
    )
    assert refusal(offset=64) == (
        client.status("INVALID_ARGUMENT", 400),
        "Invalid offset for shared memory region: 'r'",
    )
    assert refusal(offset=56) == (
        client.status("INVALID_ARGUMENT", 400),
        "Invalid offset + byte size for shared memory region: 'r'",
    )
    status, text = refusal(size=12)
    assert status == client.status("INVALID_ARGUMENT", 400)
    assert text.endswith("input byte size mismatch for input 'X' for model 'part'. Expected 16, got 12")
    status, text = refusal(output=asked(client, "Y", "r", 8))
    assert status == client.status("INTERNAL", 500)
    assert text.endswith(
        "shared memory size specified with the request for output 'Y' (8 bytes) should be at least 16 bytes "
        "to hold the results"
    )


def test_a_region_of_20_megabytes(client, regions):
    array = np.arange(5_000_000, dtype=np.float32)[None]
    region = regions.make("r", 2 * array.nbytes)
    shm.set_shared_memory_region(region, [array])
    inputs = [placed(client, "X", list(array.shape), "FP32", "r", array.nbytes)]
    client.call("infer", "part", inputs, outputs=[asked(client, "Y", "r", array.nbytes, array.nbytes)])
    got = shm.get_contents_as_numpy(region, np.float32, array.shape, offset=array.nbytes)
    np.testing.assert_array_equal(got, array)


@one_process
def test_regions_are_let_go(client, regions):
    """Unregistered, they are no more mapped, so that their files can end."""
    region = regions.make("r", 4096)
    name = region._shm_key.lstrip("/")
    with open("/proc/self/maps") as maps:  # the server is in this process, and so is the client
        assert sum(name in line for line in maps) == 2
    client.call("unregister_system_shared_memory", "r")

    def mapped():
        with open("/proc/self/maps") as maps:
            return sum(name in line for line in maps)

    eventually(lambda: mapped() == 1)
    client.call("register_system_shared_memory", "r", region._shm_key, 4096)
