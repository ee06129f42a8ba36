# ruff: noqa: INP001 - a ConfigMap holds it, no package
"""Signs what is put into a folder: DESK/inbox/NAME becomes DESK/outbox/NAME.

Whoever fills the inbox writes under a name that begins with a dot and renames the file when it is whole. One of these
works on a desk at a time; ended at any moment, the next one goes on where it was: a file is taken into work/, signed
from there into outbox/, where it appears whole or not at all, and only then removed. What is wrong with an asset itself
is told in refused/, beside it. All else is waited out: nothing is lost while a key or the signer is away.
"""

import json
import logging
import os
import signal
import sys
import threading
from collections.abc import Callable
from pathlib import Path

from byok_api.errors import Reason, Refusal

# Those of which another attempt is of no use. Whatever else is refused, somebody can mend without the asset.
ASSETS_OWN = frozenset(
    {
        Reason.AssetUnreadable,
        Reason.InputManifestInvalid,
        Reason.MediaTypeMismatch,
        Reason.MessageTooLong,
        Reason.RecipeNotMet,
        Reason.SigningFailed,
    }
)
LOOKS_EVERY = 2.0  # seconds; volumes that several nodes mount tell nothing of each other's changes
LONGEST_PAUSE = 60.0

log = logging.getLogger("sign-inbox")
Sign = Callable[[Path, Path], object]
"""Signs the first file into the second, which is not there yet; raises Refusal."""


class Desk:
    """A folder with inbox, work, outbox and refused in it, on one volume."""

    def __init__(self, folder: Path, sign: Sign) -> None:
        self._inbox, self._work, self._outbox, self._refused = (
            folder / name for name in ("inbox", "work", "outbox", "refused")
        )
        for place in (self._inbox, self._work, self._outbox, self._refused):
            place.mkdir(exist_ok=True)
        self._sign = sign

    def clear(self, stopping: threading.Event) -> bool:
        """Work on all that is there; answers whether nothing waits for somebody to mend something."""
        done = True
        for source in _files(self._inbox):
            done = self._take(source) and done
        for source in _files(self._work):
            if stopping.is_set():
                break
            done = self._finish(source) and done
        return done

    def _take(self, source: Path) -> bool:
        for place in (self._work, self._outbox, self._refused):
            if (place / source.name).exists():
                log.warning("%s waits: another one is in %s", source.name, place)
                return False
        source.rename(self._work / source.name)
        return True

    def _finish(self, source: Path) -> bool:
        output = self._outbox / source.name
        # Taken when there was no such output: it was signed by one that was ended before it could say so.
        if not output.exists():
            try:
                self._sign(source, output)
            except Refusal as refusal:
                told = f"{refusal.reason.name}: {refusal.message}"
                if refusal.reason not in ASSETS_OWN:
                    log.warning("%s waits: %s", source.name, told)
                    return False
                self._refuse(source, told)
                return True
        source.unlink()
        log.info("signed %s", source.name)
        return True

    def _refuse(self, source: Path, why: str) -> None:
        log.error("%s is refused: %s", source.name, why)
        (self._refused / f"{source.name}.txt").write_text(f"{why}\n")
        source.rename(self._refused / source.name)


def _files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if not path.name.startswith(".") and path.is_file())


def main() -> None:
    """Sign what comes into the inbox of BYOK_DESK until SIGTERM, under BYOK_RECIPE with BYOK_METADATA (JSON)."""
    stopping = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        # Process 1 of a container has no default for it. What is being signed is finished first.
        signal.signal(number, lambda *_: stopping.set())
    logging.basicConfig(stream=sys.stderr, level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    recipe, metadata, folder = _setting("BYOK_RECIPE"), _metadata(), _setting("BYOK_DESK")
    # It takes a moment to load, in which SIGTERM is to be heard.
    from byok_client import SignerClient  # noqa: PLC0415 - see above

    try:
        client = SignerClient.from_environment()
    except Refusal as refusal:
        sys.exit(f"sign_inbox.py: {refusal.reason.name}: {refusal.message}")
    with client:
        desk = Desk(
            Path(folder),
            lambda source, output: client.sign(source, recipe=recipe, metadata=metadata, output=output),
        )
        log.info("signing what comes into %s/inbox under %s", folder, recipe)
        pause = LOOKS_EVERY
        while not stopping.wait(pause):
            pause = LOOKS_EVERY if desk.clear(stopping) else min(2 * pause, LONGEST_PAUSE)


def _setting(name: str) -> str:
    value = os.environ.get(name)
    if not value:
        sys.exit(f"sign_inbox.py: {name} is not set")
    return value


def _metadata() -> dict[str, object]:
    try:
        metadata = json.loads(_setting("BYOK_METADATA"))
    except ValueError:
        metadata = None
    if not isinstance(metadata, dict):
        sys.exit("sign_inbox.py: BYOK_METADATA is no JSON object")
    return metadata


if __name__ == "__main__":
    main()
