"""Strict CBOR: one encoding for one value, and nothing reaches cbor2 that could make it work hard.

cbor2 decodes tags eagerly (regular expressions, bignums, dates: 90 ms for one hostile 50 KB message), ignores bytes
after the item and accepts lengths and integers that are longer than they need be. So every message is first walked by
`_scan`, which looks at heads only. What passes is what encoding its value again would yield, byte for byte: heads have
one form for one value, strict UTF-8 has one for one text, and map keys stay in the order found (c2pa-rs does not sort).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

import cbor2

DEPTH_LIMIT = 16

ENCODING_RULES: Mapping[str, str] = MappingProxyType(
    {
        "well-formed": "a complete item as RFC 8949 defines it",
        "no-trailing-bytes": "nothing after the one item",
        "no-tags": "no CBOR tags",
        "definite-lengths": "definite lengths only",
        "simple-values": "no simple values but false, true and null",
        "depth": f"at most {DEPTH_LIMIT} containers in each other",
        "item-count": "no more items than a claim can need",
        "utf-8": "text in UTF-8",
        "map-keys": "map keys that are text",
        "no-duplicate-keys": "each map key once",
        "exact-encoding": "the one encoding of its value: shortest integers and lengths, 64-bit floats",
    },
)
"""What is demanded of the encoding, by check, in the order of the checks; the values are the words of the refusal."""


@dataclass(frozen=True)
class Layer:
    """One of the three pieces of CBOR in a message, and what it may need."""

    name: str
    item_limit: int
    text_keys: bool


SIG_STRUCTURE = Layer("the Sig_structure", 16, text_keys=False)
PROTECTED_HEADER = Layer("the protected header", 64, text_keys=False)
# Some 400 assertions, with five items for the reference to each.
CLAIM = Layer("the claim", 2048, text_keys=True)


class EncodingFault(Exception):  # noqa: N818 - the input's, not this program's
    """A rule of `ENCODING_RULES` is broken."""

    def __init__(self, rule: str, found: str) -> None:
        super().__init__(rule, found)
        self.rule = rule
        self.found = found
        """What was found and where; never a piece of the input."""


def decode(data: bytes, layer: Layer) -> object:
    """Decode one item whose encoding is exactly `data`; EncodingFault names the rule that is broken.

    Yields dict, list, str, bytes, int, float, bool and None. Takes time linear in what `layer.item_limit` allows.
    """
    exact = _scan(data, layer)
    try:
        item: object = cbor2.loads(
            data,
            max_depth=DEPTH_LIMIT,
            allow_indefinite=False,
            allow_duplicate_keys=False,
            strict_hashable_types=layer.text_keys,
        )
    except cbor2.CBORError as error:
        raise _fault_behind(error, data, layer) from error
    if not exact:
        raise EncodingFault("exact-encoding", f"{layer.name} in another encoding of the same value")
    return item


def _fault_behind(error: cbor2.CBORError, data: bytes, layer: Layer) -> EncodingFault:
    # cbor2 has one exception for all of them; what changes when a rule is lifted tells which it was.
    if isinstance(error.__cause__, UnicodeDecodeError):
        return EncodingFault("utf-8", f"other bytes in a text of {layer.name}")
    try:
        cbor2.loads(data, max_depth=DEPTH_LIMIT, allow_indefinite=False, strict_hashable_types=layer.text_keys)
    except cbor2.CBORError:
        return EncodingFault("map-keys", f"a key of another type in {layer.name}")
    return EncodingFault("no-duplicate-keys", f"a repeated key in {layer.name}")


# RFC 8949, section 3: an item's head is a byte of three bits major type and five bits argument, or where 24 to 27 stand
# there, that many bytes of argument after it.
_BYTES, _TEXT, _ARRAY, _MAP, _TAG, _SIMPLE = 2, 3, 4, 5, 6, 7
_WIDTH_OF = MappingProxyType({24: 1, 25: 2, 26: 4, 27: 8})
_INDEFINITE = 31
_FALSE_TRUE_NULL = (20, 21, 22)
_FLOATS = (25, 26, 27)


def _fault_of_head(initial: int) -> str:
    """Name the rule that an item's first byte breaks, or ""."""
    major, argument = initial >> 5, initial & 31
    if major == _TAG:
        return "no-tags"
    if argument == _INDEFINITE and major in (_BYTES, _TEXT, _ARRAY, _MAP, _SIMPLE):
        return "definite-lengths"
    if 28 <= argument:  # noqa: PLR2004, SIM300 - 28 to 30 are reserved, 31 has no meaning for integers
        return "well-formed"
    if major == _SIMPLE and argument not in (*_FALSE_TRUE_NULL, *_FLOATS):
        return "simple-values"
    return ""


