"""A job that signs at a rate until it is told to stop, and writes down how each call ended. It runs in a pod.

It calls as any job does: by the SDK's asynchronous client, which retries within its deadline, from as many threads as
there are to be calls at once. Each claim is c2pa's for a real picture, made new each time as `benchmarks.claims` says,
and each signature is verified. On SIGTERM no further call is made; when the last one has ended, what they came to is
printed. The process then stays, so that its file can be read, until SIGTERM comes again.

    BYOK_LOAD_RATE      calls a second, together; what was due while all callers waited is left out
    BYOK_LOAD_CALLERS   calls at once
    BYOK_LOAD_RECIPE    recipe to sign under
    BYOK_LOAD_PICTURE   a PNG file without manifest
    BYOK_LOAD_OUTCOMES  file to append to: a line of JSON for each call, in the order in which they ended
"""

import asyncio
import io
import json
import os
import signal
import sys
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextvars import ContextVar
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TextIO

import c2pa
from cryptography.hazmat.primitives.asymmetric.types import CertificatePublicKeyTypes
from cryptography.x509 import load_pem_x509_certificate

from benchmarks.claims import Template
from byok_api.errors import Refusal
from byok_api.signatures import SignatureError, verify
from byok_client import AsyncSignerClient, SignerError, SigningCallback, aio
from byok_client.composition import SETTINGS, compose
from byok_client.metadata import Circumstances, settle
from byok_client.retries import Course

_RETRIES: ContextVar[list[str]] = ContextVar("retries")
_GENERATOR = "byok-load/1"
_METADATA = {"digital_source_type": "digitalCapture"}


class _Told(Course):
    """What becomes of a call, told to whoever made it."""

    def delay_after(self, error: SignerError) -> float:
        delay = super().delay_after(error)
        _RETRIES.get([]).append(error.reason.name)
        return delay


