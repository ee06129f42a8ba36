"""What others change while a job runs: its token, the signer's TLS certificate and CA, the recipe, the key's chain."""

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path

import pytest

from byok_api.algorithms import SigningAlgorithm
from byok_api.errors import Reason, Refusal
from byok_client import AsyncSignerClient, ClientSettings, SignerClient, SigningResult, Verdict
from byok_sandbox.ca import TlsAuthority
from tests.support.fake_signer import TOKEN, FakeSigner, serving
from tests.support.pki import certified, new_key, trust_anchor

GENERATED = {"ai_generated": True}
PATIENCE = 30
AT_ONCE = 6


class KubeletVolume:
    """A projected token as the kubelet keeps it: the folder behind a symbolic link is swapped in one step."""

    def __init__(self, folder: Path, token: str) -> None:
        self.path = folder / "token"
        self._folder = folder
        self._version = 0
        folder.mkdir()
        self.rotate(token)
        self.path.symlink_to("..data/token")

    def rotate(self, token: str) -> None:
        self._version += 1
        version = self._folder / f"..{self._version}"
        version.mkdir()
        (version / "token").write_text(token)
        (self._folder / "..data_tmp").symlink_to(version.name)
        (self._folder / "..data_tmp").rename(self._folder / "..data")


@pytest.fixture
def volume(tmp_path: Path) -> KubeletVolume:
    return KubeletVolume(tmp_path / "byok-signer", TOKEN)


@pytest.fixture
def client(signer: FakeSigner, volume: KubeletVolume) -> Iterator[SignerClient]:
    """A client whose token is the kubelet's."""
    with SignerClient(ClientSettings(address=signer.address, token_file=volume.path, timeout=PATIENCE)) as made:
        yield made


def signed_while(
    change: Callable[[], None], signer: FakeSigner, client: SignerClient, photo: Path
) -> list[SigningResult]:
    """Sign some copies at once, and make the change when the first has asked for its signature."""
    signer.held = held = threading.Event()
    outputs = [photo.with_name(f"{number}.jpg") for number in range(AT_ONCE)]

    def sign(output: Path) -> SigningResult:
        return client.sign(photo, recipe="photo", metadata=GENERATED, output=output)

    with ThreadPoolExecutor(AT_ONCE) as workers:
        running = [workers.submit(sign, output) for output in outputs]
        assert signer.asked.wait(PATIENCE)
        change()
        signer.held = None
        held.set()
        results = [future.result() for future in running]
    assert {client.verify(output, trust_anchors=trust_anchor()).state for output in outputs} == {Verdict.TRUSTED}
    return results


def test_a_token_that_expires_on_its_way_is_read_again(
    signer: FakeSigner, client: SignerClient, volume: KubeletVolume, photo: Path
) -> None:
    def rotate() -> None:
        volume.rotate("the-next-token")
        signer.accepted_tokens = {"the-next-token"}

    signed_while(rotate, signer, client, photo)
    assert set(signer.refused_tokens) == {TOKEN}


def test_a_token_is_read_again_once_for_a_call(
    signer: FakeSigner, client: SignerClient, volume: KubeletVolume, photo: Path
) -> None:
    def rotate() -> None:
        volume.rotate("expired-too")
        signer.accepted_tokens = set()

    with pytest.raises(Refusal) as caught:
        signed_while(rotate, signer, client, photo)
    assert caught.value.reason is Reason.TokenExpired
    assert set(signer.refused_tokens) == {TOKEN, "expired-too"}
    assert signer.refused_tokens.count("expired-too") <= AT_ONCE


def test_a_recipe_that_changes_midway_is_fetched_and_all_are_signed_under_the_new_one(
    signer: FakeSigner, client: SignerClient, photo: Path
) -> None:
    def change() -> None:
        signer.recipe.effective_hash = "cd" * 32

    results = signed_while(change, signer, client, photo)
    assert {result.recipe_hash for result in results} == {"cd" * 32}


@pytest.mark.parametrize("algorithm", [SigningAlgorithm.ES256, SigningAlgorithm.PS256])
def test_a_chain_that_changes_midway_is_fetched_and_all_are_signed_with_the_new_one(
    algorithm: SigningAlgorithm, signer: FakeSigner, client: SignerClient, photo: Path
) -> None:
    def change() -> None:
        signer.identity = certified(new_key(algorithm), algorithm)

    results = signed_while(change, signer, client, photo)
    assert {result.algorithm for result in results} == {algorithm.value}


def authority() -> TlsAuthority:
    return TlsAuthority.create(now=datetime.now(UTC))


@pytest.fixture
def tls() -> TlsAuthority:
    return authority()


@pytest.fixture
def remote(tmp_path: Path, tls: TlsAuthority) -> Iterator[FakeSigner]:
    """A signer behind TLS."""
    (tmp_path / "ca.pem").write_text(tls.trust_anchor_pem)
    with serving(tmp_path, tls=tls) as fake:
        yield fake


@pytest.fixture
def remote_settings(remote: FakeSigner, tmp_path: Path, token_file: Path) -> ClientSettings:
    return ClientSettings(address=remote.address, ca_file=tmp_path / "ca.pem", token_file=token_file, timeout=PATIENCE)


def restart(remote: FakeSigner, tls: TlsAuthority) -> None:
    remote.stop()
    remote.start(tls)


def test_a_signer_that_comes_back_with_another_certificate_of_its_ca_is_used(
    remote: FakeSigner, remote_settings: ClientSettings, tls: TlsAuthority
) -> None:
    with SignerClient(remote_settings) as client:
        client.recipe("photo")
        restart(remote, tls)
        assert client.recipe("photo").key == "security/brand"


def test_a_ca_file_that_was_rotated_is_read_again(remote: FakeSigner, remote_settings: ClientSettings) -> None:
    assert remote_settings.ca_file is not None
    with SignerClient(remote_settings) as client:
        client.recipe("photo")
        other = authority()
        remote_settings.ca_file.write_text(other.trust_anchor_pem)
        client.recipe("photo")
        restart(remote, other)
        assert client.recipe("photo").key == "security/brand"


async def test_a_ca_file_that_was_rotated_is_read_again_by_the_client_for_asyncio(
    remote: FakeSigner, remote_settings: ClientSettings, photo: Path
) -> None:
    assert remote_settings.ca_file is not None
    async with AsyncSignerClient(remote_settings) as client:
        await client.recipe("photo")
        other = authority()
        remote_settings.ca_file.write_text(other.trust_anchor_pem)
        restart(remote, other)
        await client.sign(photo, recipe="photo", metadata=GENERATED)
        assert (await client.verify(photo)).state is Verdict.VALID


def test_a_ca_that_was_rotated_for_the_signer_only_is_refused_at_once(
    remote: FakeSigner, remote_settings: ClientSettings
) -> None:
    with SignerClient(remote_settings) as client:
        client.recipe("photo")
        restart(remote, authority())
        with pytest.raises(Refusal, match="not trusted") as caught:
            client.recipe("photo")
    assert caught.value.reason is Reason.ConfigurationInvalid
    assert len(remote.calls) == 1
