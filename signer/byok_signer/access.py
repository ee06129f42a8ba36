"""Who may do what: asked of the API server in a cluster (RBAC), and without one the rule of the own namespace."""

from dataclasses import dataclass
from typing import NamedTuple, Protocol

from byok_api.references import ObjectName
from byok_signer.authentication import Caller


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
