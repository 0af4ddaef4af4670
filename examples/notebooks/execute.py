"""Executes the notebooks beside it, or those that are named, and keeps their outputs. See README.md."""

from __future__ import annotations

import sys
from pathlib import Path

import nbformat
from nbclient import NotebookClient

HERE = Path(__file__).resolve().parent
TIMEOUT = 120  # seconds for a cell


def execute(path: Path) -> nbformat.NotebookNode:
    """Return a notebook with new outputs, executed in its own folder by the Python that runs this.

    Raises
    ------
    nbclient.exceptions.CellExecutionError
        A cell raised something, or did not end in time.
    """
    notebook: nbformat.NotebookNode = nbformat.read(path, as_version=4)  # type: ignore[no-untyped-call]
    NotebookClient(
        notebook,
        timeout=TIMEOUT,
        kernel_name="python3",
        record_timing=False,
        coalesce_streams=True,
        resources={"metadata": {"path": str(path.parent)}},
    ).execute()
    # Who executed it is in there, too.
    notebook["metadata"].pop("language_info", None)
    return notebook


def main() -> None:
    paths = [Path(name) for name in sys.argv[1:]] or sorted(HERE.glob("*.ipynb"))
    for path in paths:
        notebook = execute(path)
        nbformat.write(notebook, path)  # type: ignore[no-untyped-call]
        print(path.name)


if __name__ == "__main__":
    main()
