"""Objects that the operator applies server-side: in whose name, and whether they are still as they were applied."""

from collections.abc import Mapping
from typing import Final

FIELD_MANAGER: Final = "byok-operator"


def covers(stored: object, wanted: object) -> bool:
    """Say whether everything that is wanted is there; mappings may hold more. Pure."""
    if isinstance(wanted, Mapping):
        return isinstance(stored, Mapping) and all(
            name in stored and covers(stored[name], part) for name, part in wanted.items()
        )
    return stored == wanted
