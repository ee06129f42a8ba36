"""Programs of one test that stand in for real ones on PATH and write down how they were called."""

import shlex
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class StandIns:
    """A folder of programs, and the record of their calls."""

    folder: Path

    def add(self, name: str, script: str = "") -> None:
        """Make a program: it records its arguments, then runs a few lines of shell, in which `$record` is a folder."""
        path = self.folder / "bin" / name
        path.parent.mkdir(exist_ok=True)
        record = shlex.quote(str(self.folder))
        lines = ["#!/bin/bash", f"record={record}", f'printf "%s\\0" {name} "$@" >> "$record/calls"']
        path.write_text("\n".join([*lines, 'echo >> "$record/calls"', script, ""]))
        path.chmod(0o755)

    def calls(self, name: str) -> list[list[str]]:
        """List the arguments of each call of a program."""
        file = self.folder / "calls"
        lines = [line.split("\0")[:-1] for line in file.read_text().splitlines()] if file.exists() else []
        return [line[1:] for line in lines if line[0] == name]
