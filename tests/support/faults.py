"""A whole signer over the emulated KMS, both as they are shipped, in one process: only the faults are ordered.

Every case has a ByokKey, a recipe and a caller of its own, so that nothing that the signer remembers of one case can
matter to another: bindings, sessions of roles, breakers, idempotency, limits of a caller.
"""

import asyncio
import json
import uuid
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import grpc.aio
import pytest
from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePublicKey
from cryptography.hazmat.primitives.serialization import load_der_public_key

from byok_api.algorithms import SigningAlgorithm
from byok_api.audit import AuditEvent, ChainStart, Kind, Outcome, read_record, verify_chain
from byok_api.certificates import CertificateChain
from byok_api.keypolicy import Grantee, key_policy_statements
from byok_api.signer.v1 import signer_pb2_grpc as rpc
from byok_sandbox import ca
from byok_sandbox.issuer import Issuer, ServiceAccount
from byok_sandbox.kms.injection import FaultRule
from byok_signer.__main__ import running
from byok_signer.settings import PROGRAM
from tests.support.claims import Parts, created_claim
from tests.support.emulator import ACCOUNT, Aws
from tests.support.manifests import key_document, recipe_document
from tests.support.pki import NOW, authority
from tests.support.signer import until

SIGNER_ROLE = f"arn:aws:iam::{ACCOUNT}:role/byok-signer"
OWNERS_ROLE = f"arn:aws:iam::{ACCOUNT}:role/owners"
"""Assumed for the keys that name it."""
_ES256 = SigningAlgorithm.ES256
_X5CHAIN = 33
_FILE = 100
"""Cases to a file of manifests, which has a limit."""


@dataclass(frozen=True)
class KmsKey:
    """A key that only the emulated KMS has, and its certificate."""

    arn: str
    chain: CertificateChain

    @classmethod
    def create(cls, aws: Aws) -> "KmsKey":
        """Make one that the signer may use, itself and in the owners' role."""
        arn = aws.new_key()
        root = {"Effect": "Allow", "Principal": {"AWS": f"arn:aws:iam::{ACCOUNT}:root"}, "Action": "kms:*"}
        granted = [each for role in (SIGNER_ROLE, OWNERS_ROLE) for each in key_policy_statements(Grantee(role), _ES256)]
        policy = {"Version": "2012-10-17", "Statement": [{**root, "Resource": "*"}, *granted]}
        aws.kms().put_key_policy(KeyId=arn, PolicyName="default", Policy=json.dumps(policy))
        public_key = load_der_public_key(aws.kms().get_public_key(KeyId=arn)["PublicKey"])
        assert isinstance(public_key, EllipticCurvePublicKey)
        return cls(arn, authority().certify(public_key, ca.name("Example Media", "key in KMS"), now=NOW))

    def claim(self) -> bytes:
        """Make the Sig_structure of a claim that nobody has seen before."""
        parts = Parts.of(created_claim().sig_structure)
        parts.header[_X5CHAIN] = list(self.chain.ders)
        parts.claim["instanceID"] = f"xmp:iid:{uuid.uuid4()}"
        return parts.assembled()


