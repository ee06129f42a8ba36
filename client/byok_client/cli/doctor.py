"""The work of `byokctl doctor`: one check after the other, each with its remedy, from settings to a usable recipe."""

import base64
import binascii
import json
import socket
import ssl
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Any

from byok_api.errors import Reason, Refusal
from byok_client.cli.exits import Exit
from byok_client.cli.output import Line, Report, remedy_lines
from byok_client.cli.refusals import exit_of, remedy_of
from byok_client.client import SignerClient
from byok_client.recipes import Recipe
from byok_client.settings import ClientSettings, TokenFile

_AUDIENCE = "byok-signer"
_CONNECT_SECONDS = 5.0
_EXPIRES_SOON = timedelta(days=30)
_SKEW = timedelta(seconds=30)
_SERVICE_ACCOUNT = "system:serviceaccount:"


class Verdict(StrEnum):
    """How a check ended."""

    GOOD = "good"
    WARNING = "warning"
    BAD = "bad"
    SKIPPED = "skipped"


_STYLES = {Verdict.GOOD: "green", Verdict.WARNING: "yellow", Verdict.BAD: "red", Verdict.SKIPPED: "dim"}


@dataclass(frozen=True)
class Finding:
    """What a check found, and what to do about it."""

    check: str
    verdict: Verdict
    found: str
    remedy: str = ""
    exit: Exit = Exit.OK


Check = Callable[["Patient"], Finding]
ClusterChecks = Callable[["Patient"], Iterator[Finding]]


@dataclass
class Patient:
    """What is known so far; each check may add to it."""

    recipe_reference: str | None
    now: datetime
    expected: Reason | None = None
    """For which the signer shall refuse the recipe, if it shall."""
    settings: ClientSettings | None = None
    claims: Mapping[str, Any] | None = None
    is_reached: bool = False
    """Whether a connection was made, by a certificate that is trusted."""
    recipe: Recipe | None = None


def examine(recipe: str | None, cluster_checks: ClusterChecks | None, *, expected: Reason | None = None) -> Report:
    """Make every check that can be made; those that hang on one that failed are skipped.

    With `expected` it is good if the recipe is refused for that reason; then the cluster is not asked about rights.
    """
    patient = Patient(recipe, datetime.now(UTC), expected)
    findings = [check(patient) for check in CHECKS]
    if expected is None:
        findings += (cluster_checks or _without_extra)(patient)
    document = {"checks": [_document(finding) for finding in findings]}
    lines = [line for finding in findings for line in _lines(finding)]
    bad = [finding.exit for finding in findings if finding.verdict is Verdict.BAD]
    return Report(document, lines, Exit.FAILED if Exit.FAILED in bad else next(iter(bad), Exit.OK))


def _without_extra(_: Patient) -> Iterator[Finding]:
    found = "the extra cli is not installed, so the cluster is not looked at"
    yield Finding("cluster", Verdict.SKIPPED, found, "pip install 'byok-operator[cli]'")


def refused(check: str, refusal: Refusal) -> Finding:
    """Tell of a check that ended in a refusal."""
    found = f"{refusal.reason.name}: {refusal.message}"
    return Finding(check, Verdict.BAD, found, remedy_of(refusal), exit_of(refusal))


def _configuration(patient: Patient) -> Finding:
    try:
        settings = ClientSettings.from_environment()
        settings.trusted_certificates()
    except Refusal as refusal:
        return refused("configuration", refusal)
    patient.settings = settings
    trust = settings.ca_file or "the system's CA certificates"
    return Finding("configuration", Verdict.GOOD, f"signer {settings.address}, trusted by {trust}")


