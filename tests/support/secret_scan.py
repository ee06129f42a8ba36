"""Fails a session of tests in which a secret was logged: by any logger, or on standard error of any process.

What counts as secret: what the suite itself makes (tokens of the issuer, signatures and digests of the keys in
software, AWS credentials), noted as it is made, in every way in which bytes are written; and what looks like a token or
a private key, whoever made it. A pytest plugin: tests/conftest.py takes its hooks.
"""

import base64
import contextlib
import functools
import hashlib
import logging
import re
from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature

from byok_sandbox.issuer import Issuer
from byok_sandbox.kms.identities import AccessKey
from byok_sandbox.kms.keys import SoftwareKey
from byok_signer.kms.sigv4 import Credentials

OURS = ("byok_signer", "byok_api", "byok_client", "byok_sandbox")
_WINDOW = 20
"""Characters of a secret that give it away."""
_RUN = re.compile(rf"[A-Za-z0-9+/_.=-]{{{_WINDOW},}}")
_PATTERNS = {
    "a token": re.compile(r"eyJ[A-Za-z0-9_-]{16,}\.eyJ[A-Za-z0-9_-]{16,}"),
    "a private key": re.compile(r"BEGIN (?:[A-Z]+ )?PRIVATE KEY"),
    "bytes": re.compile(r"(?:\\x[0-9a-f]{2}[^\\]?){16,}"),
}
_FORMATTER = logging.Formatter()


@dataclass
class Scan:
    """The secrets that were made, and where they were seen."""

    secrets: dict[str, str] = field(default_factory=dict)
    """What each is, by its beginning."""
    findings: set[str] = field(default_factory=set)
    _written: list[tuple[str, str]] = field(default_factory=list)

    def note(self, what: str, secret: str | bytes | None) -> None:
        """Remember a secret, unless it is too short or too plain to be told from other text."""
        for form in _forms(secret or b"") if not isinstance(secret, str) else (secret,):
            beginning = form[:_WINDOW]
            if len(beginning) == _WINDOW and len(set(beginning)) > _WINDOW // 3:
                self.secrets[beginning] = what

    def saw(self, where: str, text: str) -> None:
        """Keep what was written until `look`, as what it tells may be known for a secret only later."""
        self._written.append((where, text))

    def look(self, test: str) -> None:
        """Look at what a test wrote."""
        written, self._written = self._written, []
        self.findings.update(f"{test}: {what} in {where}" for where, text in written for what in self._found(text))

    def _found(self, text: str) -> Iterator[str]:
        for what, pattern in _PATTERNS.items():
            if pattern.search(text):
                yield what
        for run in _RUN.finditer(text):
            part = run[0]
            for start in range(len(part) - _WINDOW + 1):
                secret = self.secrets.get(part[start : start + _WINDOW])
                if secret is not None:
                    yield secret


def _forms(secret: bytes) -> tuple[str, ...]:
    return (
        secret.hex(),
        secret.hex().upper(),
        base64.b64encode(secret).decode(),
        base64.urlsafe_b64encode(secret).decode(),
    )


SCAN = Scan()
_UNDO = contextlib.ExitStack()


def _noting(owner: type, method: str, note: Callable[..., None]) -> None:
    """Have noted what a method was given and what it gave."""
    made = getattr(owner, method)

    @functools.wraps(made)
    def noted(*arguments: Any, **named: Any) -> Any:  # noqa: ANN401 - whatever the method's are
        result = made(*arguments, **named)
        note(result, *arguments, **named)
        return result

    setattr(owner, method, noted)
    _UNDO.callback(setattr, owner, method, made)


def _note_token(token: str, *_: object, **__: object) -> None:
    _header, payload, signature = token.split(".")
    SCAN.note("a token's claims", payload)
    SCAN.note("a token's signature", signature)


def _note_signature(
    signature: bytes, key: SoftwareKey, algorithm: str, message: bytes, message_type: str = "RAW"
) -> None:
    SCAN.note("a signature", signature)
    if isinstance(key.private_key, ec.EllipticCurvePrivateKey):
        size = (key.private_key.key_size + 7) // 8
        for number in decode_dss_signature(signature):
            SCAN.note("a signature", number.to_bytes(size, "big"))
    digest = message if message_type == "DIGEST" else hashlib.new(f"sha{algorithm[-3:]}", message).digest()
    SCAN.note("a digest", digest)


def _note_access_key(_: None, key: AccessKey | Credentials, *__: object, **___: object) -> None:
    secret, token = (
        (key.secret_access_key, key.session_token) if isinstance(key, AccessKey) else (key.secret_key, key.token)
    )
    SCAN.note("an AWS secret key", secret)
    SCAN.note("an AWS session token", token)


def pytest_sessionstart() -> None:
    """Begin to note secrets, and to see what is logged."""
    _watch_loggers()
    _noting(Issuer, "sign", _note_token)
    _noting(SoftwareKey, "sign", _note_signature)
    for access_key in (AccessKey, Credentials):
        _noting(access_key, "__init__", _note_access_key)


def _watch_loggers() -> None:
    """See every record of our loggers, whatever their level; only what would be logged without this is passed on."""
    enabled, handle = logging.Logger.isEnabledFor, logging.Logger.handle

    def is_enabled_for(self: logging.Logger, level: int) -> bool:
        return self.name.partition(".")[0] in OURS or enabled(self, level)

    def look_and_handle(self: logging.Logger, record: logging.LogRecord) -> None:
        # With all that came by `extra`, as formatters write it.
        SCAN.saw(f"logger {record.name}", f"{_FORMATTER.format(record)} {vars(record)}")
        if enabled(self, record.levelno):
            handle(self, record)

    for name, method, before in (("isEnabledFor", is_enabled_for, enabled), ("handle", look_and_handle, handle)):
        setattr(logging.Logger, name, method)
        _UNDO.callback(setattr, logging.Logger, name, before)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Generator[None, object, object]:
    """Look at what a test wrote."""
    result = yield
    SCAN.look(item.nodeid)
    return result


@pytest.hookimpl(wrapper=True)
def pytest_runtest_teardown(item: pytest.Item) -> Generator[None, object, object]:
    """Look at the logs that a test's processes left in its folder."""
    folder = getattr(item, "funcargs", {}).get("tmp_path")
    result = yield
    for path in folder.rglob("*") if isinstance(folder, Path) else ():
        if path.name.endswith(("log", "stderr")) and path.is_file():
            SCAN.saw(f"the file {path.name}", path.read_text(errors="replace"))
    return result


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    """Look at what a test, and the processes that share its standard error, wrote there."""
    if hasattr(report, "node"):
        return  # another process ran it, and looked (pytest-xdist)
    for name, content in report.sections:
        if "stderr" in name:
            SCAN.saw("standard error", content)


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Fail the session if a secret was seen; one of several processes tells the one that started it."""
    _UNDO.close()
    if hasattr(session.config, "workeroutput"):
        session.config.workeroutput["findings"] = sorted(SCAN.findings)
    if SCAN.findings:
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any) -> None:  # noqa: ANN401 - pytest-xdist has no types for it
    """Take over what another process has seen; one that crashed has failed the session already."""
    SCAN.findings.update(getattr(node, "workeroutput", {}).get("findings", ()))


def pytest_terminal_summary(terminalreporter: Any) -> None:  # noqa: ANN401 - pytest keeps its type to itself
    """Name what was seen, where, and in which test."""
    if SCAN.findings:
        terminalreporter.section("secrets were logged", red=True)
        for finding in sorted(SCAN.findings):
            terminalreporter.line(finding)
