"""How Triton's clients connect: TLS, credentials, plugins, keep-alive, greenlets; and when they cannot."""

from __future__ import annotations

import asyncio
import functools
import ssl
import threading

import aiohttp
import gevent.ssl
import grpc
import numpy as np
import pytest
import tritonclient.grpc as triton
import tritonclient.grpc.auth
import tritonclient.http
import tritonclient.http.auth
from authority import Authority
from gated_models import gates
from geventhttpclient.response import HTTPConnectionClosed
from onnx_models import identity, write
from server_state import pending
from serving_models import SOON, eventually
from triton_clients import CLASSES, Client, rows
from triton_models import BATCHES, fill_triton, triton_server
from tritonclient.utils import InferenceServerException

from yais.rpc.tls import Tls
from yais.serving.access import AccessOptions, Restriction
from yais.serving.http.options import HttpOptions


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    with triton_server(fill_triton(tmp_path_factory.mktemp("models"))) as running:
        yield running


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    """A repository of one model."""
    directory = tmp_path_factory.mktemp("small")
    write(directory, "part", identity("FP32"), BATCHES)
    return directory


class Files:
    """Certificates and keys as files."""

    def __init__(self, directory):
        authority = Authority()
        self.certificate, self.key = map(str, authority.certify("server", "localhost").write(directory))
        self.client_certificate, self.client_key = map(
            str, authority.certify("client").write(directory, "client")
        )
        self.root = str(directory / "ca.crt")
        (directory / "ca.crt").write_bytes(authority.certificate)


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    return Files(tmp_path_factory.mktemp("files"))


@pytest.fixture(scope="module", params=["tls", "mutual"])
def secured(request, small, files):
    tls = Tls(files.certificate, files.key, files.root if request.param == "mutual" else None)
    http = HttpOptions(address="127.0.0.1", port=0, tls=tls)
    with triton_server(small, tls=tls, http=http) as running:
        running.mutual = request.param == "mutual"
        yield running


def secure_options(kind, files, *, certified):
    """Return what a client of a kind wants to hear."""
    if kind.startswith("grpc"):
        pair = {"private_key": files.client_key, "certificate_chain": files.client_certificate}
        return {"ssl": True, "root_certificates": files.root, **(pair if certified else {})}
    if kind == "http":
        return {
            "ssl": True,
            "ssl_options": {
                "ca_certs": files.root,
                **({"keyfile": files.client_key, "certfile": files.client_certificate} if certified else {}),
            },
            "ssl_context_factory": gevent.ssl.create_default_context,
        }
    context = ssl.create_default_context(cafile=files.root)
    if certified:
        context.load_cert_chain(files.client_certificate, files.client_key)
    return {"ssl": True, "ssl_context": context}


def infer(client, **options):
    answer = client.infer("part", {"X": rows(1, 2)}, **options)
    assert answer.as_numpy("Y").tolist() == [[1, 2]]


@pytest.mark.parametrize("kind", CLASSES)
def test_tls(secured, files, kind):
    options = secure_options(kind, files, certified=secured.mutual)
    with Client(kind, secured, "localhost", **options) as client:
        assert client.call("is_server_live")
        infer(client)


@pytest.mark.parametrize("kind", CLASSES)
def test_without_a_certificate(secured, files, kind):
    with Client(kind, secured, "localhost", **secure_options(kind, files, certified=False)) as client:
        if secured.mutual:
            with pytest.raises(
                (InferenceServerException, OSError, HTTPConnectionClosed, aiohttp.ClientError)
            ):
                infer(client)
        else:
            infer(client)


def test_credentials_made_by_the_caller(secured, files):
    read = functools.partial(open, mode="rb")
    with read(files.root) as root, read(files.client_key) as key, read(files.client_certificate) as chain:
        creds = grpc.ssl_channel_credentials(root.read(), key.read(), chain.read())
    with Client("grpc", secured, "localhost", creds=creds) as client:
        infer(client)


TOKEN = "s3cr3t"


