"""A client that signs what it reads on its standard input, run as c2patool runs it."""

import json
import os
import subprocess
from dataclasses import dataclass
from typing import Any

from byok_client import ClientSettings

DEADLINE = 60.0
"""Seconds; a program of which nothing is heard by then has failed."""


@dataclass(frozen=True)
class Ended:
    """How a program ended."""

    status: int
    output: bytes
    said: str

    @property
    def document(self) -> dict[str, Any]:
        """What it printed, as JSON."""
        assert self.status == 0, self.said
        document: dict[str, Any] = json.loads(self.output)
        return document

    @property
    def signature(self) -> bytes:
        """What it wrote, as a signature."""
        assert self.status == 0, self.said
        return self.output


@dataclass(frozen=True)
class Running:
    """A program that has been given its input."""

    process: "subprocess.Popen[bytes]"

    def ended(self) -> Ended:
        """Wait for its end."""
        try:
            output, said = self.process.communicate(timeout=DEADLINE)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.communicate()
            raise
        return Ended(self.process.returncode, output, said.decode())


@dataclass(frozen=True)
class Program:
    """`byok-sign` in one of the languages."""

    command: tuple[str, ...]

    def start(
        self, settings: ClientSettings, *arguments: str, stdin: bytes = b"", address: str | None = None
    ) -> Running:
        """Start it, with its whole standard input; `address` may be one that ClientSettings refuses."""
        variables = {
            "BYOK_SIGNER_ADDRESS": settings.address if address is None else address,
            "BYOK_SIGNER_CA_FILE": str(settings.ca_file or ""),
            "BYOK_SIGNER_TOKEN_FILE": str(settings.token_file),
        }
        process = subprocess.Popen(
            [*self.command, f"--timeout={settings.timeout}", *arguments],
            env={**os.environ, **variables},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        assert process.stdin is not None
        try:
            process.stdin.write(stdin)
            process.stdin.close()
        except BrokenPipeError:
            pass  # it has ended already, and says why
        process.stdin = None
        return Running(process)

    def run(self, settings: ClientSettings, *arguments: str, stdin: bytes = b"", address: str | None = None) -> Ended:
        """Run it to its end."""
        return self.start(settings, *arguments, stdin=stdin, address=address).ended()
