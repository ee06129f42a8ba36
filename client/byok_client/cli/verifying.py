"""The work of `byokctl verify`."""

import json
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from byok_api.errors import Reason, Refusal
from byok_api.shapes import Json
from byok_client.cli.exits import Exit, worst
from byok_client.cli.output import Line, Report, remedy_lines
from byok_client.cli.refusals import exit_of, explain
from byok_client.verification import (
    Finding,
    Ingredient,
    Severity,
    Verdict,
    VerificationResult,
    verify_asset,
)

_STYLES = {
    Verdict.TRUSTED: "bold green",
    Verdict.VALID: "green",
    Verdict.INVALID: "bold red",
    Verdict.UNSIGNED: "yellow",
}


@dataclass(frozen=True)
class _Verified:
    path: Path
    result: VerificationResult | Refusal


def verify(paths: Sequence[Path], trust_anchors: Path | None) -> Report:
    """Verify files; Refusal ConfigurationInvalid if the trust anchors cannot be used."""
    good = {Verdict.TRUSTED} if trust_anchors else {Verdict.TRUSTED, Verdict.VALID}
    verified = [_Verified(path, _verify(path, trust_anchors)) for path in paths]
    return Report(
        {"files": [_document(item, good) for item in verified]},
        [line for item in verified for line in _lines(item)],
        worst([_exit(item, good) for item in verified]),
    )


def _verify(path: Path, trust_anchors: Path | None) -> VerificationResult | Refusal:
    try:
        return verify_asset(path, trust_anchors)
    except Refusal as refusal:
        # The anchors are the same for all files.
        if refusal.reason is Reason.ConfigurationInvalid:
            raise
        return refusal


def _exit(item: _Verified, good: set[Verdict]) -> Exit:
    if isinstance(item.result, Refusal):
        return exit_of(item.result)
    return Exit.OK if item.result.state in good else Exit.FAILED


def _document(item: _Verified, good: set[Verdict]) -> dict[str, Any]:
    result = item.result
    if isinstance(result, Refusal):
        return {"source": str(item.path), "good": False, "error": explain(result)}
    recipe = result.recipe
    return {
        "source": str(item.path),
        "good": result.state in good,
        "verdict": result.state.value,
        "mediaType": result.media_type,
        "manifestId": result.manifest_id,
        "title": result.title,
        "organization": result.organization,
        "algorithm": result.algorithm,
        "signedAt": result.signed_at,
        "recipe": str(recipe) if recipe else None,
        "recipeHash": recipe.effective_hash if recipe else None,
        "assertions": dict(result.assertions or {}),
        "labels": list(result.labels),
        "ingredients": [_ingredient(ingredient) for ingredient in result.ingredients],
        "codes": [_finding(finding) for finding in result.findings],
    }


def _ingredient(ingredient: Ingredient) -> dict[str, Any]:
    return {
        "title": ingredient.title,
        "relationship": ingredient.relationship,
        "manifestId": ingredient.manifest_id,
        "failures": [_finding(finding) for finding in ingredient.failures],
    }


def _finding(finding: Finding) -> dict[str, Any]:
    return {
        "code": finding.code,
        "severity": finding.severity.value,
        "explanation": finding.explanation,
        "url": finding.url,
    }


def _lines(item: _Verified) -> list[Line]:
    result = item.result
    if isinstance(result, Refusal):
        return [
            Line(f"{item.path}: {result.reason.name}: {result.message}", "bold red"),
            *remedy_lines(result.message, result.reason.facts.remedy),
        ]
    proven = "" if result.state is Verdict.TRUSTED else " (claimed, not proven)"
    facts = {
        "organization": f"{result.organization}{proven}" if result.organization else None,
        "recipe": f"{result.recipe} {result.recipe.effective_hash}" if result.recipe else None,
        "algorithm": result.algorithm,
        "time stamp": result.signed_at,
        "manifest": result.manifest_id,
        "labels": ", ".join(result.labels),
    }
    return [
        Line(f"{item.path}: {result.state.value}", _STYLES[result.state]),
        *(Line(f"  {name}: {value}") for name, value in facts.items() if value),
        *(Line(f"  {name} = {_text(value)}") for name, value in (result.assertions or {}).items()),
        *_finding_lines(result.findings, "  "),
        *(line for ingredient in result.ingredients for line in _ingredient_lines(ingredient)),
    ]


def _text(value: Json) -> str:
    # As `sign --metadata` takes it.
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _finding_lines(findings: Sequence[Finding], indent: str) -> Iterator[Line]:
    # The same code for several assertions is one line; which ones they are is in the JSON form.
    counts = Counter((finding.severity, finding.code, finding.explanation) for finding in findings)
    for (severity, code, explanation), count in counts.items():
        times = f" ({count} times)" if count > 1 else ""
        yield Line(f"{indent}{code}: {explanation}{times}", "red" if severity is Severity.FAILURE else "dim")


def _ingredient_lines(ingredient: Ingredient) -> list[Line]:
    whence = ingredient.manifest_id or "without a manifest"
    return [
        Line(f"  {ingredient.relationship}: {ingredient.title or 'untitled'} ({whence})"),
        *_finding_lines(ingredient.failures, "    "),
    ]
