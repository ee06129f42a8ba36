"""An issuer of ServiceAccount tokens, shaped as the ones that a cluster projects into pods.

See Kubernetes, "Managing Service Accounts", for the claims; the key id is made as the API server makes it.
"""

import base64
import hashlib
import json
import os
import tempfile
import uuid
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path

import jwt
from cryptography.hazmat.primitives.asymmetric import ec
from jwt.algorithms import ECAlgorithm

from byok_api.signatures import spki_of

LIFETIME = timedelta(hours=1)
"""What the kubelet asks for unless the pod says otherwise."""
AUDIENCE = "byok-signer"


@dataclass(frozen=True)
class ServiceAccount:
    """Who a token speaks for."""

    namespace: str
    name: str
    uid: str = field(default_factory=lambda: str(uuid.uuid4()))

    @property
    def username(self) -> str:
        """The name that a cluster gives it as a user."""
        return f"system:serviceaccount:{self.namespace}:{self.name}"


@dataclass(frozen=True)
class _Key:
    private: ec.EllipticCurvePrivateKey
    id: str


class Issuer:
    """Mints tokens with one key at a time; keys that were rotated out stay published until they are withdrawn."""

    def __init__(self, name: str = "https://issuer.byok-sandbox.internal") -> None:
        self.name = name
        self._keys = [_new_key()]

    def rotate(self) -> None:
        """Sign with a new key from now on."""
        self._keys.append(_new_key())

    def withdraw(self) -> None:
        """Publish only the key that signs now."""
        del self._keys[:-1]

    def jwks(self) -> bytes:
        """Publish the public keys as a JWK set (RFC 7517)."""
        entries = [
            {
                **ECAlgorithm.to_jwk(key.private.public_key(), as_dict=True),
                "kid": key.id,
                "alg": "ES256",
                "use": "sig",
            }
            for key in self._keys
        ]
        return json.dumps({"keys": entries}).encode()

    def write_jwks(self, path: Path) -> None:
        """Write the JWK set, in place of any before it at once."""
        _write(path, self.jwks(), mode=0o644)

    def mint(
        self,
        account: ServiceAccount,
        *,
        now: datetime,
        lifetime: timedelta = LIFETIME,
        audiences: Sequence[str] = (AUDIENCE,),
    ) -> str:
        """Make a token as the kubelet gets for a pod of the account."""
        issued = int(now.timestamp())
        # Deterministic, so that all tokens of an account come from one pod.
        pod_uid = str(uuid.uuid5(uuid.NAMESPACE_OID, account.uid))
        return self.sign(
            {
                "aud": list(audiences),
                "exp": issued + int(lifetime.total_seconds()),
                "iat": issued,
                "iss": self.name,
                "jti": str(uuid.uuid4()),
                "kubernetes.io": {
                    "namespace": account.namespace,
                    "node": {"name": "sandbox", "uid": str(uuid.uuid5(uuid.NAMESPACE_DNS, "sandbox"))},
                    "pod": {"name": f"{account.name}-0", "uid": pod_uid},
                    "serviceaccount": {"name": account.name, "uid": account.uid},
                },
                "nbf": issued,
                "sub": account.username,
            },
        )

    def write_token(
        self, path: Path, account: ServiceAccount, *, now: datetime, lifetime: timedelta = LIFETIME
    ) -> None:
        """Write a fresh token as the kubelet rotates one: readers see the old or the new one, never a part."""
        _write(path, self.mint(account, now=now, lifetime=lifetime).encode(), mode=0o600)

    def sign(self, payload: object) -> str:
        """Sign any JSON value with the current key, whether or not a cluster would."""
        key = self._keys[-1]
        headers = {"kid": key.id, "typ": None}
        return jwt.PyJWS().encode(json.dumps(payload).encode(), key.private, algorithm="ES256", headers=headers)


def _new_key() -> _Key:
    private = ec.generate_private_key(ec.SECP256R1())
    digest = hashlib.sha256(spki_of(private.public_key())).digest()
    return _Key(private, base64.urlsafe_b64encode(digest).rstrip(b"=").decode())


def _write(path: Path, content: bytes, *, mode: int) -> None:
    descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(descriptor, "wb") as file:
            os.fchmod(descriptor, mode)
            file.write(content)
        Path(temporary).replace(path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise
