"""Which ByokKeys claim the same KMS key, and which of them was first (design, section 5).

A claim is made by what an object says: by the public key that its certificate shows, and by the ARNs that it names. Two
objects that both show a public key are compared by that alone, so that naming an ARN takes nothing from a certificate;
an object that shows none is compared by ARN, with those that show one too.

What a claim survives. It begins with the object's creationTimestamp and lasts until the object is gone: not less while
the key is deactivated, being deleted, or refused for whatever else is wrong with it. While the object cannot be read at
all (`Unreadable`: written for another version, or by force) its claim is what the same object last claimed while it
could be read, and beside that all that can be read of it now (`byok_api.legible`). After a restart only the latter is
known. If a certificate is there of which no public key can be read, the ARNs then count against certified keys too, and
if a creation time cannot be read, it counts as the oldest. Nothing is left of a claim only where, since the start,
neither an ARN nor a certificate of the object could ever be read, or where no document is at hand (a folder whose files
define one name twice): then nothing tells whose the key is, and a younger claim goes through.

What it does not survive. An owner who takes the certificate out of a readable object, or puts in one that does not
parse, keeps the claim by ARN, against younger objects that show no public key; younger ones that show it are no longer
refused. An ARN that is taken out is claimed no more. An object that is deleted and made again is another one, with the
age of its new creationTimestamp.
"""

from bisect import bisect_left, insort
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime

from byok_api.byokkey import ByokKey
from byok_api.key_rules import arns_of
from byok_api.legible import EVER, Legible
from byok_api.references import KeyArn, ObjectName

_NEVER = datetime.max.replace(tzinfo=UTC)

Token = tuple[str, ...]
"""What two claims have in common: how it is claimed, then a public key, or what an ARN names."""
_PUBLIC_KEY = "public key"
_ARN = "ARN"
_ARN_ALONE = "ARN, of which no certificate tells the public key"
_ARN_WITH_ANY = "ARN, whatever certificate another shows"


def arn_identity(arn: KeyArn) -> tuple[str, ...]:
    """Tell which key or alias an ARN names: equal for related multi-Region keys.

    They have one key id (KMS Developer Guide, "Multi-Region keys").
    """
    resource = arn.text.split(":")[5]
    return (arn.account, resource) if resource.startswith("key/mrk-") else (arn.text,)


@dataclass(frozen=True, order=True)
class _Rank:
    created: datetime
    name: ObjectName


@dataclass(frozen=True)
class Claim:
    """What an object claims, since when, and by what others' older claims count against it."""

    rank: _Rank
    tokens: frozenset[Token]
    compared: frozenset[Token] = frozenset()
    """Those of others; none for an object that cannot be used anyway."""


def claim_of(key: ByokKey, spki_sha256: str | None) -> Claim:
    """Make the claim of a key, with the public key that its certificate shows."""
    arns = _tokens(_ARN, arns_of(key))
    if spki_sha256 is None:
        return Claim(_rank(key), arns | _tokens(_ARN_ALONE, arns_of(key)), arns)
    public_key = frozenset({(_PUBLIC_KEY, spki_sha256)})
    return Claim(_rank(key), arns | public_key, public_key | _tokens(_ARN_WITH_ANY, arns_of(key)))


def claim_found_by_kms(key: ByokKey, arns: Iterable[KeyArn], spki_sha256: str) -> Claim:
    """Make the claim of a key to what KMS says is behind it: to a public key, which the certificate need not show."""
    arns = tuple(arns)
    public_key = frozenset({(_PUBLIC_KEY, spki_sha256)})
    return Claim(_rank(key), public_key, public_key.union(_tokens(_ARN_ALONE, arns), _tokens(_ARN_WITH_ANY, arns)))


def claim_left(name: ObjectName, legible: Legible | None, spki_sha256: str | None, last: Claim | None) -> Claim | None:
    """Make the claim of an object that cannot be read; None if nothing is left of it.

    `legible` is what can be read of it now, None if there is no document; `spki_sha256` what its certificate shows;
    `last` its claim when it could last be read, which is another object's if they were not created at one time.
    """
    if legible is None:
        return Claim(last.rank, last.tokens) if last else None
    created = _NEVER if legible.created is None else legible.created
    if last is not None and created not in (EVER, last.rank.created):
        last = None
    tokens = _tokens(_ARN, legible.arns) | _tokens(_ARN_ALONE, legible.arns)
    if spki_sha256 is not None:
        tokens |= {(_PUBLIC_KEY, spki_sha256)}
    elif legible.has_certificate:
        tokens |= _tokens(_ARN_WITH_ANY, legible.arns)
    if last is not None:
        return Claim(last.rank, tokens | last.tokens)
    return Claim(_Rank(created, name), tokens) if tokens else None


def _rank(key: ByokKey) -> _Rank:
    return _Rank(key.metadata.creation_timestamp or _NEVER, key.name)


