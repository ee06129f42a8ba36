"""Assets that are too large for their format or for this machine: sparse files, refused before anything is read."""

import os
import struct
from pathlib import Path

import pytest

from byok_api.errors import Reason, Refusal
from byok_client import SignerClient, Verdict
from byok_client.assets import opened
from tests.support.fake_signer import FakeSigner
from tests.support.media import MEDIA

GIB = 1024**3
VIDEO = MEDIA["sunset.mp4"].path.read_bytes()
GENERATED = {"ai_generated": True}


def refused(path: Path) -> str:
    with pytest.raises(Refusal) as caught, opened(path):
        pass
    assert caught.value.reason is Reason.AssetUnreadable
    assert str(path) in caught.value.message
    return caught.value.message


def sparse(path: Path, head: bytes, size: int) -> Path:
    path.write_bytes(head)
    os.truncate(path, size)
    return path


def chunk_offset(content: bytes, value: int) -> bytes:
    """Set the first chunk offset of a video."""
    place = content.index(b"stco") + 12
    return content[:place] + struct.pack(">I", value) + content[place + 4 :]


def large_video(path: Path, last_chunk: int, size: int) -> Path:
    """Make a video of `size` bytes, all but the sample in a sparse mdat, one of whose chunks is said to be far back."""
    head = chunk_offset(VIDEO, last_chunk)
    return sparse(path, head + struct.pack(">I4sQ", 1, b"mdat", size - len(head)), size)


def test_a_riff_file_that_the_manifest_would_push_beyond_its_size_is_refused(tmp_path: Path) -> None:
    size = 4 * GIB - 1000
    path = sparse(tmp_path / "long.wav", b"RIFF" + struct.pack("<I", size - 8) + b"WAVEfmt ", size)
    assert "ends at 4 GiB, and the manifest must fit in: split it" in refused(path)


@pytest.mark.parametrize("name", ["landscape.jpg", "document.pdf"])
def test_what_is_held_in_memory_whole_has_a_limit_of_its_own(name: str, tmp_path: Path) -> None:
    path = sparse(tmp_path / name, MEDIA[name].path.read_bytes(), GIB + 1)
    assert f"holds in memory whole, is {GIB}" in refused(path)


@pytest.mark.parametrize("last_chunk", [2**32 - 1, 2**32 - 20_000])
def test_a_video_whose_offsets_would_wrap_is_refused(last_chunk: int, tmp_path: Path) -> None:
    message = refused(large_video(tmp_path / "long.mp4", last_chunk, 5 * GIB))
    assert f"(stco) and reach {last_chunk}" in message
    assert "co64" in message


def test_a_large_video_whose_offsets_stay_right_is_taken(tmp_path: Path) -> None:
    with opened(large_video(tmp_path / "long.mp4", 2 * GIB, 5 * GIB)) as asset:
        assert (asset.media.mime, asset.size) == ("video/mp4", 5 * GIB)


def test_offsets_of_a_video_that_is_signed_point_to_what_they_did(
    signer: FakeSigner, client: SignerClient, tmp_path: Path
) -> None:
    # What the limit is for: c2pa moves every chunk by the size of the manifest.
    signer.recipe.media_type = "video"
    output = tmp_path / "signed.mp4"
    client.sign(MEDIA["sunset.mp4"].path, recipe="photo", metadata=GENERATED, output=output)
    signed = output.read_bytes()
    moved = len(signed) - len(VIDEO)
    assert struct.unpack_from(">I", signed, signed.index(b"stco") + 12)[0] == (
        struct.unpack_from(">I", VIDEO, VIDEO.index(b"stco") + 12)[0] + moved
    )
    assert client.verify(output).state is Verdict.VALID
