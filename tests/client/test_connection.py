"""Reaching the signer: settings, TLS, tokens, retries."""

import threading
import time
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import grpc
import pytest

from byok_api.errors import Reason, Refusal
from byok_api.signer.v1 import signer_pb2
from byok_api.signer.v1.signer_pb2_grpc import SignerStub
from byok_client import ClientSettings, SignerClient, SignerError
from byok_client.retries import CHANNEL_OPTIONS
from byok_client.settings import DEFAULT_TOKEN_FILE
from byok_sandbox.ca import TlsAuthority
from tests.support.fake_signer import TOKEN, FakeSigner, serving

GENERATED = {"ai_generated": True}


def refused(settings: ClientSettings) -> Refusal:
    with pytest.raises(Refusal) as caught, SignerClient(settings) as client:
        client.recipe("photo")
    return caught.value


def authority() -> TlsAuthority:
    return TlsAuthority.create(now=datetime.now(UTC))


@pytest.fixture
def brief(settings: ClientSettings) -> ClientSettings:
    """Settings for a signer that does not answer: little patience."""
    return ClientSettings(address=settings.address, token_file=settings.token_file, timeout=1)


def test_the_environment_says_where_the_signer_is(
    signer: FakeSigner, token_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BYOK_SIGNER_ADDRESS", signer.address)
    monkeypatch.setenv("BYOK_SIGNER_TOKEN_FILE", str(token_file))
    with SignerClient.from_environment() as client:
        assert str(client.recipe("photo")) == "media/photo@1"


def test_the_token_is_where_the_kubelet_puts_it() -> None:
    settings = ClientSettings.from_environment({"BYOK_SIGNER_ADDRESS": "signer:443"})
    assert settings.token_file == DEFAULT_TOKEN_FILE == Path("/var/run/secrets/byok-signer/token")
    assert (settings.ca_file, settings.verifier_url, settings.timeout) == (None, None, 30)


ADDRESSES = [
    "",
    "signer",
    "signer:",
    "signer:0",
    "signer:99999",
    "https://signer:443",
    "unix:",
    "unix:relative",
    "a b:1",
]


@pytest.mark.parametrize("address", ADDRESSES)
def test_an_address_that_is_none_is_refused(address: str) -> None:
    with pytest.raises(Refusal, match="BYOK_SIGNER_ADDRESS") as caught:
        ClientSettings.from_environment({"BYOK_SIGNER_ADDRESS": address})
    assert caught.value.reason is Reason.ConfigurationInvalid


@pytest.mark.parametrize("address", ["signer:443", "10.0.0.1:1", "[::1]:65535", "unix:/run/s.sock", "unix:///run/s"])
def test_an_address_is_host_and_port_or_a_socket(address: str) -> None:
    assert ClientSettings(address=address).is_local is address.startswith("unix:")


@pytest.mark.parametrize("timeout", [0, -1, float("nan"), float("inf")])
def test_a_timeout_is_above_zero_and_finite(timeout: float) -> None:
    with pytest.raises(Refusal):
        ClientSettings(address="signer:443", timeout=timeout)


def test_tls_is_checked_against_the_ca_file(tmp_path: Path, token_file: Path) -> None:
    ours = authority()
    (tmp_path / "ca.pem").write_text(ours.trust_anchor_pem)
    with serving(tmp_path, tls=ours) as fake:
        settings = ClientSettings(address=fake.address, ca_file=tmp_path / "ca.pem", token_file=token_file)
        with SignerClient(settings) as client:
            assert client.recipe("photo").key == "security/brand"


def test_a_signer_of_another_ca_is_refused_at_once(tmp_path: Path, token_file: Path) -> None:
    (tmp_path / "ca.pem").write_text(authority().trust_anchor_pem)
    with serving(tmp_path, tls=authority()) as fake:
        refusal = refused(ClientSettings(address=fake.address, ca_file=tmp_path / "ca.pem", token_file=token_file))
        assert refusal.reason is Reason.ConfigurationInvalid
        assert "not trusted" in refusal.message
        assert not fake.calls


def test_a_certificate_of_another_host_is_refused_at_once(tmp_path: Path, token_file: Path) -> None:
    class Elsewhere(TlsAuthority):
        def issue(self, **arguments: Any) -> Any:  # noqa: ANN401 - as it is called
            return super().issue(**arguments, names=("other.example",))

    ours = Elsewhere.create(now=datetime.now(UTC))
    (tmp_path / "ca.pem").write_text(ours.trust_anchor_pem)
    with serving(tmp_path, tls=ours) as fake:
        refusal = refused(ClientSettings(address=fake.address, ca_file=tmp_path / "ca.pem", token_file=token_file))
        assert refusal.reason is Reason.ConfigurationInvalid
        assert not fake.calls


@pytest.mark.parametrize(
    ("content", "words"),
    [(None, "No such file"), (b"", "no PEM"), (b"\xff" * 9, "no PEM"), (b"x" * 2**21, "no PEM")],
)
def test_a_ca_file_without_certificate_is_refused(
    content: bytes | None, words: str, tmp_path: Path, token_file: Path
) -> None:
    if content is not None:
        (tmp_path / "ca.pem").write_bytes(content)
    refusal = refused(ClientSettings(address="signer:443", ca_file=tmp_path / "ca.pem", token_file=token_file))
    assert refusal.reason is Reason.ConfigurationInvalid
    assert words in refusal.message


@pytest.mark.parametrize("address", ["localhost:1", "unix:/nowhere/signer.sock", "no.such.host.invalid:443"])
def test_no_signer_is_said_so_within_the_deadline(address: str, token_file: Path) -> None:
    refusal = refused(ClientSettings(address=address, token_file=token_file, timeout=0.4))
    assert refusal.reason is Reason.SignerUnreachable
    assert address in refusal.message


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (None, Reason.TokenMissing),
        (b"", Reason.TokenInvalid),
        (b"two words", Reason.TokenInvalid),
        (b"line\nline", Reason.TokenInvalid),
        (b"\xff\xfe", Reason.TokenInvalid),
        (b"x" * 20_000, Reason.TokenInvalid),
    ],
)
def test_a_token_file_without_token_is_refused(
    content: bytes | None, reason: Reason, signer: FakeSigner, tmp_path: Path
) -> None:
    path = tmp_path / "other-token"
    if content is not None:
        path.write_bytes(content)
    refusal = refused(ClientSettings(address=signer.address, token_file=path))
    assert refusal.reason is reason
    assert str(path) in refusal.message
    assert not signer.calls


