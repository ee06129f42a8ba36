"""What kind of media a file is, by its content first and its name second, and whether it is all there."""

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import PurePath
from typing import BinaryIO, NoReturn

from byok_api.errors import Reason, Refusal
from byok_client.bmff import is_complete
from byok_client.sizes import check_size

_HEAD = 512
_CHUNK = 1024 * 1024
_MARKER = 0xFF  # ITU T.81, B.1.1.2
_START_OF_SCAN = 0xDA
_RIFF_HEADER = 12
_PDF_TAIL = 4096
_ZIP_END = 22  # end of central directory record without its comment (PKWARE APPNOTE, section 4.3.16)
_ZIP_TAIL = _ZIP_END + 65_535
_UNKNOWN_RIFF_SIZES = (0, 0xFFFFFFFF)  # what encoders write that cannot seek back

_OPEN_XML = "application/vnd.openxmlformats-officedocument."
_OPEN_DOCUMENT = "application/vnd.oasis.opendocument."
_ZIP_TYPES = {
    ".docx": f"{_OPEN_XML}wordprocessingml.document",
    ".pptx": f"{_OPEN_XML}presentationml.presentation",
    ".xlsx": f"{_OPEN_XML}spreadsheetml.sheet",
    ".odg": f"{_OPEN_DOCUMENT}graphics",
    ".odp": f"{_OPEN_DOCUMENT}presentation",
    ".ods": f"{_OPEN_DOCUMENT}spreadsheet",
    ".odt": f"{_OPEN_DOCUMENT}text",
    ".epub": "application/epub+zip",
}
_BMFF_TYPES = {".m4a": "audio/mp4", ".m4v": "video/x-m4v", ".mov": "video/quicktime", ".mp4": "video/mp4"}
_BRANDS = {
    b"avif": "image/avif",
    b"avis": "image/avif",
    b"heic": "image/heic",
    b"heix": "image/heic",
    b"mif1": "image/heif",
    b"msf1": "image/heif",
    b"qt  ": "video/quicktime",
    b"M4A ": "audio/mp4",
    b"M4V ": "video/x-m4v",
}
_RIFF_FORMS = {b"WEBP": "image/webp", b"WAVE": "audio/wav", b"AVI ": "video/avi"}
_MAGIC = (
    (b"\xff\xd8\xff", "image/jpeg"),
    (b"\x89PNG\r\n\x1a\n", "image/png"),
    (b"GIF8", "image/gif"),
    (b"\x00\x00\x00\x0cJXL \r\n\x87\n", "image/jxl"),
    (b"fLaC", "audio/flac"),
    (b"ID3", "audio/mpeg"),
    (b"%PDF-", "application/pdf"),
)
_MPEG_SYNC = {0xFB, 0xFA, 0xF3, 0xF2, 0xE3, 0xE2}


@dataclass(frozen=True)
class Media:
    """A type of media that can be signed."""

    mime: str

    @property
    def kind(self) -> str:
        """`image`, `audio`, `video`, or `text` for documents, as recipes call it."""
        kind = self.mime.partition("/")[0]
        return "text" if kind == "application" else kind


def detect(stream: BinaryIO, name: str, *, complete: bool) -> Media:
    """Tell the type of a seekable stream and, if asked, check that it is complete; leaves it at its start.

    Refusal AssetUnreadable for an empty, unsupported, too large or truncated one. TIFF, MP3, FLAC and JPEG XL are not
    checked for completeness: nothing in them says where they end.
    """
    size = stream.seek(0, os.SEEK_END)
    stream.seek(0)
    if size == 0:
        _refuse(name, "is empty")
    mime = _type_of(stream.read(_HEAD), PurePath(name).suffix.lower())
    if mime is None:
        _refuse(
            name,
            "is of no type that can be signed: JPEG, PNG, GIF, WebP, TIFF, DNG, HEIC, AVIF, JPEG XL, SVG; MP4, MOV, "
            "AVI; WAV, MP3, M4A, FLAC; PDF, Office, OpenDocument",
        )
    check = _COMPLETENESS.get(mime) or (
        is_complete if mime in _BMFF_MIMES else _zip if mime in _ZIP_TYPES.values() else None
    )
    if complete:
        check_size(stream, size, mime, name)
        if check is not None and not check(stream, size):
            _refuse(name, f"begins as {mime} but is truncated or damaged")
    stream.seek(0)
    return Media(mime)


