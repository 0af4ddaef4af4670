"""TLS and mutual TLS, and certificates that change while the server runs."""

from __future__ import annotations

import contextlib
import logging
import pickle
import socket
import ssl
from collections.abc import Iterator
from pathlib import Path

import grpc
import pytest
from authority import Authority, Pair
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from echo_pb2 import EchoReply, EchoRequest
from echoing import SAY, SOON, echo_service

import yais
from yais.rpc.tls import Tls


class Who(yais.Context[EchoRequest, EchoReply, yais.Resources]):
    """Answers with the caller's identity."""

    def execute(self, request):
        return EchoReply(text=str(self.identity))


@pytest.fixture(scope="module")
def authority():
    return Authority()


@pytest.fixture(scope="module")
def server_pair(authority):
    return authority.certify("server", "localhost")


@pytest.fixture
def files(tmp_path, server_pair):
    """Certificate and key of the server."""
    return server_pair.write(tmp_path)


@pytest.fixture
def client_ca(tmp_path, authority):
    file = tmp_path / "ca.crt"
    file.write_bytes(authority.certificate)
    return file


@contextlib.contextmanager
def running(tls: Tls | None, *addresses: str) -> Iterator[yais.Server]:
    server = yais.Server(*(addresses or ("127.0.0.1:0",)), tls=tls)
    server.add(echo_service(Who))
    with server:
        yield server


@contextlib.contextmanager
def connected(port: int, authority: Authority, pair: Pair | None = None) -> Iterator[grpc.Channel]:
    """Connect anew."""
    credentials = grpc.ssl_channel_credentials(
        authority.certificate, pair and pair.key, pair and pair.certificate
    )
    options = [
        ("grpc.ssl_target_name_override", "localhost"),
        ("grpc.use_local_subchannel_pool", 1),
    ]
    with grpc.secure_channel(f"127.0.0.1:{port}", credentials, options=options) as channel:
        yield channel


def ask(channel: grpc.Channel) -> str:
    """Return the identity that the server knows of this client."""
    say = channel.unary_unary(SAY, EchoRequest.SerializeToString, EchoReply.FromString)
    return say(EchoRequest(), timeout=SOON).text


def ask_anew(port: int, authority: Authority, pair: Pair | None = None) -> str:
    with connected(port, authority, pair) as channel:
        return ask(channel)


def refused(port: int, authority: Authority, pair: Pair | None = None) -> str:
    """Connect in vain; return why."""
    with pytest.raises(grpc.RpcError) as caught:
        ask_anew(port, authority, pair)
    assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
    return caught.value.details()