def test_a_token_that_is_refused_is_shown_once(signer: FakeSigner, settings: ClientSettings) -> None:
    settings.token_file.write_text("expired")
    assert refused(settings).reason is Reason.TokenExpired
    assert signer.refused_tokens == ["expired"]


def test_a_rotated_token_is_read_again(signer: FakeSigner, client: SignerClient, token_file: Path) -> None:
    client.recipe("photo")
    signer.accepted_tokens = {"the-next-token"}
    rotated = token_file.with_name("rotated")
    rotated.write_text("the-next-token\n")
    rotated.replace(token_file)
    assert client.recipe("photo").name == "photo"


@pytest.mark.parametrize(
    "failure", [Refusal(Reason.KmsThrottled, "busy", retry_after=0.01), grpc.StatusCode.UNAVAILABLE]
)
def test_what_waiting_helps_is_tried_again(
    failure: Refusal | grpc.StatusCode, signer: FakeSigner, client: SignerClient, photo: Path
) -> None:
    signer.failures.extend([failure, failure])
    client.sign(photo, recipe="photo", metadata=GENERATED)
    assert len(signer.claims) == 3
    assert len({request.claim for request in signer.claims}) == 1


def test_calls_are_spread_over_the_replicas_behind_a_name(tmp_path: Path) -> None:
    ours = authority()
    with serving(tmp_path, tls=ours) as one, serving(tmp_path, tls=ours) as other:
        target = ",".join(fake.address.replace("localhost", "127.0.0.1") for fake in (one, other))
        options = (*CHANNEL_OPTIONS, ("grpc.ssl_target_name_override", "localhost"))
        credentials = grpc.ssl_channel_credentials(ours.trust_anchor_pem.encode())
        deadline = time.monotonic() + 30
        with grpc.secure_channel(f"ipv4:{target}", credentials, options) as channel:
            while not (one.calls and other.calls):
                assert time.monotonic() < deadline
                request = signer_pb2.GetRecipeRequest(recipe="photo")
                SignerStub(channel).GetRecipe(request, metadata=(("authorization", f"Bearer {TOKEN}"),), timeout=30)


