"""`keyOwnership`: which namespaces may name which KMS keys, where the installation says so.

A signer is trusted by every key's owner alike, and ARNs and certificates are public: naming a key proves nothing. Age
only orders claims to one key (`byok_api.key_rules`); this decides them. Where it is set, a namespace that it does not
list may name no key at all, the presets' own and the managed key's included.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Self

from byok_api.manifests import Fault, load_mapping
from byok_api.references import NAMESPACE_PATTERN, KeyArn

NAMESPACES_LIMIT = 10_000
PATTERNS_LIMIT = 256
"""Patterns of one namespace."""
_PATTERN = re.compile(
    r"arn:(?:aws[a-z-]*|\*):kms:[a-z0-9*-]{1,40}:[0-9*]{1,12}:(?:\*|(?:key|alias)/[A-Za-z0-9/_*-]{1,260})"
)
_NAMESPACE = re.compile(NAMESPACE_PATTERN)
_FORM = "arn:PARTITION:kms:REGION:ACCOUNT:key/ID, :alias/NAME or :*, with * for any characters but a colon"
_QUOTE_LIMIT = 80


@dataclass(frozen=True)
class KeyOwnership:
    """Namespaces with the patterns of the ARNs that each may name."""

    patterns: Mapping[str, tuple[str, ...]]
    """A `*` stands for any characters but a colon, so never for more than one part of an ARN.

    A pattern for aliases trusts whoever may move them in that account: an alias is matched as it is written.
    """

    @classmethod
    def parse(cls, data: bytes, source: str) -> Self:
        """Read YAML: one mapping from namespaces to lists of patterns; ManifestError lists all that is wrong with it.

        An empty file lets no namespace name a key. At most 1 MiB, 10,000 namespaces and 256 patterns for each.
        """
        document = load_mapping(data, source, _faults)
        return cls({namespace: tuple(patterns) for namespace, patterns in document.items()})

    def admits(self, namespace: str, arns: Iterable[KeyArn]) -> bool:
        """Say whether a namespace may name all of these ARNs: a key's own, and its replicas'."""
        patterns = self.patterns.get(namespace, ())
        return all(any(_matches(pattern, arn.text) for pattern in patterns) for arn in arns)


def _matches(pattern: str, arn: str) -> bool:
    wanted, given = pattern.split(":"), arn.split(":")
    return len(wanted) == len(given) and all(map(_part_matches, wanted, given))


def _part_matches(pattern: str, text: str) -> bool:
    # Taking the first place for each piece is enough, and takes linear time, which regular expressions would not.
    first, *pieces = pattern.split("*")
    if not pieces:
        return text == first
    *pieces, last = pieces
    if len(text) < len(first) + len(last) or not (text.startswith(first) and text.endswith(last)):
        return False
    place, end = len(first), len(text) - len(last)
    for piece in pieces:
        place = text.find(piece, place, end)
        if place < 0:
            return False
        place += len(piece)
    return True


def _faults(document: Mapping[str, object]) -> Iterable[Fault]:
    if len(document) > NAMESPACES_LIMIT:
        yield (), "SizeLimit", f"lists {len(document)} namespaces", f"list at most {NAMESPACES_LIMIT}"
        return
    for namespace, patterns in document.items():
        if _NAMESPACE.fullmatch(namespace) is None:
            yield (namespace,), "Namespace", "is no namespace's name", "write one, such as media"
        if not isinstance(patterns, list):
            yield (namespace,), "Patterns", "is no list", "write a list of ARN patterns"
            continue
        if len(patterns) > PATTERNS_LIMIT:
            yield (namespace,), "SizeLimit", f"lists {len(patterns)} patterns", f"list at most {PATTERNS_LIMIT}"
            continue
        for index, pattern in enumerate(patterns):
            if not isinstance(pattern, str) or _PATTERN.fullmatch(pattern) is None:
                quoted = repr(pattern)[:_QUOTE_LIMIT]
                yield (namespace, index), "ArnPattern", f"is {quoted}, no pattern for ARNs of KMS", f"write {_FORM}"
