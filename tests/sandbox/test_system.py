"""The whole system as its users meet it: real processes, real media, and what happens when something is wrong."""

import base64
import io
import time
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import cbor2
import grpc
import pytest
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature

from byok_api.algorithms import SigningAlgorithm
from byok_api.audit.agreement import Period
from byok_api.errors import Reason, Refusal
from byok_client import ClientSettings, SignerClient, SignerError, SigningResult
from byok_client.cli.reconciling import Question, reconcile
from byok_sandbox import shipped
from byok_sandbox.ca import TlsAuthority
from byok_sandbox.demo import SAMPLES, DemoError, play
from byok_sandbox.issuer import Issuer, ServiceAccount
from byok_sandbox.system import CALLER, Sandbox, running_sandbox
from tests.support.pki import foreign_authority

PHOTO = shipped.examples() / "media" / "landscape.jpg"
CREATED = {"digital_source_type": "digitalCreation"}


@pytest.fixture(scope="module")
def sandbox(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sandbox]:
    with running_sandbox(tmp_path_factory.mktemp("sandbox"), print) as running:
        yield running


def attempt(settings: ClientSettings, output: Path, recipe: str = "photo-v1") -> SigningResult:
    with SignerClient(settings) as client:
        return client.sign(PHOTO, recipe=recipe, metadata=CREATED, output=output, overwrite=True)


def refusal(settings: ClientSettings, output: Path, recipe: str = "photo-v1") -> Refusal:
    with pytest.raises(Refusal) as refused:
        attempt(settings, output, recipe)
    assert not output.exists()
    return refused.value


def test_every_algorithm_over_every_kind_of_media_is_trusted_and_revocation_takes_effect(sandbox: Sandbox) -> None:
    said: list[str] = []
    play(sandbox, said.append)
    assert sum("Trusted" in line and "media/" in line for line in said) == len(SigningAlgorithm) * len(SAMPLES) + 1
    assert any("UNAVAILABLE, KeyAccessDenied" in line for line in said)


def test_no_signer_at_the_address_is_told_as_such(sandbox: Sandbox, tmp_path: Path) -> None:
    found = refusal(replace(sandbox.client, address="127.0.0.1:9", timeout=2.0), tmp_path / "out.jpg")
    assert found.reason is Reason.SignerUnreachable


def test_a_signer_with_another_ca_is_not_trusted(sandbox: Sandbox, tmp_path: Path) -> None:
    (tmp_path / "ca.pem").write_text(TlsAuthority.create(now=datetime.now(UTC)).trust_anchor_pem)
    found = refusal(replace(sandbox.client, ca_file=tmp_path / "ca.pem"), tmp_path / "out.jpg")
    assert found.reason is Reason.ConfigurationInvalid
    assert "not trusted" in found.message


def test_a_token_of_another_issuer_is_refused(sandbox: Sandbox, tmp_path: Path) -> None:
    Issuer().write_token(tmp_path / "token", CALLER, now=datetime.now(UTC))
    found = refusal(replace(sandbox.client, token_file=tmp_path / "token"), tmp_path / "out.jpg")
    assert found.reason is Reason.TokenInvalid


def test_an_expired_token_is_refused(sandbox: Sandbox, tmp_path: Path) -> None:
    yesterday = datetime.now(UTC) - timedelta(days=1)
    sandbox.issuer.write_token(tmp_path / "token", CALLER, now=yesterday)
    found = refusal(replace(sandbox.client, token_file=tmp_path / "token"), tmp_path / "out.jpg")
    assert found.reason is Reason.TokenExpired


def test_another_namespaces_caller_and_an_unknown_recipe_are_answered_alike(sandbox: Sandbox, tmp_path: Path) -> None:
    sandbox.issuer.write_token(tmp_path / "token", ServiceAccount("other", "job"), now=datetime.now(UTC))
    foreign = replace(sandbox.client, token_file=tmp_path / "token")
    answers = [refusal(foreign, tmp_path / "out.jpg", f"media/{name}") for name in ("photo-v1", "nobody-v1")]
    assert {answer.reason for answer in answers} == {Reason.RecipeNotAllowed}
    assert answers[0].message.replace("photo-v1", "") == answers[1].message.replace("nobody-v1", "")


def wait_until_it_signs(sandbox: Sandbox, recipe: str, output: Path) -> None:
    deadline = time.monotonic() + 10
    while True:
        try:
            attempt(sandbox.client, output, recipe)
        except SignerError:
            assert time.monotonic() < deadline
            time.sleep(0.05)
        else:
            return


