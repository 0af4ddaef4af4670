"""A log file that cannot be written: a line on standard error, and whoever logs goes on."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from yais.serving.log_handler import log_handler


@contextmanager
def logger_of(file: Path) -> Iterator[logging.Logger]:
    logger = logging.getLogger("log file")
    handler = log_handler(str(file))
    logger.addHandler(handler)
    logger.propagate = False
    try:
        yield logger
    finally:
        logger.removeHandler(handler)
        handler.close()


def test_a_full_disk_is_told_once(capfd: pytest.CaptureFixture[str]) -> None:
    with logger_of(Path("/dev/full")) as logger:
        for _ in range(3):
            logger.error("lost")
    assert capfd.readouterr().err == "cannot write the log '/dev/full': No space left on device\n"


def test_a_directory_that_has_gone(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """Moved away with the file in it; where it is back, the file is made anew."""
    directory = tmp_path / "logs"
    file = directory / "log"
    directory.mkdir()
    with logger_of(file) as logger:
        for generation in range(2):
            logger.error("written")
            assert file.read_text() == "written\n"
            directory.rename(tmp_path / f"logs.{generation}")
            for _ in range(2):
                logger.error("lost")
            assert capfd.readouterr().err == f"cannot write the log '{file}': No such file or directory\n"
            directory.mkdir()


def test_a_mistake_in_the_program_is_not_hidden(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    with logger_of(tmp_path / "log") as logger:
        logger.error("%d", "no number")
    assert "TypeError" in capfd.readouterr().err
