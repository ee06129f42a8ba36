"""The claim guard: signs nothing but C2PA claims that carry the key's own chain and meet their recipe.

A caller hands in the COSE Sig_structure: the very bytes that the signature is made over, so that nothing that is said
besides can matter. The guard is an ordered list of small named checks (`CHECK_NAMES`), applied layer by layer: one is
decoded only when the one around it has passed. Only what is byte for byte what c2pa writes around a claim for this key
(`claim_in`) needs no second look.
"""

from collections.abc import Mapping
from typing import Any, cast

from byok_api.errors import ClaimRefusal, Reason
from byok_signer.guard.cbor import CLAIM, ENCODING_RULES, PROTECTED_HEADER, SIG_STRUCTURE, EncodingFault, Layer, decode
from byok_signer.guard.checks import Check, Finding, run
from byok_signer.guard.claim import CheckedClaim, Claim
from byok_signer.guard.envelope import (
    ENVELOPE_CHECKS,
    ENVELOPE_SHAPE,
    HEADER_CHECKS,
    HEADER_SHAPE,
    MESSAGE_CHECKS,
    SIZE_LIMIT,
    claim_in,
    envelope_of,
    header_of,
)
from byok_signer.guard.policy import ClaimPolicy, policy_for
from byok_signer.guard.recipe import RECIPE_CHECKS
from byok_signer.guard.structure import CLAIM_CHECKS, CLAIM_SHAPE, FIELD_CHECKS

__all__ = ["CHECK_NAMES", "SIZE_LIMIT", "CheckedClaim", "ClaimPolicy", "check_claim", "check_digest", "policy_for"]


def check_claim(sig_structure: bytes, policy: ClaimPolicy) -> CheckedClaim:
    """Pass a Sig_structure that may be signed; raises ClaimRefusal, and nothing else, whatever the bytes.

    Reasons: CertificateChanged for another chain than the key's, RecipeNotMet, ClaimRefused for everything else.
    """
    run(MESSAGE_CHECKS, sig_structure, policy)
    data = claim_in(sig_structure, policy)
    if data is None:
        data = _unwrapped(sig_structure, policy)
    item = _decoded(data, CLAIM)
    run(CLAIM_SHAPE, item, policy)
    fields = cast("Mapping[str, object]", item)
    run(FIELD_CHECKS, fields, policy)
    claim = Claim.parse(fields)
    run(CLAIM_CHECKS, claim, policy)
    run(RECIPE_CHECKS, claim, policy)
    return CheckedClaim.of(data, claim)


def _unwrapped(sig_structure: bytes, policy: ClaimPolicy) -> bytes:
    """Take the claim out of a Sig_structure of which all else has passed."""
    item = _decoded(sig_structure, SIG_STRUCTURE)
    run(ENVELOPE_SHAPE, item, policy)
    envelope = envelope_of(item)
    run(ENVELOPE_CHECKS, envelope, policy)
    item = _decoded(envelope.protected, PROTECTED_HEADER)
    run(HEADER_SHAPE, item, policy)
    run(HEADER_CHECKS, header_of(item), policy)
    return envelope.claim


def check_digest(digest: bytes, evidence: bytes, policy: ClaimPolicy) -> CheckedClaim:
    """Pass a digest that is that of `evidence`, a Sig_structure that may be signed; raises ClaimRefusal only."""
    checked = check_claim(evidence, policy)
    run(DIGEST_CHECKS, (digest, evidence), policy)
    return checked


def _decoded(data: bytes, layer: Layer) -> object:
    try:
        return decode(data, layer)
    except EncodingFault as fault:
        expected = ENCODING_RULES[fault.rule]
        raise ClaimRefusal(Reason.ClaimRefused, fault.rule, found=fault.found, expected=expected) from fault


def _digest_algorithm(_: tuple[bytes, bytes], policy: ClaimPolicy) -> Finding | None:
    if policy.algorithm.facts.digest_size is not None:
        return None
    return Finding("a digest", f"the Sig_structure itself: {policy.algorithm} signs no digests")


def _digest_length(subject: tuple[bytes, bytes], policy: ClaimPolicy) -> Finding | None:
    size = policy.algorithm.facts.digest_size
    if len(subject[0]) == size:
        return None
    return Finding(f"{len(subject[0])} bytes", f"{size} bytes, as {policy.algorithm} demands")


def _digest(subject: tuple[bytes, bytes], policy: ClaimPolicy) -> Finding | None:
    digest, evidence = subject
    if digest == policy.algorithm.digest(evidence):
        return None
    return Finding("the digest of something else", f"the {policy.algorithm.facts.hash_name} of the evidence")


DIGEST_CHECKS = (
    Check[tuple[bytes, bytes]]("digest-algorithm", _digest_algorithm),
    Check[tuple[bytes, bytes]]("digest-length", _digest_length),
    Check[tuple[bytes, bytes]]("digest", _digest),
)

_LISTS: tuple[tuple[Check[Any], ...], ...] = (
    ENVELOPE_SHAPE,
    ENVELOPE_CHECKS,
    HEADER_SHAPE,
    HEADER_CHECKS,
    CLAIM_SHAPE,
    FIELD_CHECKS,
    CLAIM_CHECKS,
    RECIPE_CHECKS,
    DIGEST_CHECKS,
)
CHECK_NAMES: tuple[str, ...] = (
    *(check.name for check in MESSAGE_CHECKS),
    *ENCODING_RULES,
    *(check.name for checks in _LISTS for check in checks),
)
"""Every check in its order; those of the encoding apply to each layer before it is looked at."""
