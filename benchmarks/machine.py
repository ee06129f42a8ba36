"""What the numbers come from: the machine, the versions, and how fast both are at two simple things."""

import os
import platform
import ssl
import time
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec

from benchmarks.reporting import Table

_PACKAGES = ("grpcio", "protobuf", "cryptography", "cbor2", "c2pa-python", "boto3", "botocore")
FACTS_VERIFY = 46.0
"""CPU microseconds of a P-256 verification on the machine whose figures the project's aims were set from."""
_ROUNDS = 20
_VERIFIES = 50
_STEPS = 20_000


@dataclass(frozen=True)
class Calibration:
    """CPU microseconds, the best of many rounds."""

    verify: float
    """One verification of a P-256 signature."""
    loop: float
    """A thousand steps of a loop that adds numbers in Python."""

    @property
    def scale(self) -> float:
        """How many times faster than this machine that of the project's facts verified."""
        return self.verify / FACTS_VERIFY


def best(call: Callable[[], object], calls: int, rounds: int = _ROUNDS) -> float:
    """Measure CPU microseconds of this thread for one of `calls`: of several rounds the least disturbed."""
    found = float("inf")
    for _ in range(rounds):
        began = time.thread_time()
        for _ in range(calls):
            call()
        found = min(found, time.thread_time() - began)
    return found / calls * 1e6


def calibrate() -> Calibration:
    """Measure both."""
    key, algorithm = ec.generate_private_key(ec.SECP256R1()), ec.ECDSA(hashes.SHA256())
    signature, public_key = key.sign(b"claim", algorithm), key.public_key()

    def add() -> int:
        total = 0
        for number in range(_STEPS):
            total += number
        return total

    return Calibration(
        best(lambda: public_key.verify(signature, b"claim", algorithm), _VERIFIES), best(add, 1) / _STEPS * 1000
    )


def described(calibration: Calibration) -> Table:
    """Describe the machine."""
    rows = [
        ["processor", _processor()],
        ["cores", f"{len(os.sched_getaffinity(0))}"],
        ["memory", f"{os.sysconf('SC_PAGE_SIZE') * os.sysconf('SC_PHYS_PAGES') / 2**30:.1f} GiB"],
        ["kernel", platform.release()],
        ["Python", f"{platform.python_implementation()} {platform.python_version()}"],
        ["TLS of Python", ssl.OPENSSL_VERSION],
        *([name, version(name)] for name in _PACKAGES),
        ["P-256 verification", f"{calibration.verify:,.1f} us ({FACTS_VERIFY:g} where the aims were set)"],
        ["1,000 steps of a Python loop", f"{calibration.loop:,.1f} us"],
        ["load of the machine before the run", f"{os.getloadavg()[0]:.1f}"],
    ]
    return Table("", ("what", "value"), rows)


def _processor() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        name, _, value = line.partition(":")
        if name.strip() == "model name":
            return value.strip()
    return platform.machine()
