"""The asyncio client does what the blocking one does."""

import asyncio
import io
from pathlib import Path

import grpc
import pytest

from byok_api.algorithms import SigningAlgorithm
from byok_api.errors import Reason, Refusal
from byok_api.signer.v1 import signer_pb2
from byok_client import AsyncSignerClient, ClientSettings, SignerClient, SignerError, Verdict
from tests.support.fake_probe import probing
from tests.support.fake_signer import NOT_SERVING, FakeSigner, serving
from tests.support.media import MEDIA
from tests.support.pki import identity, trust_anchor

JPEG = MEDIA["landscape.jpg"].path.read_bytes()
GENERATED = {"ai_generated": True}


async def test_many_assets_at_once_end_in_trusted(signer: FakeSigner, settings: ClientSettings, photo: Path) -> None:
    outputs = [photo.with_name(f"{number}.jpg") for number in range(12)]
    async with AsyncSignerClient(settings) as client:
        signing = (client.sign(photo, recipe="photo", metadata=GENERATED, output=output) for output in outputs)
        results = await asyncio.gather(*signing)
        verified = await asyncio.gather(*(client.verify(path, trust_anchors=trust_anchor()) for path in outputs))
    assert {result.state for result in verified} == {Verdict.TRUSTED}
    assert len({result.manifest_id for result in results}) == len(signer.claims) == 12


def test_whatever_the_blocking_client_can_be_asked_this_one_can() -> None:
    asked, other = (
        {name for name in dir(kind) if not name.startswith("_")} for kind in (SignerClient, AsyncSignerClient)
    )
    assert asked <= other


async def test_whether_the_signer_takes_calls_is_told(signer: FakeSigner, settings: ClientSettings) -> None:
    async with AsyncSignerClient(settings) as client:
        assert await client.is_serving()
        signer.health = NOT_SERVING
        assert not await client.is_serving()


async def test_a_certificate_request_is_had_as_by_the_blocking_client(tmp_path: Path, token_file: Path) -> None:
    request = signer_pb2.CreateCertificateRequestRequest(namespace="media", name="studio")
    with probing(tmp_path) as fake:
        fake.request = signer_pb2.CreateCertificateRequestResponse(request=b"pkcs10", audit_id="writer/7")
        async with AsyncSignerClient(ClientSettings(address=fake.address, token_file=token_file)) as client:
            assert await client.create_certificate_request(request) == fake.request
    assert fake.certificate_requests == [request]


@pytest.mark.parametrize("algorithm", [SigningAlgorithm.PS256, SigningAlgorithm.ED25519])
async def test_other_algorithms_end_in_trusted(algorithm: SigningAlgorithm, photo: Path, token_file: Path) -> None:
    with serving(photo.parent, identity(algorithm)) as fake:
        async with AsyncSignerClient(ClientSettings(address=fake.address, token_file=token_file)) as client:
            await client.sign(photo, recipe="photo", metadata=GENERATED)
            assert (await client.verify(photo, trust_anchors=trust_anchor())).state is Verdict.TRUSTED


async def test_streams_are_signed(settings: ClientSettings) -> None:
    output = io.BytesIO()
    async with AsyncSignerClient(settings) as client:
        await client.sign(io.BytesIO(JPEG), recipe="photo", metadata=GENERATED, output=output)
        output.seek(0)
        assert (await client.verify(output)).state is Verdict.VALID


async def test_what_waiting_helps_is_tried_again(signer: FakeSigner, settings: ClientSettings, photo: Path) -> None:
    signer.failures.extend([Refusal(Reason.KmsThrottled, "busy", retry_after=0.01), grpc.StatusCode.UNAVAILABLE])
    async with AsyncSignerClient(settings) as client:
        await client.sign(photo, recipe="photo", metadata=GENERATED)
    assert len(signer.claims) == 3


async def test_what_has_changed_is_composed_again(signer: FakeSigner, settings: ClientSettings, photo: Path) -> None:
    async with AsyncSignerClient(settings) as client:
        await client.recipe("photo")
        signer.recipe.effective_hash = "cd" * 32
        signer.failures.append(Refusal(Reason.RecipeChanged, "changed"))
        result = await client.sign(photo, recipe="photo", metadata=GENERATED)
    assert result.recipe_hash == "cd" * 32


async def test_a_refusal_comes_out_as_it_was_sent(signer: FakeSigner, settings: ClientSettings, photo: Path) -> None:
    signer.failures.append(Refusal(Reason.KeyAccessDenied, "denied"))
    async with AsyncSignerClient(settings) as client:
        with pytest.raises(SignerError, match="denied") as caught:
            await client.sign(photo, recipe="photo", metadata=GENERATED)
    assert (caught.value.reason, caught.value.code) == (Reason.KeyAccessDenied, grpc.StatusCode.UNAVAILABLE)
    assert await asyncio.to_thread(photo.read_bytes) == JPEG


async def test_no_signer_is_said_so_within_the_deadline(token_file: Path) -> None:
    async with AsyncSignerClient(ClientSettings(address="localhost:1", token_file=token_file, timeout=0.4)) as client:
        with pytest.raises(Refusal) as caught:
            await client.recipe("photo")
    assert caught.value.reason is Reason.SignerUnreachable


async def test_a_missing_token_is_said_so(signer: FakeSigner, tmp_path: Path, photo: Path) -> None:
    async with AsyncSignerClient(ClientSettings(address=signer.address, token_file=tmp_path / "none")) as client:
        with pytest.raises(Refusal) as caught:
            await client.sign(photo, recipe="photo", metadata=GENERATED)
    assert caught.value.reason is Reason.TokenMissing


async def test_the_environment_says_where_the_signer_is(
    signer: FakeSigner, token_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BYOK_SIGNER_ADDRESS", signer.address)
    monkeypatch.setenv("BYOK_SIGNER_TOKEN_FILE", str(token_file))
    async with AsyncSignerClient.from_environment() as client:
        answer = await client.probe_key(signer_pb2.ProbeKeyRequest(namespace="security", name="brand"))
    assert answer.sign.outcome == signer_pb2.ProbeResult.PASSED
