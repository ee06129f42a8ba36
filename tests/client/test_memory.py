"""How much memory a large asset takes, and how many are taken at once."""

import os
import struct
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from byok_client import ClientSettings, SignerClient, Verdict
from byok_client.memory import Memory
from byok_client.switch import CalledOff, Switch
from tests.support.fake_signer import FakeSigner
from tests.support.media import MEDIA

MIB = 1024**2
PATIENCE = 30

_SIGN = """
import re, sys
from pathlib import Path
from byok_client import ClientSettings, SignerClient

def peak():
    return int(re.findall(r"VmHWM:\\s+(\\d+) kB", Path("/proc/self/status").read_text())[0]) // 1024

address, token, small, large, output = sys.argv[1:]
with SignerClient(ClientSettings(address=address, token_file=Path(token), timeout=60)) as client:
    client.sign(small, recipe="photo", metadata={"ai_generated": True}, output=output + ".small")
    before = peak()
    client.sign(large, recipe="photo", metadata={"ai_generated": True}, output=output)
    print(peak() - before)
"""


@pytest.fixture
def large_video(tmp_path: Path) -> Path:
    """A video of 160 MiB, nearly all of it a hole in the file."""
    path, size = tmp_path / "large.mp4", 160 * MIB
    head = MEDIA["sunset.mp4"].path.read_bytes()
    path.write_bytes(head + struct.pack(">I4sQ", 1, b"mdat", size))
    os.truncate(path, len(head) + size)
    return path


def test_a_large_video_takes_no_more_memory_than_the_hash_over_it(
    signer: FakeSigner, settings: ClientSettings, client: SignerClient, large_video: Path
) -> None:
    # c2pa hashes up to 256 MiB at a time, so this one is held once. With c2pa's own settings it was held twice.
    signer.recipe.media_type = "video"
    output = large_video.with_name("signed.mp4")
    small = str(MEDIA["sunset.mp4"].path)
    arguments = (signer.address, str(settings.token_file), small, str(large_video), str(output))
    ended = subprocess.run([sys.executable, "-c", _SIGN, *arguments], check=True, capture_output=True, text=True)
    assert int(ended.stdout) < 160 + 64 + 32
    assert client.verify(output).state is Verdict.VALID


def test_assets_are_let_in_while_there_is_room_and_a_larger_one_alone() -> None:
    memory, switch = Memory(limit=10), Switch()
    inside: list[int] = []
    most = 0
    lock = threading.Lock()

    def work(size: int) -> None:
        nonlocal most
        with memory.room_for(size, switch):
            with lock:
                inside.append(size)
                most = max(most, sum(inside))
                assert sum(inside) <= 10 or len(inside) == 1
            with lock:
                inside.remove(size)

    with ThreadPoolExecutor(8) as workers:
        list(workers.map(work, [1, 4, 25, 3, 10, 7, 2, 6, 100, 5] * 20))
    assert most == 100
    with memory.room_for(10, switch):
        pass


def test_waiting_for_room_can_be_called_off() -> None:
    memory, switch = Memory(limit=10), Switch()
    ended = threading.Event()

    def wait() -> None:
        with pytest.raises(CalledOff), memory.room_for(5, switch):
            pytest.fail("let in")
        ended.set()

    with memory.room_for(8, Switch()):
        waiting = threading.Thread(target=wait)
        waiting.start()
        switch.call_off()
        assert ended.wait(PATIENCE)
        waiting.join()
    with memory.room_for(10, Switch()):
        pass
