"""The main job, played through on a running sandbox: sign, verify, revoke, give back, audit.

Everything that is printed is the result of a real call; `DemoError` says which step did not do what it should.
"""

import json
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc

from byok_api.algorithms import SigningAlgorithm
from byok_api.audit import Kind, bounded_lines, verify_chain
from byok_api.errors import Reason
from byok_api.references import ObjectName
from byok_client import SignerClient, SignerError, SigningResult, Verdict
from byok_sandbox import shipped
from byok_sandbox.filling import FIRST, STAMPED
from byok_sandbox.system import Sandbox, Say
from byok_signer.breaker import TRIAL_SECONDS

_RETURN_LIMIT = 10.0
"""Seconds within which a grant that was given back must sign again."""


class DemoError(Exception):
    """A step of the demo did not do what it says."""


@dataclass(frozen=True)
class Sample:
    """An asset, the example recipe that it is signed under, and what its maker says of it."""

    file: str
    recipe: str
    metadata: Mapping[str, object]


_CAPTURED: Mapping[str, object] = {"digital_source_type": "digitalCapture"}
SAMPLES = (
    Sample("landscape.jpg", "photo-v1", {"digital_source_type": "digitalCreation", "creator": "Ada Example"}),
    Sample("landscape.png", "photo-v1", {"ai_generated": True, "model": "landscapes-1"}),
    Sample("sunset.mp4", "clip-v1", {**_CAPTURED, "deepfake_disclosure": False}),
    Sample("chime.wav", "podcast-v1", {**_CAPTURED, "voiceclone_disclosure": False}),
    Sample("document.pdf", "report-v1", {**_CAPTURED, "legal_case_ref": "EX-2026-1"}),
)


def play(sandbox: Sandbox, say: Say) -> None:
    """Play the demo through; DemoError at the first step that fails."""
    signed = sandbox.folder / "signed"
    signed.mkdir()
    with SignerClient(sandbox.client) as client:
        assets = _sign_everything(sandbox, client, signed, say)
        began = _audit_size(sandbox)
        _revoke(sandbox, client, assets, say)
        _give_back(sandbox, client, say)
    _show_audit(sandbox, began, say)
    say(f"everything is in {sandbox.folder}")


def _sign_everything(sandbox: Sandbox, client: SignerClient, folder: Path, say: Say) -> list[Path]:
    say(f"signing {len(SAMPLES)} kinds of media with {len(SigningAlgorithm)} algorithms into {folder}")
    say(_row("asset", "recipe", "key", "algorithm", "ms", "verdict"))
    jobs = [
        (sample, sandbox.filled.recipes[algorithm][sample.recipe], algorithm)
        for algorithm in SigningAlgorithm
        for sample in SAMPLES
    ]
    outputs = []
    for sample, recipe, algorithm in [*jobs, (SAMPLES[0], STAMPED, FIRST)]:
        output = folder / f"{recipe.name}-{sample.file}"
        started = time.monotonic()
        result = _sign(client, sample, recipe, output)
        elapsed = (time.monotonic() - started) * 1000
        verdict = client.verify(output, trust_anchors=sandbox.trust_anchors).state
        say(_row(sample.file, result.recipe, result.key, result.algorithm, f"{elapsed:.0f}", verdict))
        if verdict is not Verdict.TRUSTED or result.algorithm != algorithm:
            raise DemoError(f"{output} is {verdict} and signed with {result.algorithm}, not Trusted and {algorithm}")
        outputs.append(output)
    return outputs


def _sign(client: SignerClient, sample: Sample, recipe: ObjectName, output: Path) -> SigningResult:
    source = shipped.examples() / "media" / sample.file
    return client.sign(source, recipe=str(recipe), metadata=sample.metadata, output=output)


