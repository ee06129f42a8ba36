"""Which ByokKeys claim the same KMS key, and which of them was first (design, section 5)."""

from bisect import bisect_left, insort
from collections import defaultdict
from dataclasses import dataclass, field
from datetime import UTC, datetime

from byok_api.byokkey import ByokKey
from byok_api.key_rules import arns_of
from byok_api.references import KeyArn, ObjectName

_NEVER = datetime.max.replace(tzinfo=UTC)

Token = tuple[str, ...]
"""What two claims have in common: a public key, or what an ARN names."""


def arn_identity(arn: KeyArn) -> tuple[str, ...]:
    """Tell which key or alias an ARN names: equal for related multi-Region keys.

    They have one key id (KMS Developer Guide, "Multi-Region keys").
    """
    resource = arn.text.split(":")[5]
    return (arn.account, resource) if resource.startswith("key/mrk-") else (arn.text,)


@dataclass(frozen=True, order=True)
class _Claim:
    created: datetime
    name: ObjectName


@dataclass
class _Group:
    """The claims that share a token, the oldest first."""

    claims: list[_Claim] = field(default_factory=list)
    leaders: tuple[_Claim, ...] = ()
    """The oldest claim, and the oldest of another namespace than that one's."""

    def choose_leaders(self) -> bool:
        """Choose again after a change; say whether the choice is another."""
        before = self.leaders
        first = self.claims[0] if self.claims else None
        rivals = (claim for claim in self.claims if first and claim.name.namespace != first.name.namespace)
        self.leaders = tuple(claim for claim in (first, next(rivals, None)) if claim)
        return self.leaders != before

    def older_than(self, mine: _Claim) -> _Claim | None:
        """Find the oldest claim of another namespace, if it is no younger."""
        other = next((claim for claim in self.leaders if claim.name.namespace != mine.name.namespace), None)
        # A tie, or objects without a time as in a folder, refuses both.
        return other if other and other.created <= mine.created else None


class Claims:
    """Every ByokKey's claim, by public key where its certificate shows one, and by the ARNs that it names."""

    def __init__(self) -> None:
        self._claims: dict[ObjectName, tuple[_Claim, tuple[Token, ...], tuple[Token, ...]]] = {}
        self._groups: defaultdict[Token, _Group] = defaultdict(_Group)

    def put(self, key: ByokKey, spki_sha256: str | None) -> frozenset[ObjectName]:
        """Register a key's claim in place of the one before; answer with the others that it may matter to."""
        concerned = set(self.remove(key.name))
        claim = _Claim(key.metadata.creation_timestamp or _NEVER, key.name)
        arns = tuple({("arn", *arn_identity(arn)) for arn in arns_of(key)})
        compared = (("public key", spki_sha256),) if spki_sha256 else arns
        known = tuple({*arns, *compared})
        self._claims[key.name] = claim, known, compared
        for token in known:
            group = self._groups[token]
            insort(group.claims, claim)
            concerned |= _concerned(group)
        return frozenset(concerned - {key.name})

    def remove(self, name: ObjectName) -> frozenset[ObjectName]:
        """Forget a key's claim, if it has one; answer with the others that it may have mattered to."""
        if name not in self._claims:
            return frozenset()
        claim, known, _ = self._claims.pop(name)
        concerned: set[ObjectName] = set()
        for token in known:
            group = self._groups[token]
            del group.claims[bisect_left(group.claims, claim)]
            concerned |= _concerned(group)
            if not group.claims:
                del self._groups[token]
        return frozenset(concerned)

    def older(self, name: ObjectName) -> ObjectName | None:
        """Find the ByokKey of another namespace with the better claim to the KMS key of `name`, which was put in.

        By its public key; without one by its ARNs.
        """
        mine, _, compared = self._claims[name]
        found = (self._groups[token].older_than(mine) for token in compared)
        oldest = min((claim for claim in found if claim), default=None)
        return oldest.name if oldest else None


def _concerned(group: _Group) -> set[ObjectName]:
    return {claim.name for claim in group.claims} if group.choose_leaders() else set()
