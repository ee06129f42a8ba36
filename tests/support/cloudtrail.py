"""CloudTrail's events and log files, as AWS's documentation shows them, with its example accounts."""

import gzip
import json
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

OWNER, CALLER = "111122223333", "444455556666"
KEY = f"arn:aws:kms:us-west-2:{OWNER}:key/1234abcd-12ab-34cd-56ef-1234567890ab"
OTHER_KEY = f"arn:aws:kms:us-west-2:{OWNER}:key/0987dcba-09fe-87dc-65ba-ab0987654321"
SIGNER = f"arn:aws:sts::{OWNER}:assumed-role/byok-signer/byok-signer"


def sign(request_id: str, time: float, **changes: object) -> dict[str, Any]:
    """Make the event of a call of kms:Sign (AWS KMS Developer Guide, "Sign"); `changes` to its fields, None removes."""
    event: dict[str, Any] = {
        "eventVersion": "1.11",
        "userIdentity": {
            "type": "AssumedRole",
            "principalId": "AROAIOSFODNN7EXAMPLE:byok-signer",
            "arn": SIGNER,
            "accountId": OWNER,
            "accessKeyId": "ASIAIOSFODNN7EXAMPLE",
        },
        "eventTime": datetime.fromtimestamp(int(time), UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
        "eventSource": "kms.amazonaws.com",
        "eventName": "Sign",
        "awsRegion": "us-west-2",
        "sourceIPAddress": "192.0.2.0",
        "userAgent": "byok-signer",
        "requestParameters": {"keyId": KEY, "signingAlgorithm": "ECDSA_SHA_256", "messageType": "DIGEST"},
        "responseElements": None,
        "requestID": request_id,
        "eventID": f"event-{request_id}",
        "readOnly": True,
        "resources": [{"accountId": OWNER, "type": "AWS::KMS::Key", "ARN": KEY}],
        "eventType": "AwsApiCall",
        "managementEvent": True,
        "recipientAccountId": OWNER,
        "eventCategory": "Management",
    }
    event |= changes
    return {name: value for name, value in event.items() if value is not None or name == "responseElements"}


def with_key(arn: str) -> Mapping[str, Any]:
    """Change the key that an event names."""
    return {
        "requestParameters": {"keyId": arn, "signingAlgorithm": "ECDSA_SHA_256", "messageType": "DIGEST"},
        "resources": [{"accountId": OWNER, "type": "AWS::KMS::Key", "ARN": arn}],
    }


def log_file(path: Path, events: Sequence[Mapping[str, Any]]) -> Path:
    """Write events as CloudTrail does: packed if the name says so, or as lines for `.jsonl`."""
    text = "".join(json.dumps(event) + "\n" for event in events)
    if path.suffix != ".jsonl":
        text = json.dumps({"Records": list(events)}, separators=(",", ":"))
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(gzip.compress(text.encode(), mtime=0) if path.suffix == ".gz" else text.encode())
    return path
