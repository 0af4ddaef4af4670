"""Say something to the echo service: `python examples/01_basic_grpc/client.py [--text hello]`."""

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
            "/yais.examples.echo.Echo/Say",
            request_serializer=EchoRequest.SerializeToString,
            response_deserializer=EchoReply.FromString,
        )
        print(say(EchoRequest(text=arguments.text), timeout=5.0).text)


if __name__ == "__main__":
    main()
