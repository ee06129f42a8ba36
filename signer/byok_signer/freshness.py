"""For how long what the API server said may be gone by: refusals of what was heard too long ago."""

from typing import NoReturn

from byok_api.errors import Reason, Refusal
from byok_api.references import ObjectName
from byok_signer.access import Decision
from byok_signer.authentication import Caller
from byok_signer.ports import Ports

_STALE_RETRY_AFTER = 5.0
_ASK_AGAIN_AFTER = 0.1
"""Seconds."""


def check_heard(ports: Ports, caller: Caller, decision: Decision, *, key: ObjectName, limit: float) -> None:
    """Refuse where catalogue, caller or right was last confirmed over `limit` seconds ago (CatalogueStale)."""
    age = ports.clock() - min(ports.catalogue_confirmed_at(), caller.confirmed_at, decision.at)
    if age > limit:
        raise Refusal(
            Reason.CatalogueStale,
            f"key {key}: what the API server says of key, recipe and caller was last heard {age:.0f} s ago, and counts "
            f"for {limit:.0f} s (spec.verification.staleAfter)",
            retry_after=_STALE_RETRY_AFTER,
            metadata={"key": str(key)},
        )


def too_old() -> NoReturn:
    """Refuse a call during which what was known of its caller has grown too old to go by."""
    raise Refusal(
        Reason.ClusterUnavailable,
        "the call waited so long that the API server must be asked about its caller again; call again",
        retry_after=_ASK_AGAIN_AFTER,
    )
