"""What can still be read of a ByokKey's claim in a document, whatever is wrong with the rest of it."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from byok_api.byokkey import CERTIFICATE_LIMIT
from byok_api.references import KeyArn

EVER = datetime.min.replace(tzinfo=UTC)
"""Since when a document claims whose creation time cannot be read: nobody may be older than it by that."""
_ARN_LIMIT = 64
"""So many of a document's replicas are read at most: eight times what this version lets an object have."""


@dataclass(frozen=True)
class Legible:
    """The parts of a ByokKey that make its claim, each as far as it can be read by itself."""

    created: datetime | None
    """None where none is given, as in a folder."""
    arns: frozenset[KeyArn]
    """Those of its own and its replicas' ARNs that are ARNs of KMS keys."""
    pem: str | None = field(repr=False)
    """The text of its certificate, unless a private key is in it."""
    has_certificate: bool
    """Whether it has one in any form, that of another version included."""


def legible_in(document: Mapping[str, Any]) -> Legible:
    """Read what can be read; any JSON value is taken."""
    spec = _mapping(document.get("spec"))
    aws, certificate = _mapping(spec.get("aws")), spec.get("certificate")
    replicas = aws.get("replicas")
    named = [aws.get("keyArn"), *(replicas[:_ARN_LIMIT] if isinstance(replicas, list) else ())]
    pem = _mapping(certificate).get("pem")
    fit = isinstance(pem, str) and len(pem) <= CERTIFICATE_LIMIT and "PRIVATE KEY" not in pem
    return Legible(
        created=_moment(_mapping(document.get("metadata")).get("creationTimestamp")),
        arns=frozenset(arn for arn in map(_arn, named) if arn is not None),
        pem=pem if fit else None,
        has_certificate=certificate is not None,
    )


def _mapping(value: object) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _arn(value: object) -> KeyArn | None:
    try:
        return KeyArn(value) if isinstance(value, str) else None
    except ValueError:
        return None


def _moment(value: object) -> datetime | None:
    if value is None:
        return None
    try:
        moment = datetime.fromisoformat(value) if isinstance(value, str) else EVER
    except ValueError:
        return EVER
    return moment if moment.tzinfo is not None else EVER
