"""TLS in front of a server that speaks plaintext on the loopback."""

import asyncio
import contextlib
import ssl
from collections.abc import AsyncIterator
from pathlib import Path

from byok_sandbox.ca import ServerCertificate

_CHUNK = 64 * 1024


@contextlib.asynccontextmanager
async def tls_front(
    certificate: ServerCertificate, listen: tuple[str, int], behind: tuple[str, int], folder: Path
) -> AsyncIterator[int]:
    """Take TLS connections on `listen`, pass what they carry on to `behind`, and give the port; OSError if it is taken.

    Certificate and key are written into `folder`, as Python loads them from files only.
    """
    context = _context(certificate, folder)

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        # Either side may break off at any time; the other one is told by the end of its connection.
        with contextlib.suppress(OSError):
            inner_reader, inner_writer = await asyncio.open_connection(*behind)
            async with _closing(inner_writer), _closing(writer), asyncio.TaskGroup() as both:
                both.create_task(_pass_on(reader, inner_writer))
                both.create_task(_pass_on(inner_reader, writer))

    server = await asyncio.start_server(serve, *listen, ssl=context)
    async with server:
        yield server.sockets[0].getsockname()[1]


def _context(certificate: ServerCertificate, folder: Path) -> ssl.SSLContext:
    chain, key = folder / "front.crt", folder / "front.key"
    chain.write_text(certificate.certificate_pem)
    key.touch(mode=0o600)
    key.write_text(certificate.key_pem)
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(chain, key)
    return context


async def _pass_on(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(OSError):
        while data := await reader.read(_CHUNK):
            writer.write(data)
            await writer.drain()
    # TLS knows no half-closed connections (asyncio documentation, "can_write_eof").
    writer.close()


@contextlib.asynccontextmanager
async def _closing(writer: asyncio.StreamWriter) -> AsyncIterator[None]:
    try:
        yield
    finally:
        writer.close()
        with contextlib.suppress(OSError):
            await writer.wait_closed()
