"""Which files `byokctl sign` signs, and where each of them goes."""

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

import typer

from byok_api.errors import Reason, Refusal

FILES_LIMIT = 100_000
# In a folder, anything else is no media and left alone; a file that is named on the command line is always tried.
_SUFFIXES = frozenset(
    {
        ".avi",
        ".avif",
        ".dng",
        ".docx",
        ".epub",
        ".flac",
        ".gif",
        ".heic",
        ".heif",
        ".jpeg",
        ".jpg",
        ".jxl",
        ".m4a",
        ".m4v",
        ".mov",
        ".mp3",
        ".mp4",
        ".odg",
        ".odp",
        ".ods",
        ".odt",
        ".pdf",
        ".png",
        ".pptx",
        ".svg",
        ".tif",
        ".tiff",
        ".wav",
        ".webp",
        ".xlsx",
    }
)


@dataclass(frozen=True)
class Task:
    """One file to sign."""

    source: Path
    output: Path | None
    """None signs it in place."""


def plan(paths: Sequence[Path], output: str | None) -> list[Task]:
    """List the files to sign; without `output` each in place.

    One file goes to the file `output`, or into it if it is a folder or ends in a slash; several, and folders, go below
    the folder `output`, a folder's files where they were in it. Folders may have none: whoever signs what comes to a
    volume has nothing to do some nights. BadParameter if that cannot be, Refusal of a folder that cannot be read.
    """
    target = Path(output) if output is not None else None
    for path in paths:
        if target is not None and _is_folder(path) and target.resolve().is_relative_to(path.resolve()):
            raise typer.BadParameter(f"{output} lies in {path}, which is to be signed", param_hint="--output")
    found = list(dict.fromkeys(_files(paths)))
    if output is None or target is None:
        # Each once, by whatever names it goes: two at a time would sign each other's results.
        return [Task(source, None) for source in {os.path.realpath(source): source for source, _ in found}.values()]
    if len(paths) == 1 and not _is_folder(paths[0]) and not _is_folder(target) and not output.endswith(os.sep):
        return [Task(paths[0], target)]
    tasks = [Task(source, target / place) for source, place in found]
    _check_distinct(tasks)
    return tasks


def _files(paths: Sequence[Path]) -> Iterator[tuple[Path, Path]]:
    count = 0
    for path in paths:
        for source, place in _below(path) if _is_folder(path) else [(path, Path(path.name))]:
            count += 1
            if count > FILES_LIMIT:
                raise Refusal(Reason.AssetUnreadable, f"{path}: over {FILES_LIMIT} files; name a smaller folder")
            yield source, place


def _is_folder(path: Path) -> bool:
    try:
        return path.is_dir()
    except PermissionError:
        # It is tried as a file then, whose refusal says why it cannot be read.
        return False


def _below(folder: Path) -> Iterator[tuple[Path, Path]]:
    for parent, folders, names in os.walk(folder, onerror=_refuse):
        # Of a volume's file system itself, for root's eyes only.
        folders[:] = sorted(name for name in folders if name != "lost+found")
        for name in sorted(names):
            source = Path(parent, name)
            if source.suffix.lower() in _SUFFIXES and not name.startswith("."):
                yield source, source.relative_to(folder)


def _refuse(error: OSError) -> NoReturn:
    """Refuse a folder that cannot be read: what is in it would be left out without a word."""
    raise Refusal(Reason.AssetUnreadable, f"{error.filename}: cannot be read: {error.strerror}") from error


def _check_distinct(tasks: Sequence[Task]) -> None:
    taken: dict[Path | None, Path] = {}
    for task in tasks:
        other = taken.setdefault(task.output, task.source)
        if other is not task.source:
            raise typer.BadParameter(
                f"{other} and {task.source} would both become {task.output}; sign them apart", param_hint="--output"
            )
