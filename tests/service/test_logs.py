"""What a line of the signer's log looks like."""

import ast
import asyncio
import io
import json
import logging
import warnings
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from byok_service.logs import OURS, configure_logging, request_id
from byok_service.setting_types import LogLevel

LOG = logging.getLogger("byok_signer.test")
ROOT = Path(__file__).parents[2]
FOLDERS = [ROOT / "service", ROOT / "operator", ROOT / "signer" / "byok_signer"]


@pytest.fixture
def stream() -> Iterator[io.StringIO]:
    """The log, configured at INFO; the process's logging is as before afterwards."""
    root = logging.getLogger()
    handlers, level = tuple(root.handlers), root.level
    ours = {name: logging.getLogger(name).level for name in OURS}
    stream = io.StringIO()
    configure_logging(LogLevel.INFO, stream=stream)
    yield stream
    logging.captureWarnings(capture=False)
    root.handlers[:] = handlers
    root.setLevel(level)
    for name, previous in ours.items():
        logging.getLogger(name).setLevel(previous)


def _events(stream: io.StringIO) -> list[dict[str, Any]]:
    return [json.loads(line) for line in stream.getvalue().splitlines()]


def test_an_event_is_one_line_with_time_level_logger_message_and_extras(stream: io.StringIO) -> None:
    LOG.info("loaded %d\nobjects", 3, extra={"folder": "/manifests"})
    (event,) = _events(stream)
    assert datetime.fromisoformat(event.pop("time")).utcoffset() is not None
    assert event == {
        "level": "info",
        "logger": "byok_signer.test",
        "message": "loaded 3\nobjects",
        "folder": "/manifests",
    }


def test_the_request_id_follows_its_task(stream: io.StringIO) -> None:
    async def serve(identity: str) -> None:
        request_id.set(identity)
        await asyncio.sleep(0)
        LOG.info("served")

    async def serve_two() -> None:
        await asyncio.gather(serve("a"), serve("b"))
        LOG.info("idle")

    asyncio.run(serve_two())
    assert [event.get("request_id") for event in _events(stream)] == ["a", "b", None]


def test_an_exception_is_part_of_its_line(stream: io.StringIO) -> None:
    try:
        int("broken")
    except ValueError:
        LOG.exception("failed")
    (event,) = _events(stream)
    assert event["level"] == "error"
    assert event["exception"].splitlines()[-1].startswith("ValueError: invalid literal")


def test_an_extra_that_json_does_not_know_becomes_text_and_cannot_forge_the_level(stream: io.StringIO) -> None:
    LOG.info("x", extra={"reason": LogLevel, "level": "forged"})
    (event,) = _events(stream)
    assert event["level"] == "info"
    assert "LogLevel" in event["reason"]


def test_libraries_are_held_at_warning_even_at_debug(stream: io.StringIO) -> None:
    configure_logging(LogLevel.DEBUG, stream=stream)
    LOG.debug("ours")
    logging.getLogger("botocore.endpoint").debug("x-amz-security-token: secret")
    assert [event["logger"] for event in _events(stream)] == ["byok_signer.test"]


def test_a_warning_of_python_is_logged(stream: io.StringIO) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        warnings.warn("old", stacklevel=1)
    assert [event["logger"] for event in _events(stream)] == ["py.warnings"]


def test_configuring_twice_logs_once(stream: io.StringIO) -> None:
    configure_logging(LogLevel.INFO, stream=stream)
    LOG.info("once")
    assert len(_events(stream)) == 1


SECRET = ("token", "signature", "digest", "claim", "credential", "secret", "private", "password", "evidence", "spki")
METHODS = {"debug", "info", "warning", "error", "exception", "critical", "log"}


def _log_calls(source: str) -> Iterator[ast.Call]:
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in METHODS:
            target = node.func.value
            if isinstance(target, ast.Name) and target.id.lower() in {"log", "_log", "logger", "logging"}:
                yield node


def _passed_to_logs(source: str) -> set[str]:
    """Name every variable, attribute and extra field that a log call in `source` hands over."""
    names = set[str]()
    for call in _log_calls(source):
        for part in (part for argument in [*call.args[1:], *call.keywords] for part in ast.walk(argument)):
            match part:
                case ast.Name(id=name) | ast.Attribute(attr=name):
                    names.add(name)
                case ast.Constant(value=str(text)):
                    names.add(text)
    return names


def test_no_log_call_of_the_signer_hands_over_anything_secret() -> None:
    modules = sorted(path for folder in FOLDERS for path in folder.rglob("*.py"))
    found = {
        f"{module.name}: {name}"
        for module in modules
        for name in _passed_to_logs(module.read_text())
        if any(word in name.lower() for word in SECRET)
    }
    assert found == set()
    assert sum(len(list(_log_calls(module.read_text()))) for module in modules) > 5


def test_every_log_message_is_constant_so_that_nothing_is_formatted_into_it() -> None:
    for module in (path for folder in FOLDERS for path in folder.rglob("*.py")):
        for call in _log_calls(module.read_text()):
            assert isinstance(call.args[0], ast.Constant), f"{module.name}:{call.lineno}"


def test_the_scan_sees_a_secret() -> None:
    assert "token" in _passed_to_logs('_LOG.info("x", extra={"found": caller.token})')


class InternalError(Exception):
    """As grpc.aio's, which cannot be made here."""


@pytest.mark.parametrize(
    ("words", "level"),
    [('Failed "execute_batch": (operations)', "info"), ("Failed grpc_call_start_batch: 8", "error")],
    ids=["its caller has gone", "a misuse of gRPC"],
)
def test_an_answer_that_could_not_be_sent_alarms_nobody(stream: io.StringIO, words: str, level: str) -> None:
    logger = logging.getLogger("grpc._cython.cygrpc")
    logger.error("raised in core by servicer method [%s]", "SignClaim", exc_info=InternalError(words))
    (event,) = _events(stream)
    assert (event["level"], "exception" in event) == (level, level == "error")
    assert "[SignClaim]" in event["message"]
