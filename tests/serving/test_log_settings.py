"""What is logged, how, and how clients change it."""

from __future__ import annotations

import io
import json
import logging
import os
import re
from collections.abc import Iterator

import pytest
import tritonclient.grpc as triton
from onnx_models import identity, write
from serving_models import serving_models
from tritonclient.utils import InferenceServerException

from yais.errors import InvalidArgument, Unimplemented
from yais.serving.log_format import LogFormatter
from yais.serving.log_settings import LogOptions, LogSettings

DEFAULTS = {
    "log_file": "",
    "log_info": True,
    "log_warning": True,
    "log_error": True,
    "log_verbose_level": 0,
    "log_format": "default",
}


class Log:
    """A handler on the root logger, as `yais serve` installs it."""

    def __init__(self) -> None:
        self._stream = io.StringIO()
        self.handler = logging.StreamHandler(self._stream)

    def lines(self) -> list[str]:
        """Return what was logged since."""
        text = self._stream.getvalue()
        self._stream.seek(0)
        self._stream.truncate()
        return text.splitlines()


@pytest.fixture
def log() -> Iterator[Log]:
    loggers = [logging.getLogger(), logging.getLogger("yais")]
    levels = [logger.level for logger in loggers]
    log = Log()
    loggers[0].addHandler(log.handler)
    yield log
    loggers[0].removeHandler(log.handler)
    for logger, level in zip(loggers, levels, strict=True):
        logger.setLevel(level)


def speak():
    """Log at each level, as yais and as another library."""
    for name in ("yais.rpc", "other"):
        logger = logging.getLogger(name)
        for level in (logging.DEBUG, logging.INFO, logging.WARNING, logging.ERROR, logging.CRITICAL):
            logger.log(level, "%s %s", name, logging.getLevelName(level))


def heard(log):
    speak()
    return [re.search(r'"(.*)"', line)[1] for line in log.lines()]


OTHER = ["other WARNING", "other ERROR", "other CRITICAL"]


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, ["yais.rpc INFO", "yais.rpc WARNING", "yais.rpc ERROR", "yais.rpc CRITICAL", *OTHER]),
        ({"log_info": False}, ["yais.rpc WARNING", "yais.rpc ERROR", "yais.rpc CRITICAL", *OTHER]),
        (
            {"log_warning": False},
            ["yais.rpc INFO", "yais.rpc ERROR", "yais.rpc CRITICAL", "other ERROR", "other CRITICAL"],
        ),
        ({"log_error": False}, ["yais.rpc INFO", "yais.rpc WARNING", "other WARNING"]),
        ({"log_info": False, "log_warning": False, "log_error": False}, []),
        (
            {"log_verbose_level": 1, "log_info": False},
            ["yais.rpc DEBUG", "yais.rpc WARNING", "yais.rpc ERROR", "yais.rpc CRITICAL", *OTHER],
        ),
        (
            {"log_verbose_level": 2, "log_error": False},
            [f"{name} {level}" for name in ("yais.rpc", "other") for level in ("DEBUG", "INFO", "WARNING")],
        ),
    ],
)
def test_settings_are_heard_at_once(log, changes, expected):
    settings = LogSettings(LogOptions(handler=log.handler))
    settings.update(changes)
    assert heard(log) == expected
    settings.update({name: DEFAULTS[name] for name in changes})
    assert heard(log) == ["yais.rpc INFO", "yais.rpc WARNING", "yais.rpc ERROR", "yais.rpc CRITICAL", *OTHER]


def test_the_format(log):
    settings = LogSettings(LogOptions(handler=log.handler))
    logger = logging.getLogger("yais.rpc")
    logger.warning('a "word"\nand a line %s', "é")
    [line] = log.lines()
    place = rf"{os.getpid()} test_log_settings\.py:\d+\]"
    assert re.fullmatch(
        rf"W\d{{4}} \d\d:\d\d:\d\d\.\d{{6}} {place} " + re.escape(r'"a \"word\"\nand a line é"'), line
    )
    settings.update({"log_format": "ISO8601"})
    logger.error("said")
    [line] = log.lines()
    assert re.fullmatch(rf'\d{{4}}-\d\d-\d\dT\d\d:\d\d:\d\dZ E {place} "said"', line)


def test_moments_are_utc():
    record = logging.LogRecord("a", logging.INFO, "/x/file.py", 7, "said", (), None)
    record.created, record.process = 1695376800.000123, 42
    assert LogFormatter("default").format(record) == 'I0922 10:00:00.000123 42 file.py:7] "said"'
    assert LogFormatter("ISO8601").format(record) == '2023-09-22T10:00:00Z I 42 file.py:7] "said"'


def test_the_ids_of_a_request_follow():
    record = logging.LogRecord("a", logging.INFO, "/x/file.py", 7, "said", (), None)
    record.created, record.process = 1695376800.000123, 42
    record.request_id = 'my "own"'
    assert LogFormatter("default").format(record) == (
        r'I0922 10:00:00.000123 42 file.py:7] "said" request_id="my \"own\""'
    )
    record.trace_id, record.span_id = "ab", "cd"
    assert LogFormatter("ISO8601").format(record) == (
        r'2023-09-22T10:00:00Z I 42 file.py:7] "said" request_id="my \"own\"" trace_id="ab" span_id="cd"'
    )


