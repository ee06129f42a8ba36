"""The client against a fake signer that signs with a real key; results are read by c2pa's own Reader."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from byok_client import ClientSettings, SignerClient
from tests.support.fake_signer import TOKEN, FakeSigner, serving
from tests.support.media import MEDIA


@pytest.fixture
def signer(tmp_path: Path) -> Iterator[FakeSigner]:
    with serving(tmp_path) as fake:
        yield fake


@pytest.fixture
def token_file(tmp_path: Path) -> Path:
    path = tmp_path / "token"
    path.write_text(TOKEN)
    return path


@pytest.fixture
def settings(signer: FakeSigner, token_file: Path) -> ClientSettings:
    return ClientSettings(address=signer.address, token_file=token_file, timeout=10)


@pytest.fixture
def client(settings: ClientSettings) -> Iterator[SignerClient]:
    with SignerClient(settings) as open_client:
        yield open_client


@pytest.fixture
def photo(tmp_path: Path) -> Path:
    """A JPEG without a manifest, free to be overwritten."""
    path = tmp_path / "photo.jpg"
    path.write_bytes(MEDIA["landscape.jpg"].path.read_bytes())
    return path
