"""Call the echo service once: `python examples/01_basic_grpc/client.py [--port 50051] [--text hello]`."""

import argparse

import grpc
from echo_pb2 import EchoReply, EchoRequest


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, default=50051)
    parser.add_argument("--text", default="hello")
    arguments = parser.parse_args()

    with grpc.insecure_channel(f"localhost:{arguments.port}") as channel:
        say = channel.unary_unary(
            "/yais.examples.echo.Echo/Say", EchoRequest.SerializeToString, EchoReply.FromString
        )
        print(say(EchoRequest(text=arguments.text), timeout=10.0).text)


if __name__ == "__main__":
    main()
