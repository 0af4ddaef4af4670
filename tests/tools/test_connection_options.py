"""How commands reach servers: TLS, tokens, headers, and which server and model they mean."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import click
import pytest
from click.testing import CliRunner
from onnx_models import EXAMPLES
from serving_models import serving_models
from yais_command import run_yais

sys.path.append(str(Path(__file__).parents[1] / "rpc"))  # an authority for certificates

from authority import Authority

from yais.client.connection import Connection
from yais.rpc.tls import Tls
from yais.serving.access import AccessOptions
from yais.tools.connection_options import connection_options
from yais.tools.target_options import Target, target_options


@click.command()
@target_options
@connection_options
def show(target, connection):
    """Show what the options say."""
    show.said = target, connection(target.address)


def said(*arguments, env=None):
    """Return target and connection, or the message of an error in usage."""
    done = CliRunner().invoke(show, arguments, env=env, auto_envvar_prefix="YAIS", catch_exceptions=False)
    if done.exit_code:
        assert (done.exit_code, done.stdout) == (2, "")
        return " ".join(done.stderr.split()).partition("Error: ")[2]
    return show.said


@pytest.mark.parametrize(
    ("arguments", "target"),
    [
        (["a:1", "m"], Target("a:1", "m", "", "grpc")),
        (["m"], Target("localhost:8001", "m", "", "grpc")),
        (["m", "-i", "HTTP"], Target("localhost:8000", "m", "", "http")),
        (["-m", "m"], Target("localhost:8001", "m", "", "grpc")),
        (["-m", "m", "a:1"], Target("a:1", "m", "", "grpc")),
        (["-u", "a:1", "m", "-x", "3"], Target("a:1", "m", "3", "grpc")),
        (["-u", "a:1", "-m", "m", "-i", "gRPC"], Target("a:1", "m", "", "grpc")),
        (["http://a:1", "m"], Target("http://a:1", "m", "", "http")),
        (["-u", "https://a:1", "-m", "m"], Target("https://a:1", "m", "", "http")),
        (["https://a:1", "m", "-i", "grpc"], Target("https://a:1", "m", "", "grpc")),
    ],
)
def test_targets(arguments, target):
    assert said(*arguments)[0] == target


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ([], "got no model, expected ADDRESS MODEL or -m MODEL"),
        (["-u", "a:1"], "got no model, expected ADDRESS MODEL or -m MODEL"),
        (["-u", "a:1", "b:1", "m"], "got the argument b:1 beside flags for the same, expected one of them"),
        (["-m", "m", "a:1", "n"], "got the argument a:1 beside flags for the same, expected one of them"),
        (["m", "-i", "smtp"], "Invalid value for '--protocol' / '-i': 'smtp' is not one of 'grpc', 'http'."),
    ],
)
def test_targets_that_are_none(arguments, text):
    assert said(*arguments) == text


@pytest.mark.parametrize(
    ("address", "host", "encrypted"),
    [("a:1", "a:1", False), ("http://a:1/", "a:1", False), ("https://a:1", "a:1", True)],
)
def test_addresses(address, host, encrypted):
    connection = said(address, "m")[1]
    assert (connection.address, connection.encrypted) == (host, encrypted)
    assert said(address, "m", "--tls")[1].encrypted


def test_connections(tmp_path):
    for name in ("ca", "cert", "key"):
        (tmp_path / name).write_text(f"the {name}")
    (tmp_path / "token").write_text("secret\n")
    files = [f"--{name}={tmp_path / name}" for name in ("ca", "cert", "key")]
    headers = ["-H", "X-Tenant: a b", "--header", "empty:"]
    others = [f"--token-file={tmp_path / 'token'}", "--timeout=2.5", "--server-name=other"]
    assert said("a:1", "m", *files, *headers, *others)[1] == Connection(
        "a:1",
        False,
        b"the ca",
        b"the cert",
        b"the key",
        "other",
        (("x-tenant", "a b"), ("empty", ""), ("authorization", "Bearer secret")),
        2.5,
    )
    assert said("a:1", "m")[1] == Connection("a:1")


def test_from_the_environment():
    connection = said("m", env={"YAIS_TOKEN": "secret", "YAIS_HEADER": "a: b c\nd: e"})[1]
    assert connection.headers == (("a", "b c"), ("d", "e"), ("authorization", "Bearer secret"))


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (
            ["--token=a", f"--token-file={__file__}"],
            "got both --token and --token-file, expected one of them",
        ),
        (
            ["--token=two\nlines"],
            "got a token with other characters than those of ASCII, or in several lines",
        ),
        ([f"--cert={__file__}"], "--cert and --key want each other"),
        ([f"--key={__file__}"], "--cert and --key want each other"),
        (["-H", "name"], "got 'name', expected a name and a text of ASCII, such as 'tenant: a'"),
        (["-H", "a b: c"], "got 'a b: c', expected a name and a text of ASCII, such as 'tenant: a'"),
        (["-H", "a-bin: c"], "got 'a-bin: c', expected a name and a text of ASCII, such as 'tenant: a'"),
        (["-H", "a: ü"], "got 'a: ü', expected a name and a text of ASCII, such as 'tenant: a'"),
        (["--timeout=0"], "0.0 is not in the range 0<x<="),
        (["--timeout=inf"], "inf is not in the range 0<x<="),
        (["--timeout=nan"], "got nan, expected a number of seconds"),
    ],
)
def test_connections_that_are_none(arguments, text):
    assert text in said("m", *arguments)


@pytest.fixture(scope="module")
def secured(tmp_path_factory):
    """A server with TLS that wants a certificate and a token, and the options that it wants."""
    directory = tmp_path_factory.mktemp("files")
    authority = Authority()
    certificate, key = authority.certify("server", "serving").write(directory)
    client_certificate, client_key = authority.certify("client").write(directory, "client")
    ca = directory / "ca.crt"
    ca.write_bytes(authority.certificate)
    tokens = directory / "tokens"
    tokens.write_text("alice s3cr3t\n")
    tls, access = Tls(certificate, key, ca), AccessOptions(tokens)
    options = [f"--ca={ca}", f"--cert={client_certificate}", f"--key={client_key}", "--server-name=serving"]
    with serving_models(EXAMPLES, tls=tls, access=access) as server:
        yield f"127.0.0.1:{server.port}", options


@pytest.mark.parametrize("command", [["client-sync"], ["client-async"], ["siege", "--rate=100"]])
def test_a_secured_server(secured, command):
    address, options = secured
    done = run_yais(*command, address, "simple", *options, "--count=2", "--token=s3cr3t", "--json")
    assert (done.returncode, done.stderr) == (0, "")
    assert json.loads(done.stdout)["failed"] == 0


@pytest.mark.parametrize(
    ("left_out", "token", "text"),
    [
        (None, (), "got no authorization headers, expected 'authorization: Bearer <token>'"),
        (None, ("--token=other",), "token"),
        ("--server-name", ("--token=s3cr3t",), "failed to connect to all addresses"),
        ("--ca", ("--token=s3cr3t",), "failed to connect to all addresses"),
    ],
)
def test_what_a_secured_server_does_not_take(secured, left_out, token, text):
    address, options = secured
    given = [option for option in options if left_out is None or not option.startswith(left_out)]
    done = run_yais("client-sync", address, "simple", *given, *token, "--count=1", "--timeout=2")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith(f"Error: {address}: ")
    assert text in done.stderr
    assert len(done.stderr.splitlines()) == 1
