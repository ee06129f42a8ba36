"""AwsKms when KMS answers wrongly, late or not at all."""

import base64
import dataclasses
import hashlib

import pytest
from botocore.credentials import Credentials as BotocoreCredentials

from byok_api.algorithms import SigningAlgorithm
from byok_api.errors import Reason
from byok_api.references import KeyArn
from byok_signer.kms.aws import AwsKms
from byok_signer.kms.config import KmsConfig
from byok_signer.kms.errors import KmsError
from byok_signer.kms.http1 import ANSWER_LIMIT
from byok_signer.kms.port import KeyHandle
from tests.support.scripted_aws import ARN, GOOD, KEY, PLACE, PRIVATE_KEY, SESSION, STATIC, kms_on, outcomes
from tests.support.scripted_kms import (
    HANG,
    Reply,
    error_reply,
    http,
    json_reply,
    public_key_reply,
    raw_reply,
    scripted_server,
    signing_reply,
)

ES256 = SigningAlgorithm.ES256
OTHER, ALIAS = f"{PLACE}:key/k-2", KeyArn(f"{PLACE}:alias/media")
MULTI = KeyArn(f"{PLACE}:key/mrk-1")
REPLICA = KeyArn(f"{PLACE.replace('central', 'west')}:key/mrk-1")
MULTI_KEY = dataclasses.replace(KEY, arn=MULTI, replicas=(REPLICA,))


async def refusal_of(*script: Reply, key: KeyHandle = KEY, retries: int = 0) -> KmsError:
    async with kms_on(*script, retries=retries) as (kms, _):
        with pytest.raises(KmsError) as caught:
            await kms.sign(key, ES256, message=b"claim", timeout=5)
    return caught.value


GARBAGE = {
    "other key": (signing_reply(PRIVATE_KEY, KeyId=OTHER), "from another key"),
    "no key": (signing_reply(PRIVATE_KEY, KeyId=None), "from another key"),
    "alias for key": (signing_reply(PRIVATE_KEY, KeyId=ALIAS.text), "from another key"),
    "other algorithm": (signing_reply(PRIVATE_KEY, SigningAlgorithm="ECDSA_SHA_384"), "of another algorithm"),
    "no signature": (signing_reply(PRIVATE_KEY, Signature=None), "no Signature"),
    "empty signature": (signing_reply(PRIVATE_KEY, Signature=""), "is empty"),
    "not base64": (signing_reply(PRIVATE_KEY, Signature="!!"), "not base64"),
    "not DER": (signing_reply(PRIVATE_KEY, Signature="AAAA"), "not a DER ES256 signature"),
    "huge signature": (signing_reply(PRIVATE_KEY, Signature="A" * 9000), "no Signature"),
    "not JSON": (raw_reply(http(200, b"<html>")), "not a JSON object"),
    "cut JSON": (raw_reply(http(200, b'{"KeyId": "ar')), "not a JSON object"),
    "JSON list": (json_reply([]), "not a JSON object"),
    "deep JSON": (raw_reply(http(200, b"[" * 100_000)), "not a JSON object"),
    "no request id": (raw_reply(http(200, b"{}", request_id=None)), "no request id"),
    "odd request id": (raw_reply(http(200, b"{}", request_id="a b")), "no request id"),
    "too long": (raw_reply(http(200, b" " * (ANSWER_LIMIT + 1))), "longer than any"),
}


@pytest.mark.parametrize(("reply", "found"), GARBAGE.values(), ids=GARBAGE.keys())
async def test_an_answer_that_kms_would_not_give_is_refused_and_may_have_left_a_signature(
    reply: Reply, found: str
) -> None:
    refusal = await refusal_of(reply)
    assert refusal.reason is Reason.KmsAnswerInvalid
    assert found in refusal.message
    assert refusal.retry_after is None
    assert [attempt.outcome for attempt in refusal.attempts] == ["unknown"]


async def test_a_chunked_answer_is_read_only_up_to_the_limit() -> None:
    chunk = b"10000\r\n" + b" " * 0x10000 + b"\r\n"
    endless = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + chunk * 3
    assert (await refusal_of(raw_reply(endless))).reason is Reason.KmsAnswerInvalid


OUTAGES = {
    "reset": (raw_reply(None), 2),
    "truncated": (raw_reply(http(200, b"{}", length=500)), 1),
    "not HTTP": (raw_reply(b"SSH-2.0-OpenSSH\r\n"), 1),
    "bad gateway": (raw_reply(http(502, b"<html>", request_id=None)), 1),
    "forbidden by a proxy": (raw_reply(http(403, b"no", request_id=None)), 1),
    "internal": (error_reply("KMSInternalException", status=500), 1),
    "unknown code": (error_reply("NeverHeardOfException"), 1),
    "redirect": (raw_reply(http(307, b"")), 1),
}


