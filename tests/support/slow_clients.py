"""HTTP/2 by hand (RFC 9113, RFC 7541), for clients that stop half-way or misbehave, which no gRPC library can be."""

import asyncio
import ssl
import struct
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
DATA, HEADERS, SETTINGS, PING, GOAWAY = 0x0, 0x1, 0x4, 0x6, 0x7
END_HEADERS = 0x4
MAX_CONCURRENT_STREAMS, INITIAL_WINDOW_SIZE, MAX_HEADER_LIST_SIZE = 0x3, 0x4, 0x6
_HEADER = struct.Struct("!BHBBI")


@dataclass(frozen=True)
class Frame:
    """A frame as it came."""

    kind: int
    flags: int
    stream: int
    payload: bytes


@dataclass(frozen=True)
class Connection:
    """A connection on which anything can be sent."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter

    async def send(self, *parts: bytes) -> None:
        """Send bytes, frames or not."""
        self.writer.writelines(parts)
        await self.writer.drain()

    async def frame(self) -> Frame | None:
        """Read the next frame; None at the end of the connection, however it ends."""
        try:
            head = await self.reader.readexactly(_HEADER.size)
            high, low, kind, flags, stream = _HEADER.unpack(head)
            return Frame(kind, flags, stream, await self.reader.readexactly(high << 16 | low))
        except (asyncio.IncompleteReadError, ConnectionError):
            return None

    async def closed(self) -> None:
        """Wait until the other end has closed the connection, answering nothing."""
        try:
            while await self.reader.read(65536):
                pass
        except ConnectionError:
            pass


@asynccontextmanager
async def connected(path: Path) -> AsyncIterator[Connection]:
    """Connect to a unix socket."""
    reader, writer = await asyncio.open_unix_connection(path)
    try:
        yield Connection(reader, writer)
    finally:
        writer.close()


async def connect_tcp(port: int, *, tls: ssl.SSLContext | None = None) -> Connection:
    """Connect to a port of this machine."""
    return Connection(
        *await asyncio.open_connection("127.0.0.1", port, ssl=tls, server_hostname="localhost" if tls else None)
    )


def frame(kind: int, payload: bytes = b"", *, flags: int = 0, stream: int = 0) -> bytes:
    """Write a frame."""
    return _HEADER.pack(len(payload) >> 16, len(payload) & 0xFFFF, kind, flags, stream) + payload


def settings(values: dict[int, int]) -> bytes:
    """Write a SETTINGS frame."""
    return frame(SETTINGS, b"".join(struct.pack("!HI", name, value) for name, value in values.items()))


def read_settings(payload: bytes) -> dict[int, int]:
    """Read a SETTINGS frame."""
    return dict(struct.iter_unpack("!HI", payload))


def call_headers(method: str, *metadata: tuple[str, str], stream: int = 1) -> bytes:
    """Write the HEADERS frame that begins a gRPC call."""
    fields: Sequence[tuple[str, str]] = (
        (":method", "POST"),
        (":scheme", "http"),
        (":path", method),
        (":authority", "localhost"),
        ("te", "trailers"),
        ("content-type", "application/grpc"),
        *metadata,
    )
    block = b"".join(b"\x00" + _string(name) + _string(value) for name, value in fields)
    return frame(HEADERS, block, flags=END_HEADERS, stream=stream)


def _string(text: str) -> bytes:
    data = text.encode()
    if len(data) < 127:
        return bytes([len(data)]) + data
    # RFC 7541, section 5.1: the rest in groups of seven bits.
    rest, encoded = len(data) - 127, bytearray([127])
    while rest >= 128:
        encoded.append(rest % 128 + 128)
        rest //= 128
    return bytes(encoded) + bytes([rest]) + data
