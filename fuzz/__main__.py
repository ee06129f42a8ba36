"""Fuzzes guard, tokens and manifests: `python -m fuzz [--seconds N] [TARGET...]`, from the checkout's root.

What breaks a target is kept in fuzz/finds/<target>/, from where tests/signer/guard/test_finds.py replays it for good.
Exit status: 0 nothing found, 1 something found, 2 the fuzzer could not run.
"""

import argparse
import hashlib
import importlib.util
import re
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from fuzz.target import FINDS

TARGETS = ("claims", "tokens", "manifests")
_NO_FUZZER = (
    "make fuzz needs atheris, which is not installed: there are wheels of it for Linux on x86-64 only.\n"
    "On such a machine `make fuzz` installs it; on any, tests/signer/guard/test_finds.py replays past finds.\n"
)
_INPUTS = re.compile(r"stat::number_of_executed_units:\s*(\d+)")
_TAIL = 3000


def main(arguments: Sequence[str] | None = None) -> int:
    """Give each target its time, in turn."""
    parser = argparse.ArgumentParser(prog="python -m fuzz", description=__doc__)
    parser.add_argument("targets", nargs="*", metavar="TARGET", help=f"any of {', '.join(TARGETS)}; all by default")
    parser.add_argument("--seconds", type=int, default=40, help="for each target (default: 40)")
    options = parser.parse_args(arguments)
    unknown = set(options.targets) - set(TARGETS)
    if unknown:
        parser.error(f"no such target: {', '.join(sorted(unknown))}; there are {', '.join(TARGETS)}")
    if importlib.util.find_spec("atheris") is None:
        sys.stderr.write(_NO_FUZZER)
        return 2
    return max(attack(name, options.seconds) for name in options.targets or TARGETS)


def attack(name: str, seconds: int) -> int:
    """Fuzz a target in a process of its own; return the exit status that this means."""
    with tempfile.TemporaryDirectory(prefix=f"fuzz-{name}-") as folder:
        done = subprocess.run(  # noqa: S603 - ourselves
            [sys.executable, "-m", "fuzz.attack", name, str(seconds), folder],
            capture_output=True,
            check=False,
        )
        output = (done.stdout + done.stderr).decode(errors="replace")
        finds = [keep(path, name) for path in Path(folder).glob("find-*")]
    if finds:
        say(output[-_TAIL:])
        say(f"{name}: FOUND, kept as {', '.join(map(str, finds))}; mend it and commit both")
        return 1
    inputs = _INPUTS.search(output)
    if done.returncode != 0 or inputs is None:
        say(output[-_TAIL:])
        say(f"{name}: the fuzzer ended with status {done.returncode}")
        return 2
    say(f"{name}: {int(inputs[1]):,} inputs in {seconds} s, nothing found")
    return 0


def say(text: str) -> None:
    """Write a line at once: the next target takes its time."""
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def keep(path: Path, name: str) -> Path:
    """Copy an input to where the tests find it."""
    data = path.read_bytes()
    kept = FINDS / name / f"{hashlib.sha256(data).hexdigest()[:16]}.bin"
    kept.parent.mkdir(parents=True, exist_ok=True)
    kept.write_bytes(data)
    return kept


if __name__ == "__main__":
    sys.exit(main())
