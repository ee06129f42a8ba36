"""byok-sign when things change or go wrong under it, against a fake signer that does what it is told.

The fake knows SignClaim only, which is what a client calls for Ed25519.
"""

import threading
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import cbor2
import grpc
import pytest

from byok_api.algorithms import SigningAlgorithm
from byok_api.errors import Reason, Refusal
from byok_api.signatures import verify
from byok_client import ClientSettings
from byok_sandbox.ca import TlsAuthority
from tests.examples.programs import DEADLINE, Ended, Program, Running
from tests.support.fake_signer import HASH, TOKEN, FakeSigner, serving
from tests.support.pki import identity

pytestmark = pytest.mark.timeout(600)  # the first test of each language builds its client

KEY = identity(SigningAlgorithm.ED25519)
CLAIM = cbor2.dumps({"signature": "self#jumbf=/c2pa/urn:c2pa:1/c2pa.signature"})
PROTECTED = cbor2.dumps({1: -8, 33: list(KEY.chain.ders)})
SIG_STRUCTURE = cbor2.dumps(["Signature1", PROTECTED, b"", CLAIM])
SIGN = ("--recipe=photo", f"--recipe-hash={HASH}")


@pytest.fixture
def signer(tmp_path: Path) -> Iterator[FakeSigner]:
    with serving(tmp_path, KEY) as fake:
        yield fake


@pytest.fixture
def settings(signer: FakeSigner, tmp_path: Path) -> ClientSettings:
    (tmp_path / "token").write_text(TOKEN)
    return ClientSettings(address=signer.address, token_file=tmp_path / "token", timeout=20.0)


def authority() -> TlsAuthority:
    return TlsAuthority.create(now=datetime.now(UTC))


@pytest.fixture
def remote(tmp_path: Path) -> Iterator[FakeSigner]:
    """A signer behind TLS, whose CA is in ca.pem."""
    tls = authority()
    (tmp_path / "ca.pem").write_text(tls.trust_anchor_pem)
    with serving(tmp_path, KEY, tls=tls) as fake:
        yield fake


@pytest.fixture
def remote_settings(remote: FakeSigner, tmp_path: Path) -> ClientSettings:
    (tmp_path / "token").write_text(TOKEN)
    return ClientSettings(
        address=remote.address, ca_file=tmp_path / "ca.pem", token_file=tmp_path / "token", timeout=20.0
    )


def started(program: Program, signer: FakeSigner, settings: ClientSettings) -> Running:
    """Start it, and wait until the signer has its claim and holds it."""
    signer.held = threading.Event()
    running = program.start(settings, *SIGN, stdin=SIG_STRUCTURE)
    if not signer.asked.wait(DEADLINE):
        pytest.fail(running.ended().said)
    return running


def release(signer: FakeSigner) -> None:
    held, signer.held = signer.held, None
    assert held is not None
    held.set()


def check(ended: Ended) -> None:
    verify(KEY.public_key, SigningAlgorithm.ED25519, ended.signature, message=SIG_STRUCTURE)


def test_a_refusal_with_retry_info_is_tried_again_no_sooner(
    byok_sign: Program, signer: FakeSigner, settings: ClientSettings
) -> None:
    busy = Refusal(Reason.QuotaExceeded, "too much at once", retry_after=0.4)
    signer.failures.extend([busy, busy])

    check(byok_sign.run(settings, *SIGN, stdin=SIG_STRUCTURE))

    first, second, third = signer.times
    assert second - first >= 0.4
    assert third - second >= 0.8  # later each time


@pytest.mark.parametrize(
    "code", [grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED, grpc.StatusCode.RESOURCE_EXHAUSTED]
)
def test_a_call_that_no_signer_answered_is_tried_again(
    byok_sign: Program, signer: FakeSigner, settings: ClientSettings, code: grpc.StatusCode
) -> None:
    signer.failures.extend([code, code])

    check(byok_sign.run(settings, *SIGN, stdin=SIG_STRUCTURE))

    assert [claim.claim for claim in signer.claims] == [SIG_STRUCTURE] * 3


@pytest.mark.parametrize("failure", [Refusal(Reason.KeyAccessDenied, "not granted"), grpc.StatusCode.INTERNAL])
def test_a_refusal_without_retry_info_is_final(
    byok_sign: Program, signer: FakeSigner, settings: ClientSettings, failure: Refusal | grpc.StatusCode
) -> None:
    signer.failures.append(failure)

    ended = byok_sign.run(settings, *SIGN, stdin=SIG_STRUCTURE)

    assert (ended.status, ended.output, len(signer.claims)) == (1, b"", 1)
    assert ("KeyAccessDenied" if isinstance(failure, Refusal) else "Internal") in ended.said


