"""Roles that are assumed for keys: STS AssumeRole with the key's external id and session tags, kept until they expire.

A session outlives the trust policy that allowed it, so that the shortest is asked for, 15 minutes (STS API reference,
AssumeRole, DurationSeconds).
"""

import datetime as dt
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from urllib.parse import urlencode
from xml.etree import ElementTree as ET

from byok_api.keypolicy import session_tags
from byok_api.references import KeyArn, ObjectName
from byok_signer.kms.credentials import SingleFlight
from byok_signer.kms.errors import ASSUME_ROLE, Action, KmsError
from byok_signer.kms.port import KeyHandle
from byok_signer.kms.sigv4 import Credentials
from byok_signer.kms.sts import VERSION

_DURATION = 900
_RENEW_AHEAD = 240.0
_RENEW_AGAIN = 10.0
_MARGIN = 30.0
"""Seconds before its end when a session is no longer used: a clock may be off, a request takes time."""
_SESSIONS = 4096


AskSts = Callable[[Action, KeyArn, bytes], Awaitable[bytes]]
"""Sends one request to STS in the Region of an ARN, as the signer's own identity, and answers the XML; KmsError."""


@dataclass(frozen=True)
class _Who:
    role_arn: str
    key: ObjectName
    external_id: str


@dataclass
class _Session:
    credentials: Credentials | None = None
    ends_at: float = 0.0
    renew_at: float = 0.0
    flight: SingleFlight = field(default_factory=SingleFlight)


class AssumedRoles:
    """One session for each role and key, renewed ahead of its end."""

    def __init__(self, sts: AskSts, installation: str, clock: Callable[[], float] = time.time) -> None:
        self._sts = sts
        self._installation = installation
        self._clock = clock
        self._sessions: dict[_Who, _Session] = {}

    def ready(self, key: KeyHandle, role_arn: str, arn: KeyArn) -> Credentials | None:
        """Return the session for this key unless it has to be waited for, and see to it that it is renewed in time."""
        who = _Who(role_arn, key.name, key.external_id)
        session = self._session(who)
        now = self._clock()
        if session.credentials is None or session.ends_at - now < _MARGIN:
            return None
        if now >= session.renew_at:
            session.renew_at = now + _RENEW_AGAIN
            session.flight.start(lambda: self._assume(who, session, arn))
        return session.credentials

    async def get(self, key: KeyHandle, role_arn: str, arn: KeyArn) -> Credentials:
        """Assume the role for this key, by way of STS in the Region of `arn`; KmsError as the table says."""
        credentials = self.ready(key, role_arn, arn)
        if credentials is None:
            who = _Who(role_arn, key.name, key.external_id)
            session = self._session(who)
            await session.flight.run(lambda: self._assume(who, session, arn))
            credentials = session.credentials
            if credentials is None:
                raise _action(who).answer_invalid("the session was dropped while it was renewed")
        return credentials

    def forget(self, key: KeyHandle, role_arn: str, stale: Credentials) -> None:
        """Drop a session that AWS says has expired."""
        who = _Who(role_arn, key.name, key.external_id)
        session = self._sessions.get(who)
        if session is not None and session.credentials is stale:
            session.credentials = None

    def close(self) -> None:
        """Stop renewing."""
        for session in self._sessions.values():
            session.flight.cancel()

    def _session(self, who: _Who) -> _Session:
        session = self._sessions.get(who)
        if session is None:
            if len(self._sessions) >= _SESSIONS:
                self._forget_ended()
            session = self._sessions[who] = _Session()
        return session

    def _forget_ended(self) -> None:
        now = self._clock()
        for who in [who for who, session in self._sessions.items() if session.ends_at < now]:
            if not self._sessions[who].flight.running:
                del self._sessions[who]

    async def _assume(self, who: _Who, session: _Session, arn: KeyArn) -> None:
        action = _action(who)
        try:
            answer = await self._sts(action, arn, self._request(who))
        except KmsError as error:
            if error.retry_after is None:
                # The role's owner no longer trusts the signer: do not use the rest of an old session.
                session.credentials = None
            raise
        session.credentials, session.ends_at = _parse(action, answer)
        session.renew_at = session.ends_at - _RENEW_AHEAD

    def _request(self, who: _Who) -> bytes:
        tags = session_tags(self._installation, who.key)
        fields = {
            "Action": "AssumeRole",
            "Version": VERSION,
            "RoleArn": who.role_arn,
            "RoleSessionName": f"byok-signer@{who.key.namespace}.{who.key.name}"[:64],
            "ExternalId": who.external_id,
            "DurationSeconds": str(_DURATION),
        }
        for number, (name, value) in enumerate(tags.items(), 1):
            fields[f"Tags.member.{number}.Key"] = name
            fields[f"Tags.member.{number}.Value"] = value
        return urlencode(fields).encode()


@dataclass(frozen=True)
class RoleIdentity:
    """The identity that a role gives for one key, in the Region of an ARN."""

    roles: AssumedRoles
    key: KeyHandle
    role_arn: str
    arn: KeyArn

    def ready(self) -> Credentials | None:
        """Return the session unless it has to be waited for."""
        return self.roles.ready(self.key, self.role_arn, self.arn)

    async def get(self) -> Credentials:
        """Assume the role unless that has been done; KmsError as the table says."""
        return await self.roles.get(self.key, self.role_arn, self.arn)

    async def renew(self, stale: Credentials) -> Credentials:
        """Assume the role anew, unless that has been done since `stale`."""
        self.roles.forget(self.key, self.role_arn, stale)
        return await self.get()


def _action(who: _Who) -> Action:
    return Action(who.key, ASSUME_ROLE, who.role_arn)


def _parse(action: Action, answer: bytes) -> tuple[Credentials, float]:
    try:
        root = ET.fromstring(answer)  # noqa: S314 - from STS over TLS, of limited size; expat bounds entities
    except ET.ParseError as error:
        raise action.answer_invalid("the answer is not XML") from error
    values = {name: root.findtext(f".//{{*}}Credentials/{{*}}{name}") for name in _CREDENTIALS}
    access_key, secret_key, token, expiration = (values[name] for name in _CREDENTIALS)
    if not (access_key and secret_key and token and expiration):
        raise action.answer_invalid("the answer has no credentials")
    try:
        ends_at = dt.datetime.fromisoformat(expiration)
    except ValueError as error:
        raise action.answer_invalid("the session's expiration is not a time") from error
    if ends_at.tzinfo is None:
        raise action.answer_invalid("the session's expiration has no time zone")
    try:
        return Credentials(access_key, secret_key, token), ends_at.timestamp()
    except ValueError:
        raise action.answer_invalid("the session's credentials are not printable ASCII") from None


_CREDENTIALS = ("AccessKeyId", "SecretAccessKey", "SessionToken", "Expiration")
