"""Entries and signatures as gRPC messages."""

import json

from google.protobuf.timestamp_pb2 import Timestamp

from byok_api.signer.v1 import signer_pb2 as pb
from byok_signer.entries import SigningEntry
from byok_signer.work import Signed

_RESERVE_MARGIN = 2048
"""Bytes beyond chain and signature: COSE framing, headers, padding."""
_TIMESTAMP_RESERVE = 10_240
"""Bytes for an RFC 3161 token with its authority's chain, what c2pa itself reserves for one."""


def recipe_response(entry: SigningEntry) -> pb.GetRecipeResponse:
    """Write a recipe for callers who compose manifests."""
    recipe = entry.recipe
    not_after = Timestamp()
    not_after.FromDatetime(entry.chain.not_after)
    reserve = sum(map(len, entry.chain.ders)) + _RESERVE_MARGIN
    return pb.GetRecipeResponse(
        namespace=recipe.name.namespace,
        name=recipe.name.name,
        version=recipe.version,
        effective_hash=recipe.hash,
        effective_json=recipe.hashed_json,
        media_type=recipe.media_type or "",
        assertions=recipe.assertions,
        optional_assertions=recipe.optional_assertions,
        defaults={name: json.dumps(value) for name, value in recipe.defaults.items()},
        allowed_labels=recipe.allowed_labels or (),
        require_ingredient_chain=recipe.require_ingredient_chain,
        forbid_ingredients=recipe.forbid_ingredients,
        timestamp_url=recipe.timestamp_url or "",
        algorithm=str(entry.algorithm),
        x5chain=entry.chain.ders,
        reserve_size=reserve + (_TIMESTAMP_RESERVE if recipe.timestamp_url else 0),
        key=str(entry.key.name),
        certificate_not_after=not_after,
    )


def signed_response(signed: Signed) -> pb.SignClaimResponse:
    """Write a signature."""
    answer, claim = signed.answer, signed.claim
    return pb.SignClaimResponse(
        signature=answer.signature,
        signature_der=answer.signature_der,
        algorithm=str(signed.entry.algorithm),
        key=str(signed.entry.key.name),
        key_arn=str(answer.key_arn),
        recipe_hash=signed.entry.recipe.hash,
        manifest_id=claim.manifest_id if claim else "",
        claim_sha256=claim.claim_sha256 if claim else "",
        audit_id=str(signed.audit_id),
        kms_request_id=answer.request_id,
        decision_id=signed.decision_id,
    )