def test_what_may_pass_ends_with_status_3_when_the_time_is_over(
    byok_sign: Program, signer: FakeSigner, settings: ClientSettings
) -> None:
    signer.failures.append(Refusal(Reason.QuotaExceeded, "too much at once", retry_after=60))

    ended = byok_sign.run(settings, *SIGN, stdin=SIG_STRUCTURE)

    assert (ended.status, ended.output) == (3, b"")
    assert "QuotaExceeded: too much at once" in ended.said


def test_a_token_that_the_kubelet_replaced_meanwhile_is_read_again(
    byok_sign: Program, signer: FakeSigner, settings: ClientSettings
) -> None:
    running = started(byok_sign, signer, settings)
    settings.token_file.write_text("the-next-token\n")
    signer.accepted_tokens = {"the-next-token"}
    release(signer)

    check(running.ended())
    assert signer.refused_tokens == [TOKEN]


def test_a_token_that_is_refused_and_stays_is_not_sent_again(
    byok_sign: Program, signer: FakeSigner, settings: ClientSettings
) -> None:
    signer.accepted_tokens = {"another"}

    ended = byok_sign.run(settings, *SIGN, stdin=SIG_STRUCTURE)

    assert (ended.status, signer.refused_tokens) == (1, [TOKEN])
    assert "TokenExpired" in ended.said


def test_a_signer_that_comes_back_with_another_ca_is_trusted_by_the_file_as_it_is_then(
    byok_sign: Program, remote: FakeSigner, remote_settings: ClientSettings, tmp_path: Path
) -> None:
    running = started(byok_sign, remote, remote_settings)
    other = authority()
    (tmp_path / "ca.pem").write_text(other.trust_anchor_pem)
    remote.stop()
    remote.held = None
    remote.start(other)

    check(running.ended())


def test_a_signer_of_another_ca_gets_neither_token_nor_claim(
    byok_sign: Program, remote: FakeSigner, remote_settings: ClientSettings, tmp_path: Path
) -> None:
    (tmp_path / "ca.pem").write_text(authority().trust_anchor_pem)

    ended = byok_sign.run(remote_settings, "--timeout=5", *SIGN, stdin=SIG_STRUCTURE)

    assert (ended.status, ended.output, remote.calls) == (3, b"", [])
    assert "certificate" in ended.said


def test_a_signature_that_is_none_is_not_passed_on(
    byok_sign: Program, signer: FakeSigner, settings: ClientSettings
) -> None:
    signer.signature = bytes(64)

    ended = byok_sign.run(settings, *SIGN, stdin=SIG_STRUCTURE)

    assert (ended.status, ended.output) == (1, b"")
    assert "SigningFailed" in ended.said


WRONG_FILES = {
    "an empty token": ("token", "", "TokenInvalid"),
    "a token without end": ("token", "a" * (1024 * 1024 + 1), "TokenMissing"),
    "a token of two lines": ("token", "not\nwhat it says", "TokenInvalid"),
    "an empty CA": ("ca.pem", "", "ConfigurationInvalid"),
    "a CA that is no PEM": ("ca.pem", "not what it says", "ConfigurationInvalid"),
    "a CA that is no certificate": ("ca.pem", "-----BEGIN CERTIFICATE-----\nAAAA\n", "ConfigurationInvalid"),
}


@pytest.mark.parametrize("case", WRONG_FILES)
def test_a_file_that_holds_something_else_is_named(
    byok_sign: Program, remote_settings: ClientSettings, tmp_path: Path, case: str
) -> None:
    name, content, reason = WRONG_FILES[case]
    (tmp_path / name).write_text(content)

    ended = byok_sign.run(remote_settings, "--timeout=2", "--recipe=photo", "--assertion")

    assert (ended.status, ended.output) == (1, b"")
    assert ended.said.startswith(f"byok-sign: {reason}: {tmp_path / name} ")


def test_an_algorithm_that_it_does_not_know_is_named(
    byok_sign: Program, signer: FakeSigner, settings: ClientSettings
) -> None:
    signer.recipe.algorithm = "ML-DSA-65"

    ended = byok_sign.run(settings, *SIGN, stdin=SIG_STRUCTURE)

    assert (ended.status, ended.output, signer.claims) == (1, b"", [])
    assert "RecipeInvalid" in ended.said
    assert "ML-DSA-65" in ended.said


def test_no_address_is_no_signer(byok_sign: Program, settings: ClientSettings) -> None:
    ended = byok_sign.run(settings, "--recipe=photo", "--assertion", address="signer without port")

    assert (ended.status, ended.output) == (1, b"")
    assert "ConfigurationInvalid: BYOK_SIGNER_ADDRESS" in ended.said


@pytest.mark.parametrize("missing", ["token", "ca.pem"])
def test_a_file_that_is_missing_is_named(
    byok_sign: Program, remote_settings: ClientSettings, tmp_path: Path, missing: str
) -> None:
    (tmp_path / missing).unlink()

    ended = byok_sign.run(remote_settings, "--recipe=photo", "--assertion")

    assert (ended.status, ended.output) == (1, b"")
    assert str(tmp_path / missing) in ended.said
