"""The scan for secrets finds each kind, wherever a test writes it, and fails the session that it was written in."""

import base64
import hashlib
import logging
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.secret_scan import Scan

ROOT = Path(__file__).parent.parent

IMPORTS = """
import hashlib, logging, os, sys
from datetime import UTC, datetime
from byok_sandbox.issuer import Issuer, ServiceAccount
from byok_sandbox.kms.keys import SoftwareKey
from byok_signer.kms.sigv4 import Credentials

TOKEN = lambda: Issuer().mint(ServiceAccount("media", "job"), now=datetime.now(UTC))
SIGNATURE = lambda: SoftwareKey.generate("ECC_NIST_P256").sign("ECDSA_SHA_256", b"claim")
LOG = logging.getLogger("byok_signer.edge")
"""

LEAKS = {
    "a token at DEBUG": ('LOG.debug("came with %s", TOKEN())', "a token in logger byok_signer.edge"),
    "a token's claims": ('LOG.info(TOKEN().split(".")[1])', "a token's claims in logger"),
    "what extra gave": ('LOG.info("x", extra={"found": SIGNATURE().hex()})', "a signature in logger"),
    "bytes": ('LOG.info("%s", {"signature": bytes(range(128, 192))})', "bytes in logger"),
    "a digest": ('SIGNATURE(); LOG.info(hashlib.sha256(b"claim").hexdigest())', "a digest in logger"),
    "a digest before it is signed": (
        'LOG.info(hashlib.sha256(b"claim").hexdigest()); SIGNATURE()',
        "a digest in logger",
    ),
    "an AWS secret": (
        'LOG.info(Credentials("AKIA", "the-secret-of-the-test", None).secret_key)',
        "an AWS secret key in",
    ),
    "an exception": (
        "\\n    try:\\n        raise ValueError(TOKEN())\\n    except ValueError:\\n        LOG.exception('x')",
        "a token in logger",
    ),
    "a library": ('logging.getLogger("botocore").warning(TOKEN())', "a token in logger botocore"),
    "a private key on standard error": ('print("-----BEGIN EC PRIVATE KEY-----", file=sys.stderr)', "a private key in"),
    "another process": ("os.write(2, TOKEN().encode())", "a token in standard error"),
    "a process's log": ('(tmp_path / "log").write_text(TOKEN())', "a token in the file log"),
}
HARMLESS = [
    'LOG.info("refused", extra={"reason": "TokenInvalid", "recipe_hash": hashlib.sha256(b"recipe").hexdigest()})',
    "TOKEN(); SIGNATURE()",
    "print(TOKEN())",
]


def session(folder: Path, *bodies: str, options: tuple[str, ...] = ()) -> tuple[int, str]:
    """Run tests with these bodies in a session of their own."""
    tests = (f"def test_{number}(tmp_path):\n    {body}\n" for number, body in enumerate(bodies))
    (folder / "test_written.py").write_text(IMPORTS + "\n".join(tests))
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-q",
        *options,
        "-p",
        "tests.support.secret_scan",
        "-p",
        "no:cacheprovider",
    ]
    command += ["-c", "/dev/null", "--rootdir", str(folder), f"--basetemp={folder}/temporary", str(folder)]
    ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    shutil.rmtree(folder / "temporary")  # or this session finds the secrets too
    return ended.returncode, ended.stdout + ended.stderr


def test_each_leak_fails_the_session_that_names_its_test_and_logger(tmp_path: Path) -> None:
    status, output = session(tmp_path, *(body.replace("\\n", "\n") for body, _ in LEAKS.values()), *HARMLESS)
    assert status == 1, output
    assert f"{len(LEAKS) + len(HARMLESS)} passed" in output
    for number, (_, said) in enumerate(LEAKS.values()):
        assert f"test_written.py::test_{number}: {said}" in output, output
    for number in range(len(LEAKS), len(LEAKS) + len(HARMLESS)):
        assert f"test_{number}:" not in output


def test_what_another_process_of_the_session_finds_fails_it(tmp_path: Path) -> None:
    status, output = session(tmp_path, "LOG.info(TOKEN())", options=("--numprocesses", "1"))
    assert status == 1, output
    assert "test_written.py::test_0: a token in logger byok_signer.edge" in output


def test_a_session_without_leaks_passes(tmp_path: Path) -> None:
    status, output = session(tmp_path, *HARMLESS)
    assert status == 0, output


@pytest.mark.parametrize("form", [bytes.hex, base64.b64encode, base64.urlsafe_b64encode])
def test_bytes_are_found_however_they_are_written_and_whatever_is_around_them(form: object) -> None:
    secret = hashlib.sha512(b"a signature").digest()
    written = form(secret)  # type: ignore[operator]  # each takes bytes
    scan = Scan()
    scan.note("a signature", secret)
    scan.saw("logger x", f"path/{written if isinstance(written, str) else written.decode()}.json")
    scan.look("t")
    assert scan.findings == {"t: a signature in logger x"}


def test_what_is_too_plain_is_no_secret() -> None:
    scan = Scan()
    for plain in (bytes(64), "0" * 64, "short", b"", None):
        scan.note("a digest", plain)
    scan.saw("logger x", f"{bytes(64).hex()} short")
    scan.look("t")
    assert scan.findings == set()


def test_our_loggers_log_no_more_than_without_the_scan(caplog: pytest.LogCaptureFixture) -> None:
    log = logging.getLogger("byok_signer.edge")
    log.debug("not chosen")
    log.warning("by default")
    with caplog.at_level("INFO", "byok_signer.edge"):
        log.info("chosen for the module")
    with caplog.at_level("DEBUG", "byok_signer"):
        log.debug("chosen for the package")
    with caplog.at_level("DEBUG"):
        log.debug("chosen for all")
    log.info("not chosen")
    told = ["by default", "chosen for the module", "chosen for the package", "chosen for all"]
    assert [record.getMessage() for record in caplog.records] == told