@dataclass
class Outcomes:
    """How calls ended, in a file and in numbers; safe to use from several threads."""

    file: TextIO
    seconds: list[float] = field(default_factory=list)
    counts: Counter[str] = field(default_factory=Counter)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def add(self, began: float, retries: list[str], problem: dict[str, str]) -> None:
        """Write down a call that has ended just now."""
        took = time.time() - began
        line = {"began": round(began, 3), "took": round(took, 4), "retries": retries, **problem}
        with self.lock:
            self.file.write(json.dumps(line, separators=(",", ":")) + "\n")
            self.file.flush()
            self.seconds.append(took)
            self.counts["failed" if problem else "succeeded"] += 1
            self.counts["retried"] += bool(retries)

    def summary(self) -> dict[str, Any]:
        """Tell what all of it came to; seconds."""
        ordered = sorted(self.seconds) or [0.0]
        shares = {f"p{share}": round(ordered[len(ordered) * share // 100], 4) for share in (50, 99)}
        numbers = {name: self.counts[name] for name in ("succeeded", "failed", "retried")}
        return {"calls": len(self.seconds), **numbers, **shares, "slowest": round(ordered[-1], 4)}


class Pace:
    """When the next call is due, for all callers together."""

    def __init__(self, rate: float) -> None:
        self._between = 1 / rate
        self._next = time.monotonic()
        self._lock = threading.Lock()

    def wait(self) -> None:
        """Wait for a turn. What was missed by more than a tenth of a second is not made up for."""
        with self._lock:
            self._next = max(self._next + self._between, time.monotonic() - 0.1)
            early = self._next - time.monotonic()
        if early > 0:
            time.sleep(early)


@dataclass(frozen=True)
class Load:
    """What callers share."""

    claims: Template
    key: CertificatePublicKeyTypes
    pace: Pace
    outcomes: Outcomes
    stopped: threading.Event

    def call_again_and_again(self, sign: SigningCallback) -> None:
        """Sign, each time another claim, until all are stopped."""
        while True:
            self.pace.wait()
            if self.stopped.is_set():
                return
            claim, retries, began = bytes(self.claims.fresh()), list[str](), time.time()
            _RETRIES.set(retries)
            self.outcomes.add(began, retries, self._problem(sign, claim))

    def _problem(self, sign: SigningCallback, claim: bytes) -> dict[str, str]:
        signature = sign(claim)
        try:
            sign.raise_error()
            verify(self.key, sign.recipe.algorithm, signature, message=claim)
        except Refusal as refusal:
            code = refusal.code.name if isinstance(refusal, SignerError) else "-"
            return {"reason": refusal.reason.name, "code": code, "message": str(refusal)[:400]}
        except SignatureError as error:
            return {"reason": "WrongSignature", "code": "-", "message": str(error)}
        except Exception as error:  # noqa: BLE001 - whatever it is, the call has failed
            return {"reason": type(error).__name__, "code": "-", "message": str(error)[:400]}
        return {}


def claim_of(sign: SigningCallback, picture: bytes) -> bytes:
    """Have a picture signed under the callback's recipe, and give the claim; Refusal."""
    claims: list[bytes] = []

    def remembered(claim: bytes) -> bytes:
        claims.append(claim)
        return sign(claim)

    circumstances = Circumstances(datetime.now(UTC), _GENERATOR, has_parent=False)
    values = settle(sign.recipe, _METADATA, {}, circumstances)
    manifest = compose(sign.recipe, values, title="load.png", has_parent=False).definition
    builder = c2pa.Builder(manifest, context=c2pa.Context(settings=c2pa.Settings.from_dict(dict(SETTINGS))))
    signer = c2pa.Signer.from_callback(remembered, sign.algorithm, sign.certificates, sign.timestamp_url)
    with sign:
        builder.sign(signer, "image/png", io.BytesIO(picture), io.BytesIO())
    return claims[0]


async def sign_until(stopped: asyncio.Event, outcomes: Outcomes) -> None:
    """Load the signer until told to stop; Refusal if not even the first signature is given."""
    async with AsyncSignerClient.from_environment() as client:
        callbacks = [
            await client.signing_callback(os.environ["BYOK_LOAD_RECIPE"])
            for _ in range(int(os.environ["BYOK_LOAD_CALLERS"]))
        ]
        first = callbacks[0]
        picture = Path(os.environ["BYOK_LOAD_PICTURE"]).read_bytes()
        claims = Template.of(await asyncio.to_thread(claim_of, first, picture))
        leaf = load_pem_x509_certificate(first.certificates.encode())
        key: Any = leaf.public_key()
        pace = Pace(float(os.environ["BYOK_LOAD_RATE"]))
        load = Load(claims, key, pace, outcomes, threading.Event())
        with ThreadPoolExecutor(len(callbacks)) as threads:
            loop = asyncio.get_running_loop()
            callers = [loop.run_in_executor(threads, load.call_again_and_again, each) for each in callbacks]
            # A caller that ends by itself ends all of this with its exception.
            either: list[asyncio.Future[Any]] = [asyncio.ensure_future(stopped.wait()), *callers]
            await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
            load.stopped.set()
            await asyncio.gather(*callers)


async def main() -> None:
    """Sign, tell, and wait to be ended."""
    loop, signals = asyncio.get_running_loop(), [asyncio.Event(), asyncio.Event()]
    loop.add_signal_handler(signal.SIGTERM, lambda: next(each for each in signals if not each.is_set()).set())
    stopped, ended = signals
    with Path(os.environ["BYOK_LOAD_OUTCOMES"]).open("a", encoding="ascii") as file:
        outcomes = Outcomes(file)
        await sign_until(stopped, outcomes)
        sys.stdout.write(json.dumps(outcomes.summary()) + "\n")
        sys.stdout.flush()
        await ended.wait()


if __name__ == "__main__":
    # The client's own, which tells as well.
    vars(aio)["Course"] = _Told
    asyncio.run(main())
