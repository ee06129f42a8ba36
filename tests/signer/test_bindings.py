"""Which KMS key a ByokKey stands for, and when that is looked at again."""

import asyncio
from dataclasses import replace
from datetime import datetime

import pytest

from byok_api.algorithms import SigningAlgorithm
from byok_api.errors import Reason, Refusal
from byok_api.references import ObjectName
from byok_sandbox.kms.keys import SoftwareKey
from byok_sandbox.software_kms import KeyStore, StoredKey
from byok_signer import bindings
from byok_signer.bindings import KeyBindings
from byok_signer.entries import Catalogue, Pin
from byok_signer.health import HealthBoard
from byok_signer.kms.errors import KmsError
from byok_signer.kms.port import KeyHandle
from tests.support.pki import certified, identity, new_key
from tests.support.signer import WatchedKms

ES256 = SigningAlgorithm.ES256
OUTAGE = KmsError(Reason.KmsUnavailable, "out")


def _now() -> datetime:
    raise AssertionError("a board that knows no key takes note of none")


class Desk:
    """Bindings of one key behind an alias, at a time that the test sets."""

    def __init__(self) -> None:
        self.seconds = 0.0
        self.kms = WatchedKms(KeyStore())
        self.stored = self.make(identity(ES256).private_key)
        handle = KeyHandle(
            name=ObjectName("media", "brand"), arn=self.kms.keys.point("brand", self.stored), external_id="x"
        )
        spki = identity(ES256).chain.spki_sha256
        self.pin = Pin(handle=handle, spki_sha256=spki, recheck_after=100, stale_after=1000)
        self.bindings = KeyBindings(
            self.kms, clock=lambda: self.seconds, health=HealthBoard(Catalogue, now=_now, clock=lambda: self.seconds)
        )

    def make(self, private_key: object) -> StoredKey:
        stored = self.kms.keys.create("ECC_NIST_P256")
        stored.material = SoftwareKey("ECC_NIST_P256", private_key)  # type: ignore[arg-type] # the tests' keys are P-256
        return stored

    async def resolve(self, timeout: float = 5.0) -> KeyHandle:  # noqa: ASYNC109 - the caller's own patience
        return await self.bindings.resolve(self.pin, timeout=timeout)

    async def reason(self) -> Reason:
        with pytest.raises(Refusal) as caught:
            await self.resolve()
        return caught.value.reason


@pytest.fixture
async def desk() -> Desk:
    return Desk()


async def test_an_alias_is_resolved_to_the_key_that_is_signed_with(desk: Desk) -> None:
    assert (await desk.resolve()).signing_arn == desk.stored.arn


async def test_kms_is_asked_once_until_it_is_time_to_look_again(desk: Desk) -> None:
    for desk.seconds in (0, 50, 99):
        await desk.resolve()
    assert desk.kms.looks == 1
    desk.seconds = 100
    await desk.resolve()
    assert desk.kms.looks == 2


async def test_callers_who_come_together_share_one_look(desk: Desk) -> None:
    await asyncio.gather(*(desk.resolve() for _ in range(20)))
    assert desk.kms.looks == 1


async def test_an_alias_that_moved_to_another_key_is_refused_when_it_is_looked_at_again(desk: Desk) -> None:
    await desk.resolve()
    desk.kms.keys.point("brand", desk.make(new_key(ES256)))
    assert (await desk.resolve()).signing_arn == desk.stored.arn
    desk.seconds = 100
    assert await desk.reason() is Reason.CertificateMismatch
    assert await desk.reason() is Reason.CertificateMismatch


async def test_a_new_certificate_is_looked_at_at_once(desk: Desk) -> None:
    await desk.resolve()
    desk.pin = replace(desk.pin, spki_sha256=certified(new_key(ES256), ES256).chain.spki_sha256)
    assert await desk.reason() is Reason.CertificateMismatch


async def test_during_an_outage_the_last_answer_stands_until_it_is_stale(desk: Desk) -> None:
    await desk.resolve()
    desk.kms.look_failure = OUTAGE
    desk.seconds = 999
    assert (await desk.resolve()).signing_arn == desk.stored.arn
    desk.seconds = 1000
    assert await desk.reason() is Reason.KmsUnavailable


async def test_during_an_outage_not_every_caller_waits_for_kms(desk: Desk) -> None:
    await desk.resolve()
    desk.kms.look_failure = OUTAGE
    for desk.seconds in (100, 105, 109, 110):
        await desk.resolve()
    assert desk.kms.looks == 3


async def test_a_denial_wins_over_the_last_answer_and_is_asked_about_again_after_ten_seconds(desk: Desk) -> None:
    await desk.resolve()
    desk.stored.granted = frozenset()
    desk.seconds = 100
    assert await desk.reason() is Reason.KeyAccessDenied
    desk.stored.granted = frozenset({"GetPublicKey"})
    assert await desk.reason() is Reason.KeyAccessDenied
    desk.seconds = 110
    assert (await desk.resolve()).signing_arn == desk.stored.arn


async def test_a_mismatch_is_looked_at_again_after_ten_seconds(desk: Desk) -> None:
    right = desk.stored.material
    desk.stored.material = SoftwareKey.generate("ECC_NIST_P256")
    for seconds in (0, 9):
        desk.seconds = seconds
        assert await desk.reason() is Reason.CertificateMismatch
    assert desk.kms.looks == 1
    desk.stored.material, desk.seconds = right, 10
    assert (await desk.resolve()).signing_arn == desk.stored.arn


async def test_an_outage_of_a_key_never_seen_is_looked_at_again_after_a_second(desk: Desk) -> None:
    desk.kms.look_failure = OUTAGE
    assert [await desk.reason() for _ in range(3)] == [Reason.KmsUnavailable] * 3
    assert desk.kms.looks == 1
    desk.kms.look_failure, desk.seconds = None, 1
    assert (await desk.resolve()).signing_arn == desk.stored.arn


async def test_without_an_answer_yet_an_outage_is_told(desk: Desk) -> None:
    desk.kms.look_failure = OUTAGE
    assert await desk.reason() is Reason.KmsUnavailable


async def test_one_callers_deadline_does_not_end_the_look_of_the_others(desk: Desk) -> None:
    patient = asyncio.create_task(desk.resolve())
    with pytest.raises(Refusal, match="deadline"):
        await desk.resolve(timeout=0)
    assert (await patient).signing_arn == desk.stored.arn


@pytest.mark.parametrize("failure", [None, OUTAGE], ids=["seen", "refused"])
async def test_only_so_many_keys_are_remembered_and_of_the_namespace_that_has_most_the_oldest_go(
    monkeypatch: pytest.MonkeyPatch, failure: KmsError | None
) -> None:
    monkeypatch.setattr(bindings, "LIMIT", 4)
    desk = Desk()
    desk.kms.look_failure = failure
    brand, handle = desk.pin, desk.pin.handle
    crowd = [replace(brand, handle=replace(handle, name=ObjectName("crowd", f"key-{n}"))) for n in range(5)]
    for desk.pin in (brand, *crowd):
        await asyncio.gather(desk.resolve(), return_exceptions=True)
    assert desk.kms.looks == 6
    for desk.pin in (brand, *crowd[2:]):
        await asyncio.gather(desk.resolve(), return_exceptions=True)
    assert desk.kms.looks == 6
    desk.pin = crowd[0]
    await asyncio.gather(desk.resolve(), return_exceptions=True)
    assert desk.kms.looks == 7
