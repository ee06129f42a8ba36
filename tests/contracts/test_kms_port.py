"""What every Kms does alike; each algorithm ends in a signature that is really checked."""

import dataclasses
from collections.abc import AsyncIterator

import pytest
from cryptography.hazmat.primitives.serialization import load_der_public_key

from byok_api import signatures
from byok_api.algorithms import SigningAlgorithm
from byok_api.errors import Reason
from byok_api.references import KeyArn
from byok_sandbox.owner import KEY_SPECS
from byok_signer.kms.errors import KmsError
from byok_signer.kms.port import KeyHandle, PublicKeyAnswer
from tests.support.kms_benches import BENCHES, SIGNER_ROLE, Bench, handle

MESSAGE = b"a claim" * 400
ES256, ED25519 = SigningAlgorithm.ES256, SigningAlgorithm.ED25519
PATIENCE = 30.0


@pytest.fixture(params=BENCHES)
async def bench(request: pytest.FixtureRequest) -> AsyncIterator[Bench]:
    async with BENCHES[request.param]() as made:
        yield made


async def resolve(bench: Bench, key: KeyHandle) -> tuple[KeyHandle, PublicKeyAnswer]:
    answer = await bench.kms.get_public_key(key, timeout=PATIENCE)
    return dataclasses.replace(key, resolved_arn=answer.key_arn), answer


async def refused(bench: Bench, key: KeyHandle, algorithm: SigningAlgorithm = ES256) -> KmsError:
    with pytest.raises(KmsError) as caught:
        await bench.kms.sign(key, algorithm, message=MESSAGE, timeout=PATIENCE)
    return caught.value


@pytest.mark.parametrize("algorithm", SigningAlgorithm)
async def test_every_algorithm_signs_what_its_public_key_verifies(bench: Bench, algorithm: SigningAlgorithm) -> None:
    key, looked = await resolve(bench, handle(await bench.create(KEY_SPECS[algorithm])))
    signed = await bench.kms.sign(key, algorithm, message=MESSAGE, timeout=PATIENCE)
    public_key = load_der_public_key(looked.spki)
    signatures.verify(public_key, algorithm, signed.signature, message=MESSAGE)
    assert algorithm in looked.algorithms
    assert looked.algorithms == signatures.algorithms_for(public_key)
    assert (looked.key_spec, looked.key_usage) == (KEY_SPECS[algorithm], "SIGN_VERIFY")
    assert signed.key_arn == looked.key_arn == key.arn
    assert [(attempt.kms_request_id, attempt.outcome) for attempt in signed.attempts] == [(signed.request_id, "signed")]


@pytest.mark.parametrize("algorithm", [a for a in SigningAlgorithm if a.facts.hash_name])
async def test_a_digest_is_signed_as_its_message_is(bench: Bench, algorithm: SigningAlgorithm) -> None:
    key, looked = await resolve(bench, handle(await bench.create(KEY_SPECS[algorithm])))
    digest = algorithm.digest(MESSAGE)
    signed = await bench.kms.sign_digest(key, algorithm, digest=digest, timeout=PATIENCE)
    signatures.verify(load_der_public_key(looked.spki), algorithm, signed.signature, message=MESSAGE)


async def test_an_ecdsa_signature_comes_in_der_too(bench: Bench) -> None:
    key = handle(await bench.create("ECC_NIST_P384"))
    signed = await bench.kms.sign(key, SigningAlgorithm.ES384, message=MESSAGE, timeout=PATIENCE)
    assert signatures.p1363_from_der(signed.signature_der, SigningAlgorithm.ES384) == signed.signature


async def test_ed25519_signs_up_to_4096_bytes(bench: Bench) -> None:
    key, looked = await resolve(bench, handle(await bench.create(KEY_SPECS[ED25519])))
    signed = await bench.kms.sign(key, ED25519, message=b"x" * 4096, timeout=PATIENCE)
    signatures.verify(load_der_public_key(looked.spki), ED25519, signed.signature, message=b"x" * 4096)
    with pytest.raises(KmsError, match="4097 bytes to sign; KMS takes at most 4096") as caught:
        await bench.kms.sign(key, ED25519, message=b"x" * 4097, timeout=PATIENCE)
    assert (caught.value.reason, caught.value.attempts) == (Reason.MessageTooLong, ())


@pytest.mark.parametrize(("algorithm", "size"), [(ES256, 31), (ES256, 48), (ES256, 0), (ED25519, 64)])
async def test_a_digest_of_the_wrong_length_is_refused(bench: Bench, algorithm: SigningAlgorithm, size: int) -> None:
    key = handle(await bench.create(KEY_SPECS[algorithm]))
    with pytest.raises(KmsError, match=f"a digest of {size} bytes") as caught:
        await bench.kms.sign_digest(key, algorithm, digest=b"d" * size, timeout=PATIENCE)
    assert (caught.value.reason, caught.value.attempts) == (Reason.DigestMismatch, ())


async def test_an_alias_is_resolved_to_a_key(bench: Bench) -> None:
    arn = await bench.create("ECC_NIST_P256")
    alias = handle(await bench.point("media", arn))
    with pytest.raises(ValueError, match="must be resolved"):
        await bench.kms.sign(alias, ES256, message=MESSAGE, timeout=PATIENCE)
    key, looked = await resolve(bench, alias)
    signed = await bench.kms.sign(key, ES256, message=MESSAGE, timeout=PATIENCE)
    signatures.verify(load_der_public_key(looked.spki), ES256, signed.signature, message=MESSAGE)
    assert looked.key_arn == signed.key_arn == arn


