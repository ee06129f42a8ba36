"""What a file is: its content decides, its name only between types that begin alike."""

import io
import os
from pathlib import Path

import pytest

from byok_api.errors import Reason, Refusal
from byok_client.assets import SIZE_LIMIT, opened
from byok_client.media import detect
from tests.support.media import MEDIA, Sample


def ftyp(brand: bytes) -> bytes:
    return b"\x00\x00\x00\x18ftyp" + brand + bytes(12)


def riff(form: bytes) -> bytes:
    return b"RIFF\x10\x00\x00\x00" + form + bytes(8)


TYPES = [
    (b"\xff\xd8\xff\xe0", "a.png", "image/jpeg", "image"),
    (b"\x89PNG\r\n\x1a\n", "a.jpg", "image/png", "image"),
    (b"GIF89a", "a", "image/gif", "image"),
    (riff(b"WEBP"), "a", "image/webp", "image"),
    (riff(b"WAVE"), "a", "audio/wav", "audio"),
    (riff(b"AVI "), "a", "video/avi", "video"),
    (b"II*\x00", "a.tif", "image/tiff", "image"),
    (b"MM\x00*", "a.DNG", "image/dng", "image"),
    (b"\x00\x00\x00\x0cJXL \r\n\x87\n", "a", "image/jxl", "image"),
    (b"\xff\x0a\x00", "a", "image/jxl", "image"),
    (ftyp(b"avif"), "a", "image/avif", "image"),
    (ftyp(b"heic"), "a", "image/heic", "image"),
    (ftyp(b"mif1"), "a", "image/heif", "image"),
    (ftyp(b"isom"), "a.mp4", "video/mp4", "video"),
    (ftyp(b"isom"), "a.m4a", "audio/mp4", "audio"),
    (ftyp(b"M4A "), "a", "audio/mp4", "audio"),
    (ftyp(b"qt  "), "a", "video/quicktime", "video"),
    (b"ID3\x04", "a", "audio/mpeg", "audio"),
    (b"\xff\xfb\x90", "a", "audio/mpeg", "audio"),
    (b"fLaC", "a", "audio/flac", "audio"),
    (b"%PDF-1.7", "a", "application/pdf", "text"),
    (b"PK\x03\x04", "a.odt", "application/vnd.oasis.opendocument.text", "text"),
    (b"\n<svg/>", "a.svg", "image/svg+xml", "image"),
]


@pytest.mark.parametrize(("head", "name", "mime", "kind"), TYPES)
def test_the_content_tells_the_type(head: bytes, name: str, mime: str, kind: str) -> None:
    media = detect(io.BytesIO(head), name, complete=False)
    assert (media.mime, media.kind) == (mime, kind)


@pytest.mark.parametrize(
    "head", [b"\x00", b"RIFF", riff(b"ACON"), b"PK\x03\x04", b"<svg/>", b"\xff", b"MZ", b"\x7fELF"]
)
def test_other_content_is_no_media(head: bytes) -> None:
    with pytest.raises(Refusal) as refused:
        detect(io.BytesIO(head), "a.jpeg", complete=False)
    assert refused.value.reason is Reason.AssetUnreadable


@pytest.mark.parametrize("sample", MEDIA.values(), ids=lambda sample: sample.path.name)
def test_whole_media_are_whole_and_any_cut_is_noticed(sample: Sample) -> None:
    content = sample.path.read_bytes()
    assert detect(io.BytesIO(content), sample.path.name, complete=True).mime == sample.mime
    # A PDF may end with or without a line break.
    last = len(content) - (3 if sample.path.suffix == ".pdf" else 1)
    for size in [*range(16, last, max(1, len(content) // 97)), *range(last - 30, last + 1)]:
        with pytest.raises(Refusal):
            detect(io.BytesIO(content[:size]), sample.path.name, complete=True)


def test_an_animated_gif_ends_with_its_trailer() -> None:
    assert detect(io.BytesIO(b"GIF89a" + bytes(20) + b";"), "a.gif", complete=True).mime == "image/gif"
    with pytest.raises(Refusal, match="truncated"):
        detect(io.BytesIO(b"GIF89a" + bytes(20)), "a.gif", complete=True)


def test_a_jpeg_may_have_fill_bytes_and_trailing_data() -> None:
    jpeg = b"\xff\xd8\xff\xff\xe0\x00\x02\xff\xda\x00\x02\x00\xff\xd9trailer"
    assert detect(io.BytesIO(jpeg), "a.jpg", complete=True).mime == "image/jpeg"


def test_an_asset_beyond_the_limit_is_refused(tmp_path: Path) -> None:
    large = tmp_path / "large.jpg"
    large.touch()
    os.truncate(large, SIZE_LIMIT + 1)
    with pytest.raises(Refusal, match="the limit is") as refused, opened(large):
        pass
    assert refused.value.reason is Reason.AssetUnreadable
