"""The work of `byokctl key probe`."""

from typing import Any

from byok_api.errors import Reason
from byok_api.references import ObjectName
from byok_api.signer.v1.signer_pb2 import ProbeKeyRequest, ProbeKeyResponse, ProbeResult
from byok_client.cli.accounts import client_as
from byok_client.cli.cluster_keys import key_named
from byok_client.cli.exits import Exit
from byok_client.cli.output import Line, Report, remedy_lines

_STYLES = {
    ProbeResult.OUTCOME_UNSPECIFIED: "dim",
    ProbeResult.PASSED: "green",
    ProbeResult.FAILED: "red",
    ProbeResult.UNKNOWN: "yellow",
}


def probe(key: str, service_account: str | None, *, least_privilege: bool) -> Report:
    """Probe a key; fails if a check failed, is unavailable if one could not be made."""
    name = key_named(key)
    request = ProbeKeyRequest(namespace=name.namespace, name=name.name, least_privilege=least_privilege)
    with client_as(service_account, name.namespace) as client:
        found = client.probe_key(request)
    return Report(_document(name, found), _text(name, found), _exit(found))


def _checks(found: ProbeKeyResponse) -> dict[str, ProbeResult]:
    # Standing is what the rules have against the key, whatever KMS says: a deactivated one signs nothing.
    checks = {
        "getPublicKey": found.get_public_key,
        "sign": found.sign,
        "certificate": found.certificate,
        "standing": found.standing,
    }
    if found.HasField("least_privilege"):
        checks["leastPrivilege"] = found.least_privilege
    return checks


def _exit(found: ProbeKeyResponse) -> Exit:
    outcomes = {check.outcome for check in _checks(found).values()}
    if ProbeResult.FAILED in outcomes:
        return Exit.FAILED
    return Exit.UNAVAILABLE if ProbeResult.UNKNOWN in outcomes else Exit.OK


def _document(name: ObjectName, found: ProbeKeyResponse) -> dict[str, Any]:
    return {
        "key": str(name),
        "generation": found.generation,
        "keyArn": found.key_arn or None,
        "keySpec": found.key_spec or None,
        "algorithm": found.algorithm or None,
        "externalId": found.external_id or None,
        "checks": {check: _result(result) for check, result in _checks(found).items()},
    }


def _result(result: ProbeResult) -> dict[str, Any]:
    return {
        "outcome": _outcome(result),
        "reason": result.reason or None,
        "message": result.message or None,
        "remedy": _remedy(result),
        "missingStatement": result.missing_statement or None,
        "kmsRequestId": result.kms_request_id or None,
    }


def _outcome(result: ProbeResult) -> str:
    return "not made" if not result.outcome else ProbeResult.Outcome.Name(result.outcome).lower()


def _remedy(result: ProbeResult) -> str | None:
    return Reason[result.reason].facts.remedy if result.reason in Reason.__members__ else None


def _text(name: ObjectName, found: ProbeKeyResponse) -> list[Line]:
    lines = [Line(str(name), "bold")]
    facts = {"KMS key": found.key_arn, "key spec": found.key_spec, "algorithm": found.algorithm}
    facts["external id"] = found.external_id
    lines += [Line(f"  {fact}: {value}") for fact, value in facts.items() if value]
    for check, result in _checks(found).items():
        found_out = ": ".join(part for part in (_outcome(result), result.reason, result.message) if part)
        lines.append(Line(f"  {check}: {found_out}", _STYLES[result.outcome]))
        lines += remedy_lines(result.message, _remedy(result), indent="    ")
    missing = dict.fromkeys(r.missing_statement for r in _checks(found).values() if r.missing_statement)
    of_role = [statement for statement in missing if '"sts:' in statement]
    places = {
        "Add to the key policy's Statement:": [statement for statement in missing if statement not in of_role],
        "Add to the Statement of the role's trust policy:": of_role,
    }
    for heading, statements in places.items():
        if statements:
            # Line by line: statements are pasted, so their own line breaks must stay.
            lines += [Line(heading), *(Line(line) for line in ",\n".join(statements).splitlines())]
    return lines