@pytest.mark.parametrize(("reply", "sent"), OUTAGES.values(), ids=OUTAGES.keys())
async def test_what_no_key_owner_caused_is_an_outage_after_which_a_retry_may_help(reply: Reply, sent: int) -> None:
    refusal = await refusal_of(reply)
    assert refusal.reason is Reason.KmsUnavailable
    assert refusal.retry_after is not None
    assert [attempt.outcome for attempt in refusal.attempts] == ["unknown"] * sent


async def test_what_stands_where_a_code_should_is_not_repeated() -> None:
    refusal = await refusal_of(error_reply("Sent\nToken eyJhbGciOi"))
    assert "HTTP status 400" in refusal.message
    assert "eyJ" not in refusal.message


async def test_a_replica_signs_when_the_first_region_hangs() -> None:
    async with kms_on(raw_reply(HANG), GOOD, patience=1) as (kms, server):
        answer = await kms.sign(MULTI_KEY, ES256, message=b"claim", timeout=5)
    assert answer.key_arn == REPLICA
    assert [request.fields["KeyId"] for request in server.received] == [MULTI.text, REPLICA.text]
    assert "/eu-west-1/kms/" in server.received[1].headers["authorization"]
    assert outcomes(answer.attempts) == ["None:unknown", "req-signed:signed"]


async def test_a_replica_that_denies_does_not_hide_the_outage() -> None:
    refusal = await refusal_of(raw_reply(http(503, b"")), error_reply("AccessDeniedException"), key=MULTI_KEY)
    assert (refusal.reason, refusal.retry_after is not None) == (Reason.KmsUnavailable, True)
    assert outcomes(refusal.attempts) == ["req-1:unknown", "req-1:failed"]


async def test_a_replica_answers_for_the_key_in_its_own_region() -> None:
    reply = public_key_reply(PRIVATE_KEY, REPLICA.text)
    async with kms_on(raw_reply(None), raw_reply(None), reply) as (kms, _):
        answer = await kms.get_public_key(MULTI_KEY, timeout=5)
    assert answer.key_arn == MULTI


@pytest.mark.parametrize("replica", [OTHER.replace("central", "west"), REPLICA.text.replace("1111", "9999")])
async def test_what_is_no_replica_is_refused_before_any_call(replica: str) -> None:
    key = dataclasses.replace(MULTI_KEY, replicas=(KeyArn(replica),))
    async with kms_on(GOOD) as (kms, server):
        for call in (kms.sign(key, ES256, message=b"claim", timeout=5), kms.get_public_key(key, timeout=5)):
            with pytest.raises(KmsError, match=r"not a replica of .* correct spec\.aws\.replicas") as caught:
                await call
            assert caught.value.reason is Reason.KeyInvalid
    assert server.received == []


PUBLIC_KEYS = {
    "other key": public_key_reply(PRIVATE_KEY, OTHER),
    "alias": public_key_reply(PRIVATE_KEY, ALIAS.text),
    "no ARN": public_key_reply(PRIVATE_KEY, "k-1"),
    "no key": public_key_reply(PRIVATE_KEY, ARN.text, PublicKey=None),
    "not DER": public_key_reply(PRIVATE_KEY, ARN.text, PublicKey="AAAA"),
    "no spec": public_key_reply(PRIVATE_KEY, ARN.text, KeySpec=None),
}


@pytest.mark.parametrize("reply", PUBLIC_KEYS.values(), ids=PUBLIC_KEYS.keys())
async def test_a_public_key_that_kms_would_not_give_is_refused(reply: Reply) -> None:
    async with kms_on(reply) as (kms, _):
        with pytest.raises(KmsError) as caught:
            await kms.get_public_key(KEY, timeout=5)
    assert caught.value.reason is Reason.KmsAnswerInvalid


@pytest.mark.parametrize(
    "arn", [f"{PLACE.replace('central', 'west')}:key/k-1", f"{PLACE.replace('1111', '9999')}:key/k-1"]
)
async def test_an_alias_resolves_only_within_its_region_and_account(arn: str) -> None:
    async with kms_on(public_key_reply(PRIVATE_KEY, arn)) as (kms, _):
        with pytest.raises(KmsError, match="from another key"):
            await kms.get_public_key(dataclasses.replace(KEY, arn=ALIAS), timeout=5)


