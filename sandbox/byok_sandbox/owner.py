"""What a key's owner does in AWS, done with plain boto3: make a key, grant it, revoke it, have it certified."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property
from typing import TYPE_CHECKING, cast

import boto3
from botocore.config import Config
from cryptography.hazmat.primitives.serialization import Encoding, load_der_public_key

from byok_api import keypolicy
from byok_api.algorithms import SigningAlgorithm
from byok_api.certificates import CertificateChain
from byok_api.keypolicy import Grantee
from byok_api.references import KeyArn
from byok_api.signatures import PublicKey
from byok_sandbox.ca import SigningAuthority, name
from byok_signer.csr import RequestedNames, Unsigned

if TYPE_CHECKING:
    from mypy_boto3_kms import KMSClient
    from mypy_boto3_kms.literals import KeySpecType, SigningAlgorithmSpecType

KEY_SPECS: dict[SigningAlgorithm, "KeySpecType"] = {
    SigningAlgorithm.ES256: "ECC_NIST_P256",
    SigningAlgorithm.ES384: "ECC_NIST_P384",
    SigningAlgorithm.ES512: "ECC_NIST_P521",
    SigningAlgorithm.PS256: "RSA_2048",
    SigningAlgorithm.PS384: "RSA_3072",
    SigningAlgorithm.PS512: "RSA_3072",
    SigningAlgorithm.ED25519: "ECC_NIST_EDWARDS25519",
}
"""A key spec for each algorithm; making an RSA_4096 key would take longer than all the others."""


@dataclass(frozen=True)
class AwsAccess:
    """An endpoint and credentials for it."""

    endpoint: str
    access_key_id: str
    secret_access_key: str
    region: str


@dataclass(frozen=True)
class KeyOwner:
    """An administrator of an AWS account, and the role whose use of keys is granted."""

    access: AwsAccess
    signer_role: str

    @cached_property
    def kms(self) -> "KMSClient":
        """A plain boto3 client."""
        return boto3.client(
            "kms",
            endpoint_url=self.access.endpoint,
            region_name=self.access.region,
            aws_access_key_id=self.access.access_key_id,
            aws_secret_access_key=self.access.secret_access_key,
            config=Config(retries={"total_max_attempts": 1}),
        )

    def create_key(self, algorithm: SigningAlgorithm) -> KeyArn:
        """Make a KMS key for an algorithm, which the signer may not use yet."""
        answer = self.kms.create_key(KeySpec=KEY_SPECS[algorithm], KeyUsage="SIGN_VERIFY")
        return KeyArn(answer["KeyMetadata"]["Arn"])

    def grant(self, key: KeyArn, algorithm: SigningAlgorithm) -> None:
        """Put the signer's two statements into the key policy."""
        self._put_policy(key, keypolicy.key_policy_statements(Grantee(self.signer_role), algorithm))

    def revoke(self, key: KeyArn) -> None:
        """Take the signer's statements out of the key policy."""
        self._put_policy(key, [])

    def _put_policy(self, key: KeyArn, statements: Sequence[keypolicy.Statement]) -> None:
        # AWS's default policy: the account's own administrators, by IAM.
        administrators = {
            "Sid": "EnableIamUserPermissions",
            "Effect": "Allow",
            "Principal": {"AWS": f"arn:{key.partition}:iam::{key.account}:root"},
            "Action": "kms:*",
            "Resource": "*",
        }
        policy = {"Version": "2012-10-17", "Statement": [administrators, *statements]}
        self.kms.put_key_policy(KeyId=str(key), PolicyName="default", Policy=json.dumps(policy))

    def certify(self, key: KeyArn, algorithm: SigningAlgorithm, authority: SigningAuthority) -> CertificateChain:
        """Have a CA certify the key, by a CSR that KMS signs."""
        public_key = load_der_public_key(self.kms.get_public_key(KeyId=str(key))["PublicKey"])

        subject = name("Example Media GmbH", f"Example Media {algorithm}")
        request = Unsigned(cast("PublicKey", public_key), algorithm, RequestedNames(subject))
        # RAW takes 4,096 bytes; a request has a tenth of that.
        answer = self.kms.sign(
            KeyId=str(key),
            Message=request.message(),
            MessageType="RAW",
            SigningAlgorithm=cast("SigningAlgorithmSpecType", algorithm.facts.kms),
        )
        csr = request.signed(answer["Signature"]).public_bytes(Encoding.PEM).decode()
        return authority.certify_csr(csr, now=datetime.now(UTC))
