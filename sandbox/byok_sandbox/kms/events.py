"""A log of calls as CloudTrail keeps one: a JSON object for each call of a known caller.

It holds neither messages nor digests nor signatures. As in CloudTrail, a call whose signature did not name a caller
leaves no event. Source: AWS CloudTrail user guide, "CloudTrail record contents"; KMS developer guide, "Sign" examples.
"""

import json
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TextIO
from uuid import uuid4

from byok_sandbox.kms.arns import role_name
from byok_sandbox.kms.faults import AwsFaultError
from byok_sandbox.kms.identities import Caller

EVENT_LIMIT = 10_000
"""Events kept in memory; the oldest go first."""

# What is signed or secret; CloudTrail leaves it out too.
_HIDDEN = frozenset(
    {"CiphertextBlob", "GrantTokens", "GrantToken", "Mac", "Message", "Plaintext", "Signature", "WebIdentityToken"},
)


@dataclass(frozen=True)
class Origin:
    """Where a call came from."""

    caller: Caller
    region: str
    request_id: str
    user_agent: str


@dataclass(frozen=True)
class Happening:
    """What was asked for, and how it ended."""

    service: str
    operation: str
    parameters: Mapping[str, Any]
    read_only: bool
    fault: AwsFaultError | None = None


class EventLog:
    """The newest events in memory and, if wanted, all of them appended to a file, one JSON object to a line."""

    def __init__(self, path: Path | None = None, *, limit: int = EVENT_LIMIT) -> None:
        self._events: deque[dict[str, Any]] = deque(maxlen=limit)
        self._count = 0
        self._file: TextIO | None = path.open("a", encoding="utf-8") if path else None

    def append(self, origin: Origin, happening: Happening, key_arns: Sequence[str], now: float) -> None:
        """Record a call of the keys that it concerned; `now` in seconds since the epoch."""
        event = _event(origin, happening, now)
        event["resources"] = [{"accountId": arn.split(":")[4], "type": "AWS::KMS::Key", "ARN": arn} for arn in key_arns]
        self._events.append(event)
        self._count += 1
        if self._file:
            self._file.write(json.dumps(event, separators=(",", ":")) + "\n")
            self._file.flush()

    def since(self, count: int = 0) -> list[dict[str, Any]]:
        """List the events after the first `count` ever recorded, as far as they are still held."""
        dropped = self._count - len(self._events)
        return list(self._events)[max(count - dropped, 0) :]

    def close(self) -> None:
        """Close the file."""
        if self._file:
            self._file.close()


def _event(origin: Origin, happening: Happening, now: float) -> dict[str, Any]:
    fault = happening.fault
    return {
        "eventVersion": "1.11",
        "userIdentity": _user_identity(origin.caller),
        "eventTime": datetime.fromtimestamp(now, UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
        "eventSource": f"{happening.service}.amazonaws.com",
        "eventName": happening.operation,
        "awsRegion": origin.region,
        "sourceIPAddress": "127.0.0.1",
        "userAgent": origin.user_agent[:256],
        **({"errorCode": fault.event_code, "errorMessage": fault.message} if fault else {}),
        "requestParameters": {
            name[0].lower() + name[1:]: value for name, value in happening.parameters.items() if name not in _HIDDEN
        }
        or None,
        "responseElements": None,
        "additionalEventData": None,
        "requestID": origin.request_id,
        "eventID": str(uuid4()),
        "readOnly": happening.read_only,
        "resources": [],
        "eventType": "AwsApiCall",
        "managementEvent": True,
        "recipientAccountId": origin.caller.account,
        "eventCategory": "Management",
    }


def _user_identity(caller: Caller) -> dict[str, Any]:
    identity = caller.identity
    common = {"arn": caller.arn, "accountId": caller.account, "accessKeyId": caller.access_key_id}
    if caller.session_name is None:
        return {"type": "IAMUser", "principalId": identity.unique_id, **common, "userName": role_name(identity.arn)}
    issuer = {
        "type": "Role",
        "principalId": identity.unique_id,
        "arn": identity.arn,
        "accountId": caller.account,
        "userName": role_name(identity.arn),
    }
    principal_id = f"{identity.unique_id}:{caller.session_name}"
    return {"type": "AssumedRole", "principalId": principal_id, **common, "sessionContext": {"sessionIssuer": issuer}}
