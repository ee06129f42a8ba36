"""What a sandbox in a cluster keeps from one pod to the next, so that what was told of it stays true.

Keys with their ARNs and certificates, both CAs, the time-stamp authority, and the signer's credentials: a `ByokKey`
that was applied goes on to sign, and a signer that runs goes on to be believed. What else somebody did to the emulated
KMS is gone. All of it is throw-away, and secret all the same.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Annotated, Any, Self
from uuid import uuid4

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, load_pem_private_key
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from pydantic.alias_generators import to_camel

from byok_api.algorithms import SigningAlgorithm
from byok_api.certificates import parse_chain
from byok_api.errors import Refusal
from byok_api.references import KeyArn
from byok_sandbox.ca import LEAF_VALIDITY, Issuer, SigningAuthority, TlsAuthority, name, pem_of
from byok_sandbox.filling import CertifiedKey
from byok_sandbox.kms.identities import new_access_key_id, new_secret
from byok_sandbox.kms.keys import KeyMaterialError, SoftwareKey
from byok_sandbox.owner import KEY_SPECS
from byok_sandbox.parts import REGION, SIGNER_ROLE
from byok_sandbox.tsa import TimeStampAuthority

LIMIT = 256 * 1024
"""Characters; seven keys with their chains have some 30,000."""
_AT_LEAST = timedelta(days=14)
"""How long certificates that are kept must last."""


class KeptError(Exception):
    """What was kept cannot be used; str() says why."""


@dataclass(frozen=True)
class KeptKey:
    """A KMS key, its material and the chain that certifies it."""

    certified: CertifiedKey
    material: SoftwareKey


@dataclass(frozen=True)
class Kept:
    """All of it."""

    made_at: datetime
    signing: SigningAuthority
    tls: TlsAuthority
    stamping: TimeStampAuthority
    access_key_id: str
    """Of the signer's role."""
    secret_access_key: str = field(repr=False)
    keys: Mapping[SigningAlgorithm, KeptKey]

    @classmethod
    def create(cls, *, now: datetime) -> Self:
        """Make all of it with fresh keys; RSA ones take a second or two."""
        signing = SigningAuthority.create(now=now)
        return cls(
            now,
            signing,
            TlsAuthority.create(now=now),
            TimeStampAuthority.create(signing, now=now),
            new_access_key_id("AKIA"),
            new_secret(),
            {algorithm: _key(algorithm, signing, now=now) for algorithm in SigningAlgorithm},
        )

    @classmethod
    def load(cls, text: str) -> "Kept":
        """Read what `dump` wrote; KeptError."""
        if len(text) > LIMIT:
            raise KeptError(f"it has more than {LIMIT} characters")
        try:
            return _Document.model_validate_json(text).kept()
        except ValidationError as error:
            # Without its values, which are secret.
            first = error.errors(include_input=False, include_url=False)[0]
            raise KeptError(f"{'.'.join(map(str, first['loc']))}: {first['msg']}") from None
        except (ValueError, TypeError, KeyMaterialError, Refusal) as error:
            raise KeptError(f"a key or certificate in it cannot be read: {type(error).__name__}") from None

    def dump(self) -> str:
        """Write it as JSON; secret."""
        keys = {
            algorithm: {
                "arn": str(kept.certified.arn),
                "key": kept.material.pem.decode(),
                "chain": pem_of(kept.certified.chain.certificates),
            }
            for algorithm, kept in self.keys.items()
        }
        document: dict[str, Any] = {
            "madeAt": self.made_at,
            "root": _issuer(self.signing.root),
            "intermediate": _issuer(self.signing.intermediate),
            "tls": _issuer(self.tls.root),
            "stamping": {"certificate": self.stamping.chain_pem, "key": self.stamping.key_pem.decode()},
            "accessKeyId": self.access_key_id,
            "secretAccessKey": self.secret_access_key,
            "keys": keys,
        }
        return _Document.model_validate(document).model_dump_json(by_alias=True)

    def lasts(self, now: datetime) -> bool:
        """Say whether its certificates can be used for a while yet."""
        return now + _AT_LEAST <= self.made_at + LEAF_VALIDITY


def _key(algorithm: SigningAlgorithm, authority: SigningAuthority, *, now: datetime) -> KeptKey:
    material = SoftwareKey.generate(KEY_SPECS[algorithm])
    account = SIGNER_ROLE.split(":")[4]
    arn = KeyArn(f"arn:aws:kms:{REGION}:{account}:key/{uuid4()}")
    subject = name("Example Media GmbH", f"Example Media {algorithm}")
    chain = authority.certify(material.private_key.public_key(), subject, now=now)
    return KeptKey(CertifiedKey(arn, algorithm, chain), material)


_Pem = Annotated[str, Field(max_length=32 * 1024)]


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, alias_generator=to_camel, populate_by_name=True)


class _Pair(_Part):
    certificate: _Pem
    key: _Pem = Field(repr=False)

    def issuer(self) -> Issuer:
        key = load_pem_private_key(self.key.encode(), password=None)
        if not isinstance(key, ec.EllipticCurvePrivateKey):
            raise ValueError("not an elliptic curve's")  # noqa: TRY004 - it is in the file
        return Issuer(x509.load_pem_x509_certificate(self.certificate.encode()), key)


class _KeyDocument(_Part):
    arn: str
    key: _Pem = Field(repr=False)
    chain: _Pem


class _Document(_Part):
    made_at: datetime
    root: _Pair
    intermediate: _Pair
    tls: _Pair
    stamping: _Pair
    access_key_id: str
    secret_access_key: str = Field(repr=False)
    keys: dict[SigningAlgorithm, _KeyDocument]

    def kept(self) -> Kept:
        return Kept(
            self.made_at,
            SigningAuthority(self.root.issuer(), self.intermediate.issuer()),
            TlsAuthority(self.tls.issuer()),
            TimeStampAuthority.load(self.stamping.certificate, self.stamping.key.encode()),
            self.access_key_id,
            self.secret_access_key,
            {
                algorithm: KeptKey(
                    CertifiedKey(KeyArn(each.arn), algorithm, parse_chain(each.chain)),
                    SoftwareKey.load(each.key.encode()),
                )
                for algorithm, each in self.keys.items()
            },
        )


def _issuer(issuer: Issuer) -> dict[str, str]:
    key = issuer.key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    return {"certificate": pem_of([issuer.certificate]), "key": key.decode()}
