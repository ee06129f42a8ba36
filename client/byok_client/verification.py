"""The verdict on an asset: c2pa's own, with what it says in words and in the names of the assertion table."""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

import c2pa
from cryptography.x509 import load_pem_x509_certificates

from byok_api.algorithms import SigningAlgorithm
from byok_api.assertions import RECIPE_LABEL
from byok_api.errors import Reason, Refusal
from byok_api.shapes import Json
from byok_client.assets import Asset, PathOrStream, opened
from byok_client.codes import EXPLANATIONS
from byok_client.reading import values_of
from byok_client.switch import Switch
from byok_client.watched import Watched

TrustAnchors = str | Path
"""PEM text, or the Path of a PEM file."""

_ANCHORS_LIMIT = 4 * 1024 * 1024
_ALGORITHMS = {algorithm.upper(): algorithm.value for algorithm in SigningAlgorithm}  # c2pa writes Es256
_INACCESSIBLE = "manifest.inaccessible"
_UNTRUSTED, _TRUSTED = "signingCredential.untrusted", "signingCredential.trusted"


class Verdict(StrEnum):
    """What c2pa makes of an asset's active manifest."""

    TRUSTED = "Trusted"
    """Valid, and its certificate leads to a trust anchor."""
    VALID = "Valid"
    """Unaltered since it was signed, by someone that no trust anchor vouches for."""
    INVALID = "Invalid"
    """Altered, or wrongly made."""
    UNSIGNED = "Unsigned"
    """There is no manifest."""


class Severity(StrEnum):
    """How a validation code counts (C2PA 2.1, section 15.2)."""

    SUCCESS = "success"
    INFORMATIONAL = "informational"
    FAILURE = "failure"


@dataclass(frozen=True)
class Finding:
    """One validation code, explained."""

    code: str
    severity: Severity
    explanation: str
    url: str | None
    """JUMBF URI of what it is about."""


@dataclass(frozen=True)
class RecipeStamp:
    """The recipe that the manifest says it was signed under (`dev.byok.recipe`)."""

    namespace: str
    name: str
    version: int
    effective_hash: str

    def __str__(self) -> str:
        return f"{self.namespace}/{self.name}@{self.version}"


@dataclass(frozen=True)
class Ingredient:
    """What the asset was made from."""

    title: str | None
    relationship: str
    manifest_id: str | None
    """None if it had no manifest."""
    failures: tuple[Finding, ...]
    """What did not verify in it; a valid asset may well come from an altered one."""


@dataclass(frozen=True)
class VerificationResult:
    """The verdict, and what the active manifest says."""

    state: Verdict
    media_type: str
    findings: tuple[Finding, ...] = ()
    manifest_id: str | None = None
    title: str | None = None
    organization: str | None = None
    """O of the signing certificate: proven only if `state` is Trusted."""
    algorithm: str | None = None
    signed_at: str | None = None
    """Time of the RFC 3161 time stamp, if there is one."""
    recipe: RecipeStamp | None = None
    assertions: Mapping[str, Json] | None = None
    """Values by assertion name, as `sign` takes them."""
    labels: tuple[str, ...] = ()
    ingredients: tuple[Ingredient, ...] = ()

    @property
    def failures(self) -> tuple[Finding, ...]:
        """The findings that count against it."""
        return tuple(finding for finding in self.findings if finding.severity is Severity.FAILURE)


def verify_asset(source: PathOrStream, trust_anchors: TrustAnchors | None) -> VerificationResult:
    """Judge an asset; Refusal AssetUnreadable if it cannot be read, ConfigurationInvalid for unusable anchors.

    Nothing is fetched from the network: a manifest that is only linked to is `manifest.inaccessible`.
    """
    return verify_until(source, trust_anchors, Switch())


def verify_until(source: PathOrStream, trust_anchors: TrustAnchors | None, switch: Switch) -> VerificationResult:
    """Verify as verify_asset does; CalledOff if the caller gives up meanwhile."""
    settings: dict[str, object] = {"verify": {"remote_manifest_fetch": False}}
    if trust_anchors is not None:
        settings["trust"] = {"trust_anchors": _anchors(trust_anchors)}
    # A truncated asset is not refused: that it was cut off is what the verdict is to show.
    with opened(source, complete=False) as asset:
        stream = Watched(asset.stream, switch)
        try:
            with c2pa.Context.from_dict(settings) as context:
                reader = c2pa.Reader.try_create(asset.media.mime, stream, None, context)
        except c2pa.C2paError as error:
            switch.check()
            if stream.error is not None:  # which says nothing of the asset
                raise Refusal(
                    Reason.AssetUnreadable, f"{asset.name} cannot be read: {stream.error.strerror}"
                ) from error
            return _unread(asset, str(error))
        if reader is None:
            return VerificationResult(Verdict.UNSIGNED, asset.media.mime)
        with reader:
            return _read(asset, json.loads(reader.json()))


