"""Write the rules and alerts of k8s/monitoring as a file of Prometheus, for one without its operator."""

from __future__ import annotations

import argparse
from pathlib import Path

import yaml

MANIFEST = Path(__file__).resolve().parents[2] / "k8s/monitoring/rules.yaml"


def main() -> None:
    """Write the file."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("file", type=Path, help="what to write")
    file: Path = parser.parse_args().file
    spec = yaml.safe_load(MANIFEST.read_text())["spec"]
    file.write_text(yaml.safe_dump(spec, sort_keys=False, width=200))
    print(f"{sum(len(group['rules']) for group in spec['groups'])} rules written to {file}")


if __name__ == "__main__":
    main()