@pytest.fixture(scope="module")
def guarded(small, tmp_path_factory):
    """A server that wants a token, and for unloading a header too."""
    tokens = tmp_path_factory.mktemp("tokens") / "tokens"
    tokens.write_text(f"alice {TOKEN}\n")
    restriction = (Restriction(("model-repository",), "admin-key", "yes"),)
    access = AccessOptions(tokens, grpc_restrictions=restriction, http_restrictions=restriction)
    with triton_server(small, access=access) as running:
        yield running


class Bearer(triton.InferenceServerClientPlugin):
    def __call__(self, request):
        request.headers["authorization"] = f"Bearer {TOKEN}"


@pytest.mark.parametrize("kind", CLASSES)
def test_plugins(guarded, kind):
    auth = tritonclient.http.auth if kind.startswith("http") else tritonclient.grpc.auth
    with Client(kind, guarded) as client:
        unauthenticated = client.status("UNAUTHENTICATED", 401)
        for plugin, text in (
            (None, "got no authorization headers"),
            (auth.BasicAuth("user", "secret"), "got an authorization of another form"),
        ):
            if plugin is not None:
                client.raw.register_plugin(plugin)
            with pytest.raises(InferenceServerException) as caught:
                infer(client, headers={})
            assert caught.value.status() == unauthenticated
            assert text in caught.value.message()
            assert "secret" not in str(caught.value)
        client.raw.unregister_plugin()
        client.raw.register_plugin(Bearer())
        infer(client, headers={})
        client.raw.unregister_plugin()
        infer(client, headers={"authorization": f"Bearer {TOKEN}"})


@pytest.mark.parametrize("kind", CLASSES)
def test_restricted(guarded, kind):
    with Client(kind, guarded) as client:
        client.raw.register_plugin(Bearer())
        name = "admin-key" if client.http else "triton-grpc-protocol-admin-key"
        with pytest.raises(InferenceServerException) as caught:
            client.call("get_model_repository_index", headers={})
        assert caught.value.status() == client.status("UNAVAILABLE", 403)
        assert caught.value.message() == (
            f"This API is restricted, expecting header '{name}'"
            if client.http
            else f"This protocol is restricted, expecting header '{name}'"
        )
        assert client.call("get_model_repository_index", headers={name: "yes"})


async def test_a_refused_stream_ends(guarded):
    async def requests():
        yield {"model_name": "part", "inputs": []}

    async with tritonclient.grpc.aio.InferenceServerClient(f"127.0.0.1:{guarded.port}") as client:
        responses = client.stream_infer(requests())
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await asyncio.wait_for(anext(responses), SOON)
        assert caught.value.code() == grpc.StatusCode.UNAUTHENTICATED


@pytest.mark.parametrize(
    "options",
    [
        {
            "keepalive_options": triton.KeepAliveOptions(
                keepalive_time_ms=2**31 - 1,
                keepalive_timeout_ms=20_000,
                keepalive_permit_without_calls=False,
                http2_max_pings_without_data=2,
            )
        },
        {
            "keepalive_options": triton.KeepAliveOptions(
                keepalive_time_ms=100,
                keepalive_timeout_ms=5_000,
                keepalive_permit_without_calls=True,
                http2_max_pings_without_data=0,
            )
        },
        {"channel_args": []},
        {"channel_args": [("grpc.max_receive_message_length", -1), ("grpc.primary_user_agent", "mine")]},
        {"verbose": True},
    ],
    ids=["defaults", "often", "none", "some", "verbose"],
)
@pytest.mark.parametrize("kind", ["grpc", "grpc-aio"])
def test_keep_alive_and_channel_arguments(server, kind, options):
    """As simple_grpc_keepalive_client and simple_grpc_custom_args_client."""
    with Client(kind, server, **options) as client:
        assert client.call("is_server_ready")
        infer(client)


def test_channel_arguments_count(server):
    options = {"channel_args": [("grpc.max_receive_message_length", 1000)]}
    refused = pytest.raises(InferenceServerException, match="larger than max")
    with Client("grpc", server, **options) as client, refused:
        client.infer("part", {"X": rows(*range(1000))})


@pytest.mark.parametrize("options", [{"concurrency": 4}, {"concurrency": 4, "max_greenlets": 2}])
def test_one_request_per_greenlet(server, options):
    with Client("http", server, **options) as client:
        sent = [
            client.raw.async_infer("part", [client.input("X", rows(number, 1))], request_id=str(number + 1))
            for number in range(16)
        ]
        for number, request in enumerate(sent):
            result = request.get_result(timeout=SOON)
            assert result.get_response()["id"] == str(number + 1)
            assert result.as_numpy("Y").tolist() == [[number, 1]]


