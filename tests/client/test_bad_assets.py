"""Assets and targets that cannot be: refused by name, and whatever was there before is as it was."""

import errno
import io
import os
import resource
import stat
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from byok_api.errors import Reason, Refusal
from byok_client import SignerClient
from tests.support.fake_signer import FakeSigner
from tests.support.media import MEDIA, Sample

GENERATED = {"ai_generated": True}
JPEG = MEDIA["landscape.jpg"].path.read_bytes()


def refused(client: SignerClient, source: object, output: object = None, **options: bool) -> Refusal:
    with pytest.raises(Refusal) as caught:
        client.sign(source, recipe="photo", metadata=GENERATED, output=output, **options)  # type: ignore[arg-type] # bad on purpose
    return caught.value


@contextmanager
def untouched(folder: Path) -> Iterator[None]:
    """Nothing in the folder is added, removed or changed."""

    def files() -> dict[str, tuple[bytes, int]]:
        found = (path for path in folder.rglob("*") if path.is_file())
        return {str(path): (path.read_bytes(), path.stat().st_mode) for path in found}

    before = files()
    yield
    assert files() == before


BAD_CONTENT = [
    ("empty.jpg", b"", "is empty"),
    ("note.txt", b"hello", "no type that can be signed"),
    ("page.html", b"<html></html>", "no type that can be signed"),
    ("noise.jpg", bytes(range(256)) * 20, "no type that can be signed"),
    ("text.jpg", b"hello" * 100, "no type that can be signed"),
    ("archive.zip", b"PK\x03\x04" + bytes(100), "no type that can be signed"),
    ("one-byte.jpg", b"\xff", "no type that can be signed"),
    ("short.jpg", JPEG[:20], "truncated or damaged"),
    ("half.jpg", JPEG[: len(JPEG) // 2], "truncated or damaged"),
    ("almost.jpg", JPEG[:-2], "truncated or damaged"),
    ("broken.svg", b"<svg", "damaged"),
]


@pytest.mark.parametrize(("name", "content", "words"), BAD_CONTENT)
def test_content_that_cannot_be_signed_is_refused(
    name: str, content: bytes, words: str, client: SignerClient, tmp_path: Path
) -> None:
    (tmp_path / name).write_bytes(content)
    with untouched(tmp_path):
        refusal = refused(client, tmp_path / name, tmp_path / "out.jpg")
    assert refusal.reason is Reason.AssetUnreadable
    assert name in refusal.message
    assert words in refusal.message


@pytest.mark.parametrize("sample", MEDIA.values(), ids=lambda sample: sample.path.name)
def test_a_truncated_asset_of_any_type_is_refused(
    sample: Sample, signer: FakeSigner, client: SignerClient, tmp_path: Path
) -> None:
    signer.recipe.media_type = ""
    content = sample.path.read_bytes()
    for size in (len(content) - 30, len(content) // 2, 600, 40, 12):
        cut = tmp_path / f"{size}-{sample.path.name}"
        cut.write_bytes(content[:size])
        assert refused(client, cut, tmp_path / "out").reason is Reason.AssetUnreadable
    assert not signer.claims


@pytest.mark.parametrize("position", range(2, 3000, 97))
def test_a_damaged_asset_is_signed_whole_or_refused(client: SignerClient, tmp_path: Path, position: int) -> None:
    damaged, output = tmp_path / "damaged.jpg", tmp_path / "out.jpg"
    damaged.write_bytes(JPEG[:position] + bytes([JPEG[position] ^ 0xFF]) + JPEG[position + 1 :])
    try:
        client.sign(damaged, recipe="photo", metadata=GENERATED, output=output)
    except Refusal as refusal:
        assert refusal.reason in {Reason.AssetUnreadable, Reason.SigningFailed}  # noqa: PT017 - either is right
        assert not output.exists()


def test_what_is_no_file_is_refused(client: SignerClient, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.jpg")
    (tmp_path / "loop.jpg").symlink_to(tmp_path / "loop.jpg")
    paths = [
        tmp_path / "missing.jpg",
        tmp_path,
        tmp_path / "pipe.jpg",
        tmp_path / "loop.jpg",
        "a\x00b.jpg",
        "",
        "/dev/zero",
    ]
    for path in paths:
        refusal = refused(client, path, tmp_path / "out.jpg")
        assert refusal.reason is Reason.AssetUnreadable, path
    assert not (tmp_path / "out.jpg").exists()


def closed() -> io.BytesIO:
    stream = io.BytesIO(JPEG)
    stream.close()
    return stream


@pytest.mark.parametrize(
    "source", [closed(), io.StringIO("text"), io.BytesIO(), io.BytesIO(b"text"), None, 7, object()]
)
def test_a_stream_that_gives_no_asset_is_refused(client: SignerClient, source: object) -> None:
    output = io.BytesIO()
    assert refused(client, source, output).reason is Reason.AssetUnreadable
    assert output.getvalue() == b""


def test_a_stream_cannot_be_signed_in_place(client: SignerClient) -> None:
    assert refused(client, io.BytesIO(JPEG)).reason is Reason.OutputUnwritable


@pytest.mark.parametrize("output", [closed(), io.StringIO(), 7])
def test_an_output_stream_that_takes_no_bytes_is_refused(client: SignerClient, photo: Path, output: object) -> None:
    with untouched(photo.parent):
        assert refused(client, photo, output).reason is Reason.OutputUnwritable


def test_an_output_that_cannot_be_is_refused(client: SignerClient, photo: Path) -> None:
    folder = photo.parent
    (folder / "there.jpg").write_bytes(b"kept")
    (folder / "read-only.jpg").write_bytes(b"kept")
    (folder / "read-only.jpg").chmod(0o444)
    cases = [
        ("there.jpg", False, "there already"),
        ("read-only.jpg", True, "read-only"),
        ("nowhere/out.jpg", False, "No such file"),
        ("photo.jpg/out.jpg", False, "Not a directory"),
        (".", True, "not a regular file"),
        ("x" * 300, False, "File name too long"),
        ("a\x00b", False, "not a path"),
    ]
    with untouched(folder):
        for output, overwrite, words in cases:
            refusal = refused(client, photo, os.path.join(folder, output), overwrite=overwrite)  # noqa: PTH118 - NUL
            assert refusal.reason is Reason.OutputUnwritable, output
            assert words in refusal.message


def test_a_read_only_asset_is_not_signed_in_place(client: SignerClient, photo: Path) -> None:
    photo.chmod(0o444)
    with untouched(photo.parent):
        assert refused(client, photo).reason is Reason.OutputUnwritable


def test_an_existing_output_is_replaced_if_told_to(client: SignerClient, photo: Path) -> None:
    output = photo.with_name("there.jpg")
    output.write_bytes(b"old")
    output.chmod(0o640)
    client.sign(photo, recipe="photo", metadata=GENERATED, output=output, overwrite=True)
    assert output.read_bytes()[:2] == b"\xff\xd8"
    assert stat.S_IMODE(output.stat().st_mode) == 0o640


@pytest.mark.parametrize("mode", [0o600, 0o644, 0o755])
def test_the_mode_is_kept(client: SignerClient, photo: Path, mode: int) -> None:
    photo.chmod(mode)
    client.sign(photo, recipe="photo", metadata=GENERATED, output=photo)
    client.sign(photo, recipe="photo", metadata=GENERATED, output=photo.with_name("new.jpg"))
    modes = [stat.S_IMODE(path.stat().st_mode) for path in (photo, photo.with_name("new.jpg"))]
    assert modes == [mode, mode]


def test_a_link_stays_a_link(client: SignerClient, photo: Path) -> None:
    link = photo.with_name("link.jpg")
    link.symlink_to(photo)
    client.sign(link, recipe="photo", metadata=GENERATED)
    assert link.is_symlink()
    assert client.verify(photo).state == "Valid"


def test_a_full_disk_is_named_and_leaves_nothing(client: SignerClient, photo: Path) -> None:
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    with untouched(photo.parent):
        resource.setrlimit(resource.RLIMIT_FSIZE, (1000, limits[1]))
        try:
            refusal = refused(client, photo, photo.with_name("out.jpg"))
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert refusal.reason is Reason.OutputUnwritable
    assert os.strerror(errno.EFBIG) in refusal.message


def test_a_wrong_extension_does_not_mislead(client: SignerClient, tmp_path: Path) -> None:
    disguised = tmp_path / "really-a-png.jpg"
    disguised.write_bytes(MEDIA["landscape.png"].path.read_bytes())
    client.sign(disguised, recipe="photo", metadata=GENERATED)
    assert client.verify(disguised).media_type == "image/png"


def test_a_refused_call_asks_for_no_signature(signer: FakeSigner, client: SignerClient, photo: Path) -> None:
    with pytest.raises(Refusal) as refused_call:
        client.sign(photo, recipe="photo", metadata={"creator": "Ada"})
    assert refused_call.value.reason is Reason.MetadataMissing
    assert signer.calls == ["GetRecipe photo"]


@pytest.mark.parametrize("reference", ["", "Photo", "a/b/c", "photo@", "photo@0", "x" * 400, "../photo", None, 3])
def test_a_reference_that_names_no_recipe_is_refused(
    signer: FakeSigner, client: SignerClient, photo: Path, reference: str
) -> None:
    with pytest.raises(Refusal) as refused_call:
        client.sign(photo, recipe=reference, metadata=GENERATED)
    assert refused_call.value.reason is Reason.InvalidRequest
    assert refused_call.value.message.startswith("recipe ")
    assert not signer.calls


def test_a_document_whose_parts_are_compressed_is_refused_saying_so(
    signer: FakeSigner, client: SignerClient, tmp_path: Path
) -> None:
    signer.recipe.media_type = "text"
    # As Word writes them; c2pa 0.91 reads stored parts only.
    packed = tmp_path / "word.docx"
    with (
        zipfile.ZipFile(MEDIA["document.docx"].path) as stored,
        zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as new,
    ):
        for part in stored.infolist():
            new.writestr(part.filename, stored.read(part))
    refusal = refused(client, packed, tmp_path / "out.docx")
    assert refusal.reason is Reason.AssetUnreadable
    assert "compress" in refusal.message
