"""Who may do what: asked of the API server in a cluster (RBAC), and without one the rule of the own namespace."""

from dataclasses import dataclass
from typing import NamedTuple, Protocol

from byok_api.references import ObjectName
from byok_service.kubernetes import BYOK_KEYS, SUBJECT_ACCESS_REVIEWS
from byok_signer.authentication import Caller
from byok_signer.review_desk import ReviewDesk, UnansweredError
from byok_signer.verdicts import Verdicts

LIMIT = 30.0
"""Seconds for which a decision of the API server counts."""
AHEAD = 20.0
"""Seconds after which a decision in use is asked for again, beside the calls."""


class Right(NamedTuple):
    """A verb on an object of group `byok.dev`; `sign` on a recipe, `probe` or `certify` on a key."""

    verb: str
    plural: str
    """`signingrecipes` or `byokkeys`."""
    name: ObjectName | None
    """None: on all of them, in all namespaces."""


@dataclass(frozen=True, slots=True)
class Decision:
    """Whether a caller has a right."""

    allowed: bool
    id: str
    """The `Audit-Id` of the review, by which the API server's audit log has it; empty where none was made."""
    at: float
    """When it was asked for, by the monotonic clock; infinity where it cannot age."""


class Access(Protocol):
    """Decides on rights."""

    async def check(self, caller: Caller, right: Right) -> Decision:
        """Decide; Refusal ClusterUnavailable or CallerLimited where nobody could be asked."""

    def recall(self, caller: Caller, right: Right) -> Decision | None:
        """Give the decision as it is known by now, without waiting; None if it is so old that it must be asked for."""


class OwnNamespaceAccess:
    """Lets every caller do everything with the objects of its own namespace, and nothing else."""

    async def check(self, caller: Caller, right: Right) -> Decision:
        """Decide."""
        return self.recall(caller, right)

    def recall(self, caller: Caller, right: Right) -> Decision:
        """Decide."""
        allowed = right.name is not None and right.name.namespace == caller.namespace
        return _ALLOWED if allowed else _DENIED


_ALLOWED = Decision(allowed=True, id="", at=float("inf"))
_DENIED = Decision(allowed=False, id="", at=float("inf"))

_Key = tuple[bytes, str, str, str, str]


class ReviewedAccess:
    """Has the API server decide (SubjectAccessReview): RBAC, or whatever authorizers the cluster has."""

    def __init__(self, desk: ReviewDesk) -> None:
        self._desk = desk
        self._verdicts: Verdicts[_Key, tuple[Caller, Right], Decision] = Verdicts(
            desk, self._ask, kind="SubjectAccessReview", limit=LIMIT, ahead=AHEAD
        )

    async def check(self, caller: Caller, right: Right) -> Decision:
        """Decide; Refusal ClusterUnavailable or CallerLimited."""
        return await self._verdicts.find(
            _key_of(caller, right), (caller, right), source=caller.namespace, whom=caller.username
        )

    def recall(self, caller: Caller, right: Right) -> Decision | None:
        """Give the decision that counts by now; None if it must be asked for."""
        return self._verdicts.recall(_key_of(caller, right))

    async def _ask(self, question: tuple[Caller, Right], known: bool) -> Decision:  # noqa: FBT001 - as Verdicts asks
        (caller, right), at = question, self._desk.clock()
        body = {
            "apiVersion": SUBJECT_ACCESS_REVIEWS.api_version,
            "kind": "SubjectAccessReview",
            "spec": _spec(caller, right),
        }
        answer = await self._desk.ask(SUBJECT_ACCESS_REVIEWS, body, source=caller.namespace, known=known)
        status = answer.body.get("status")
        if not isinstance(status, dict):
            raise UnansweredError("the SubjectAccessReview came back without status")
        allowed = status.get("allowed") is True and status.get("denied") is not True
        return Decision(allowed, answer.audit_id, at)


def _key_of(caller: Caller, right: Right) -> _Key:
    verb, plural, name = right
    return caller.fingerprint, verb, plural, name.namespace if name else "", name.name if name else ""


def _spec(caller: Caller, right: Right) -> dict[str, object]:
    return {
        "user": caller.username,
        "uid": caller.uid,
        "groups": list(caller.groups),
        "extra": {name: list(values) for name, values in caller.extra},
        "resourceAttributes": {
            "group": BYOK_KEYS.group,
            "version": BYOK_KEYS.version,
            "resource": right.plural,
            "verb": right.verb,
            "namespace": right.name.namespace if right.name else "",
            "name": right.name.name if right.name else "",
        },
    }
