"""Files a second: `byokctl sign` through the signer, beside c2pa-python with a private key in the job.

Both write signed copies of one photograph into a folder. The rival is the least that a user would write: a signer made
once, a Builder for each file; it checks no metadata, and its key lies in a file.
"""

import json
import os
import resource
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from math import isnan
from pathlib import Path
from shutil import copyfile

from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from benchmarks.bench import Bench, Target
from benchmarks.measuring import Reading
from benchmarks.plots import bars
from benchmarks.reporting import Plot, Section, Table
from benchmarks.stand_in import Conduct
from byok_api.algorithms import SigningAlgorithm
from tests.support.claims import MEDIA_FOLDER
from tests.support.pki import identity

JOBS = (1, 8)
LATENCY = 0.01
_SOURCE = MEDIA_FOLDER / "landscape.jpg"
_PATIENCE = 120.0
_RIVAL = """
import json, sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
import c2pa
source, output, certificates, key, jobs = sys.argv[1:]
manifest = {
    "claim_generator_info": [{"name": "benchmark", "version": "1"}],
    "assertions": [{"label": "c2pa.actions.v2", "created": True, "data": {"actions": [{
        "action": "c2pa.created",
        "digitalSourceType": "http://cv.iptc.org/newscodes/digitalsourcetype/digitalCapture",
    }]}}],
}
settings = c2pa.Settings.from_dict({"builder": {"thumbnail": {"enabled": False}}})
context = c2pa.Context(settings=settings)
info = c2pa.C2paSignerInfo(b"es256", Path(certificates).read_bytes(), Path(key).read_bytes(), None)
signer = c2pa.Signer.from_info(info)
def sign(path):
    with open(path, "rb") as asset, open(Path(output, path.name), "w+b") as target:
        c2pa.Builder(manifest, context=context).sign(signer, "image/jpeg", asset, target)
with ThreadPoolExecutor(int(jobs)) as threads:
    list(threads.map(sign, sorted(Path(source).iterdir())))
"""


@dataclass(frozen=True)
class Scale:
    """How many files to sign."""

    files: int


QUICK = Scale(files=10)
FULL = Scale(files=150)


@dataclass(frozen=True)
class Signed:
    """What signing a folder took."""

    one: "Cost"
    """For a single file."""
    all: "Cost"
    files: int

    @property
    def rate(self) -> float:
        """Files a second, the start of the command left out; not a number if that took as long."""
        beyond = self.all.seconds - self.one.seconds
        return (self.files - 1) / beyond if beyond > 0 else float("nan")

    def each(self, part: Callable[["Cost"], float]) -> float:
        """Tell what each file after the first costs."""
        return max(0.0, part(self.all) - part(self.one)) / (self.files - 1)


@dataclass(frozen=True)
class Cost:
    """What a command took, in seconds."""

    seconds: float
    cpu: float
    signer_cpu: float


def measure(bench: Bench, scale: Scale) -> Section:
    """Sign the folder with each."""
    bench.kms.behave(Conduct(LATENCY))
    folders = {count: _folder(bench.folder / f"source-{count}", count) for count in (1, scale.files)}
    found: dict[str, Signed] = {}
    with bench.signer() as signer:
        target = bench.target(signer)
        for jobs in JOBS:
            command = partial(_byokctl, jobs)
            found[f"byokctl sign --jobs {jobs}"] = _measured(bench, target, folders, command)
        for jobs in JOBS:
            command = partial(_rival, bench, jobs)
            found[f"c2pa-python, local key, {jobs} threads"] = _measured(bench, target, folders, command)
    rows = [
        [
            name,
            "-" if isnan(signed.rate) else f"{signed.rate:.1f}",
            f"{signed.files / signed.all.seconds:.1f}",
            f"{signed.one.seconds:.2f}",
            f"{signed.each(lambda cost: cost.cpu) * 1e3:.1f}",
            f"{signed.each(lambda cost: cost.signer_cpu) * 1e6:,.0f}" if name.startswith("byokctl") else "-",
        ]
        for name, signed in found.items()
    ]
    columns = (
        "way",
        "files/s",
        "files/s with its start",
        "s for one file",
        "job CPU ms per file",
        "signer us per file",
    )
    return Section(
        "Files",
        f"{scale.files} copies of a JPEG of {_SOURCE.stat().st_size // 1024} KiB, signed into another folder by one "
        "command each; KMS takes 10 ms. `files/s` and the CPU leave out what the same command takes for a single file.",
        [Table("", columns, rows)],
        plots=[
            Plot(
                "files",
                "Files a second",
                partial(
                    bars,
                    label="files a second, the start of the command included",
                    values={name: signed.files / signed.all.seconds for name, signed in found.items()},
                ),
            )
        ],
    )


def _folder(folder: Path, count: int) -> Path:
    folder.mkdir()
    for number in range(count):
        copyfile(_SOURCE, folder / f"{number:05d}.jpg")
    return folder


def _byokctl(jobs: int, source: Path, output: Path) -> Sequence[str]:
    options = ("--recipe", "photo", "--jobs", str(jobs), "-m", "digital_source_type=digitalCapture", "-o", "json")
    return (sys.executable, "-m", "byok_client.cli", "sign", str(source), "--output", f"{output}/", *options)


def _rival(bench: Bench, jobs: int, source: Path, output: Path) -> Sequence[str]:
    who, chain, key = identity(SigningAlgorithm.ES256), bench.folder / "chain.pem", bench.folder / "key.pem"
    chain.write_text(who.chain_pem)
    key.write_bytes(who.private_key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    output.mkdir()
    return (sys.executable, "-c", _RIVAL, str(source), str(output), str(chain), str(key), str(jobs))


def _measured(bench: Bench, target: Target, folders: Mapping[int, Path], command: "partial[Sequence[str]]") -> Signed:
    (_, one), (files, many) = folders.items()
    environment = {**os.environ, **bench.job_environment(target)}
    start = _run(command(one, _fresh(bench)), environment, target, 1)
    return Signed(start, _run(command(many, _fresh(bench)), environment, target, files), files)


def _fresh(bench: Bench) -> Path:
    return bench.folder / f"signed-{time.monotonic_ns()}"


def _run(arguments: Sequence[str], environment: Mapping[str, str], target: Target, files: int) -> Cost:
    signer, before, own = {"signer": target.pids["signer"]}, time.perf_counter(), _children_cpu()
    first = Reading.of(signer)
    ended = subprocess.run(  # noqa: S603 - our own programs
        arguments, env=environment, capture_output=True, check=False, timeout=_PATIENCE
    )
    taken, last = time.perf_counter() - before, Reading.of(signer)
    if ended.returncode:
        raise RuntimeError(f"{arguments[:5]} failed:\n{ended.stdout.decode()[-2000:]}{ended.stderr.decode()[-2000:]}")
    if ended.stdout and json.loads(ended.stdout)["summary"]["signed"] != files:
        raise RuntimeError(f"not all {files} files were signed")
    return Cost(taken, _children_cpu() - own, last.cpu["signer"] - first.cpu["signer"])


def _children_cpu() -> float:
    """Tell the CPU of all processes that were started and have ended; nothing else is started meanwhile."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime
