"""A server of streams and a client of them: what the tests of contexts of streams begin with.

Messages are integers or bytes, without protobuf.
"""

from __future__ import annotations

import contextlib
import queue
import threading
from collections.abc import Callable, Hashable, Iterable, Iterator
from typing import Any, Self

import grpc
from echoing import SOON
from grpc_health.v1 import health_pb2, health_pb2_grpc

import yais
from yais.testing import serving

SERVICE = "test.Streams"

Codec = tuple[Callable[[bytes], Any], Callable[[Any], bytes]]

INTEGERS: Codec = (int, lambda number: b"%d" % number)
RAW: Codec = (bytes, bytes)

LARGE = bytes(64 << 10)
"""A message as large as what a call may send without anybody reading it: one window of HTTP/2."""

BOUND = 40
"""More of the large messages than ever wait for somebody to read them, and far fewer than `PLENTY`."""

PLENTY = 200

# Windows that grow with the connection's speed would let any number of messages through.
_FIXED_WINDOW = ("grpc.http2.bdp_probe", 0)


class Log:
    """What has happened, in order. Thread-safe."""

    def __init__(self) -> None:
        self.entries: list[Any] = []
        self._changed = threading.Condition()

    def add(self, entry: Any) -> None:
        """Note something."""
        with self._changed:
            self.entries.append(entry)
            self._changed.notify_all()

    def wait(self, *entries: Hashable) -> None:
        """Wait until all of these are there."""
        with self._changed:
            there = self._changed.wait_for(lambda: all(entry in self.entries for entry in entries), SOON)
            assert there, f"waited for {entries} in vain: {self.entries}"

    def wait_for_count(self, count: int) -> None:
        """Wait until there are so many."""
        with self._changed:
            assert self._changed.wait_for(lambda: len(self.entries) >= count, SOON), self.entries

    def __len__(self) -> int:
        return len(self.entries)

    def __contains__(self, entry: object) -> bool:
        return entry in self.entries


class Requests(Iterator[Any]):
    """The requests of a call, sent one by one by the test. Ends with `end`, or with the `with` block."""

    _END = object()

    def __init__(self, *first: Any) -> None:
        self._queue: queue.SimpleQueue[Any] = queue.SimpleQueue()
        for request in first:
            self.send(request)

    def send(self, request: Any) -> None:
        """Send one more."""
        self._queue.put(request)

    def end(self) -> None:
        """Send no more."""
        self._queue.put(self._END)

    def __next__(self) -> Any:
        request = self._queue.get(timeout=SOON)
        if request is self._END:
            raise StopIteration
        return request

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.end()


class Client:
    """Calls the RPCs of a server, by their names; without a name, the only one."""

    def __init__(self, server: yais.Server, channel: grpc.Channel, codec: Codec) -> None:
        self.server = server
        self.channel = channel
        self._decode, self._encode = codec

    def chat(self, requests: Iterable[Any] = (), rpc: str = "Run", **options: Any) -> Any:
        """Begin a call with many requests and many answers."""
        return self._method(self.channel.stream_stream, rpc)(iter(requests), **(_DEFAULTS | options))

    def up(self, requests: Iterable[Any] = (), rpc: str = "Run", **options: Any) -> Any:
        """Begin a call with many requests and one answer; return its future."""
        method = self._method(self.channel.stream_unary, rpc)
        return method.future(iter(requests), **(_DEFAULTS | options))

    def down(self, request: Any, rpc: str = "Run", **options: Any) -> Any:
        """Begin a call with one request and many answers."""
        return self._method(self.channel.unary_stream, rpc)(request, **(_DEFAULTS | options))

    def one(self, request: Any, rpc: str = "Run", **options: Any) -> Any:
        """Begin a call with one request and one answer; return its future."""
        return self._method(self.channel.unary_unary, rpc).future(request, **(_DEFAULTS | options))

    def pass_by(self) -> None:
        """Return once the server has seen all that was sent on the connection before."""
        stub = health_pb2_grpc.HealthStub(self.channel)
        stub.Check(health_pb2.HealthCheckRequest(), timeout=SOON)

    def at_rest(self, count: Callable[[], int]) -> int:
        """Return a count once it has stayed the same while the server has answered other calls."""
        before, same = count(), 0
        while same < 20:
            self.pass_by()
            same = same + 1 if count() == before else 0
            before = count()
        return before

    def _method(self, kind: Callable[..., Any], rpc: str) -> Any:
        return kind(f"/{SERVICE}/{rpc}", self._encode, self._decode)


_DEFAULTS: dict[str, Any] = {"timeout": SOON}


def service_of(*, codec: Codec = INTEGERS, contexts: int = 4, **classes: type) -> yais.Service:
    """Make a service of context classes by the names of their RPCs, with many answers where they may."""
    service = yais.Service(SERVICE)
    deserialize, serialize = codec
    for rpc, context in classes.items():
        service.register(rpc, context, contexts=contexts, deserialize=deserialize, serialize=serialize)
    return service


@contextlib.contextmanager
def streaming(
    context: type,
    *,
    codec: Codec = INTEGERS,
    contexts: int = 4,
    reply_stream: bool = True,
    **server_options: Any,
) -> Iterator[Client]:
    """Serve one RPC, `Run`, with a context class while the block lasts."""
    deserialize, serialize = codec
    service = yais.Service(SERVICE)
    service.register(
        "Run",
        context,
        contexts=contexts,
        deserialize=deserialize,
        serialize=serialize,
        reply_stream=reply_stream,
    )
    with connected(service, codec=codec, **server_options) as client:
        yield client


@contextlib.contextmanager
def connected(service: yais.Service, *, codec: Codec = INTEGERS, **server_options: Any) -> Iterator[Client]:
    """Serve a service while the block lasts; its calls are cancelled first when it ends."""
    options = [("grpc.use_local_subchannel_pool", 1), _FIXED_WINDOW]
    defaults: dict[str, Any] = {"grace": 5.0, "options": [_FIXED_WINDOW]}
    with serving(service, **(defaults | server_options)) as served:
        address = f"127.0.0.1:{served.port}"
        with grpc.insecure_channel(address, options=options) as channel:
            yield Client(served.server, channel, codec)


def fill(write: Callable[[int], bool], pass_by: Callable[[], object]) -> int:
    """Write until there is no room, not even after other calls were answered; return how many were taken.

    `write` gets the number of the message.
    """
    taken = refused = 0
    while refused < 20:
        if write(taken):
            taken, refused = taken + 1, 0
        else:
            refused += 1
            pass_by()
    return taken


def ended(call: Any) -> tuple[list[Any], grpc.StatusCode]:
    """Read a call to its end; return its answers and its code."""
    answers: list[Any] = []
    with contextlib.suppress(grpc.RpcError):
        answers.extend(call)
    return answers, call.code()


def failed(call: Any) -> tuple[grpc.StatusCode, str]:
    """Read a call to its end; return code and message of its status."""
    ended(call)
    return call.code(), call.details()