def test_retries_end_with_the_deadline(settings: ClientSettings, signer: FakeSigner, photo: Path) -> None:
    # A second call fits into the deadline with seconds to spare, a third does not.
    signer.failures.extend([Refusal(Reason.KmsThrottled, "busy", retry_after=5.0)] * 50)
    with pytest.raises(SignerError) as caught, SignerClient(replace(settings, timeout=10)) as client:
        client.sign(photo, recipe="photo", metadata=GENERATED)
    assert (caught.value.reason, len(signer.claims)) == (Reason.KmsThrottled, 2)


def test_a_signer_that_does_not_answer_is_given_up(brief: ClientSettings, signer: FakeSigner, photo: Path) -> None:
    before = photo.read_bytes()
    signer.held = threading.Event()
    with pytest.raises(Refusal) as caught, SignerClient(brief) as client:
        client.sign(photo, recipe="photo", metadata=GENERATED)
    assert caught.value.reason is Reason.SignerUnreachable
    assert photo.read_bytes() == before


REFUSED = [reason for reason in Reason if reason not in {Reason.RecipeChanged, Reason.CertificateChanged}]


@pytest.mark.parametrize("reason", REFUSED)
def test_any_refusal_comes_out_as_it_was_sent_and_nothing_is_written(
    reason: Reason, signer: FakeSigner, client: SignerClient, photo: Path
) -> None:
    before = {path.name: path.read_bytes() for path in photo.parent.iterdir() if path.is_file()}
    signer.failures.append(Refusal(reason, "what and why", metadata={"check": "size"}))
    with pytest.raises(SignerError, match=r"^what and why$") as caught:
        client.sign(photo, recipe="photo", metadata=GENERATED)
    assert (caught.value.reason, caught.value.metadata["check"]) == (reason, "size")
    assert len(signer.claims) == 1
    assert {path.name: path.read_bytes() for path in photo.parent.iterdir() if path.is_file()} == before


@pytest.mark.parametrize("reason", [Reason.RecipeChanged, Reason.CertificateChanged])
def test_what_has_changed_is_fetched_and_composed_again_once(
    reason: Reason, signer: FakeSigner, client: SignerClient, photo: Path
) -> None:
    client.recipe("photo")
    signer.recipe.effective_hash = "cd" * 32
    signer.failures.append(Refusal(reason, "changed"))
    client.sign(photo, recipe="photo", metadata=GENERATED)
    assert [claim.expected_recipe_hash for claim in signer.claims][-1] == "cd" * 32
    verified = client.verify(photo)
    assert verified.recipe is not None
    assert (verified.state, verified.recipe.effective_hash) == ("Valid", "cd" * 32)


@pytest.mark.parametrize("reason", [Reason.RecipeChanged, Reason.CertificateChanged])
def test_what_keeps_changing_is_refused(reason: Reason, signer: FakeSigner, client: SignerClient, photo: Path) -> None:
    signer.failures.extend([Refusal(reason, "changed")] * 5)
    with pytest.raises(SignerError) as caught:
        client.sign(photo, recipe="photo", metadata=GENERATED)
    assert caught.value.reason is reason
    assert [call.split()[0] for call in signer.calls] == ["GetRecipe", "SignClaim", "GetRecipe", "SignClaim"]


def test_an_unknown_recipe_is_refused(signer: FakeSigner, client: SignerClient, photo: Path) -> None:
    signer.recipe_failures.append(Refusal(Reason.RecipeNotAllowed, "no recipe nope, or it is not yours to use"))
    with pytest.raises(SignerError, match="nope") as caught:
        client.sign(photo, recipe="nope", metadata=GENERATED)
    assert caught.value.reason is Reason.RecipeNotAllowed


@pytest.mark.parametrize("nonsense", [{"algorithm": "ES999"}, {"defaults": {"model": "{"}}])
def test_a_recipe_that_cannot_be_read_is_refused(
    nonsense: dict[str, Any], signer: FakeSigner, client: SignerClient
) -> None:
    for name, value in nonsense.items():
        setattr(signer.recipe, name, value)
    with pytest.raises(Refusal) as caught:
        client.recipe("photo")
    assert caught.value.reason is Reason.RecipeInvalid


def test_a_key_is_probed_through_the_signer(signer: FakeSigner, client: SignerClient) -> None:
    answer = client.probe_key(signer_pb2.ProbeKeyRequest(namespace="security", name="brand"))
    assert answer.sign.outcome == signer_pb2.ProbeResult.PASSED
    assert signer.calls == ["ProbeKey security/brand"]
