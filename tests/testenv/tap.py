"""A relay between a client and the API server whose connections can be cut, or go silent without being closed."""

import asyncio
import contextlib
import socket
import struct
import threading
from types import TracebackType
from typing import Self

_CHUNK = 64 * 1024
_INTERVAL = 0.02


class Tap:
    """A running relay, in a thread of its own; TLS goes through it as it is."""

    def __init__(self, target: int) -> None:
        self._target = target
        self._loop = asyncio.new_event_loop()
        self._writers: set[asyncio.StreamWriter] = set()
        self._flows: set[asyncio.Event] = set()
        self._ended = asyncio.Event()
        self._thread = threading.Thread(target=self._loop.run_until_complete, args=(self._serve(),), name="tap")
        self._started = threading.Event()
        self.port = 0
        """Where clients connect."""
        self.accepted = 0
        """How many connections there have been."""

    def cut(self) -> int:
        """Break all connections, as a reset would; answers how many there were."""
        return asyncio.run_coroutine_threadsafe(self._cut(), self._loop).result()

    def silence(self) -> None:
        """Pass nothing more on over the connections there are: each looks half-open. New ones are as before."""
        asyncio.run_coroutine_threadsafe(self._set_flow(flowing=False), self._loop).result()

    def resume(self) -> None:
        """Pass everything on again, what waited first."""
        asyncio.run_coroutine_threadsafe(self._set_flow(flowing=True), self._loop).result()

    async def _set_flow(self, *, flowing: bool) -> None:
        for flow in self._flows:
            flow.set() if flowing else flow.clear()

    async def _cut(self) -> int:
        count = len(self._writers) // 2
        for writer in self._writers:
            _reset(writer)
        return count

    async def _serve(self) -> None:
        server = await asyncio.start_server(self._connected, "127.0.0.1", 0)
        self.port = server.sockets[0].getsockname()[1]
        self._started.set()
        await self._ended.wait()
        for listening in server.sockets:
            # Closing it now would leave open what it is about to accept (CPython issue 109564).
            self._loop.remove_reader(listening.fileno())
        # Again and again: some connection may have come a moment ago, and not have reached its target yet.
        others: set[asyncio.Task[None]] | None = None
        while others is None or others:
            await self._set_flow(flowing=True)
            await self._cut()
            await asyncio.sleep(_INTERVAL)
            others = {task for task in asyncio.all_tasks() if task is not asyncio.current_task()}
        server.close()

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.accepted += 1
        try:
            far_reader, far_writer = await asyncio.open_connection("127.0.0.1", self._target)
        except OSError:
            _reset(writer)
            with contextlib.suppress(OSError):
                await writer.wait_closed()
            return
        both, flow = {writer, far_writer}, asyncio.Event()
        flow.set()
        self._writers |= both
        self._flows.add(flow)
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(_pump(reader, far_writer, flow))
                group.create_task(_pump(far_reader, writer, flow))
        except* OSError:
            pass
        finally:
            self._writers -= both
            self._flows.discard(flow)
            for each in both:
                _reset(each)
                # Or the loop might end before the transport closes its socket.
                with contextlib.suppress(OSError):
                    await each.wait_closed()

    def __enter__(self) -> Self:
        self._thread.start()
        self._started.wait()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._loop.call_soon_threadsafe(self._ended.set)
        self._thread.join()
        self._loop.close()


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, flow: asyncio.Event) -> None:
    while chunk := await reader.read(_CHUNK):
        await flow.wait()
        writer.write(chunk)
        await writer.drain()
    raise ConnectionResetError


def _reset(writer: asyncio.StreamWriter) -> None:
    # Without lingering, closing sends RST (socket(7)); otherwise the other side sees an orderly end.
    connection = writer.get_extra_info("socket")
    if not writer.is_closing():
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()
