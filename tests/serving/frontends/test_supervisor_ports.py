"""Ports that the supervisor reserves for its frontends."""

from __future__ import annotations

import re
import socket
from dataclasses import replace

import pytest

from yais.rpc.transport import Transport
from yais.serving.frontends.ports import ReservedPorts
from yais.serving.http.options import HttpOptions
from yais.serving.options import ServerOptions

OPTIONS = ServerOptions(grpc_address="127.0.0.1", grpc_port=0, http=HttpOptions("127.0.0.1", 0), frontends=2)


def shared(port: int) -> socket.socket:
    """Listen as a frontend does."""
    listener = socket.socket()
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    listener.bind(("127.0.0.1", port))
    listener.listen()
    return listener


def test_free_ports_are_the_same_for_all() -> None:
    reserved = ReservedPorts(OPTIONS)
    options = reserved.options
    assert options.http is not None
    assert options.grpc_port != options.http.port
    assert options.transport.reuse_port
    assert options.http.reuse_port
    for port in (options.grpc_port, options.http.port):
        with shared(port) as first, shared(port) as second:
            with socket.create_connection(("127.0.0.1", port), timeout=5.0):
                pass  # one of them has it: the reserving socket takes none
            assert first.fileno() != second.fileno()
    reserved.release()


def test_without_http() -> None:
    reserved = ReservedPorts(replace(OPTIONS, http=None))
    assert reserved.options.http is None
    reserved.release()


def test_ports_are_free_again() -> None:
    reserved = ReservedPorts(OPTIONS)
    port = reserved.options.grpc_port
    with socket.socket() as alone, pytest.raises(OSError, match="in use"):
        alone.bind(("127.0.0.1", port))
    reserved.release()
    with socket.socket() as alone:
        alone.bind(("127.0.0.1", port))


@pytest.mark.parametrize("kind", ["grpc", "http"])
@pytest.mark.parametrize("theirs", ["their own", "shared"])
def test_a_port_in_use(kind: str, theirs: str) -> None:
    """Also by another server with frontends, with which connections would be shared by accident."""
    with shared(0) if theirs == "shared" else socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        grpc, http = (port, 0) if kind == "grpc" else (0, port)
        options = replace(OPTIONS, grpc_port=grpc, http=HttpOptions("127.0.0.1", http))
        text = re.escape(f"cannot listen on '127.0.0.1:{port}': is the address in use?")
        with pytest.raises(OSError, match=text):
            ReservedPorts(options)


def test_one_port_for_grpc_and_http() -> None:
    with shared(0) as other:
        port = other.getsockname()[1]
    options = replace(OPTIONS, grpc_port=port, http=HttpOptions("127.0.0.1", port))
    with pytest.raises(OSError, match=f"cannot listen on '127.0.0.1:{port}': is the address in use"):
        ReservedPorts(options)
    with socket.socket() as alone:  # nothing of it is left
        alone.bind(("127.0.0.1", port))


def test_a_port_may_be_shared_on_purpose() -> None:
    with shared(0) as other:
        port = other.getsockname()[1]
        reserved = ReservedPorts(replace(OPTIONS, grpc_port=port, transport=Transport(reuse_port=True)))
        assert reserved.options.grpc_port == port
        reserved.release()


@pytest.mark.parametrize("address", ["unix:/tmp/socket", "unix-abstract:socket"])
def test_a_unix_socket(address: str) -> None:
    with pytest.raises(ValueError, match=f"got the address '{address}', expected one of TCP"):
        ReservedPorts(replace(OPTIONS, grpc_address=address))


def test_no_port() -> None:
    with pytest.raises(ValueError, match="got port 65536"):
        ReservedPorts(replace(OPTIONS, grpc_port=65536))


def test_no_address_of_this_machine() -> None:
    with pytest.raises(OSError, match=r"cannot listen on '192\.0\.2\.1:0'"):
        ReservedPorts(replace(OPTIONS, grpc_address="192.0.2.1"))
