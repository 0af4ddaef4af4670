"""A log file that cannot be written: a line on standard error, and whoever logs goes on."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from yais.serving.log_handler import log_handler


@contextmanager
def writing(file: Path) -> Iterator[Callable[..., object]]:
    """Open a log; give what writes a message with its arguments, as a logger does."""
    handler = log_handler(str(file))
    try:
        yield lambda message, *args: handler.handle(logging.makeLogRecord({"msg": message, "args": args}))
    finally:
        handler.close()


def test_a_full_disk_is_told_once(capfd: pytest.CaptureFixture[str]) -> None:
    with writing(Path("/dev/full")) as write:
        for _ in range(3):
            write("lost")
    assert capfd.readouterr().err == "cannot write the log '/dev/full': No space left on device\n"


def test_a_directory_that_has_gone(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """Moved away with the file in it; where it is back, the file is made anew."""
    directory = tmp_path / "logs"
    file = directory / "log"
    directory.mkdir()
    with writing(file) as write:
        for generation in range(2):
            write("written")
            assert file.read_text() == "written\n"
            directory.rename(tmp_path / f"logs.{generation}")
            for _ in range(2):
                write("lost")
            assert capfd.readouterr().err == f"cannot write the log '{file}': No such file or directory\n"
            directory.mkdir()


def test_a_mistake_in_the_program_is_not_hidden(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    with writing(tmp_path / "log") as write:
        write("%d", "no number")
    assert "TypeError" in capfd.readouterr().err
