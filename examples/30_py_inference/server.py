"""Serves the models: `python examples/30_py_inference/server.py [--port 8001]`. See README.md."""

from __future__ import annotations

import argparse

from digits import local_manager


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, default=8001)
    port = parser.parse_args().port

    with local_manager() as manager:
        server = manager.serve(port, block=False)
        print(f"digits listens on port {server.port}; Ctrl-C ends it", flush=True)
        server.run()


if __name__ == "__main__":
    main()
