"""Which ByokKeys claim the same KMS key, and which of them was first (design, section 5)."""

from bisect import bisect_left, insort
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
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


class _Group:
    """The claims that share a token."""

    def __init__(self) -> None:
        self._claims: defaultdict[str, list[_Claim]] = defaultdict(list)
        # The oldest claim of each namespace, the oldest of all first: what is kept sorted need not be searched.
        self._heads: list[_Claim] = []

    @property
    def leaders(self) -> tuple[_Claim, ...]:
        """The oldest claim, and the oldest of another namespace than that one's."""
        return tuple(self._heads[:2])

    def names(self) -> Iterator[ObjectName]:
        """List who claims."""
        return (claim.name for claims in self._claims.values() for claim in claims)

    def add(self, claim: _Claim) -> None:
        """Take in a claim."""
        claims = self._claims[claim.name.namespace]
        if claims and claim < claims[0]:
            del self._heads[bisect_left(self._heads, claims[0])]
        if not claims or claim < claims[0]:
            insort(self._heads, claim)
        insort(claims, claim)

    def discard(self, claim: _Claim) -> None:
        """Forget a claim that was taken in."""
        claims = self._claims[claim.name.namespace]
        if claim == claims[0]:
            del self._heads[bisect_left(self._heads, claim)]
            if len(claims) > 1:
                insort(self._heads, claims[1])
        del claims[bisect_left(claims, claim)]
        if not claims:
            del self._claims[claim.name.namespace]

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
        self._changed: set[Token] = set()

    def put(self, key: ByokKey, spki_sha256: str | None) -> None:
        """Register a key's claim, in place of the one before."""
        self.remove(key.name)
        claim = _Claim(key.metadata.creation_timestamp or _NEVER, key.name)
        arns = tuple({("arn", *arn_identity(arn)) for arn in arns_of(key)})
        compared = (("public key", spki_sha256),) if spki_sha256 else arns
        known = tuple({*arns, *compared})
        self._claims[key.name] = claim, known, compared
        for token in known:
            group = self._groups[token]
            before = group.leaders
            group.add(claim)
            self._note(token, before)

    def remove(self, name: ObjectName) -> None:
        """Forget a key's claim, if it has one."""
        if name not in self._claims:
            return
        claim, known, _ = self._claims.pop(name)
        for token in known:
            group = self._groups[token]
            before = group.leaders
            group.discard(claim)
            self._note(token, before)
            if not group.leaders:
                del self._groups[token]

    def take_concerned(self) -> frozenset[ObjectName]:
        """List all keys for which `older` may answer otherwise than when this was last asked, save those put anew."""
        changed, self._changed = self._changed, set()
        return frozenset(name for token in changed if token in self._groups for name in self._groups[token].names())

    def older(self, name: ObjectName) -> ObjectName | None:
        """Find the ByokKey of another namespace with the better claim to the KMS key of `name`, which was put in.

        By its public key; without one by its ARNs.
        """
        mine, _, compared = self._claims[name]
        found = (self._groups[token].older_than(mine) for token in compared)
        oldest = min((claim for claim in found if claim), default=None)
        return oldest.name if oldest else None

    def _note(self, token: Token, before: tuple[_Claim, ...]) -> None:
        if self._groups[token].leaders != before:
            self._changed.add(token)