def _size_of_head(initial: int) -> int:
    """Count the bytes of an item that its first byte alone tells; 0 if there is more to look at."""
    major, argument = initial >> 5, initial & 31
    if _FAULTS[initial] or major in (_ARRAY, _MAP) or argument in _WIDTH_OF:
        return 0
    return 1 + argument if major in (_BYTES, _TEXT) else 1


def _least_argument(initial: int) -> int:
    """Say from which argument on an item needs a head of this form (RFC 8949, section 4.1)."""
    if initial >> 5 == _SIMPLE:
        return 0
    return {0: 0, 1: 24, 2: 1 << 8, 4: 1 << 16, 8: 1 << 32}[_WIDTH_OF.get(initial & 31, 0)]


def _is_exact_float(width: int, bits: int) -> bool:
    """Tell if these bits are cbor2's form of a float: eight bytes, but two for the infinities and for the one NaN."""
    if width == 8:  # noqa: PLR2004 - bytes of a double
        return bits >> 52 & 0x7FF != 0x7FF  # noqa: PLR2004 - the exponent of infinities and NaNs
    return width == 2 and bits in (0x7C00, 0xFC00, 0x7E00)  # noqa: PLR2004 - bytes of a half


_FAULTS = tuple(_fault_of_head(initial) for initial in range(256))
_SIZES = tuple(_size_of_head(initial) for initial in range(256))
_WIDTHS = tuple(_WIDTH_OF.get(initial & 31, 0) for initial in range(256))
_LEASTS = tuple(_least_argument(initial) for initial in range(256))


def _scan(data: bytes, layer: Layer) -> bool:
    """Walk the heads of all items, without building anything; False if one is longer than it need be."""
    at = 0
    exact = True
    items = 1
    left = 1  # items to come in the innermost open container
    around: list[int] = []  # the same of the containers around it
    try:
        while True:
            while not left:
                if not around:
                    _check_end(at, data, layer)
                    return exact
                left = around.pop()
            left -= 1
            initial = data[at]
            size = _SIZES[initial]
            if size:
                at += size
                continue
            if _FAULTS[initial]:
                raise EncodingFault(_FAULTS[initial], f"byte 0x{initial:02x} at offset {at} of {layer.name}")
            width = _WIDTHS[initial]
            at += 1 + width
            argument = int.from_bytes(data[at - width : at]) if width else initial & 31
            exact = exact and argument >= _LEASTS[initial]
            if initial < _ARRAY << 5:
                at += argument if initial >= _BYTES << 5 else 0
                continue
            if initial >= _SIMPLE << 5:
                exact = exact and _is_exact_float(width, argument)
                continue
            around.append(left)
            left = argument if initial < _MAP << 5 else 2 * argument
            items += left
            if len(around) > DEPTH_LIMIT or items > layer.item_limit:
                raise _too_much(len(around), at, layer)
    except IndexError:
        raise EncodingFault("well-formed", f"{layer.name} cut short at {len(data)} bytes") from None


def _too_much(depth: int, at: int, layer: Layer) -> EncodingFault:
    if depth > DEPTH_LIMIT:
        return EncodingFault("depth", f"a deeper one at offset {at} of {layer.name}")
    return EncodingFault("item-count", f"more than {layer.item_limit} in {layer.name}")


def _check_end(at: int, data: bytes, layer: Layer) -> None:
    if at > len(data):
        raise EncodingFault("well-formed", f"{layer.name} cut short at {len(data)} bytes")
    if at < len(data):
        raise EncodingFault("no-trailing-bytes", f"{len(data) - at} bytes after {layer.name}")