def _refuse(name: str, what: str) -> NoReturn:
    raise Refusal(Reason.AssetUnreadable, f"{name} {what}")


def _type_of(head: bytes, extension: str) -> str | None:
    for magic, mime in _MAGIC:
        if head.startswith(magic):
            return mime
    if head[4:8] == b"ftyp":
        return _BRANDS.get(head[8:12]) or _BMFF_TYPES.get(extension, "video/mp4")
    if head.startswith(b"RIFF"):
        return _RIFF_FORMS.get(head[8:12])
    if head.startswith((b"II*\x00", b"MM\x00*")):
        return "image/dng" if extension == ".dng" else "image/tiff"
    if head.startswith(b"PK\x03\x04"):
        return _ZIP_TYPES.get(extension)
    return _type_of_the_rest(head, extension)


def _type_of_the_rest(head: bytes, extension: str) -> str | None:
    if head.startswith(b"\xff\x0a"):
        return "image/jxl"
    if head[:1] == b"\xff" and head[1:2] and head[1] in _MPEG_SYNC:
        return "audio/mpeg"
    if extension == ".svg" and b"<" in head.lstrip(b"\xef\xbb\xbf \t\r\n")[:1]:
        return "image/svg+xml"
    return None


def _jpeg(stream: BinaryIO, size: int) -> bool:
    position = 2
    while position + 4 <= size:
        stream.seek(position)
        marker = stream.read(4)
        if marker[0] != _MARKER:
            return False
        if marker[1] == _MARKER:  # a fill byte
            position += 1
        elif marker[1] == _START_OF_SCAN:
            return _has_end_of_image(stream)
        else:
            position += 2 + int.from_bytes(marker[2:4], "big")
    return False


def _has_end_of_image(stream: BinaryIO) -> bool:
    # In entropy-coded data 0xFF is followed by a stuffed zero or a restart marker (ITU T.81, B.1.1.5), so this is it.
    last = b""
    while chunk := stream.read(_CHUNK):
        if b"\xff\xd9" in last + chunk:
            return True
        last = chunk[-1:]
    return False


def _png(stream: BinaryIO, size: int) -> bool:
    position = 8
    while position + 12 <= size:
        stream.seek(position)
        header = stream.read(8)
        position += 12 + int.from_bytes(header[:4], "big")
        if header[4:] == b"IEND":
            return position <= size
    return False


def _gif(stream: BinaryIO, size: int) -> bool:
    return _tail(stream, size, 16).rstrip(b"\x00").endswith(b";")


def _riff(stream: BinaryIO, size: int) -> bool:
    stream.seek(4)
    declared = int.from_bytes(stream.read(4), "little")
    return size > _RIFF_HEADER and (declared in _UNKNOWN_RIFF_SIZES or declared + 8 <= size)


def _pdf(stream: BinaryIO, size: int) -> bool:
    return b"%%EOF" in _tail(stream, size, _PDF_TAIL)


def _zip(stream: BinaryIO, size: int) -> bool:
    tail = _tail(stream, size, _ZIP_TAIL)
    found = tail.rfind(b"PK\x05\x06")
    end = tail[found:]
    return found >= 0 and len(end) >= _ZIP_END and _ZIP_END + int.from_bytes(end[20:_ZIP_END], "little") <= len(end)


def _tail(stream: BinaryIO, size: int, length: int) -> bytes:
    stream.seek(max(0, size - length))
    return stream.read(length)


_BMFF_MIMES = {*_BRANDS.values(), *_BMFF_TYPES.values()}
_COMPLETENESS: dict[str, Callable[[BinaryIO, int], bool]] = {
    "image/jpeg": _jpeg,
    "image/png": _png,
    "image/gif": _gif,
    "image/webp": _riff,
    "audio/wav": _riff,
    "video/avi": _riff,
    "application/pdf": _pdf,
}
