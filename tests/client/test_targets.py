"""Where a signed asset goes: nothing has a name before it is whole, and nothing of another's is replaced."""

import errno
import io
import os
import resource
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from byok_api.errors import Reason, Refusal
from byok_client import ClientSettings, SignerClient, Verdict, targets
from tests.support.fake_signer import FakeSigner
from tests.support.media import MEDIA

GENERATED = {"ai_generated": True}
JPEG = MEDIA["landscape.jpg"].path.read_bytes()
PATIENCE = 30


@pytest.fixture(params=["nameless", "named"])
def kind_of_draft(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Run with drafts as Linux file systems have them, and as NFS does."""
    if request.param == "named":
        monkeypatch.setattr(targets, "_OPEN_FILES", Path("/nowhere"))
    return str(request.param)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "outputs"
    made.mkdir()
    return made


@contextmanager
def held(signer: FakeSigner) -> Iterator[None]:
    """Go inside once a signature has been asked for, and let it be given afterwards."""
    assert signer.held is not None
    assert signer.asked.wait(PATIENCE)
    yield
    signer.held.set()


@contextmanager
def no_file_beyond(size: int) -> Iterator[None]:
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)


@pytest.mark.usefixtures("kind_of_draft")
def test_an_output_is_whole_in_either_way(client: SignerClient, folder: Path, photo: Path) -> None:
    for output, overwrite in ((folder / "new.jpg", False), (folder / "new.jpg", True), (photo, False)):
        client.sign(photo, recipe="photo", metadata=GENERATED, output=output, overwrite=overwrite)
        assert client.verify(output).state is Verdict.VALID
    assert os.listdir(folder) == ["new.jpg"]  # noqa: PTH208 - names


def test_a_draft_has_no_name_until_it_is_whole(
    kind_of_draft: str, signer: FakeSigner, client: SignerClient, folder: Path
) -> None:
    signer.held = threading.Event()
    output = folder / "out.jpg"
    signing = threading.Thread(
        target=client.sign,
        args=(io.BytesIO(JPEG),),
        kwargs={"recipe": "photo", "metadata": GENERATED, "output": output},
    )
    signing.start()
    with held(signer):
        assert len(list(folder.iterdir())) == (kind_of_draft == "named")
    signing.join()
    assert list(folder.iterdir()) == [output]


@pytest.mark.usefixtures("kind_of_draft")
def test_what_another_has_written_meanwhile_is_kept(signer: FakeSigner, client: SignerClient, folder: Path) -> None:
    signer.held = threading.Event()
    output = folder / "out.jpg"
    refusals: list[Refusal] = []

    def sign() -> None:
        with pytest.raises(Refusal) as caught:
            client.sign(io.BytesIO(JPEG), recipe="photo", metadata=GENERATED, output=output)
        refusals.append(caught.value)

    signing = threading.Thread(target=sign)
    signing.start()
    with held(signer):
        output.write_bytes(b"another's")
    signing.join()
    assert "is there already" in refusals[0].message
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == {"out.jpg": b"another's"}


@pytest.mark.usefixtures("kind_of_draft")
@pytest.mark.parametrize("room", [0, 1000, len(JPEG), len(JPEG) + 5000])
def test_a_file_size_limit_is_named_and_leaves_nothing(client: SignerClient, folder: Path, room: int) -> None:
    source = folder.parent / "photo.jpg"
    source.write_bytes(JPEG)
    with no_file_beyond(room), pytest.raises(Refusal) as caught:
        client.sign(source, recipe="photo", metadata=GENERATED, output=folder / "out.jpg")
    assert caught.value.reason is Reason.OutputUnwritable
    assert f"{os.strerror(errno.EFBIG)} in {folder}" in caught.value.message
    assert "ulimit" in caught.value.message
    assert not list(folder.iterdir())


@pytest.mark.parametrize("room", [0, 1000, len(JPEG), len(JPEG) + 5000])
def test_no_room_for_the_copy_of_a_stream_names_tmpdir(client: SignerClient, room: int) -> None:
    output = io.BytesIO()
    with no_file_beyond(room), pytest.raises(Refusal) as caught:
        client.sign(io.BytesIO(JPEG), recipe="photo", metadata=GENERATED, output=output)
    assert caught.value.reason is Reason.OutputUnwritable
    assert "TMPDIR" in caught.value.message
    assert output.getvalue() == b""


def test_no_folder_for_the_copy_of_a_stream_names_tmpdir(
    client: SignerClient, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "gone"))
    with pytest.raises(Refusal, match="TMPDIR") as caught:
        client.sign(io.BytesIO(JPEG), recipe="photo", metadata=GENERATED, output=io.BytesIO())
    assert caught.value.reason is Reason.OutputUnwritable


def test_a_full_output_stream_is_named(client: SignerClient, photo: Path) -> None:
    with Path("/dev/full").open("wb") as full:
        with pytest.raises(Refusal, match="No space left on device") as caught:
            client.sign(photo, recipe="photo", metadata=GENERATED, output=full)
        assert caught.value.reason is Reason.OutputUnwritable
        full.raw.close()  # or closing it would write what is left in its buffer


_SIGN = """
import sys
from pathlib import Path
from byok_client import ClientSettings, SignerClient
address, token, source, output = sys.argv[1:]
with SignerClient(ClientSettings(address=address, token_file=Path(token))) as client:
    client.sign(source, recipe="photo", metadata={"ai_generated": True}, output=output or None)
"""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
@pytest.mark.parametrize("in_place", [True, False])
def test_a_job_that_is_killed_leaves_nothing_behind(
    signer: FakeSigner, settings: ClientSettings, folder: Path, *, number: int, in_place: bool
) -> None:
    source = folder / "photo.jpg"
    source.write_bytes(JPEG)
    signer.held = threading.Event()
    output = "" if in_place else str(folder / "out.jpg")
    arguments = (signer.address, str(settings.token_file), str(source), output)
    process = subprocess.Popen([sys.executable, "-c", _SIGN, *arguments])
    assert signer.asked.wait(PATIENCE)
    process.send_signal(number)
    assert process.wait(PATIENCE) == -number
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == {"photo.jpg": JPEG}