def test_lines_of_json(log):
    settings = LogSettings(LogOptions(handler=log.handler, format="json"))
    logging.getLogger("yais.rpc").warning("of %s", "one", extra={"request_id": "mine"})
    settings.update({"log_format": "ISO8601"})
    logging.getLogger("yais.rpc").warning("two")
    settings.update({"log_format": "json"})
    logging.getLogger("yais.rpc").warning("three")
    first, second, third = log.lines()
    assert (
        json.loads(first).items() >= {"message": "of one", "request_id": "mine", "level": "WARNING"}.items()
    )
    assert second.endswith('] "two"')
    assert json.loads(third)["message"] == "three"


def test_a_traceback_follows(log):
    LogSettings(LogOptions(handler=log.handler))
    try:
        raise ValueError("bad")
    except ValueError:
        logging.getLogger("yais.rpc").exception("it raised")
    first, *rest = log.lines()
    assert first.endswith('] "it raised"')
    assert rest[0] == "Traceback (most recent call last):"
    assert rest[-1] == "ValueError: bad"


@pytest.mark.parametrize(
    ("changes", "error", "text"),
    [
        (
            {"log_file": "x"},
            Unimplemented,
            "log file location can not be updated through network protocol",
        ),
        ({"log_info": 1}, InvalidArgument, "expect boolean for 'log_info'"),
        ({"log_warning": "true"}, InvalidArgument, "expect boolean for 'log_warning'"),
        ({"log_error": 0}, InvalidArgument, "expect boolean for 'log_error'"),
        ({"log_verbose_level": True}, InvalidArgument, "expect int32 for 'log_verbose_level'"),
        ({"log_format": False}, InvalidArgument, "expect string for 'log_format'"),
        ({"log_format": "iso"}, InvalidArgument, "invalid argument for log_format, got: iso"),
        (
            {"log_level": 1},
            InvalidArgument,
            (
                "got the log setting 'log_level', expected one of log_info, log_warning, log_error, "
                "log_verbose_level, log_format"
            ),
        ),
    ],
)
def test_what_cannot_be_set_changes_nothing(log, changes, error, text):
    settings = LogSettings(LogOptions(handler=log.handler))
    with pytest.raises(error) as caught:
        settings.update({"log_info": False, **changes} if "log_info" not in changes else changes)
    assert str(caught.value) == text
    assert settings.values() == DEFAULTS
    assert len(heard(log)) == 7


def test_a_program_keeps_its_own_logging():
    logger = logging.getLogger("yais")
    level, handlers = logger.level, list(logging.getLogger().handlers)
    settings = LogSettings(LogOptions(verbose=2))
    settings.update({"log_info": False})
    assert settings.values() == {**DEFAULTS, "log_info": False, "log_verbose_level": 2}
    assert (logger.level, logging.getLogger().handlers) == (level, handlers)


def test_repr():
    assert repr(LogSettings(LogOptions())).startswith("<LogSettings {'log_file': '', 'log_info': True, ")


# By Triton's client


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    directory = tmp_path_factory.mktemp("models")
    write(directory, "identity", identity("FP32"))
    with serving_models(directory, logging=LogOptions(file="/var/log/yais.log")) as running:
        yield running


@pytest.fixture
def client(server):
    with triton.InferenceServerClient(f"127.0.0.1:{server.port}") as connected:
        yield connected


def plain(response):
    kinds = {name: setting.WhichOneof("parameter_choice") for name, setting in response.settings.items()}
    return {name: getattr(setting, kinds[name]) for name, setting in response.settings.items()}


def test_clients_read_and_change_them(client):
    served = {**DEFAULTS, "log_file": "/var/log/yais.log"}
    assert plain(client.get_log_settings()) == served
    changes = {"log_info": False, "log_verbose_level": 3, "log_format": "json"}
    assert plain(client.update_log_settings(changes)) == {**served, **changes}
    assert plain(client.get_log_settings()) == {**served, **changes}
    back = {name: DEFAULTS[name] for name in changes}
    assert plain(client.update_log_settings(back)) == served


def test_clients_are_told_what_is_wrong(client):
    for settings, status, text in (
        ({"log_file": "x"}, "UNIMPLEMENTED", "log file location can not be updated through network protocol"),
        ({"log_info": None}, "INVALID_ARGUMENT", "expect boolean for 'log_info'"),
        ({"log_what": True}, "INVALID_ARGUMENT", "got the log setting 'log_what', expected one of log_info"),
    ):
        with pytest.raises(InferenceServerException) as caught:
            client.update_log_settings(settings)
        assert caught.value.status() == f"StatusCode.{status}"
        assert caught.value.message().startswith(text)


def test_the_extension_is_named(client):
    assert "logging" in client.get_server_metadata().extensions


def test_the_settings_of_a_handler_are_those_of_the_last_server(log):
    LogSettings(LogOptions(error=False, handler=log.handler))
    settings = LogSettings(LogOptions(handler=log.handler))
    assert len(log.handler.filters) == 1
    logging.getLogger("yais.rpc").error("heard")
    assert len(log.lines()) == 1
    settings.update({"log_error": False})
    logging.getLogger("yais.rpc").error("not heard")
    assert log.lines() == []