def test_greenlets_are_served_at_once(server):
    gate = gates["gated"]
    with Client("http", server, concurrency=4) as client:
        with gate.shut():
            sent = [client.raw.async_infer("gated", [client.input("x", rows(each))]) for each in range(4)]
            gevent.spawn(lambda: None).join()
            waited = gevent.get_hub().threadpool.spawn(eventually, lambda: pending(server, "gated") == 3)
            waited.get(timeout=SOON)
            with pytest.raises(InferenceServerException, match="failed to obtain inference response"):
                sent[0].get_result(timeout=0.01)
        got = [request.get_result(timeout=SOON).as_numpy("y").tolist() for request in sent]
    assert got == [[[each]] for each in range(4)]


def test_an_error_of_a_greenlet(server):
    with Client("http", server) as client:
        request = client.raw.async_infer("nix", [client.input("X", rows(1))])
        with pytest.raises(InferenceServerException) as caught:
            request.get_result()
        assert str(caught.value) == "[404] Request for unknown model: 'nix' is not found"


def test_an_error_of_async_infer(server):
    answered = threading.Event()
    told = []

    def callback(result, error):
        told.append((result, error))
        answered.set()

    with Client("grpc", server) as client:
        client.raw.async_infer("nix", [client.input("X", rows(1))], callback)
        assert answered.wait(SOON)
    ((result, error),) = told
    assert result is None
    assert str(error) == "[StatusCode.NOT_FOUND] Request for unknown model: 'nix' is not found"


@pytest.mark.parametrize("kind", ["http", "http-aio"])
def test_queries_and_headers(server, kind):
    with Client(kind, server) as client:
        query = {"a": [1, 2], "b": "c d"}
        assert client.call("is_server_live", query_params=query, headers={"x-y": "z"})
        assert client.call("get_model_metadata", "part", query_params=query)["name"] == "part"
        infer(client, query_params=query)
        assert client.call("is_model_ready", "part", query_params=query)
    if kind == "http":
        with (
            Client(kind, server) as client,
            pytest.raises(InferenceServerException, match="Transfer-Encoding"),
        ):
            infer(client, headers={"Transfer-Encoding": "chunked"})


@pytest.mark.parametrize("kind", ["http", "http-aio"])
def test_a_path_that_is_not_there(server, kind):
    """As behind a proxy with a base path: what comes is an error in JSON."""
    with Client(kind, server) as client:
        client.url += "/base"
        client.call("close")
        client.raw = client._made(CLASSES[kind], {})
        with pytest.raises(InferenceServerException) as caught:
            client.call("get_server_metadata")
        assert (caught.value.status(), caught.value.message()) == ("404", "Not Found")
        assert client.call("is_server_live") is False


def test_nobody_is_there(server):
    class Nobody:
        port = 1

    with Client("grpc", Nobody()) as client, pytest.raises(InferenceServerException) as caught:
        client.call("is_server_live")
    assert caught.value.status() == "StatusCode.UNAVAILABLE"


def test_a_connection_is_used_again(server):
    """Also after errors."""
    with Client("http", server) as client:
        for _ in range(3):
            infer(client)
            with pytest.raises(InferenceServerException):
                client.infer("nix", {"X": np.zeros((1, 1000), np.float32)})
            with pytest.raises(InferenceServerException):
                client.infer("part", {"X": np.zeros((9, 1000), np.float32)})
        infer(client)


@pytest.mark.parametrize("level", ["low", "medium", "high"])
def test_compressed_both_ways(small, level):
    """Over gRPC the server's option says how answers are compressed, and the client how requests are."""
    array = np.zeros((1, 100_000), np.float32)
    with triton_server(small, compression=level, http=None) as running, Client("grpc", running) as client:
        for algorithm in ("gzip", "deflate", None):
            answer = client.infer("part", {"X": array}, compression_algorithm=algorithm)
            np.testing.assert_array_equal(answer.as_numpy("Y"), array)
