"""The work of `byokctl key certificate set`."""

from datetime import UTC, datetime
from pathlib import Path

from byok_api import certificates
from byok_api.certificates import CHAIN_SIZE_LIMIT
from byok_api.errors import Reason, Refusal
from byok_api.signatures import algorithms_for
from byok_client.cli.cluster import in_cluster
from byok_client.cli.cluster_keys import key_named, read_key
from byok_client.cli.findings import report_of
from byok_client.cli.keys import lint_chain
from byok_client.cli.manifest_files import Severity, read_bounded
from byok_client.cli.output import Line, Report
from byok_service.kubernetes import BYOK_KEYS


def register(key: str, file: Path) -> Report:
    """Lint a chain and write it into a key's spec; reports the findings and changes nothing if one is an error."""
    name = key_named(key)
    pem = read_bounded(file, CHAIN_SIZE_LIMIT).decode("ascii", "replace")
    problems, facts = lint_chain(pem, str(file), f"ByokKey {name}", datetime.now(UTC))
    if any(problem.severity is Severity.ERROR for problem in problems):
        return report_of(problems, {"key": str(name), "certificates": facts, "registered": False}, str(file))
    present, status = read_key(name)
    chain = certificates.parse_chain(pem)
    expected = (status.get("publicKey") or {}).get("spkiSHA256")
    if expected is not None and expected != chain.spki_sha256:
        raise Refusal(
            Reason.CertificateMismatch,
            f"{file}: its public key is not that of KMS key {status.get('resolvedKeyArn', present.spec.aws.key_arn)}",
        )
    wanted = present.spec.signing_algorithm
    if wanted is not None and wanted not in algorithms_for(chain.public_key):
        raise Refusal(
            Reason.CertificateInvalid, f"{file}: its key cannot sign with {wanted}, which ByokKey {name} asks for"
        )
    in_cluster(lambda cluster: cluster.change(BYOK_KEYS, name, "ByokKey", {"certificate": {"pem": pem}}))
    report = report_of(problems, {"key": str(name), "certificates": facts, "registered": True}, str(file))
    done = Line(f"registered with ByokKey {name}; byokctl get keys {name} tells when it is ready", "green")
    return Report(report.document, [*report.text, done], report.exit)
