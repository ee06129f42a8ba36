"""The recipe's RFC 3161 time stamp, asked of the sandbox's responder."""

from datetime import UTC, datetime
from pathlib import Path

import pytest

from byok_api.errors import Reason, Refusal
from byok_client import AsyncSignerClient, ClientSettings, Verdict
from byok_sandbox import tsa
from tests.support.fake_signer import FakeSigner
from tests.support.pki import NOW, authority, trust_anchor

GENERATED = {"ai_generated": True}


async def test_a_time_stamp_proves_when_it_was_signed(
    signer: FakeSigner, settings: ClientSettings, photo: Path
) -> None:
    stamper = tsa.TimeStampAuthority.create(authority(), now=NOW)
    async with tsa.serve(stamper, clock=lambda: datetime.now(UTC)) as url, AsyncSignerClient(settings) as client:
        signer.recipe.timestamp_url = url
        await client.sign(photo, recipe="photo", metadata=GENERATED)
        verified = await client.verify(photo, trust_anchors=trust_anchor())
    assert verified.state is Verdict.TRUSTED
    assert verified.signed_at is not None
    assert abs(datetime.fromisoformat(verified.signed_at) - datetime.now(UTC)).total_seconds() < 60
    assert {"timeStamp.trusted", "timeStamp.validated"} <= {finding.code for finding in verified.findings}


@pytest.mark.parametrize("url", ["http://localhost:1/", "ftp://localhost/", "nonsense"])
async def test_without_the_time_stamp_that_the_recipe_wants_nothing_is_written(
    url: str, signer: FakeSigner, settings: ClientSettings, photo: Path
) -> None:
    signer.recipe.timestamp_url = url
    async with AsyncSignerClient(settings) as client:
        with pytest.raises(Refusal) as refused:
            await client.sign(photo, recipe="photo", metadata=GENERATED)
        assert refused.value.reason is Reason.SigningFailed
        assert url in refused.value.message
        assert (await client.verify(photo)).state is Verdict.UNSIGNED