def _revoke(sandbox: Sandbox, client: SignerClient, assets: list[Path], say: Say) -> None:
    key = sandbox.keys[FIRST].arn
    say(f"as the key's owner: taking the signer's statements out of the key policy of {sandbox.filled.keys[FIRST]}")
    sandbox.owner.revoke(key)
    refused = sandbox.folder / "signed" / "refused.jpg"
    try:
        _sign(client, SAMPLES[0], sandbox.filled.recipes[FIRST]["photo-v1"], refused)
    except SignerError as error:
        say(f"  signing is refused: {error.code.name}, {error.reason.name}: {error.message}")
        if (error.code, error.reason) != (grpc.StatusCode.UNAVAILABLE, Reason.KeyAccessDenied):
            raise DemoError("the refusal is not UNAVAILABLE, KeyAccessDenied") from error
    else:
        raise DemoError("a signature was made without a grant")
    if refused.exists():
        raise DemoError(f"a refused signature left {refused} behind")
    verdicts = [client.verify(asset, trust_anchors=sandbox.trust_anchors).state for asset in assets]
    trusted = verdicts.count(Verdict.TRUSTED)
    say(f"  of {len(assets)} assets signed before, {trusted} still are Trusted")
    if trusted != len(assets):
        raise DemoError("an asset that was signed before no longer verifies")


def _give_back(sandbox: Sandbox, client: SignerClient, say: Say) -> None:
    say(f"giving the statements back; the signer asks KMS for a key that was denied once in {TRIAL_SECONDS:.0f} s")
    sandbox.owner.grant(sandbox.keys[FIRST].arn, FIRST)
    started = time.monotonic()
    while True:
        try:
            output = sandbox.folder / "signed" / "after.jpg"
            result = _sign(client, SAMPLES[0], sandbox.filled.recipes[FIRST]["photo-v1"], output)
        except SignerError as error:
            if time.monotonic() - started > _RETURN_LIMIT:
                raise DemoError(f"signing did not come back within {_RETURN_LIMIT:.0f} s") from error
            time.sleep(0.5)
        else:
            break
    verdict = client.verify(output, trust_anchors=sandbox.trust_anchors).state
    say(f"  signing works again after {time.monotonic() - started:.1f} s: {result.audit_id}, {verdict}")
    if verdict is not Verdict.TRUSTED:
        raise DemoError(f"{output} is {verdict}, not Trusted")


def _audit_size(sandbox: Sandbox) -> int:
    return sandbox.audit.stat().st_size


def _show_audit(sandbox: Sandbox, began: int, say: Say) -> None:
    say("the audit records of that:")
    with sandbox.audit.open("rb") as file:
        file.seek(began)
        for record in map(json.loads, file):
            # Each has its intent before it, and what was refused meanwhile is recorded too.
            if record["kind"] == Kind.OUTCOME:
                say("  " + _described(record))
    with sandbox.audit.open("rb") as file:
        report = verify_chain(bounded_lines(file))
    found = (
        "intact" if report.intact and report.torn is None else "; ".join(str(finding) for finding in report.findings)
    )
    say(f"the audit chain of {report.records} records is {found}: byokctl audit verify {sandbox.audit}")
    expected = len(SAMPLES) * len(SigningAlgorithm) + 3  # the stamped one, the refused one, the one after
    if not report.intact or report.kinds.get(Kind.OUTCOME, 0) < expected:
        raise DemoError(f"the audit trail is damaged, or has not the {expected} outcomes of this demo")


def _described(record: Mapping[str, Any]) -> str:
    attempts = ", ".join(str(attempt["kms_request_id"]) for attempt in record.get("attempts", ()))
    reason = f" {record['reason']}" if "reason" in record else ""
    return (
        f"{record['time']} {record['outcome']}{reason}: {record['recipe']} "
        f"with {record['key']} for {record['caller']}, KMS request {attempts}"
    )


def _row(*cells: str) -> str:
    widths = (14, 28, 26, 10, 5, 8)
    return "  " + " ".join(f"{cell:<{width}}" for cell, width in zip(cells, widths, strict=True)).rstrip()