def _token(patient: Patient) -> Finding:
    if patient.settings is None:
        return _skipped("token", "configuration")
    path = patient.settings.token_file
    try:
        claims = _claims_in(TokenFile(path).read())
    except Refusal as refusal:
        return refused("token", refusal)
    expires = datetime.fromtimestamp(claims.get("exp", 0), UTC)
    audience, subject = claims.get("aud", ()), str(claims.get("sub", ""))
    mend = f"project a ServiceAccount token with audience {_AUDIENCE} to {path}"
    if _AUDIENCE not in (audience if isinstance(audience, list) else [audience]):
        return _bad("token", f"{path} is for audience {audience}, not {_AUDIENCE}", mend)
    if not subject.startswith(_SERVICE_ACCOUNT):
        return _bad("token", f"{path} is {subject}'s, no ServiceAccount's", mend)
    if expires <= patient.now:
        return _bad("token", f"{path} expired at {expires:%Y-%m-%d %H:%M} UTC", "the kubelet renews it; who wrote it?")
    patient.claims = claims
    return Finding("token", Verdict.GOOD, f"{subject}, until {expires:%Y-%m-%d %H:%M} UTC")


def _clock(patient: Patient) -> Finding:
    if patient.claims is None:
        return _skipped("clock", "token")
    begins = datetime.fromtimestamp(max(patient.claims.get("iat", 0), patient.claims.get("nbf", 0)), UTC)
    if begins > patient.now + _SKEW:
        ahead = round((begins - patient.now).total_seconds())
        return _bad("clock", f"the token begins {ahead} s from now by this machine's clock", "set this machine's clock")
    return Finding("clock", Verdict.GOOD, "the token's time has begun by this machine's clock")


def _connection(patient: Patient) -> Finding:
    if patient.settings is None:
        return _skipped("connection", "configuration")
    address = patient.settings.address
    try:
        with _connect(patient.settings) as connection:
            if patient.settings.is_local:
                return Finding("connection", Verdict.GOOD, f"{address} takes connections")
            host = connection.getpeername()[0]
    except OSError as error:
        remedy = "check the address, that the signer's pods are ready, and the network policy"
        return _bad("connection", f"{address} cannot be reached: {error.strerror or error}", remedy, Exit.UNAVAILABLE)
    return Finding("connection", Verdict.GOOD, f"{address} takes connections ({host})")


def _tls(patient: Patient) -> Finding:
    settings = patient.settings
    if settings is None:
        return _skipped("TLS", "configuration")
    if settings.is_local:
        patient.is_reached = True
        return Finding("TLS", Verdict.GOOD, "a socket of this machine needs none")
    trusted = settings.trusted_certificates()
    context = ssl.create_default_context(cadata=trusted.decode("ascii") if trusted else None)
    context.set_alpn_protocols(["h2"])
    try:
        with (
            _connect(settings) as plain,
            context.wrap_socket(plain, server_hostname=_host_port(settings.address)[0]) as connection,
        ):
            certificate = connection.getpeercert() or {}
    except ssl.SSLCertVerificationError as error:
        remedy = "set BYOK_SIGNER_CA_FILE to the signer's CA, and call it by a name that its certificate has"
        return _bad("TLS", f"the signer's certificate is not trusted: {error.verify_message}", remedy)
    except OSError as error:
        remedy = "is that the signer's gRPC port?"
        return _bad("TLS", f"no TLS connection: {error.strerror or error}", remedy, Exit.UNAVAILABLE)
    patient.is_reached = True
    return Finding("TLS", Verdict.GOOD, f"trusted until {certificate.get('notAfter')}")


def _health(patient: Patient) -> Finding:
    if patient.settings is None or patient.claims is None or not patient.is_reached:
        return _skipped("health", "token, connection or TLS")
    try:
        with SignerClient(patient.settings) as client:
            is_serving = client.is_serving()
    except Refusal as refusal:
        return refused("health", refusal)
    if not is_serving:
        remedy = "it stops, or has not begun: ask again, and look at its /readyz"
        return _bad("health", f"{patient.settings.address} does not take calls", remedy, Exit.UNAVAILABLE)
    return Finding("health", Verdict.GOOD, f"{patient.settings.address} takes calls")