def _tokens(how: str, arns: Iterable[KeyArn]) -> frozenset[Token]:
    return frozenset((how, *arn_identity(arn)) for arn in arns)


class _Group:
    """The claims that share a token."""

    def __init__(self) -> None:
        self._ranks: defaultdict[str, list[_Rank]] = defaultdict(list)
        # The oldest claim of each namespace, the oldest of all first: what is kept sorted need not be searched.
        self._heads: list[_Rank] = []

    @property
    def leaders(self) -> tuple[_Rank, ...]:
        """The oldest claim, and the oldest of another namespace than that one's."""
        return tuple(self._heads[:2])

    def names(self) -> Iterator[ObjectName]:
        """List who claims."""
        return (rank.name for ranks in self._ranks.values() for rank in ranks)

    def add(self, rank: _Rank) -> None:
        """Take in a claim."""
        ranks = self._ranks[rank.name.namespace]
        if ranks and rank < ranks[0]:
            del self._heads[bisect_left(self._heads, ranks[0])]
        if not ranks or rank < ranks[0]:
            insort(self._heads, rank)
        insort(ranks, rank)

    def discard(self, rank: _Rank) -> None:
        """Forget a claim that was taken in."""
        ranks = self._ranks[rank.name.namespace]
        if rank == ranks[0]:
            del self._heads[bisect_left(self._heads, rank)]
            if len(ranks) > 1:
                insort(self._heads, ranks[1])
        del ranks[bisect_left(ranks, rank)]
        if not ranks:
            del self._ranks[rank.name.namespace]


@dataclass(frozen=True)
class Leaders:
    """Of all claims those that decide, by token: the oldest, and the oldest of another namespace than that one's."""

    by_token: Mapping[Token, tuple[_Rank, ...]] = field(default_factory=dict)

    def older(self, claim: Claim) -> ObjectName | None:
        """Find the object of another namespace that has the better claim by what `claim` is compared by."""
        mine, found = claim.rank, set[_Rank]()
        for token in claim.compared:
            leaders = self.by_token.get(token, ())
            other = next((rank for rank in leaders if rank.name.namespace != mine.name.namespace), None)
            # A tie, or objects without a time as in a folder, refuses both.
            if other is not None and other.created <= mine.created:
                found.add(other)
        return min(found).name if found else None


class Claims:
    """Every object's claim, and who shares it."""

    def __init__(self) -> None:
        self._claims: dict[ObjectName, Claim] = {}
        self._groups: defaultdict[Token, _Group] = defaultdict(_Group)
        self._leaders: dict[Token, tuple[_Rank, ...]] = {}
        self._changed: set[Token] = set()
        # A copy, for as long as it says the same: most changes of objects change no claim.
        self._copy: Leaders | None = None

    def put(self, claim: Claim) -> None:
        """Register a claim, in place of the one that its object had before."""
        if self._claims.get(claim.rank.name) == claim:
            return
        self.remove(claim.rank.name)
        self._claims[claim.rank.name] = claim
        for token in claim.tokens:
            self._groups[token].add(claim.rank)
            self._note(token)

    def remove(self, name: ObjectName) -> None:
        """Forget an object's claim, if it has one."""
        claim = self._claims.pop(name, None)
        if claim is None:
            return
        for token in claim.tokens:
            self._groups[token].discard(claim.rank)
            self._note(token)

    def of(self, name: ObjectName) -> Claim | None:
        """Return an object's claim."""
        return self._claims.get(name)

    def take_concerned(self) -> frozenset[ObjectName]:
        """List all objects for which `older` may answer otherwise than when this was last asked, save those put anew.

        Objects that a claim counts against claim the like themselves, if by another token.
        """
        changed, self._changed = self._changed, set()
        sharing = {shared for token in changed for shared in _sharing(token)}
        return frozenset(name for token in sharing if token in self._groups for name in self._groups[token].names())

    def older(self, name: ObjectName) -> ObjectName | None:
        """Find the object of another namespace with the better claim to the KMS key of `name`, which was put in."""
        return Leaders(self._leaders).older(self._claims[name])

    def leaders(self) -> Leaders:
        """Return the claims that decide, as they are at this moment."""
        if self._copy is None:
            self._copy = Leaders(dict(self._leaders))
        return self._copy

    def _note(self, token: Token) -> None:
        leaders, before = self._groups[token].leaders, self._leaders.get(token, ())
        if leaders == before:
            return
        self._changed.add(token)
        self._copy = None
        if leaders:
            self._leaders[token] = leaders
        else:
            del self._leaders[token], self._groups[token]


def _sharing(token: Token) -> tuple[Token, ...]:
    # Certified keys are compared by ARN with some, and are found by the ARNs that all claim.
    return (token, (_ARN, *token[1:])) if token[0] == _ARN_WITH_ANY else (token,)
