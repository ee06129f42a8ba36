"""Who calls: roles and users that the sandbox was told of, their access keys, and sessions of assumed roles.

The sandbox has no IAM: an identity's policy is the list of actions that it allows, on any resource.
"""

import base64
import hashlib
import secrets
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from byok_sandbox.kms.arns import account_of, role_name
from byok_sandbox.kms.conditions import Context, like
from byok_sandbox.kms.policies import Policy

_ACCESS_KEY_LIMIT = 10_000
_BASE32 = "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567"


@dataclass(frozen=True)
class Identity:
    """A role or user."""

    arn: str
    actions: tuple[str, ...] = ()
    """Patterns of the actions that its identity policy allows, such as `kms:*`."""
    tags: Mapping[str, str] = field(default_factory=dict)
    trust_policy: Policy | None = None
    """Who may assume it; nobody without one."""
    max_session_seconds: int = 3600

    @property
    def is_role(self) -> bool:
        """Whether calls come from sessions of it."""
        return ":role/" in self.arn

    @property
    def unique_id(self) -> str:
        """The id that IAM gives beside the name (`AROA...`, `AIDA...`); here it follows from the ARN."""
        digest = base64.b32encode(hashlib.sha256(self.arn.encode()).digest()).decode()
        return ("AROA" if self.is_role else "AIDA") + digest[:17]


@dataclass(frozen=True)
class Caller:
    """An authenticated caller."""

    identity: Identity
    access_key_id: str
    session_name: str | None = None
    session_tags: Mapping[str, str] = field(default_factory=dict)
    chained: bool = False
    """Whether these are the credentials of an AssumeRole call."""

    @property
    def account(self) -> str:
        """The account that the caller belongs to."""
        return account_of(self.identity.arn)

    @property
    def arn(self) -> str:
        """The ARN that GetCallerIdentity answers: of the session, where there is one."""
        if self.session_name is None:
            return self.identity.arn
        partition = self.identity.arn.split(":")[1]
        return f"arn:{partition}:sts::{self.account}:assumed-role/{role_name(self.identity.arn)}/{self.session_name}"

    @property
    def principals(self) -> frozenset[str]:
        """ARNs by which a policy or grant may name the caller."""
        return frozenset({self.identity.arn, self.arn})

    @property
    def context(self) -> Context:
        """Condition keys that the caller brings along to every request."""
        tags = {**self.identity.tags, **self.session_tags}
        return {
            "aws:principalaccount": (self.account,),
            "aws:principalarn": (self.identity.arn,),
            "kms:calleraccount": (self.account,),
            **{f"aws:principaltag/{key.lower()}": (value,) for key, value in tags.items()},
        }

    def may(self, action: str) -> bool:
        """Decide whether the caller's identity policy allows an action."""
        return any(like(pattern.lower(), action.lower()) for pattern in self.identity.actions)


@dataclass(frozen=True)
class AccessKey:
    """Credentials, and whose they are."""

    access_key_id: str
    secret_access_key: str = field(repr=False)
    session_token: str | None = field(repr=False)
    """Set for temporary credentials only."""
    expires_at: float | None
    """Seconds since the epoch; None for credentials that stay."""
    caller: Caller


class Directory:
    """Every identity and access key that the sandbox knows, in memory."""

    def __init__(self) -> None:
        self._identities: dict[str, Identity] = {}
        self._keys: OrderedDict[str, AccessKey] = OrderedDict()

    def put(self, identity: Identity) -> None:
        """Add an identity, or replace the one of the same ARN, also for access keys issued before.

        ValueError if the ARN is no principal's.
        """
        account_of(identity.arn)
        self._identities[identity.arn] = identity

    def role(self, arn: str) -> Identity | None:
        """Find a role that can be assumed."""
        identity = self._identities.get(arn)
        return identity if identity is not None and identity.trust_policy is not None else None

    def issue(self, arn: str, *, session_name: str = "sandbox", expires_at: float | None = None) -> AccessKey:
        """Make credentials for an identity; with `expires_at` they are temporary and have a session token.

        KeyError if the identity was never put, ValueError if there are too many access keys.
        """
        identity = self._identities[arn]
        access_key_id = new_access_key_id("AKIA" if expires_at is None else "ASIA")
        return self._keep(
            Caller(identity, access_key_id, session_name if identity.is_role else None), expires_at=expires_at
        )

    def put_access_key(self, arn: str, access_key_id: str, secret: str, *, session_name: str) -> AccessKey:
        """Make credentials known that were issued before, and stay; KeyError, ValueError as `issue`."""
        identity = self._identities[arn]
        caller = Caller(identity, access_key_id, session_name if identity.is_role else None)
        return self._keep(caller, expires_at=None, secret=secret)

    def open_session(self, caller: Caller, *, expires_at: float) -> AccessKey:
        """Make the credentials of an assumed role; `caller` is who its bearer will be."""
        return self._keep(caller, expires_at=expires_at)

    def find(self, access_key_id: str) -> AccessKey | None:
        """Find an access key by its id, and whose it is as of now."""
        key = self._keys.get(access_key_id)
        if key is None:
            return None
        return replace(key, caller=replace(key.caller, identity=self._identities[key.caller.identity.arn]))

    def forget(self, access_key_id: str) -> None:
        """Make an access key unknown, as IAM does with one that is deleted."""
        self._keys.pop(access_key_id, None)

    def _keep(self, caller: Caller, *, expires_at: float | None, secret: str = "") -> AccessKey:
        token = None if expires_at is None else secrets.token_urlsafe(96)
        key = AccessKey(caller.access_key_id, secret or new_secret(), token, expires_at, caller)
        self._keys[key.access_key_id] = key
        if len(self._keys) > _ACCESS_KEY_LIMIT:
            oldest = next((found for found in self._keys.values() if found.expires_at is not None), key)
            del self._keys[oldest.access_key_id]
            if oldest is key:
                raise ValueError(f"{_ACCESS_KEY_LIMIT} access keys that stay are the most there may be")
        return key


def new_session(role: Identity, session_name: str, tags: Mapping[str, str]) -> Caller:
    """Describe the bearer of a session of an assumed role, with a fresh access key id."""
    return Caller(role, new_access_key_id("ASIA"), session_name, tags, chained=True)


def new_secret() -> str:
    """Make a secret access key."""
    return secrets.token_urlsafe(30)


def new_access_key_id(prefix: str) -> str:
    """Make an access key's id: AKIA for credentials that stay, ASIA for a session's."""
    return prefix + "".join(secrets.choice(_BASE32) for _ in range(16))
