"""`yais serve` with certificates, tokens and restricted APIs, and what it logs, as a process."""

from __future__ import annotations

import contextlib
import http.client
import json
import re
import signal
import ssl
import sys
from pathlib import Path

import numpy as np
import pytest
import tritonclient.grpc as triton
from onnx_models import identity, write
from serving_models import SOON, Wire
from tritonclient.utils import InferenceServerException
from yais_command import run_yais, run_yais_process, yais_serve

sys.path.append(str(Path(__file__).parents[1] / "rpc"))  # an authority for certificates

from authority import Authority

from yais.protocol import kserve_pb2 as pb

SECRET = "s3cr3t-of-alice"

LINE = re.compile(r'[IWE]\d{4} \d\d:\d\d:\d\d\.\d{6} \d+ \w+\.py:\d+\] "(.*)"')


@pytest.fixture(scope="module")
def repository(tmp_path_factory):
    directory = tmp_path_factory.mktemp("models")
    write(directory, "identity", identity("FP32"), "max_batch_size: 8")
    return directory


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """Certificates, keys and tokens, by the options that take them."""
    directory = tmp_path_factory.mktemp("files")
    authority = Authority()
    certificate, key = authority.certify("server", "localhost").write(directory)
    client_certificate, client_key = authority.certify("client").write(directory, "client")
    root = directory / "ca.crt"
    root.write_bytes(authority.certificate)
    tokens = directory / "tokens"
    tokens.write_text(f"alice {SECRET}\n")
    return {
        "cert": certificate,
        "key": key,
        "root": root,
        "client_cert": client_certificate,
        "client_key": client_key,
        "tokens": tokens,
    }


def infer(client, **options):
    array = np.ones((1, 3), np.float32)
    tensor = triton.InferInput("X", [1, 3], "FP32")
    tensor.set_data_from_numpy(array)
    result = client.infer("identity", [tensor], client_timeout=SOON, **options)
    np.testing.assert_array_equal(result.as_numpy("Y"), array)


def encrypted(port, files, **options):
    named = [("grpc.ssl_target_name_override", "localhost")]
    root = str(files["root"])
    return triton.InferenceServerClient(
        f"127.0.0.1:{port}", ssl=True, root_certificates=root, channel_args=named, **options
    )


def test_everything_that_secures_grpc(repository, files):
    options = (
        "--grpc-use-ssl-mutual=1",
        f"--grpc-server-cert={files['cert']}",
        f"--grpc-server-key={files['key']}",
        f"--grpc-root-cert={files['root']}",
        f"--token-file={files['tokens']}",
        "--grpc-restricted-protocol=inference:k=v",
    )
    own = {"private_key": str(files["client_key"]), "certificate_chain": str(files["client_cert"])}
    token = {"authorization": f"Bearer {SECRET}"}
    with yais_serve("--model-repository", repository, *options) as serving:
        with encrypted(serving.port, files) as unknown, pytest.raises(InferenceServerException) as caught:
            unknown.is_server_live()
        assert caught.value.status() == "StatusCode.UNAVAILABLE"
        with encrypted(serving.port, files, **own) as client:
            assert client.is_server_live()
            with pytest.raises(InferenceServerException) as caught:
                infer(client)
            assert caught.value.status() == "StatusCode.UNAUTHENTICATED"
            with pytest.raises(InferenceServerException) as caught:
                infer(client, headers=token)
            assert (
                caught.value.message()
                == "This protocol is restricted, expecting header 'triton-grpc-protocol-k'"
            )
            infer(client, headers={**token, "triton-grpc-protocol-k": "v"})
        status, errors = serving.end(signal.SIGTERM)
    assert status == 0
    assert all("ssl_transport_security" in line for line in errors.splitlines())  # gRPC, of the handshake


def test_everything_that_secures_http(repository, files):
    options = (
        f"--http-server-cert={files['cert']}",
        f"--http-server-key={files['key']}",
        f"--http-root-cert={files['root']}",
        f"--token-file={files['tokens']}",
        "--http-restricted-api=metadata,health:Some-Key=v",
    )
    unknown = ssl.create_default_context(cafile=files["root"])
    known = ssl.create_default_context(cafile=files["root"])
    known.load_cert_chain(files["client_cert"], files["client_key"])
    token = {"authorization": f"Bearer {SECRET}"}
    key = {"some-key": "v"}
    with yais_serve("--model-repository", repository, *options) as serving:
        port = serving.http_port
        with pytest.raises((ssl.SSLError, ConnectionError)):
            get(port, unknown, "/v2", {})
        assert get(port, known, "/v2", {}) == (
            401,
            {"error": "got no authorization headers, expected 'authorization: Bearer <token>'"},
        )
        assert get(port, known, "/v2", token) == (
            403,
            {"error": "This API is restricted, expecting header 'Some-Key'"},
        )
        assert get(port, known, "/v2", {**token, **key})[1]["name"] == "triton"
        assert get(port, known, "/v2/models/identity/config", token)[0] == 200
        assert get(port, known, "/v2/models/identity/config", key)[0] == 401
        assert get(port, known, "/v2/health/ready", {})[0] == 403
        assert get(port, known, "/v2/health/ready", key)[0] == 200
        assert serving.end(signal.SIGTERM) == (0, "")


