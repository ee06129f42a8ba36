"""CloudTrail's log files as they lie in its bucket: found in folders, unpacked, read event by event."""

import gzip
import os
import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from byok_api.audit.cloudtrail import Damage, Event, Found, NotCloudTrailError, SignEvent, read_events, sign_event
from byok_api.errors import Reason, Refusal

DAMAGES_LIMIT = 100
"""Damages that are listed; further ones are only counted."""
_PIECE = 256 * 1024
_GZIP = b"\x1f\x8b"
_DIGESTS = "CloudTrail-Digest"
"""Folders of the files that CloudTrail writes to prove its log files whole."""


@dataclass(kw_only=True)
class FilesRead:
    """What was read, and what could not be."""

    files: int = 0
    skipped: int = 0
    """Files of a folder that hold other JSON than CloudTrail's."""
    events: int = 0
    damages: list[tuple[str, int, str]] = field(default_factory=list)
    """File, offset in bytes (unpacked), what is wrong; the first `DAMAGES_LIMIT`."""
    damage_count: int = 0

    def damaged(self, path: Path, offset: int, message: str) -> None:
        """Note what could not be read."""
        self.damage_count += 1
        if len(self.damages) < DAMAGES_LIMIT:
            self.damages.append((str(path), offset, message))


def read_files(sources: Sequence[Path], see: Callable[[Event], None], take: Callable[[SignEvent], None]) -> FilesRead:
    """Show every event to `see`, and give every call of kms:Sign to `take`; Refusal if a source is not there."""
    found = FilesRead()
    for source in sources:
        if not source.exists():
            raise Refusal(Reason.InvalidRequest, f"CloudTrail files {source}: there is no such file or folder")
        for path in _below(source, found) if source.is_dir() else [source]:
            for offset, event in _events_of(path, found, named=path == source):
                found.events += 1
                see(event)
                try:
                    signing = sign_event(event)
                except ValueError as error:
                    found.damaged(path, offset, f"a Sign event is malformed: {error}")
                    continue
                if signing is not None:
                    take(signing)
    return found


def _below(folder: Path, found: FilesRead) -> Iterator[Path]:
    """Find log files in the order of their names, which is that of their times in CloudTrail's layout."""

    def unreadable(error: OSError) -> None:
        found.damaged(Path(error.filename), 0, f"the folder cannot be read: {error.strerror}")

    for here, folders, files in os.walk(folder, onerror=unreadable):
        folders[:] = sorted(name for name in folders if name != _DIGESTS)
        yield from (Path(here, name) for name in sorted(files) if name.endswith((".json", ".json.gz")))


def _events_of(path: Path, found: FilesRead, *, named: bool) -> Iterator[Found]:
    """Read a file's events; what cannot be read is noted."""
    pieces = _Pieces(path)
    found.files += 1
    damaged = read = False
    try:
        for event in read_events(pieces):
            if isinstance(event, Damage):
                found.damaged(path, event.offset, pieces.failure or event.message)
                damaged = True
            else:
                read = True
                yield event
    except NotCloudTrailError as error:
        if named or damaged or read:
            found.damaged(path, 0, f"this is none of CloudTrail's log files: {error}")
        else:
            found.skipped += 1
    if not pieces.offset and path.suffix != ".jsonl":
        pieces.failure = pieces.failure or "the file is empty"
    if pieces.failure and not damaged:
        found.damaged(path, pieces.offset, pieces.failure)


class _Pieces:
    """A file's bytes, unpacked if it is packed; ends where it cannot be read further, and says why."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self.offset = 0
        """Bytes given so far, unpacked."""
        self.failure = ""

    def __iter__(self) -> Iterator[bytes]:
        try:
            with self._path.open("rb") as file:
                read = file.read1 if file.peek(len(_GZIP))[:2] != _GZIP else gzip.GzipFile(fileobj=file).read1
                while piece := read(_PIECE):
                    self.offset += len(piece)
                    yield piece
        except EOFError:
            self.failure = "the file ends early: it was cut off while packed"
        except (gzip.BadGzipFile, zlib.error) as error:
            self.failure = f"the file cannot be unpacked: {error}"
        except OSError as error:
            self.failure = f"the file cannot be read: {error.strerror}"
