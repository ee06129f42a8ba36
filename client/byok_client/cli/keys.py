"""The work of `byokctl key lint`."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from byok_api import certificates
from byok_api.byokkey import ByokKey
from byok_api.certificates import CHAIN_SIZE_LIMIT, CertificateChain
from byok_api.errors import Refusal
from byok_api.signatures import algorithms_for
from byok_client.cli.findings import report_of
from byok_client.cli.manifest_files import Problem, Severity, read_bounded, read_manifests
from byok_client.cli.output import Report


def lint(file: Path, namespace: str | None) -> Report:
    """Check a manifest with ByokKeys, or a PEM chain; Refusal InvalidRequest if the file cannot be read."""
    now = datetime.now(UTC)
    content = read_bounded(file, CHAIN_SIZE_LIMIT)
    if b"BEGIN CERTIFICATE" in content and b"apiVersion" not in content:
        linted = _Chain(content.decode("ascii", "replace"), str(file), "", now)
        return report_of(linted.problems, {"certificates": linted.facts}, str(file))
    manifests = read_manifests([file], namespace=namespace)
    problems, facts = list(manifests.problems), list[Mapping[str, Any]]()
    for key in manifests.keys.values():
        key_problems, key_facts = _lint_key(key, str(file), now)
        problems += key_problems
        facts += key_facts
    if not manifests.keys and not problems:
        problems.append(Problem(str(file), "", "NoByokKey", "holds neither a ByokKey nor a certificate in PEM"))
    return report_of(problems, {"certificates": facts}, str(file))


class _Chain:
    """A chain's findings and facts."""

    def __init__(self, pem: str, source: str, subject: str, now: datetime) -> None:
        self.chain: CertificateChain | None = None
        self.problems: list[Problem] = []
        self.facts: list[Mapping[str, Any]] = []
        try:
            self.chain = certificates.parse_chain(pem)
        except Refusal as refusal:
            self.problems.append(Problem(source, subject, refusal.reason.name, refusal.message))
            return
        for finding in certificates.lint(self.chain, now=now):
            severity = Severity(finding.severity.value)
            self.problems.append(Problem(source, subject, finding.name, finding.message, severity=severity))
        self.facts.append(_facts(self.chain, source, subject))


def lint_chain(
    pem: str, source: str, subject: str, now: datetime
) -> tuple[Sequence[Problem], Sequence[Mapping[str, Any]]]:
    """Hold a chain against the certificate profile; `subject` is the object that it is for."""
    linted = _Chain(pem, source, subject, now)
    return linted.problems, linted.facts


def _facts(chain: CertificateChain, source: str, subject: str) -> Mapping[str, Any]:
    return {
        "source": source,
        "object": subject,
        "subject": chain.subject,
        "certificates": len(chain.ders),
        "notBefore": chain.not_before.isoformat(),
        "notAfter": chain.not_after.isoformat(),
        "spkiSha256": chain.spki_sha256,
        "algorithms": [algorithm.value for algorithm in algorithms_for(chain.public_key)],
    }


def _lint_key(key: ByokKey, source: str, now: datetime) -> tuple[Sequence[Problem], Sequence[Mapping[str, Any]]]:
    subject = f"ByokKey {key.name}"
    if key.spec.certificate is None:
        message = "has no certificate: it can be probed and certified, and cannot sign"
        problem = Problem(source, subject, "CertificateMissing", message, severity=Severity.WARNING)
        return [problem], []
    linted = _Chain(key.spec.certificate.pem, source, subject, now)
    wanted = key.spec.signing_algorithm
    if linted.chain is not None and wanted is not None:
        possible = algorithms_for(linted.chain.public_key)
        if wanted not in possible:
            message = f"spec.signingAlgorithm is {wanted}, but its certificate is for {', '.join(possible) or 'none'}"
            remedy = "correct signingAlgorithm or leave it out"
            linted.problems.append(Problem(source, subject, "AlgorithmMismatch", message, remedy))
    return linted.problems, linted.facts
