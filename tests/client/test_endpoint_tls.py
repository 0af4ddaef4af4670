"""Endpoints with certificates and tokens."""

from __future__ import annotations

import contextlib
import socket
import sys
from pathlib import Path

import pytest
from endpoint_calls import KINDS, ask, call_of, connected, transport_of
from onnx_models import identity, write
from serving_models import serving_models

sys.path.append(str(Path(__file__).parents[1] / "rpc"))  # an authority for certificates

import numpy as np
from authority import Authority

from yais.client.connection import Connection
from yais.client.endpoint import connect
from yais.errors import Code, InvalidArgument, Unauthenticated, Unavailable
from yais.protocol import kserve_pb2 as pb
from yais.rpc.tls import Tls
from yais.serving.access import AccessOptions
from yais.serving.http.options import HttpOptions

SECRET = "s3cr3t-of-alice"
TOKEN = [("authorization", f"Bearer {SECRET}")]

CALL = call_of("identity", {"X": np.ones((1, 2), np.float32)})


@pytest.fixture(scope="module")
def authority():
    return Authority()


@pytest.fixture(scope="module")
def own(authority):
    """What a client shows."""
    pair = authority.certify("client")
    return {"certificate": pair.certificate, "key": pair.key}


@pytest.fixture(scope="module")
def server(tmp_path_factory, authority):
    """One that wants to see certificates and tokens; its own is for `localhost`."""
    directory = tmp_path_factory.mktemp("secured")
    write(directory / "models", "identity", identity("FP32"), "max_batch_size: 8")
    certificate, key = authority.certify("server", "localhost").write(directory)
    root = directory / "ca.crt"
    root.write_bytes(authority.certificate)
    tokens = directory / "tokens"
    tokens.write_text(f"alice {SECRET}\n")
    tls = Tls(certificate, key, client_ca=root)
    with serving_models(
        directory / "models",
        tls=tls,
        http=HttpOptions("127.0.0.1", 0, tls=tls),
        access=AccessOptions(tokens=tokens),
    ) as running:
        yield running


@pytest.fixture(params=KINDS)
def kind(request):
    return request.param


@pytest.fixture
def secured(server, authority, own):
    """Connects with all that the server wants, but for what is given."""

    @contextlib.contextmanager
    def made(kind, **options):
        wanted = {"ca": authority.certificate, "server_name": "localhost", "headers": TOKEN, **own}
        with connected(kind, server, **{**wanted, **options}) as endpoint:
            yield endpoint

    return made


def live(endpoint):
    return endpoint.call("ServerMetadata", pb.ServerMetadataRequest()).name


def test_with_all_that_is_wanted(kind, secured):
    with secured(kind) as endpoint:
        assert live(endpoint) == "triton"
        for _ in range(3):
            answer = ask(transport_of(kind, endpoint), CALL).answer()
            assert answer.outputs["Y"].tolist() == [[1.0, 1.0]]


@pytest.mark.parametrize("headers", [[], [("authorization", "Bearer wrong")]])
def test_without_the_token(kind, secured, headers):
    with secured(kind, headers=headers) as endpoint:
        with pytest.raises(Unauthenticated):
            live(endpoint)
        assert ask(transport_of(kind, endpoint), CALL).status()[0] is Code.UNAUTHENTICATED


@pytest.mark.parametrize(
    "wrong",
    [
        {"certificate": None, "key": None},
        {"server_name": "elsewhere"},
        {"server_name": None},  # the address is no name of the certificate
        {"ca": Authority("other").certificate},
    ],
    ids=["no certificate", "another name", "no name", "another authority"],
)
def test_who_is_not_trusted(kind, secured, wrong):
    with secured(kind, **wrong) as endpoint:
        with pytest.raises(Unavailable):
            live(endpoint)
        assert ask(transport_of(kind, endpoint), CALL).status()[0] is Code.UNAVAILABLE


def test_a_server_of_which_the_system_s_roots_know_nothing(kind, server, own):
    with connected(kind, server, tls=True, **own) as endpoint, pytest.raises(Unavailable):
        live(endpoint)


def test_without_tls(kind, server):
    with connected(kind, server) as endpoint:
        assert ask(transport_of(kind, endpoint), CALL).status()[0] is Code.UNAVAILABLE


def test_a_handshake_that_does_not_end(authority):
    with socket.create_server(("127.0.0.1", 0)) as silent:
        address = f"127.0.0.1:{silent.getsockname()[1]}"
        with connect(Connection(address, ca=authority.certificate, timeout=0.2), "http") as endpoint:
            told = ask(endpoint.transport(), CALL)
            assert told.status() == (Code.DEADLINE_EXCEEDED, "no answer within 0.2 s")
            last = ask(endpoint.transport(), CALL)
        assert last.status()[0] in {Code.DEADLINE_EXCEEDED, Code.CANCELLED}


@pytest.mark.parametrize(
    "files", [{"ca": b"nothing"}, {"certificate": b"nothing", "key": b"nothing"}, {"ca": b""}]
)
def test_files_that_are_none_over_http(files):
    with pytest.raises(InvalidArgument, match="certificates or the key"):
        connect(Connection("localhost:8000", **files), "http")
