"""The corpus of tests/data/hostile: each attempt is refused by its check, by the guard and through the whole signer."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cache

import cbor2
import pytest
import yaml

from byok_api.algorithms import SigningAlgorithm
from byok_api.audit import Kind
from byok_api.errors import ClaimRefusal, Reason
from byok_api.resolution import resolve
from byok_api.signer.v1 import signer_pb2 as pb
from byok_signer.guard import CHECK_NAMES, CheckedClaim, ClaimPolicy, check_claim, check_digest, policy_for
from tests.data.hostile.generate import CORPUS, MANIFEST, MESSAGES, generated
from tests.data.hostile.making import Hostile, Material
from tests.support.claims import created_claim
from tests.support.manifests import recipe, recipe_document
from tests.support.pki import identity
from tests.support.refusals import Told, refusal_of
from tests.support.signer import DEADLINE, Bench, certified_key

EARLIER = {"digest-algorithm", "digest-length"}
"""Checks that the signer makes before the guard does, for they need no evidence."""


@dataclass(frozen=True)
class Stored:
    """An attempt as it is on disk."""

    name: str
    check: str
    reason: Reason
    algorithm: SigningAlgorithm
    recipe: Mapping[str, object]
    digest: bytes | None

    @property
    def message(self) -> bytes:
        return (MESSAGES / f"{self.name}.bin").read_bytes()


def stored() -> list[Stored]:
    """Read the manifest, as anyone who brings another guard would."""
    return [
        Stored(
            name,
            entry["check"],
            Reason[entry["reason"]],
            SigningAlgorithm(entry.get("algorithm", "ES256")),
            entry.get("recipe", {}),
            bytes.fromhex(entry["digest"]) if "digest" in entry else None,
        )
        for name, entry in yaml.safe_load(MANIFEST.read_text()).items()
    ]


@cache
def genuine(algorithm: SigningAlgorithm) -> Material:
    return Material.stored(algorithm)


def policy_under(algorithm: SigningAlgorithm, c2pa: Mapping[str, object]) -> ClaimPolicy:
    """Demand what a recipe with this `c2pa` does."""
    effective = resolve(recipe(c2pa=dict(c2pa)), lambda _: None, presets_namespace="presets", managed_key=None)
    return policy_for(effective, algorithm, genuine(algorithm).chain)


def checked(digest: bytes | None, message: bytes, policy: ClaimPolicy) -> CheckedClaim:
    return check_claim(message, policy) if digest is None else check_digest(digest, message, policy)


@pytest.mark.parametrize("attempt", stored(), ids=lambda attempt: attempt.name)
def test_the_named_check_refuses(attempt: Stored) -> None:
    policy = policy_under(attempt.algorithm, attempt.recipe)
    with pytest.raises(ClaimRefusal) as refused:
        checked(attempt.digest, attempt.message, policy)
    assert (refused.value.check, refused.value.reason) == (attempt.check, attempt.reason)


def test_the_files_are_what_the_generator_makes() -> None:
    manifest, messages = generated()
    assert MANIFEST.read_text() == manifest
    assert {path.stem: path.read_bytes() for path in MESSAGES.iterdir()} == messages


def test_every_check_has_an_attempt() -> None:
    assert {hostile.check for hostile in CORPUS} == set(CHECK_NAMES)


def test_every_attempt_is_one_of_its_own() -> None:
    names = [hostile.name for hostile in CORPUS]
    assert len(set(names)) == len(names)
    requests = {(attempt.message, attempt.digest, str(attempt.recipe)) for attempt in stored()}
    assert len(requests) == len(names)


def offered(algorithm: SigningAlgorithm) -> Material:
    """Have the attacker work on a claim of the session's own key."""
    return replace(genuine(algorithm), sig_structure=created_claim(algorithm).sig_structure)


async def refusal_through(bench: Bench, hostile: Hostile, material: Material) -> Told:
    """Make an attempt by gRPC."""
    digest, message = hostile.make(material)
    if digest is None:
        return await refusal_of(bench.sign(bench.request(message)))
    request = pb.SignDigestRequest(
        recipe="photo", expected_recipe_hash=bench.entry.recipe.hash, digest=digest, evidence=message
    )
    return await refusal_of(bench.signer.SignDigest(request, metadata=bench.metadata, timeout=DEADLINE))


async def test_nothing_of_it_is_signed_by_the_whole_signer(bench: Bench) -> None:
    keys = {algorithm: bench.store(identity(algorithm)) for algorithm in {hostile.algorithm for hostile in CORPUS}}
    for hostile in CORPUS:
        key = certified_key(identity(hostile.algorithm), keys[hostile.algorithm].arn)
        bench.apply(key, recipe_document(c2pa=dict(hostile.recipe)))
        told = await refusal_through(bench, hostile, offered(hostile.algorithm))
        if hostile.check in EARLIER:
            assert told.reason is Reason.DigestMismatch, hostile.name
        else:
            assert (told.metadata.get("check"), told.reason) == (hostile.check, hostile.reason), hostile.name
        assert told.reason.facts.status.name in ("INVALID_ARGUMENT", "FAILED_PRECONDITION")
        assert told.retry_after is None
    assert bench.kms.signed == 0
    assert await bench.records(Kind.OUTCOME) == []


async def test_the_claim_that_they_are_made_of_is_signed(bench: Bench) -> None:
    await bench.sign()
    assert bench.kms.signed == 1
    assert cbor2.loads(created_claim().sig_structure)[3] != offered(SigningAlgorithm.ED25519).claim
