"""`byokctl sign` ended by a signal at any moment: a file is as it was or whole and signed, and there is nothing else.

The moments are drawn from the time that the same command takes undisturbed, from its start to its end.
"""

import itertools
import json
import os
import random
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from byok_client import Verdict
from byok_client.verification import verify_asset
from tests.support.command_line import BYOKCTL
from tests.support.fake_signer import TOKEN, FakeSigner, serving
from tests.support.media import MEDIA

FILES = 40
PHOTO = MEDIA["landscape.jpg"].path.read_bytes()
PATIENCE = 60


@dataclass(frozen=True)
class Bench:
    """A folder to work in, and how long a run takes."""

    folder: Path
    environment: dict[str, str]
    duration: float = 0

    @property
    def inputs(self) -> Path:
        return self.folder / "shoot"

    @property
    def outputs(self) -> Path:
        return self.folder / "signed"

    def start(self, *, in_place: bool) -> subprocess.Popen[str]:
        """Start the command afresh, as a shell does, in a process group of its own."""
        for folder in (self.inputs, self.outputs):
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir()
        for number in range(FILES):
            (self.inputs / f"{number:02}.jpg").write_bytes(PHOTO)
        target = ("--in-place",) if in_place else ("--output", str(self.outputs))
        command = (*BYOKCTL, "sign", str(self.inputs), "-r", "photo", "-m", "ai_generated=true", "-o", "json", *target)
        return subprocess.Popen(
            command,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=self.environment,
            start_new_session=True,
        )


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FakeSigner]:
    with serving(tmp_path_factory.mktemp("signer")) as fake:
        yield fake


@pytest.fixture(scope="module")
def bench(server: FakeSigner, tmp_path_factory: pytest.TempPathFactory) -> Bench:
    folder = tmp_path_factory.mktemp("bench")
    token = folder / "token"
    token.write_text(TOKEN)
    environment = {**os.environ, "BYOK_SIGNER_ADDRESS": server.address, "BYOK_SIGNER_TOKEN_FILE": str(token)}
    undisturbed = Bench(folder, environment)
    began = time.monotonic()
    _, err = undisturbed.start(in_place=False).communicate(timeout=PATIENCE)
    assert err == ""
    return Bench(folder, environment, time.monotonic() - began)


def moments(count: int, seed: int) -> list[float]:
    """Draw shares of a run, evenly spread and a little at random."""
    chance = random.Random(seed)  # noqa: S311 - moments
    return [(number + chance.random()) / count for number in range(count)]


CASES = [
    (number, moment, in_place)
    for number, count in ((signal.SIGINT, 8), (signal.SIGTERM, 4), (signal.SIGKILL, 3))
    for moment, in_place in zip(moments(count, number), itertools.cycle((False, True)), strict=False)
]


def died_at_its_start(err: str) -> bool:
    """Tell whether Ctrl-C met the interpreter's own beginning, which is nobody's to change.

    Until byok_client.cli.__main__ takes Ctrl-C over, it is a KeyboardInterrupt in whatever Python imports; from
    byok_client.cli.app on, which is loaded next, there must be none.
    """
    return err.endswith("KeyboardInterrupt\n") and "byok_client/cli/app.py" not in err


@pytest.mark.parametrize(
    ("number", "moment", "in_place"), CASES, ids=[f"{signal.Signals(n).name}-{m:.2f}-{p}" for n, m, p in CASES]
)
def test_every_file_is_as_it_was_or_whole_and_signed(
    bench: Bench, number: signal.Signals, moment: float, *, in_place: bool
) -> None:
    process = bench.start(in_place=in_place)
    try:
        process.wait(moment * bench.duration)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, number)
    out, err = process.communicate(timeout=PATIENCE)

    if number is not signal.SIGINT or not died_at_its_start(err):
        # Who ends by a signal before heeding it has a negative status, and the shell shows 128 and the number.
        assert process.returncode in {0, 128 + number, -number}, err
        assert "Traceback" not in err
    inputs = set(bench.inputs.iterdir())
    if in_place and number is signal.SIGKILL:
        # To replace a file, a draft must have a name for a moment, and nobody cleans up after SIGKILL.
        inputs = {path for path in inputs if path.suffix != ".byok-tmp"}
    assert sorted(path.name for path in inputs) == [f"{number:02}.jpg" for number in range(FILES)]
    signed = set(bench.outputs.iterdir())
    if in_place:
        assert not signed
        signed = {path for path in inputs if path.read_bytes() != PHOTO}
    else:
        assert {path.read_bytes() for path in inputs} == {PHOTO}
    assert {verify_asset(path, None).state for path in signed} <= {Verdict.VALID}
    if out:
        files = json.loads(out)["files"]
        assert {Path(file["output"]) for file in files if file["state"] == "signed"} == signed
        assert {file["state"] for file in files} <= {"signed", "interrupted"}
