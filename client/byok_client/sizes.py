"""Assets that are too large: for their format once the manifest is in them, or for what the library does with them."""

from typing import BinaryIO

from byok_api.errors import Reason, Refusal
from byok_client.bmff import last_short_chunk_offset

HELD_IN_MEMORY_LIMIT = 1024**3
"""Bytes of an asset that c2pa holds in memory whole, more than once."""
_ADDRESSED_BY_32_BITS = 2**32
_ROOM = 16 * 1024**2  # for the manifest, and those of the asset's history

_RIFF = frozenset({"audio/wav", "image/webp", "video/avi"})
_WITH_CHUNK_OFFSETS = frozenset({"audio/mp4", "video/mp4", "video/quicktime", "video/x-m4v"})
_HELD_IN_MEMORY = frozenset({"application/pdf", "image/jpeg", "image/svg+xml"})


def check_size(stream: BinaryIO, size: int, mime: str, name: str) -> None:
    """Refuse an asset that would not survive being signed (AssetUnreadable); moves the stream.

    c2pa 0.91 adds to 32-bit offsets without looking whether the sum fits: the video would be signed, and unplayable.
    """
    why = None
    if mime in _RIFF and size + _ROOM > _ADDRESSED_BY_32_BITS:
        why = f"{mime} ends at 4 GiB, and the manifest must fit in: split it"
    elif mime in _HELD_IN_MEMORY and size > HELD_IN_MEMORY_LIMIT:
        why = f"the limit for {mime}, which the C2PA library holds in memory whole, is {HELD_IN_MEMORY_LIMIT}"
    elif mime in _WITH_CHUNK_OFFSETS and size + _ROOM > _ADDRESSED_BY_32_BITS:
        last = last_short_chunk_offset(stream)
        if last + _ROOM > _ADDRESSED_BY_32_BITS:
            why = (
                f"its chunk offsets have 32 bits (stco) and reach {last}, so that some would be wrong once the "
                "manifest is in the file: write it with 64-bit offsets (co64)"
            )
    if why is not None:
        raise Refusal(Reason.AssetUnreadable, f"{name} is too large, {size} bytes: {why}")
