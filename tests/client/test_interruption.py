"""Ctrl-C and cancelled tasks: the call ends at once, and nothing is left behind."""

import asyncio
import random
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from byok_client import AsyncSignerClient, ClientSettings, SignerClient, Verdict
from byok_client.switch import CalledOff, Switch
from tests.support.fake_signer import FakeSigner
from tests.support.media import MEDIA

GENERATED = {"ai_generated": True}
PATIENCE = 10


@pytest.fixture
def unanswered(signer: FakeSigner) -> FakeSigner:
    signer.held = threading.Event()
    return signer


@pytest.fixture
def ctrl_c(unanswered: FakeSigner) -> Iterator[None]:
    """Press Ctrl-C once the signer has been asked for a signature."""

    def press() -> None:
        assert unanswered.asked.wait(PATIENCE)
        signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)

    thread = threading.Thread(target=press)
    thread.start()
    yield
    thread.join()


@pytest.mark.usefixtures("ctrl_c")
def test_ctrl_c_ends_the_call_and_leaves_the_folder_as_it_was(
    unanswered: FakeSigner, settings: ClientSettings, client: SignerClient, photo: Path
) -> None:
    before = {path.name: path.read_bytes() for path in photo.parent.iterdir() if path.is_file()}
    began = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        client.sign(photo, recipe="photo", metadata=GENERATED)
    assert time.monotonic() - began < settings.timeout / 2
    assert unanswered.abandoned.wait(PATIENCE)
    assert {path.name: path.read_bytes() for path in photo.parent.iterdir() if path.is_file()} == before
    assert not [thread.name for thread in threading.enumerate() if thread.name == "byok-sign"]


@pytest.mark.usefixtures("ctrl_c")
def test_the_client_works_on_after_ctrl_c(unanswered: FakeSigner, client: SignerClient, photo: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        client.sign(photo, recipe="photo", metadata=GENERATED)
    unanswered.held = None
    assert client.sign(photo, recipe="photo", metadata=GENERATED).output == photo


async def test_a_cancelled_task_ends_the_call_and_leaves_the_folder_as_it_was(
    unanswered: FakeSigner, settings: ClientSettings, photo: Path
) -> None:
    before = {path.name: path.read_bytes() for path in photo.parent.iterdir() if path.is_file()}
    async with AsyncSignerClient(settings) as client:
        task = asyncio.create_task(client.sign(photo, recipe="photo", metadata=GENERATED))
        assert await asyncio.to_thread(unanswered.asked.wait, PATIENCE)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asyncio.wait_for(task, PATIENCE)
        assert {path.name: path.read_bytes() for path in photo.parent.iterdir() if path.is_file()} == before
    assert await asyncio.to_thread(unanswered.abandoned.wait, PATIENCE)


async def test_a_timeout_around_the_call_works(unanswered: FakeSigner, settings: ClientSettings, photo: Path) -> None:
    timeout = asyncio.timeout(None)

    async def run_out() -> None:
        assert await asyncio.to_thread(unanswered.asked.wait, PATIENCE)
        timeout.reschedule(asyncio.get_running_loop().time())

    async with AsyncSignerClient(settings) as client:
        ending = asyncio.create_task(run_out())
        with pytest.raises(TimeoutError):
            async with timeout:
                await client.sign(photo, recipe="photo", metadata=GENERATED)
        await ending


def test_a_wait_between_attempts_can_be_called_off() -> None:
    switch = Switch()
    threading.Timer(0.01, switch.call_off).start()
    with pytest.raises(CalledOff):
        switch.sleep(PATIENCE)


def test_what_begins_after_calling_off_is_ended_at_once() -> None:
    switch, ended = Switch(), threading.Event()
    switch.call_off()
    with pytest.raises(CalledOff), switch.ended_by(ended.set):
        pytest.fail("began")
    assert ended.is_set()


def _interrupt(_number: int, _frame: object) -> None:
    raise KeyboardInterrupt


@pytest.fixture
def alarm() -> Iterator[None]:
    """Let SIGALRM, which can be ordered for a moment, do what Ctrl-C does."""
    before = signal.signal(signal.SIGALRM, _interrupt)
    yield
    signal.setitimer(signal.ITIMER_REAL, 0)
    signal.signal(signal.SIGALRM, before)


def seconds_to_sign(client: SignerClient, photo: Path, content: bytes) -> float:
    photo.write_bytes(content)
    began = time.monotonic()
    client.sign(photo, recipe="photo", metadata=GENERATED)
    return time.monotonic() - began


@pytest.mark.timeout(method="thread")  # the usual method needs SIGALRM too
@pytest.mark.usefixtures("alarm")
@pytest.mark.parametrize("seed", range(4))
def test_ctrl_c_at_any_moment_leaves_the_old_file_or_the_whole_new_one(
    client: SignerClient, tmp_path: Path, seed: int
) -> None:
    folder = tmp_path / "outputs"
    folder.mkdir()
    photo = folder / "photo.jpg"
    content = MEDIA["landscape.jpg"].path.read_bytes()
    usual = min(seconds_to_sign(client, photo, content) for _ in range(3))
    chance, interrupted = random.Random(seed), 0  # noqa: S311 - moments
    for _ in range(25):
        photo.write_bytes(content)
        try:
            signal.setitimer(signal.ITIMER_REAL, usual * chance.uniform(0.01, 1))
            client.sign(photo, recipe="photo", metadata=GENERATED)
            signal.setitimer(signal.ITIMER_REAL, 0)
        except KeyboardInterrupt:
            interrupted += 1
        for thread in threading.enumerate():
            if thread.name == "byok-sign" and thread.is_alive():  # its beginning or end was interrupted
                thread.join(PATIENCE)
        assert list(folder.iterdir()) == [photo]
        assert photo.read_bytes() == content or client.verify(photo).state is Verdict.VALID
    assert interrupted
