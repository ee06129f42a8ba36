"""The callback for those who build their own manifest with c2pa."""

import asyncio
import io
import json
from pathlib import Path

import c2pa
import pytest

from byok_api.errors import Reason, Refusal
from byok_api.shapes import SOURCE_TYPES
from byok_api.signer.v1.signer_pb2 import SignClaimRequest, SignClaimResponse
from byok_client import AsyncSignerClient, ClientSettings, SignerClient, SignerError, SigningCallback, Verdict
from tests.support.client_recipes import PLAIN
from tests.support.fake_signer import FakeSigner
from tests.support.pki import trust_anchor

CREATED = {"action": "c2pa.created", "digitalSourceType": SOURCE_TYPES["digitalCapture"]}


def build(callback: SigningCallback, signer: c2pa.Signer, photo: Path) -> io.BytesIO:
    actions = {"label": "c2pa.actions.v2", "created": True, "data": {"actions": [CREATED]}}
    definition = {"assertions": [actions, callback.recipe.assertion]}
    output = io.BytesIO()
    with photo.open("rb") as source:
        c2pa.Builder.from_json(json.dumps(definition)).sign(signer, "image/jpeg", source, output)
    output.seek(0)
    return output


def test_an_own_manifest_ends_in_trusted(client: SignerClient, photo: Path) -> None:
    with client.signing_callback("photo") as callback, callback.signer() as signer:
        output = build(callback, signer, photo)
    verified = client.verify(output, trust_anchors=trust_anchor())
    assert (verified.state, str(verified.recipe)) == (Verdict.TRUSTED, "media/photo@1")
    assert callback.signed is not None
    assert callback.signed.audit_id == "fake/1"


def test_it_works_with_c2pas_own_constructor(client: SignerClient, photo: Path) -> None:
    with client.signing_callback("photo") as callback:
        signer = c2pa.Signer.from_callback(callback, callback.algorithm, callback.certificates, callback.timestamp_url)
        assert client.verify(build(callback, signer, photo)).state is Verdict.VALID


def test_the_signers_refusal_comes_out_instead_of_the_librarys_error(
    signer: FakeSigner, client: SignerClient, photo: Path
) -> None:
    signer.failures.append(Refusal(Reason.RecipeNotMet, "no creator"))
    with pytest.raises(SignerError, match="no creator"), client.signing_callback("photo") as callback:
        build(callback, callback.signer(), photo)


def test_an_error_of_the_callers_own_is_not_hidden(signer: FakeSigner, client: SignerClient, photo: Path) -> None:
    signer.failures.append(Refusal(Reason.RecipeNotMet, "no creator"))

    def fail() -> None:
        with client.signing_callback("photo") as callback:
            with pytest.raises(c2pa.C2paError):
                build(callback, callback.signer(), photo)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()


@pytest.mark.parametrize("error", [RuntimeError("broken"), KeyboardInterrupt(), SystemExit(3)])
def test_no_exception_is_swallowed(error: BaseException) -> None:
    def send(_request: SignClaimRequest) -> SignClaimResponse:
        raise error

    callback = SigningCallback(PLAIN, send)
    assert callback(b"claim") == b""
    with pytest.raises(type(error)):
        callback.raise_error()


async def test_the_async_clients_callback_works_in_a_worker_thread(
    signer: FakeSigner, settings: ClientSettings, photo: Path
) -> None:
    async with AsyncSignerClient(settings) as client:
        with await client.signing_callback("photo") as callback, callback.signer() as c2pa_signer:
            output = await asyncio.to_thread(build, callback, c2pa_signer, photo)
        assert (await client.verify(output)).state is Verdict.VALID
    assert len(signer.claims) == 1
