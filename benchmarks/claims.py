"""Claims by the thousand: a real one, in which is new each time what c2pa makes anew for each asset.

Equal claims would be signed once. New are the hashes of the assertions, which are salted, the UUID of the manifest and
the instanceID; all else, and the length, stays. The claim may be part of a longer message, such as a gRPC request.
"""

import os
import re
from dataclasses import dataclass

from byok_api.signer.v1 import signer_pb2 as pb

ID_SIZE = 8
_PLACES = re.compile(
    rb"dhash\x58\x20(?P<hash>.{32})|(?:xmp:iid:|urn:c2pa:)(?P<uuid>[0-9a-f-]{36})", re.DOTALL | re.IGNORECASE
)


@dataclass(frozen=True)
class Template:
    """A message with a claim in it; places are in bytes of the message."""

    message: bytes
    hashes: tuple[int, ...]
    uuids: tuple[int, ...]

    @classmethod
    def of(cls, message: bytes) -> "Template":
        """Find what is to be new in a message."""
        hashes: list[int] = []
        uuids: list[int] = []
        for found in _PLACES.finditer(message):
            kind = "hash" if found["hash"] is not None else "uuid"
            (hashes if kind == "hash" else uuids).append(found.start(kind))
        if not hashes or not uuids:
            raise ValueError("there is no claim in the message")
        return cls(message, tuple(hashes), tuple(uuids))

    def fresh(self) -> bytearray:
        """Make the message again, with a claim that was never seen before."""
        made, random = bytearray(self.message), os.urandom(32 * len(self.hashes) + 16)
        for number, place in enumerate(self.hashes):
            made[place : place + 32] = random[32 * number : 32 * number + 32]
        text = random[-16:].hex()
        uuid = f"{text[:8]}-{text[8:12]}-4{text[13:16]}-8{text[17:20]}-{text[20:]}".encode()
        for place in self.uuids:
            made[place : place + 36] = uuid
        return made


@dataclass(frozen=True)
class Claims:
    """Requests for a recipe, encoded, which saves the load's CPU for those who are measured."""

    unary: Template
    item: Template
    header: bytes

    @classmethod
    def of(cls, sig_structure: bytes, *, recipe: str, recipe_hash: str) -> "Claims":
        """Prepare requests to sign claims like the one in a Sig_structure."""
        request = pb.SignClaimRequest(recipe=recipe, expected_recipe_hash=recipe_hash, claim=sig_structure)
        item = pb.SignClaimsItem(id="0" * ID_SIZE, claim=sig_structure)
        return cls(
            unary=Template.of(request.SerializeToString()),
            item=Template.of(pb.SignClaimsRequest(items=[item]).SerializeToString()),
            header=pb.SignClaimsRequest(recipe=recipe, expected_recipe_hash=recipe_hash).SerializeToString(),
        )

    def request(self) -> bytes:
        """Make a SignClaimRequest."""
        return bytes(self.unary.fresh())

    def message(self, first: int, count: int) -> bytes:
        """Make a SignClaimsRequest of `count` items, whose ids are numbers from `first` in hexadecimal digits.

        Encoded messages that are joined are one that has all of their items (protobuf, "Encoding").
        """
        place, parts = self.item.message.index(b"0" * ID_SIZE), [self.header]
        for number in range(first, first + count):
            item = self.item.fresh()
            item[place : place + ID_SIZE] = b"%08x" % number
            parts.append(bytes(item))
        return b"".join(parts)
