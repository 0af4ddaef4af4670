"""Recognises digits here: `python examples/30_py_inference/local.py [--certain 0.5]`."""

from __future__ import annotations

import argparse
import sys

from digits import local_manager, report


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--certain", type=float, default=0.5)
    certain = parser.parse_args().certain

    with local_manager() as manager:
        print(manager.plan())
        sys.exit(0 if report(manager, certain) else "too many are wrong")


if __name__ == "__main__":
    main()
