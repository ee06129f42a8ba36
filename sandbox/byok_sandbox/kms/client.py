"""A client of the sandbox-only calls of an emulated KMS that runs as another process."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.error import HTTPError
from urllib.request import Request, urlopen

from pydantic.alias_generators import to_camel

from byok_sandbox.kms.control import PREFIX, document_of
from byok_sandbox.kms.injection import FaultRule

_TIMEOUT_SECONDS = 30.0


class ControlError(Exception):
    """The emulator refused a sandbox-only call; the message is what it answered."""


@dataclass(frozen=True)
class ControlClient:
    """Makes identities and credentials, reads the event log, and orders faults; blocking."""

    address: str
    """As the emulator printed it, `http://host:port`."""
    token: str = field(repr=False)

    def put_identity(self, arn: str, **attributes: object) -> None:
        """Make a role or user known, or change it.

        `attributes` are the fields of `control.IdentityDocument`: actions, tags, trust_policy, max_session_seconds.
        """
        self._call("PUT", "identities", _document(arn, attributes))

    def issue(self, arn: str, **attributes: object) -> dict[str, Any]:
        """Make credentials for an identity: arn, accessKeyId, secretAccessKey, sessionToken and expiresAt (or None).

        `attributes` are the fields of `control.AccessKeyDocument`: session_name, expires_in (seconds).
        """
        return self._call("POST", "access-keys", _document(arn, attributes))

    def put_access_key(self, arn: str, **attributes: object) -> None:
        """Make credentials known that were issued before: the fields of `control.KnownAccessKeyDocument`."""
        self._call("PUT", "access-keys", _document(arn, attributes))

    def put_key(self, arn: str, private_key: str) -> None:
        """Add a signing key that was made before, under its ARN, with the default policy; PEM."""
        self._call("PUT", "keys", _document(arn, {"private_key": private_key}))

    def events(self, since: int = 0) -> list[dict[str, Any]]:
        """List the events after the first `since`, as CloudTrail would."""
        return list(self._call("GET", f"events?since={since}")["events"])

    def add_fault(self, rule: FaultRule) -> str:
        """Have a fault happen from the next call on; answers its id."""
        return str(self._call("POST", "faults", document_of(rule))["id"])

    def faults(self) -> dict[str, FaultRule]:
        """List the rules that stand, by id."""
        listed = self._call("GET", "faults")["faults"]
        return {str(fault.pop("id")): FaultRule.model_validate(fault) for fault in listed}

    def clear_faults(self, number: str | None = None) -> int:
        """Take a rule back, or all; answers how many stood."""
        return int(self._call("DELETE", "faults" if number is None else f"faults/{number}")["cleared"])

    def _call(self, method: str, path: str, document: Mapping[str, object] | None = None) -> dict[str, Any]:
        request = Request(  # noqa: S310 - the address is that of the sandbox, http on the loopback
            f"{self.address}{PREFIX}/{path}",
            data=None if document is None else json.dumps(document).encode(),
            headers={"Authorization": f"Bearer {self.token}"},
            method=method,
        )
        try:
            with urlopen(request, timeout=_TIMEOUT_SECONDS) as answer:  # noqa: S310 - as above
                return dict(json.load(answer))
        except HTTPError as error:
            raise ControlError(error.read(1000).decode(errors="replace")) from error


def _document(arn: str, attributes: Mapping[str, object]) -> dict[str, object]:
    return {"arn": arn, **{to_camel(name): value for name, value in attributes.items()}}
