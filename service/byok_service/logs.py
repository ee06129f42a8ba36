"""Logs as JSON on standard error, one line for each event, with the id of the request that it belongs to.

Nothing here removes secrets: none is ever passed to a logger (a test scans what is logged). Other people's
libraries are held at WARNING, because at DEBUG botocore logs request headers with session tokens.
"""

import json
import logging
import sys
import traceback
from contextvars import ContextVar
from datetime import UTC, datetime
from typing import TextIO

from byok_service.setting_types import LogLevel

request_id: ContextVar[str | None] = ContextVar("request_id", default=None)
"""Id of the request being served, set by `Edge`; None outside of one."""

OURS = ("byok_signer", "byok_operator", "byok_service", "byok_api")
"""Loggers that follow the chosen level."""

# What the standard library puts on every record; anything else came by `extra=`.
_STANDARD = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}


_GRPC = "grpc._cython.cygrpc"


def _calm(record: logging.LogRecord) -> bool:
    """Tell without alarm of an answer that gRPC could not send: its caller's time was up just then."""
    error = record.exc_info[1] if record.exc_info else None
    # By name, since only the edges know gRPC. With other words it means a misuse of gRPC: a bug, and stays an error.
    if type(error).__name__ == "InternalError" and str(error).startswith('Failed "execute_batch": '):
        record.levelno, record.levelname, record.exc_info = logging.INFO, "INFO", None
        record.msg, record.args = f"an answer could not be sent: {record.getMessage()}", ()
    return True


class JsonFormatter(logging.Formatter):
    """Turns a record into one line of JSON: time, level, logger, message, request_id, what `extra=` gave, exception."""

    def format(self, record: logging.LogRecord) -> str:
        """Format `record`; its fixed fields win over equally named extra ones."""
        event: dict[str, object] = {
            name: value for name, value in vars(record).items() if name not in _STANDARD and not name.startswith("_")
        }
        event |= {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        identity = request_id.get()
        if identity is not None:
            event["request_id"] = identity
        if record.exc_info and record.exc_info[1] is not None:
            event["exception"] = "".join(traceback.format_exception(record.exc_info[1]))
        return json.dumps(event, default=str, ensure_ascii=False)


def configure_logging(level: LogLevel, *, stream: TextIO | None = None) -> None:
    """Send all logs to `stream` (standard error) as JSON: ours from `level`, those of libraries from WARNING."""
    handler = logging.StreamHandler(stream or sys.stderr)
    handler.setFormatter(JsonFormatter())
    root = logging.getLogger()
    for previous in tuple(root.handlers):
        root.removeHandler(previous)
    root.addHandler(handler)
    root.setLevel(logging.WARNING)
    for name in OURS:
        logging.getLogger(name).setLevel(level.name)
    logging.getLogger(_GRPC).addFilter(_calm)
    logging.captureWarnings(True)  # noqa: FBT003 - the standard library's signature