def _recipe(patient: Patient) -> Finding:
    if patient.recipe_reference is None:
        return Finding("recipe", Verdict.SKIPPED, "none was named", "byokctl doctor --recipe NAMESPACE/NAME")
    if patient.settings is None or patient.claims is None:
        return _skipped("recipe", "configuration or token")
    try:
        with SignerClient(patient.settings) as client:
            patient.recipe = client.recipe(patient.recipe_reference)
    except Refusal as refusal:
        if refusal.reason is patient.expected:
            return Finding("recipe", Verdict.GOOD, f"refused, as it shall be: {refusal.reason.name}: {refusal.message}")
        return refused("recipe", refusal)
    recipe = patient.recipe
    if patient.expected is not None:
        remedy = f"take the right to sign under it from {patient.claims['sub']}"
        return _bad("recipe", f"{recipe} may be used, and shall be refused: {patient.expected.name}", remedy)
    return Finding("recipe", Verdict.GOOD, f"{recipe} may be used; it signs with {recipe.algorithm} and {recipe.key}")


def _certificate(patient: Patient) -> Finding:
    if patient.recipe is None:
        return _skipped("certificate", "recipe")
    left = patient.recipe.certificate_not_after - patient.now
    found = f"{patient.recipe.key}: valid until {patient.recipe.certificate_not_after:%Y-%m-%d %H:%M} UTC"
    if left < _EXPIRES_SOON:
        remedy = "its owner makes a new KMS key and has it certified: byokctl key csr"
        return Finding("certificate", Verdict.WARNING, found, remedy)
    return Finding("certificate", Verdict.GOOD, found)


CHECKS: tuple[Check, ...] = (_configuration, _token, _clock, _connection, _tls, _health, _recipe, _certificate)


def _connect(settings: ClientSettings) -> socket.socket:
    if settings.is_local:
        connection = socket.socket(socket.AF_UNIX)
        connection.settimeout(_CONNECT_SECONDS)
        try:
            connection.connect(settings.address.removeprefix("unix:"))
        except OSError:
            connection.close()
            raise
        return connection
    return socket.create_connection(_host_port(settings.address), _CONNECT_SECONDS)


def _host_port(address: str) -> tuple[str, int]:
    host, _, port = address.rpartition(":")
    return host.strip("[]"), int(port)


def _claims_in(token: str) -> Mapping[str, Any]:
    """Read what a token says of itself; the signer decides whether it is true (RFC 7519, section 3)."""
    try:
        payload = token.split(".")[1]
        claims = json.loads(base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))
        moments = [claims.get(name, 0) for name in ("exp", "iat", "nbf")]
    except (IndexError, ValueError, binascii.Error, AttributeError):
        raise Refusal(Reason.TokenInvalid, "the token file does not hold a JSON Web Token") from None
    if not all(isinstance(moment, int | float) and 0 <= moment < 1 << 36 for moment in moments):
        raise Refusal(Reason.TokenInvalid, "the token's times are no times")
    return dict(claims)


def _skipped(check: str, cause: str) -> Finding:
    return Finding(check, Verdict.SKIPPED, f"not made, for want of: {cause}")


def _bad(check: str, found: str, remedy: str, ends: Exit = Exit.FAILED) -> Finding:
    return Finding(check, Verdict.BAD, found, remedy, ends)


def _document(finding: Finding) -> dict[str, Any]:
    remedy = finding.remedy or None
    return {"check": finding.check, "verdict": finding.verdict.value, "found": finding.found, "remedy": remedy}


def _lines(finding: Finding) -> Iterator[Line]:
    yield Line(f"{finding.verdict.value:>7}  {finding.check}: {finding.found}", _STYLES[finding.verdict])
    if finding.verdict is not Verdict.GOOD:
        yield from remedy_lines(finding.found, finding.remedy, indent="         ")