async def test_an_endpoint_that_ignores_dry_run_is_refused() -> None:
    async with kms_on(GOOD) as (kms, _):
        with pytest.raises(KmsError, match="ignored DryRun") as caught:
            await kms.try_sign(KEY, ES256, timeout=5)
    assert caught.value.reason is Reason.KmsAnswerInvalid
    assert outcomes(caught.value.attempts) == ["req-signed:unknown"]


async def test_a_refusal_names_key_action_reason_and_remedy_but_not_the_words_of_aws() -> None:
    refusal = await refusal_of(error_reply("DisabledException", "message with a secret"))
    assert refusal.message == (
        f"key team/photo: kms:Sign on {ARN}: DisabledException. The KMS key is disabled. The key's owner enables it."
    )
    assert refusal.metadata == {"key": "team/photo", "action": "kms:Sign", "resource": ARN.text}


async def test_the_request_is_signed_and_carries_the_digest_only() -> None:
    async with kms_on(GOOD) as (kms, server):
        await kms.sign(KEY, ES256, message=b"claim", timeout=5)
    (request,) = server.received
    assert request.headers["x-amz-target"] == "TrentService.Sign"
    assert request.headers["x-amz-security-token"] == "token"
    assert request.fields == {
        "KeyId": ARN.text,
        "Message": base64.b64encode(hashlib.sha256(b"claim").digest()).decode(),
        "MessageType": "DIGEST",
        "SigningAlgorithm": "ECDSA_SHA_256",
    }


async def test_expired_credentials_are_renewed_once() -> None:
    found = iter(range(1, 9))
    expired = error_reply("ExpiredTokenException")
    async with scripted_server(expired, GOOD, expired) as server:
        config = KmsConfig(installation="test", endpoint=server.url, retries=2)
        kms = AwsKms(config, chain=lambda: BotocoreCredentials(f"AKIA{next(found)}", "hush", "token"))
        answer = await kms.sign(KEY, ES256, message=b"claim", timeout=5)
        assert outcomes(answer.attempts) == ["req-1:failed", "req-signed:signed"]
        with pytest.raises(KmsError) as caught:
            await kms.sign(KEY, ES256, message=b"claim", timeout=5)
        await kms.close()
    assert caught.value.reason is Reason.SignerCredentialsInvalid
    used = [request.headers["authorization"].split("Credential=")[1].split("/")[0] for request in server.received]
    assert used == ["AKIA1", "AKIA2", "AKIA2", "AKIA3"]


async def test_an_expired_session_of_a_role_is_renewed_once() -> None:
    session = raw_reply(http(200, SESSION))
    async with scripted_server(session, error_reply("ExpiredTokenException"), session, GOOD) as server:
        kms = AwsKms(KmsConfig(installation="test", endpoint=server.url), chain=lambda: STATIC)
        key = dataclasses.replace(KEY, role_arn="arn:aws:iam::111122223333:role/media")
        answer = await kms.sign(key, ES256, message=b"claim", timeout=5)
        await kms.close()
    assert outcomes(answer.attempts) == ["req-1:failed", "req-signed:signed"]
    assert "Credential=ASIA1/" in server.received[3].headers["authorization"]


async def test_sts_that_denies_is_told_as_such_and_sends_nothing_to_kms() -> None:
    denied = b"<ErrorResponse><Error><Code>AccessDenied</Code><Message>secret</Message></Error></ErrorResponse>"
    key = dataclasses.replace(KEY, role_arn="arn:aws:iam::111122223333:role/media")
    refusal = await refusal_of(raw_reply(http(403, denied)), key=key)
    assert refusal.message.startswith(f"key team/photo: sts:AssumeRole on {key.role_arn}: AccessDenied. ")
    assert (refusal.reason, refusal.retry_after, refusal.attempts) == (Reason.KeyAccessDenied, None, ())
    assert "secret" not in refusal.message


async def test_an_installations_role_serves_keys_without_one() -> None:
    async with scripted_server(raw_reply(http(200, SESSION)), GOOD) as server:
        config = KmsConfig(installation="test", endpoint=server.url, role_arn="arn:aws:iam::111122223333:role/own")
        kms = AwsKms(config, chain=lambda: STATIC)
        await kms.sign(KEY, ES256, message=b"claim", timeout=5)
        await kms.close()
    assert b"ExternalId=byok%3Atest%3Ateam%2Fphoto" in server.received[0].body
    assert b"role%2Fown" in server.received[0].body


async def test_no_secret_reaches_the_log(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("DEBUG")
    await refusal_of(raw_reply(None), retries=1)
    assert "hush" not in caplog.text
    assert "token" not in caplog.text