class Trail:
    """The audit trail as it grows."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._read = 0

    def mark(self) -> None:
        """Forget what is in it."""
        self._read = self._path.stat().st_size

    def rewind(self) -> None:
        """Look at all of it again."""
        self._read = 0

    def events(self, recipe: str = "") -> list[AuditEvent]:
        """What has come since the mark, about one recipe or any."""
        with self._path.open("rb") as file:
            file.seek(self._read)
            lines = [line for line in file.read().splitlines(keepends=True) if line.endswith(b"\n")]
        events = (read_record(line.rstrip(b"\n")).event for line in lines)
        found = [event for event in events if not isinstance(event, ChainStart)]
        return [event for event in found if not recipe or event.recipe == f"media/{recipe}@1"]

    def is_intact(self) -> bool:
        """Whether the whole chain verifies."""
        return verify_chain(self._path.read_bytes().splitlines(keepends=True)).intact


@dataclass
class FaultBench:
    """A running signer, the emulated KMS below it, and the job that calls it."""

    aws: Aws
    key: KmsKey
    trail: Trail
    issuer: Issuer
    channel: grpc.aio.Channel

    @property
    def signer(self) -> "rpc.SignerAsyncStub":
        return rpc.SignerStub(self.channel)

    @property
    def probe(self) -> "rpc.KeyProbeAsyncStub":
        return rpc.KeyProbeStub(self.channel)

    def metadata(self, job: str = "job") -> tuple[tuple[str, str], ...]:
        """Call as a ServiceAccount of the namespace `media`."""
        token = self.issuer.mint(ServiceAccount("media", job), now=datetime.now(UTC))
        return (("authorization", f"Bearer {token}"),)

    @contextmanager
    def fault(self, rule: FaultRule) -> Iterator[None]:
        """Have a fault happen inside the block."""
        self.aws.emulator.faults.add(rule)
        try:
            yield
        finally:
            self.aws.emulator.faults.clear()

    def signatures(self) -> set[str]:
        """Request ids of all signatures that KMS made, by its own log."""
        events = self.aws.emulator.events.since()
        return {event["requestID"] for event in events if event["eventName"] == "Sign" and "errorCode" not in event}

    async def settled(self, recipe: str) -> list[AuditEvent]:
        """Wait until something is recorded about a recipe, and every intent has its outcome."""
        await until(lambda: is_settled(self.trail.events(recipe)))
        return self.trail.events(recipe)


def is_settled(events: Sequence[AuditEvent]) -> bool:
    """Whether something happened, and every intent is settled, by its outcome or by the one that follows it."""
    intents = sum(event.kind is Kind.INTENT for event in events)
    return len(events) > intents == sum(event.intent is not None for event in events)


def unaccounted(signatures: set[str], events: Sequence[AuditEvent]) -> int:
    """Count the signatures that match no attempt, less those that may: unknown attempts, intents without outcome.

    More than 0 breaks the invariant of the audit trail; so does an attempt that matches two signatures or none.
    """
    attempts = [attempt for event in events for attempt in event.attempts]
    named = [attempt.kms_request_id for attempt in attempts if attempt.kms_request_id in signatures]
    assert len(named) == len(set(named))
    told = {attempt.kms_request_id for attempt in attempts if attempt.outcome is Outcome.SIGNED}
    assert told <= signatures
    unknown = sum(attempt.outcome is Outcome.UNKNOWN and attempt.kms_request_id is None for attempt in attempts)
    intents = sum(event.kind is Kind.INTENT for event in events) - sum(event.intent is not None for event in events)
    return len(signatures.difference(named)) - unknown - intents


def _documents(key: KmsKey, name: str, *, assumes: bool) -> tuple[dict[str, Any], dict[str, Any]]:
    aws: dict[str, Any] = {"keyArn": key.arn} | ({"assumeRole": {"arn": OWNERS_ROLE}} if assumes else {})
    certificate = {"pem": ca.pem_of(key.chain.certificates)}
    return (
        key_document(f"media/{name}", aws=aws, certificate=certificate, signingAlgorithm=str(_ES256)),
        recipe_document(f"media/{name}", keyRef={"name": name, "namespace": "media"}),
    )


def _write_manifests(folder: Path, key: KmsKey, names: Sequence[str], assuming: frozenset[str]) -> None:
    folder.mkdir()
    for start in range(0, len(names), _FILE):
        pairs = [_documents(key, name, assumes=name in assuming) for name in names[start : start + _FILE]]
        text = "\n---\n".join(json.dumps(document) for pair in pairs for document in pair)
        (folder / f"from-{start}.yaml").write_text(text)


@asynccontextmanager
async def fault_bench(
    folder: Path, aws: Aws, names: Sequence[str], assuming: frozenset[str] = frozenset()
) -> AsyncIterator[FaultBench]:
    """Run a signer with a ByokKey and a recipe for each name; those of `assuming` go by way of the owners' role."""
    trusts = [
        {"Effect": "Allow", "Principal": {"AWS": SIGNER_ROLE}, "Action": ["sts:AssumeRole", "sts:TagSession"]},
    ]
    credentials = aws.role("byok-signer")
    aws.role("owners", trust=json.dumps({"Version": "2012-10-17", "Statement": trusts}))
    key, issuer = KmsKey.create(aws), Issuer()
    issuer.write_jwks(folder / "jwks.json")
    _write_manifests(folder / "manifests", key, names, assuming)
    flags = {
        "manifests": f"{folder}/manifests",
        "installation": "test",
        "listen": f"unix:{folder}/s",
        "http-listen": "127.0.0.1:0",
        "token-issuer": issuer.name,
        "token-jwks-file": f"{folder}/jwks.json",
        "audit": f"{folder}/audit.jsonl",
        "aws-endpoint": aws.emulator.address,
        "drain-seconds": "1",
    }
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("AWS_ACCESS_KEY_ID", credentials.access_key_id)
        environment.setenv("AWS_SECRET_ACCESS_KEY", credentials.secret_access_key)
        async with (
            running(PROGRAM.read([f"--{name}={value}" for name, value in flags.items()], {}), asyncio.Event()),
            grpc.aio.insecure_channel(f"unix:{folder}/s") as channel,
        ):
            yield FaultBench(aws, key, Trail(folder / "audit.jsonl"), issuer, channel)
