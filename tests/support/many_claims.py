"""Claims that differ, as those of many assets do: equal ones are signed once."""

import uuid

from tests.support.claims import Parts, created_claim


def another_claim() -> bytes:
    """The session's ES256 claim, of another instance."""
    parts = Parts.of(created_claim().sig_structure)
    parts.claim["instanceID"] = f"xmp:iid:{uuid.uuid4()}"
    return parts.assembled()