def _anchors(anchors: TrustAnchors) -> str:
    try:
        if isinstance(anchors, Path):
            with anchors.open("rb") as file:
                pem = file.read(_ANCHORS_LIMIT).decode("ascii")
        else:
            pem = anchors
        load_pem_x509_certificates(pem.encode("ascii"))
    except OSError as error:
        raise Refusal(
            Reason.ConfigurationInvalid, f"trust anchors {anchors} cannot be read: {error.strerror}"
        ) from error
    except ValueError as error:
        where = str(anchors) if isinstance(anchors, Path) else "the text"
        raise Refusal(
            Reason.ConfigurationInvalid, f"trust anchors: {where} holds no PEM certificate (a file is passed as a Path)"
        ) from error
    return pem


def _unread(asset: Asset, words: str) -> VerificationResult:
    if "could not be parsed" in words or words.startswith("NotSupported"):
        raise Refusal(Reason.AssetUnreadable, f"{asset.name} is damaged or no {asset.media.mime}: {words}")
    code = _INACCESSIBLE if "remote manifest" in words else "general.error"
    finding = Finding(code, Severity.FAILURE, f"{EXPLANATIONS[code]} ({words})", None)
    return VerificationResult(Verdict.INVALID, asset.media.mime, (finding,))


def _read(asset: Asset, store: Mapping[str, object]) -> VerificationResult:
    manifests = _mapping(store.get("manifests"))
    active = str(store.get("active_manifest"))
    manifest = _mapping(manifests.get(active))
    signature = _mapping(manifest.get("signature_info"))
    results = _mapping(store.get("validation_results"))
    contents = {
        str(entry.get("label")): entry.get("data") for entry in map(_mapping, _sequence(manifest.get("assertions")))
    }
    return VerificationResult(
        state=Verdict(str(store.get("validation_state"))),
        media_type=asset.media.mime,
        findings=tuple(_findings(_mapping(results.get("activeManifest")))),
        manifest_id=active,
        title=_text(manifest.get("title")),
        organization=_text(signature.get("issuer")),
        algorithm=_ALGORITHMS.get(str(signature.get("alg")).upper()),
        signed_at=_text(signature.get("time")),
        recipe=_stamp(_mapping(contents.get(RECIPE_LABEL))),
        assertions=values_of(contents, _mapping(next(iter(_sequence(manifest.get("claim_generator_info"))), None))),
        labels=tuple(contents),
        ingredients=tuple(_ingredients(manifest, _sequence(results.get("ingredientDeltas")))),
    )


def _findings(results: Mapping[str, object]) -> Iterator[Finding]:
    # The worst first: that is what people look for.
    for severity in (Severity.FAILURE, Severity.INFORMATIONAL, Severity.SUCCESS):
        for entry in map(_mapping, _sequence(results.get(severity))):
            code = str(entry.get("code"))
            explanation = EXPLANATIONS.get(code) or str(entry.get("explanation") or code)
            yield Finding(code, severity, explanation, _text(entry.get("url")))


def _stamp(data: Mapping[str, object]) -> RecipeStamp | None:
    # Whoever made the manifest wrote this: it may be anything.
    match data:
        case {"namespace": str(namespace), "name": str(name), "version": int(version), "effectiveHash": str(digest)}:
            return RecipeStamp(namespace, name, version, digest)
        case _:
            return None


def _ingredients(manifest: Mapping[str, object], deltas: Sequence[object]) -> Iterator[Ingredient]:
    changes = [finding for delta in deltas for finding in _findings(_mapping(_mapping(delta).get("validationDeltas")))]
    trusted = {finding.url for finding in changes if finding.code == _TRUSTED}
    for entry in map(_mapping, _sequence(manifest.get("ingredients"))):
        parent = _text(entry.get("active_manifest"))
        recorded = _findings(_mapping(_mapping(entry.get("validation_results")).get("activeManifest")))
        later = [finding for finding in changes if parent is not None and parent in (finding.url or "")]
        yield Ingredient(
            title=_text(entry.get("title")),
            relationship=str(entry.get("relationship")),
            manifest_id=parent,
            failures=tuple(
                finding
                for finding in [*recorded, *later]
                if finding.severity is Severity.FAILURE
                # Whether it is trusted is decided here and now, not by who signed the asset.
                and not (finding.code == _UNTRUSTED and finding.url in trusted)
            ),
        )


def _mapping(value: object) -> Mapping[str, object]:
    return value if isinstance(value, Mapping) else {}


def _sequence(value: object) -> Sequence[object]:
    return value if isinstance(value, list) else []


def _text(value: object) -> str | None:
    return value if isinstance(value, str) else None
