"""Host names looked up in threads that nobody waits for.

An executor's are waited for when the process ends, and a name server that does not answer would hold that up by half a
minute.
"""

import asyncio
import contextlib
import socket
import threading


async def resolve_tcp(host: str) -> list[str]:
    """List the addresses of a host that TCP reaches, each once, in the system's order; OSError, UnicodeError."""
    loop = asyncio.get_running_loop()
    future: asyncio.Future[list[str]] = loop.create_future()

    def settle(addresses: list[str], error: Exception | None) -> None:
        if future.done():
            return
        if error is None:
            future.set_result(addresses)
        else:
            future.set_exception(error)

    def look() -> None:
        addresses: list[str] = []
        failure: Exception | None = None
        try:
            found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
            addresses = list(dict.fromkeys(str(address[0]) for *_, address in found))
        except (OSError, UnicodeError) as error:
            failure = error
        with contextlib.suppress(RuntimeError):  # The loop has been closed in the meantime.
            loop.call_soon_threadsafe(settle, addresses, failure)

    threading.Thread(target=look, name="names", daemon=True).start()
    return await future
