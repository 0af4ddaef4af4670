"""Greets and takes leave: `python examples/14_existing_servicer/client.py [--port 50051] [--name World]`."""

from __future__ import annotations

import argparse
import sys

from greeter_pb2 import DESCRIPTOR, GoodbyeReply, GoodbyeRequest, HelloReply, HelloRequest

import yais
from yais.rpc.client import Channels, ClientServerStreaming, ClientUnary

GREETER = DESCRIPTOR.services_by_name["Greeter"].methods_by_name
FAREWELL = DESCRIPTOR.services_by_name["Farewell"].methods_by_name


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, default=50051)
    parser.add_argument("--name", default="World")
    arguments = parser.parse_args()

    with Channels(f"localhost:{arguments.port}") as channels:
        hello: ClientUnary[HelloRequest, HelloReply] = ClientUnary(channels, GREETER["SayHello"])
        often: ClientServerStreaming[HelloRequest, HelloReply] = ClientServerStreaming(
            channels, GREETER["SayHelloOften"]
        )
        goodbye: ClientUnary[GoodbyeRequest, GoodbyeReply] = ClientUnary(channels, FAREWELL["SayGoodbye"])
        try:
            print(hello.call(HelloRequest(name=arguments.name), timeout=10.0).text)
            for reply in often.open(HelloRequest(name=arguments.name, times=3), timeout=10.0):
                print(reply.text)
            print(goodbye.call(GoodbyeRequest(name=arguments.name), timeout=10.0).text)
        except yais.YaisError as error:
            sys.exit(f"{error.code.name}: {error}")


if __name__ == "__main__":
    main()