def get(port, context, path, headers):
    """Return status and JSON of a page; None for an empty one."""
    connection = http.client.HTTPSConnection("localhost", port, timeout=SOON, context=context)
    with contextlib.closing(connection):
        connection.request("GET", path, headers=headers)
        response = connection.getresponse()
        text = response.read()
    return response.status, json.loads(text) if text else None


def test_tls_without_certificates_of_clients(repository, files):
    options = ("--grpc-server-cert", files["cert"], "--grpc-server-key", files["key"])
    # Triton's own tests give this one, too.
    root = ("--grpc-root-cert", files["root"])
    with yais_serve("--model-repository", repository, "--grpc-use-ssl", "true", *options, *root) as serving:
        with encrypted(serving.port, files) as client:
            infer(client)
        _, errors = serving.end(signal.SIGTERM)
    assert errors == (
        "Warning: --grpc-root-cert has no effect: without --grpc-use-ssl-mutual=true clients are not asked "
        "for a certificate\n"
    )


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (
            ("--grpc-restricted-protocol=health:a=b", "--grpc-restricted-protocol=health:c=d"),
            "restricted protocol 'health' can not be specified in multiple config groups",
        ),
        (("--http-restricted-api=x:a=b",), "unknown restricted api 'x'"),
        (("--grpc-use-ssl=1", "--grpc-server-cert=/nowhere"), "File '/nowhere' does not exist"),
    ],
)
def test_errors_at_the_start(repository, arguments, text):
    done = run_yais("serve", "--model-repository", repository, *arguments)
    assert done.returncode == 2
    assert text in done.stderr
    assert "Started" not in done.stdout


def test_a_certificate_and_the_key_of_another(repository, files):
    options = (
        "--grpc-use-ssl=1",
        "--grpc-server-cert",
        files["cert"],
        "--grpc-server-key",
        files["client_key"],
    )
    done = run_yais("serve", "--model-repository", repository, *options)
    assert done.returncode == 2
    assert "the key belongs to another certificate" in " ".join(done.stderr.split())


def test_what_the_server_itself_refuses_is_one_line(repository):
    """Found when it is made, before it listens."""
    done = run_yais_process("serve", "--model-repository", repository, "--grpc-port=0", "--grpc-address=")
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1].startswith("Error: ")
    assert "Traceback" not in done.stderr


def test_the_log_is_that_of_triton(repository):
    with yais_serve("--model-repository", repository, "--log-info=true") as serving:
        assert serving.port
        status, errors = serving.end(signal.SIGTERM)
    assert status == 0
    lines = errors.splitlines()
    said = [LINE.fullmatch(line) for line in lines]
    assert lines and all(said)
    assert said[0][1] == "loading 'identity' version 1"


def test_a_log_in_a_file_and_changed_by_a_client(repository, tmp_path):
    file = tmp_path / "yais.log"
    options = ("--log-info=true", "--log-file", file, "--model-control-mode=explicit", "--load-model=*")
    with yais_serve("--model-repository", repository, *options) as serving:
        with triton.InferenceServerClient(f"127.0.0.1:{serving.port}") as client:
            assert client.get_log_settings().settings["log_file"].string_param == str(file)
            before = file.read_text()
            client.update_log_settings({"log_info": False})
            client.unload_model("identity")
            client.load_model("identity")
            assert file.read_text() == before
            client.update_log_settings({"log_info": True, "log_format": "ISO8601"})
            client.unload_model("identity")
            client.load_model("identity")
        assert serving.end(signal.SIGTERM) == (0, "")
    assert LINE.fullmatch(before.splitlines()[0])
    after = file.read_text().removeprefix(before)
    assert re.match(r'\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ I \d+ \w+\.py:\d+\] "', after)


@pytest.mark.parametrize(("address", "code"), [("127.0.0.1", "INTERNAL"), ("0.0.0.0", "UNIMPLEMENTED")])
def test_shared_memory_is_for_clients_of_this_machine(repository, address, code):
    """By default, as far as the addresses tell: another one cannot even try."""
    request = pb.SystemSharedMemoryRegisterRequest(name="a", key="/nowhere", byte_size=1)
    options = ("--model-repository", repository, f"--http-address={address}")
    with yais_serve(*options) as serving, Wire(serving.port) as wire:
        assert wire.refusal(request, "SystemSharedMemoryRegister")[0].name == code
