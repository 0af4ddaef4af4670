"""Recognises digits elsewhere: `python examples/30_py_inference/remote.py [--port 8001 [8002 ...]]`."""

from __future__ import annotations

import argparse
import sys

from digits import report

import yais


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--port", type=int, nargs="+", default=[8001], help="several servers are asked in turn"
    )
    parser.add_argument("--certain", type=float, default=0.5)
    arguments = parser.parse_args()

    addresses = [f"127.0.0.1:{port}" for port in arguments.port]
    with yais.RemoteInferenceManager(addresses) as manager:
        try:
            sys.exit(0 if report(manager, arguments.certain) else "too many are wrong")
        except yais.YaisError as error:
            sys.exit(f"{error.code.name}: {error}")


if __name__ == "__main__":
    main()
