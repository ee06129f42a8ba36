"""What a refusal looks like on the command line, and how it ends a command."""

from typing import Any

from byok_api.errors import Reason, Refusal
from byok_client.cli.exits import Exit

__all__ = ["Refusal", "RemediedRefusal", "exit_of", "explain", "remedy_of"]

# Nothing about the request, the key or the recipe is wrong.
_PASSING = frozenset(
    {
        Reason.AuditUnavailable,
        Reason.CallerLimited,
        Reason.CatalogueStale,
        Reason.ClusterUnavailable,
        Reason.GenerationNotSeen,
        Reason.IssuerUnavailable,
        Reason.KeyRateLimited,
        Reason.KmsDeadlineExceeded,
        Reason.KmsThrottled,
        Reason.KmsUnavailable,
        Reason.QuotaExceeded,
        Reason.ShuttingDown,
        Reason.SignerUnreachable,
    }
)


class RemediedRefusal(Refusal):
    """A refusal of which more is known than its reason: `remedy` is told instead of the reason's own."""

    def __init__(self, reason: Reason, message: str, remedy: str) -> None:
        super().__init__(reason, message)
        self.remedy = remedy


def remedy_of(refusal: Refusal) -> str:
    """Say what to do about a refusal."""
    return refusal.remedy if isinstance(refusal, RemediedRefusal) else refusal.reason.facts.remedy


def explain(refusal: Refusal) -> dict[str, Any]:
    """Make a refusal's JSON form."""
    return {
        "reason": refusal.reason.name,
        "message": refusal.message,
        "remedy": remedy_of(refusal),
        "retryAfterSeconds": refusal.retry_after,
        "metadata": dict(refusal.metadata),
    }


def exit_of(refusal: Refusal) -> Exit:
    """Say with which status a refusal ends a command."""
    if refusal.reason is Reason.ConfigurationInvalid:
        return Exit.USAGE
    if refusal.retry_after is not None or refusal.reason in _PASSING:
        return Exit.UNAVAILABLE
    return Exit.FAILED