async def test_an_alias_that_moves_does_not_take_signing_with_it(bench: Bench) -> None:
    first, second = await bench.create("ECC_NIST_P256"), await bench.create("ECC_NIST_P256")
    key, looked = await resolve(bench, handle(await bench.point("media", first)))
    await bench.point("media", second)
    signed = await bench.kms.sign(key, ES256, message=MESSAGE, timeout=PATIENCE)
    signatures.verify(load_der_public_key(looked.spki), ES256, signed.signature, message=MESSAGE)
    _, moved = await resolve(bench, key)
    assert (moved.key_arn, moved.spki == looked.spki) == (second, False)


async def test_a_disabled_key_is_refused(bench: Bench) -> None:
    arn = await bench.create("ECC_NIST_P256")
    await bench.disable(arn)
    assert (await refused(bench, handle(arn))).reason is Reason.KeyDisabled


async def test_a_key_pending_deletion_is_refused(bench: Bench) -> None:
    arn = await bench.create("ECC_NIST_P256")
    await bench.schedule_deletion(arn)
    assert (await refused(bench, handle(arn))).reason is Reason.KeyInvalidState


@pytest.mark.parametrize("resource", ["key/00000000-0000-4000-8000-000000000000", "alias/nowhere"])
async def test_a_key_or_alias_that_does_not_exist_is_named(bench: Bench, resource: str) -> None:
    place = (await bench.create("ECC_NIST_P256")).text.rpartition(":")[0]
    with pytest.raises(KmsError, match=f"kms:GetPublicKey on {place}:{resource}: NotFoundException") as caught:
        await bench.kms.get_public_key(handle(KeyArn(f"{place}:{resource}")), timeout=PATIENCE)
    assert caught.value.reason is Reason.KeyNotFound


async def test_a_key_of_another_spec_is_refused(bench: Bench) -> None:
    key = handle(await bench.create("ECC_NIST_P256"))
    assert (await refused(bench, key, SigningAlgorithm.ES384)).reason is Reason.KeyUsageInvalid


async def test_revoked_is_denied_until_it_is_granted_again(bench: Bench) -> None:
    arn = await bench.create("ECC_NIST_P256")
    await bench.grant(arn, frozenset({"GetPublicKey"}))
    refusal = await refused(bench, handle(arn))
    assert (refusal.reason, refusal.retry_after) == (Reason.KeyAccessDenied, None)
    assert refusal.message.startswith(f"key team/photo: kms:Sign on {arn}: AccessDeniedException. ")
    assert [attempt.outcome for attempt in refusal.attempts] == ["failed"]
    assert refusal.request_id
    await bench.grant(arn, frozenset({"GetPublicKey", "Sign"}))
    key, looked = await resolve(bench, handle(arn))
    signed = await bench.kms.sign(key, ES256, message=MESSAGE, timeout=PATIENCE)
    signatures.verify(load_der_public_key(looked.spki), ES256, signed.signature, message=MESSAGE)


async def test_sign_can_be_asked_about(bench: Bench) -> None:
    arn = await bench.create("ECC_NIST_P256")
    assert (await bench.kms.try_sign(handle(arn), ES256, timeout=PATIENCE)).request_id
    await bench.grant(arn, frozenset({"GetPublicKey"}))
    with pytest.raises(KmsError) as caught:
        await bench.kms.try_sign(handle(arn), ES256, timeout=PATIENCE)
    assert caught.value.reason is Reason.KeyAccessDenied


async def test_more_than_signing_is_denied_unless_granted(bench: Bench) -> None:
    arn = await bench.create("ECC_NIST_P256")
    key, kms = handle(arn), bench.kms
    for asked in (kms.try_create_grant, kms.try_get_key_policy, kms.describe_key):
        with pytest.raises(KmsError) as caught:
            await asked(key, timeout=PATIENCE)
        assert caught.value.reason is Reason.KeyAccessDenied
    await bench.grant(arn, frozenset({"CreateGrant", "GetKeyPolicy", "DescribeKey"}))
    assert (await kms.try_create_grant(key, timeout=PATIENCE)).request_id
    assert (await kms.try_get_key_policy(key, timeout=PATIENCE)).request_id
    described = await kms.describe_key(key, timeout=PATIENCE)
    assert (described.key_arn, described.state, described.origin, described.multi_region) == (
        arn,
        "Enabled",
        "AWS_KMS",
        False,
    )


async def test_no_time_is_a_deadline_exceeded(bench: Bench) -> None:
    key = handle(await bench.create("ECC_NIST_P256"))
    with pytest.raises(KmsError) as caught:
        await bench.kms.sign(key, ES256, message=MESSAGE, timeout=0)
    assert (caught.value.reason, caught.value.attempts) == (Reason.KmsDeadlineExceeded, ())


async def test_calls_are_charged_to_who_calls_not_to_whose_the_key_is(bench: Bench) -> None:
    own = SIGNER_ROLE.split(":")[4]
    foreign = KeyArn("arn:aws:kms:eu-central-1:444455556666:key/k-1")
    assert own != foreign.account
    for arn in (await bench.create("ECC_NIST_P256"), foreign):
        assert await bench.kms.calling_account(handle(arn), timeout=PATIENCE) == own
    key = handle(foreign, role_arn="arn:aws:iam::777788889999:role/path/media")
    assert await bench.kms.calling_account(key, timeout=PATIENCE) == "777788889999"