def served_certificate(port: int) -> bytes:
    """Return the certificate that a new connection is shown, in DER format."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    context.set_alpn_protocols(["h2"])
    with (
        socket.create_connection(("127.0.0.1", port), SOON) as plain,
        context.wrap_socket(plain) as encrypted,
    ):
        return encrypted.getpeercert(binary_form=True)


def der(pair: Pair) -> bytes:
    return x509.load_pem_x509_certificate(pair.certificate).public_bytes(serialization.Encoding.DER)


# Who is served


def test_tls(files, authority):
    with running(Tls(*files)) as server:
        assert ask_anew(server.port, authority) == "None"


def test_the_server_proves_who_it_is(files):
    with running(Tls(*files)) as server:
        refused(server.port, Authority("another"))


def test_no_plain_connection(files):
    with (
        running(Tls(*files)) as server,
        grpc.insecure_channel(f"127.0.0.1:{server.port}") as channel,
        pytest.raises(grpc.RpcError) as caught,
    ):
        ask(channel)
    assert caught.value.code() is grpc.StatusCode.UNAVAILABLE


def test_a_certificate_is_not_asked_for(files, authority):
    with running(Tls(*files)) as server:
        assert ask_anew(server.port, authority, authority.certify("client")) == "None"


def test_paths_may_be_text(files, authority):
    with running(Tls(*map(str, files))) as server:
        assert ask_anew(server.port, authority) == "None"


@pytest.mark.parametrize(
    ("names", "identity"),
    [
        (["client"], "client"),
        (["client", "one.example", "two.example"], "one.example"),
        (["client", "spiffe://example/service"], "spiffe://example/service"),
    ],
    ids=["common name", "alternative names", "spiffe"],
)
def test_mutual_tls(files, client_ca, authority, names, identity):
    with running(Tls(*files, client_ca=client_ca)) as server:
        assert ask_anew(server.port, authority, authority.certify(*names)) == identity


def test_another_process_asks_for_the_same_certificates(files, client_ca, authority):
    """As frontend processes do, which are sent the options."""
    sent = pickle.loads(pickle.dumps(Tls(*files, client_ca=client_ca)))
    with running(sent) as server:
        refused(server.port, authority)
        assert ask_anew(server.port, authority, authority.certify("client")) == "client"


def test_mutual_tls_refuses_a_client_without_a_certificate(files, client_ca, authority):
    with running(Tls(*files, client_ca=client_ca)) as server:
        refused(server.port, authority)
        assert ask_anew(server.port, authority, authority.certify("client")) == "client"


def test_mutual_tls_refuses_a_certificate_of_another_authority(files, client_ca, authority):
    with running(Tls(*files, client_ca=client_ca)) as server:
        refused(server.port, authority, Authority("another").certify("client"))
        refused(server.port, authority, Authority("authority").certify("client"))


def test_what_tls_knows_of_the_caller(files, client_ca, authority):
    seen = []

    class Note(yais.Interceptor):
        def begin(self, call):
            seen.append((call.identity, call.auth_context))

    server = yais.Server("127.0.0.1:0", tls=Tls(*files, client_ca=client_ca), interceptors=[Note()])
    server.add(echo_service(Who))
    with server:
        ask_anew(server.port, authority, authority.certify("client", "one.example"))
    [(identity, properties)] = seen
    assert identity == "one.example"
    assert properties["x509_common_name"] == [b"client"]
    assert properties["x509_subject_alternative_name"] == [b"one.example"]
    assert properties["transport_security_type"] == [b"ssl"]


# Addresses


def test_every_address_but_unix_sockets(tmp_path, files, authority):
    near = f"unix:{tmp_path}/near.sock"
    with running(Tls(*files), "127.0.0.1:0", near, "127.0.0.1:0") as server:
        first, _, second = server.ports
        assert first != second
        assert ask_anew(first, authority) == ask_anew(second, authority) == "None"
        with grpc.insecure_channel(near) as channel:
            assert ask(channel) == "None"


def test_one_certificate_for_several_servers(files, authority):
    tls = Tls(*files)
    with running(tls) as one, running(tls) as other:
        assert ask_anew(one.port, authority) == ask_anew(other.port, authority) == "None"


# Rotation


def test_new_connections_see_a_new_certificate(tmp_path, files, authority, server_pair):
    renewed = authority.certify("server", "localhost")
    with (
        running(Tls(*files), "127.0.0.1:0", "127.0.0.1:0") as server,
        connected(server.port, authority) as old,
    ):
        assert ask(old) == "None"
        assert [served_certificate(port) for port in server.ports] == [der(server_pair)] * 2
        renewed.write(tmp_path)
        assert [served_certificate(port) for port in server.ports] == [der(renewed)] * 2
        assert ask(old) == "None"
        assert ask_anew(server.port, authority) == "None"


def test_an_old_connection_stays(tmp_path, files, authority):
    with running(Tls(*files)) as server, connected(server.port, authority) as old:
        states: list[grpc.ChannelConnectivity] = []
        assert ask(old) == "None"
        old.subscribe(states.append)
        Authority("another").certify("server", "localhost").write(tmp_path)
        refused(server.port, authority)
        assert ask(old) == "None"
        assert set(states) <= {grpc.ChannelConnectivity.READY}


def test_a_new_authority_of_clients(files, client_ca, authority):
    another = Authority("another")
    with running(Tls(*files, client_ca=client_ca)) as server:
        client_ca.write_bytes(another.certificate)
        refused(server.port, authority, authority.certify("client"))
        assert ask_anew(server.port, authority, another.certify("client")) == "client"


def test_swapped_links(tmp_path, authority, server_pair):
    # As Kubernetes does it: tls.crt -> ..data/tls.crt, ..data -> ..2026_11_21, and the last link is replaced.
    renewed = authority.certify("server", "localhost")
    server_pair.write(tmp_path / "old")
    renewed.write(tmp_path / "new")
    data = tmp_path / "..data"
    data.symlink_to("old")
    files = []
    for name in ("tls.crt", "tls.key"):
        files.append(tmp_path / name)
        files[-1].symlink_to(f"..data/{name}")
    with running(Tls(*files)) as server:
        assert served_certificate(server.port) == der(server_pair)
        swapped = tmp_path / "..data_tmp"
        swapped.symlink_to("new")
        swapped.rename(data)
        assert served_certificate(server.port) == der(renewed)


def test_files_that_cannot_be_used_yet(tmp_path, files, authority, server_pair, caplog):
    certificate, key = files
    renewed = authority.certify("server", "localhost")
    steps = [
        (lambda: certificate.write_bytes(renewed.certificate), "the key belongs to another certificate"),
        (lambda: key.write_bytes(renewed.key[:100]), f"{key}: expected a private key in PEM format"),
        (lambda: key.write_bytes(b""), f"{key}: expected a private key in PEM format"),
        (key.unlink, "No such file or directory"),
    ]
    caplog.set_level(logging.WARNING, "yais.rpc")
    with running(Tls(*files), "127.0.0.1:0", "127.0.0.1:0") as server:
        for step, reason in steps:
            caplog.clear()
            step()
            for port in [*server.ports, *server.ports]:
                assert served_certificate(port) == der(server_pair)
            [record] = caplog.records  # once for each change, however many connect
            assert reason in record.getMessage()
            assert str(certificate) in record.getMessage()
        caplog.clear()
        key.write_bytes(renewed.key)
        assert served_certificate(server.port) == der(renewed)
        assert caplog.records == []


# What cannot be used


def test_a_missing_file(files, tmp_path):
    for missing in (0, 1, 2):
        paths = [*files, files[0]]
        paths[missing] = tmp_path / "nothing"
        with pytest.raises(FileNotFoundError, match="nothing"):
            Tls(*paths)


@pytest.mark.parametrize("content", [b"", b"\xff\x00", b"-----BEGIN CERTIFICATE-----\nAAAA\n"])
@pytest.mark.parametrize("place", ["tls.crt", "tls.key", "ca.crt"])
def test_a_file_with_something_else(tmp_path, files, client_ca, place, content):
    Path(tmp_path, place).write_bytes(content)
    with pytest.raises(ValueError, match=rf"{place}: expected (certificates|a private key) in PEM format"):
        Tls(*files, client_ca)


def test_certificate_and_key_mixed_up(files):
    with pytest.raises(ValueError, match=r"tls\.key: expected certificates in PEM format"):
        Tls(*reversed(files))


def test_the_key_of_another_certificate(files, authority):
    files[1].write_bytes(authority.certify("other").key)
    expected = r"tls\.key: the key belongs to another certificate than that in .*tls\.crt"
    with pytest.raises(ValueError, match=expected):
        Tls(*files)


def test_a_key_with_a_passphrase(files, server_pair):
    key = serialization.load_pem_private_key(server_pair.key, None)
    files[1].write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.BestAvailableEncryption(b"secret"),
        )
    )
    with pytest.raises(ValueError, match=r"tls\.key: the key has a passphrase, expected one without"):
        Tls(*files)


def test_repr(files, client_ca):
    assert repr(Tls(*files)) == f"<Tls {files[0]}>"
    assert repr(Tls(*files, client_ca)) == f"<Tls {files[0]}, clients of {client_ca}>"
