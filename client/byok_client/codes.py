"""What the validation codes of C2PA 2.1 (section 15.2) mean to someone who looks at an asset."""

from collections.abc import Mapping
from types import MappingProxyType

EXPLANATIONS: Mapping[str, str] = MappingProxyType(
    {
        # Failures.
        "algorithm.unsupported": "An algorithm is used that C2PA does not allow.",
        "assertion.action.malformed": "An action lacks what C2PA demands of it, or stands where it may not.",
        "assertion.action.ingredientMismatch": "An action points to an ingredient that is not there.",
        "assertion.bmffHash.mismatch": "The video or audio was altered after it was signed.",
        "assertion.boxesHash.mismatch": "The asset was altered after it was signed.",
        "assertion.dataHash.mismatch": "The asset was altered after it was signed.",
        "assertion.hashedURI.mismatch": "An assertion was altered after it was signed.",
        "assertion.missing": "An assertion that the claim names is not there.",
        "assertion.multipleHardBindings": "The manifest binds itself to the asset more than once.",
        "assertion.undeclared": "There is an assertion that the claim does not name.",
        "claim.hardBindings.missing": "The manifest is not bound to the asset.",
        "claim.malformed": "The claim is malformed.",
        "claim.missing": "The manifest has no claim.",
        "claim.multiple": "The manifest has more than one claim.",
        "claimSignature.mismatch": "The signature is not of this claim by this certificate.",
        "claimSignature.missing": "The manifest is not signed.",
        "claimSignature.outsideValidity": "It was signed when the certificate was not valid.",
        "general.error": "The manifest cannot be read.",
        "ingredient.manifest.mismatch": "An ingredient's manifest was altered after it was recorded.",
        "ingredient.manifest.missing": "An ingredient's manifest is not there.",
        "manifest.inaccessible": "The manifest is not in the asset but elsewhere, and is not fetched.",
        "manifest.multipleParents": "There is more than one parent ingredient.",
        "signingCredential.expired": "The certificate had expired when it was used.",
        "signingCredential.invalid": "The certificate breaks a rule of C2PA's certificate profile.",
        "signingCredential.ocsp.revoked": "The certificate was revoked.",
        "signingCredential.untrusted": "No trust anchor that was given vouches for the certificate.",
        # What is only worth knowing.
        "signingCredential.ocsp.inaccessible": "Whether the certificate was revoked could not be asked.",
        "signingCredential.ocsp.skipped": "Whether the certificate was revoked was not asked.",
        "timeStamp.malformed": "The time stamp is malformed, so the time of signing is not proven.",
        "timeStamp.mismatch": "The time stamp is of something else, so the time of signing is not proven.",
        "timeStamp.untrusted": "No trust anchor vouches for the time stamp, so the time of signing is not proven.",
        # Successes.
        "assertion.bmffHash.match": "The video or audio is as it was signed.",
        "assertion.boxesHash.match": "The asset is as it was signed.",
        "assertion.dataHash.match": "The asset is as it was signed.",
        "assertion.hashedURI.match": "The assertion is as it was signed.",
        "claimSignature.insideValidity": "The certificate was valid when it was used.",
        "claimSignature.validated": "The signature is of this claim by this certificate.",
        "ingredient.manifest.validated": "The ingredient's manifest is as it was recorded.",
        "signingCredential.trusted": "A trust anchor vouches for the certificate.",
        "timeStamp.trusted": "A trust anchor vouches for the time stamp.",
        "timeStamp.validated": "The time stamp is of this signature.",
    },
)
