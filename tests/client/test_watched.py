"""A file as the native library sees it: read in parts, ended when called off, its errors kept."""

import errno
import io
import os
import re
from pathlib import Path

import pytest

from byok_api.errors import Reason, Refusal
from byok_client.storage import native_error, no_room_for_copy
from byok_client.switch import CalledOff, Switch
from byok_client.watched import Watched

MIB = 1024**2


class Broken(io.BytesIO):
    """A file on a disk that fails."""

    def readinto(self, _buffer: object) -> int:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    def write(self, _data: object) -> int:
        raise OSError(errno.EDQUOT, os.strerror(errno.EDQUOT))


def test_much_is_read_in_parts_so_that_it_can_be_called_off() -> None:
    switch, content = Switch(), os.urandom(3 * MIB)
    watched, buffer = Watched(io.BytesIO(content), switch), bytearray(3 * MIB)
    read = 0
    while part := watched.readinto(memoryview(buffer)[read:]):
        assert part <= MIB
        read += part
    assert buffer == content
    switch.call_off()
    with pytest.raises(CalledOff):
        watched.readinto(memoryview(buffer))


def test_an_error_is_kept_for_the_message() -> None:
    watched = Watched(Broken(), Switch())
    with pytest.raises(OSError, match="Input/output"):
        watched.readinto(memoryview(bytearray(1)))
    assert watched.error is not None
    assert watched.error.errno == errno.EIO
    with pytest.raises(OSError, match="quota"):
        watched.write(b"x")
    assert watched.error.errno == errno.EDQUOT


@pytest.mark.parametrize(
    ("said", "code"),
    [
        ("Io: No space left on device (os error 28)", errno.ENOSPC),
        ("Io: Read-only file system (os error 30)", errno.EROFS),
        ("Other: Connection refused (os error 111)", None),
        ("Other: embedding error", None),
    ],
)
def test_what_befell_a_file_of_the_librarys_own_is_told_from_the_rest(said: str, code: int | None) -> None:
    found = native_error(said)
    assert (found.errno if found else None) == code


def test_a_temporary_copy_without_room_names_the_folder_in_use(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    refusal = no_room_for_copy("a.mp4", OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)))
    assert isinstance(refusal, Refusal)
    assert refusal.reason is Reason.OutputUnwritable
    assert re.fullmatch(
        rf"a\.mp4: .* to {tmp_path}: No space left on device in {tmp_path}: free some there, .*", refusal.message
    )
