"""Child processes of the sandbox: started, waited for, and ended in the reverse order, whatever happens."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, BinaryIO

_START_LIMIT = 20.0
_STOP_LIMIT = 15.0
_INTERVAL = 0.02


class ChildError(Exception):
    """A process did not start, or ended on its own; str() carries the last lines of its log."""


class Child:
    """A Python module running as a process of its own; standard output and error go to files."""

    def __init__(self, name: str, folder: Path, arguments: Sequence[str], environ: Mapping[str, str]) -> None:
        self.name = name
        self.output = folder / f"{name}.out"
        self.log = folder / f"{name}.log"
        # The emulated KMS announces its administrator's credentials on standard output.
        with _private(self.output) as output, _private(self.log) as log:
            # A session of its own: Ctrl-C reaches this process only, which ends the others in order.
            self._process = subprocess.Popen(  # noqa: S603 - our own modules, arguments as a list
                [sys.executable, "-m", *arguments],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=log,
                env={**_inherited(), **environ},
                start_new_session=True,
            )

    @property
    def pid(self) -> int:
        """Process id."""
        return self._process.pid

    def wait_for(self, path: Path, wanted: Mapping[str, object]) -> dict[str, Any]:
        """Wait for a line of JSON in `path` with all of `wanted`; ChildError if the process ends or takes over 20 s."""
        deadline = time.monotonic() + _START_LIMIT
        while time.monotonic() < deadline:
            for line in path.read_bytes().splitlines(keepends=True):
                found = _parsed(line)
                if found is not None and wanted.items() <= found.items():
                    return found
            if self._process.poll() is not None:
                raise ChildError(f"{self.name} ended with status {self._process.returncode}: {self._tail()}")
            time.sleep(_INTERVAL)
        raise ChildError(f"{self.name} was not ready within {_START_LIMIT:.0f} s: {self._tail()}")

    def is_running(self) -> bool:
        """Whether the process has not ended."""
        return self._process.poll() is None

    def stop(self) -> None:
        """End the process with SIGTERM, or SIGKILL if it does not heed that."""
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGTERM)
            try:
                self._process.wait(_STOP_LIMIT)
            except subprocess.TimeoutExpired:
                self._process.kill()
        self._process.wait()

    def _tail(self) -> str:
        return self.log.read_text(errors="replace")[-1000:] or "it logged nothing"


def _private(path: Path) -> BinaryIO:
    path.touch(mode=0o600)
    return path.open("wb")


def _parsed(line: bytes) -> dict[str, Any] | None:
    if not line.endswith(b"\n"):
        return None
    try:
        found = json.loads(line)
    except ValueError:
        return None
    return found if isinstance(found, dict) else None


def _inherited() -> dict[str, str]:
    # Neither the user's own AWS account nor the user's signer may leak into the sandbox.
    return {name: value for name, value in os.environ.items() if not name.startswith(("AWS_", "BYOK_"))}
