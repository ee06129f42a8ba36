"""Carries TCP connections into a network namespace: run in it, with a socket that listens outside.

`python -I -S relay.py DESCRIPTOR HOST PORT`. A socket belongs to the namespace that it was made in, whoever holds it.
"""

import asyncio
import contextlib
import socket
import sys

_CHUNK = 65536


async def main(descriptor: int, host: str, port: int) -> None:
    """Take connections from the listening socket, and carry each to HOST:PORT until one side ends it."""

    async def carry(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.closing(writer), contextlib.suppress(OSError):
            there, back = await asyncio.open_connection(host, port)
            with contextlib.closing(back):
                await asyncio.gather(_pump(reader, back), _pump(there, writer))

    server = await asyncio.start_server(carry, sock=socket.socket(fileno=descriptor))
    await server.serve_forever()


async def _pump(source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
    while chunk := await source.read(_CHUNK):
        sink.write(chunk)
        await sink.drain()
    sink.write_eof()


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1]), sys.argv[2], int(sys.argv[3])))
