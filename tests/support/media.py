"""The sample media of examples/media, with what each is."""

from dataclasses import dataclass
from pathlib import Path

_FOLDER = Path(__file__).parents[2] / "examples" / "media"


@dataclass(frozen=True)
class Sample:
    """One file."""

    path: Path
    mime: str
    kind: str


_TYPES = {
    "landscape.jpg": ("image/jpeg", "image"),
    "landscape.png": ("image/png", "image"),
    "sunset.mp4": ("video/mp4", "video"),
    "chime.wav": ("audio/wav", "audio"),
    "document.pdf": ("application/pdf", "text"),
    "document.docx": ("application/vnd.openxmlformats-officedocument.wordprocessingml.document", "text"),
}

MEDIA = {name: Sample(_FOLDER / name, mime, kind) for name, (mime, kind) in _TYPES.items()}
