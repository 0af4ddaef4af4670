"""Counts the words of a text: `python examples/04_middleman/client.py [--port 50049] [--text TEXT]`."""

from __future__ import annotations

import argparse
import sys

from middleman_pb2 import DESCRIPTOR, InferReply, InferRequest, StatusReply, StatusRequest

import yais
from yais.rpc.client import Channels, ClientUnary

RPCS = DESCRIPTOR.services_by_name["Inference"].methods_by_name


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, default=50049)
    parser.add_argument("--text", default="The cat and the dog")
    arguments = parser.parse_args()

    with Channels(f"localhost:{arguments.port}") as channels:
        infer: ClientUnary[InferRequest, InferReply] = ClientUnary(channels, RPCS["Infer"], timeout=10.0)
        status: ClientUnary[StatusRequest, StatusReply] = ClientUnary(channels, RPCS["Status"], timeout=10.0)
        call = infer.submit(InferRequest(text=arguments.text))
        try:
            for word, count in sorted(call.result().words.items()):
                print(f"{word}: {count}")
            print(f"texts counted so far: {status.call(StatusRequest()).texts}")
        except yais.YaisError as error:
            sys.exit(f"{error.code.name}: {error}")
        print(f"served by: {call.trailing_metadata()['served-by']!s}")


if __name__ == "__main__":
    main()