def test_a_disabled_key_is_refused_and_signs_again_once_enabled(sandbox: Sandbox, tmp_path: Path) -> None:
    key = str(sandbox.keys[SigningAlgorithm.ES384].arn)
    sandbox.owner.kms.disable_key(KeyId=key)
    assert refusal(sandbox.client, tmp_path / "out.jpg", "photo-v1-es384").reason is Reason.KeyDisabled
    sandbox.owner.kms.enable_key(KeyId=key)
    wait_until_it_signs(sandbox, "photo-v1-es384", tmp_path / "out.jpg")


def test_a_key_pending_deletion_is_refused(sandbox: Sandbox, tmp_path: Path) -> None:
    key = str(sandbox.keys[SigningAlgorithm.ES512].arn)
    sandbox.owner.kms.schedule_key_deletion(KeyId=key, PendingWindowInDays=7)
    found = refusal(sandbox.client, tmp_path / "out.jpg", "photo-v1-es512")
    assert isinstance(found, SignerError)
    assert (found.code, found.reason) == (grpc.StatusCode.FAILED_PRECONDITION, Reason.KeyInvalidState)


def test_a_manifest_that_deactivates_its_key_takes_effect(sandbox: Sandbox, tmp_path: Path) -> None:
    manifest = sandbox.folder / "manifests" / "2-byokkey.yaml"
    text = manifest.read_text()
    manifest.write_text(text.replace("\nspec:\n", "\nspec:\n  state: Deactivated\n"))
    deadline = time.monotonic() + 10
    reason = None
    while reason is not Reason.KeyDeactivated:
        began = time.monotonic()
        try:
            attempt(sandbox.client, tmp_path / "out.jpg", "photo-v1-ps256")
        except SignerError as error:
            reason = error.reason
        else:
            assert began < deadline
    manifest.write_text(text)
    wait_until_it_signs(sandbox, "photo-v1-ps256", tmp_path / "again.jpg")


def test_a_time_stamp_from_the_recipe_is_in_the_asset(sandbox: Sandbox, tmp_path: Path) -> None:
    attempt(sandbox.client, tmp_path / "out.jpg", "photo-v1-stamped")
    with SignerClient(sandbox.client) as client:
        verdict = client.verify(tmp_path / "out.jpg", trust_anchors=sandbox.trust_anchors)
    assert verdict.signed_at is not None


def signature_of(asset: Path) -> bytes:
    """Find the COSE_Sign1 (RFC 9052, section 4.2) in an asset of one manifest."""
    content = asset.read_bytes()
    signature: bytes = cbor2.load(io.BytesIO(content[content.index(b"\xd2\x84\x59") :])).value[3]
    return signature


def spellings(secret: bytes) -> set[str]:
    return {secret.hex(), base64.b64encode(secret).decode(), base64.urlsafe_b64encode(secret).decode(), str(secret)}


def test_neither_tokens_nor_signatures_nor_digests_are_in_what_the_processes_log(
    sandbox: Sandbox, tmp_path: Path
) -> None:
    result = attempt(sandbox.client, tmp_path / "out.jpg")
    refusal(sandbox.client, tmp_path / "none.jpg", "nobody-v1")
    signature = signature_of(tmp_path / "out.jpg")
    assert len(signature) == 64
    halves = (int.from_bytes(signature[:32]), int.from_bytes(signature[32:]))
    token = sandbox.client.token_file.read_text()
    forbidden = {token, token.rpartition(".")[2], *spellings(bytes.fromhex(result.claim_sha256))}
    forbidden |= spellings(signature) | spellings(encode_dss_signature(*halves))
    logs = "".join(path.read_text() for path in (sandbox.folder / "logs").glob("*.log"))
    assert "refused" in logs
    assert not [secret for secret in forbidden if secret in logs]


def test_the_trail_and_kms_own_log_agree(sandbox: Sandbox) -> None:
    attempt(sandbox.client, sandbox.folder / "out.jpg")
    question = Question(
        trails=[sandbox.audit],
        cloudtrail=[sandbox.folder / "kms-events.jsonl"],
        keys=[str(key.arn) for key in sandbox.keys.values()],
        owners=["arn:aws:iam::111122223333:user/administrator"],
        period=Period(),
        delay=0,
    )
    report = reconcile(question)
    found = report.document
    assert (report.exit, found["agrees"], found["complete"], found["trail"]["intact"]) == (0, True, True, True)
    assert found["matched"] >= 1
    # The owner has signed a certificate request for each key.
    assert found["byOwners"] == len(SigningAlgorithm)


def test_the_demo_fails_where_an_asset_is_not_trusted(sandbox: Sandbox, tmp_path: Path) -> None:
    (tmp_path / "other.pem").write_text(foreign_authority().trust_anchor_pem)
    with pytest.raises(DemoError, match="is Valid and signed with ES256, not Trusted"):
        play(replace(sandbox, folder=tmp_path, trust_anchors=tmp_path / "other.pem"), print)
