"""Objects that the operator applies server-side: in whose name, and whether they are still as they were applied."""

from collections.abc import Iterable, Mapping
from typing import Final

FIELD_MANAGER: Final = "byok-operator"
_OWNERS: Final = "ownerReferences"


def covers(stored: object, wanted: object) -> bool:
    """Say whether everything that is wanted is there; mappings may hold more, and objects more owners. Pure."""
    if isinstance(wanted, Mapping):
        return isinstance(stored, Mapping) and all(
            name in stored and (_has_owners if name == _OWNERS else covers)(stored[name], part)
            for name, part in wanted.items()
        )
    return stored == wanted


def _has_owners(stored: object, wanted: Iterable[object]) -> bool:
    """Look for each owner: what is applied joins those that others named (Kubernetes API reference, ObjectMeta)."""
    return isinstance(stored, list) and all(any(covers(each, owner) for each in stored) for owner in wanted)
