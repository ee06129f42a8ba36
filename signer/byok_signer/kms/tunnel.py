"""Through an HTTP proxy: CONNECT and its answer (RFC 9110, section 9.3.6), before a byte of TLS is exchanged."""

import asyncio
import re
from collections.abc import Mapping
from types import MappingProxyType
from typing import cast

from byok_service.proxies import Proxy
from byok_signer.kms.http1 import HEAD_LIMIT, HeaderLines, render_headers

_END = b"\r\n\r\n"
# Squid says HTTP/1.1, many others HTTP/1.0; what else the head says is of no use here.
_STATUS = re.compile(rb"HTTP/1\.[01] ([1-5][0-9]{2})(?: [\t\x20-\x7e\x80-\xff]*+)?\r\n")
_DONE, _REDIRECT = 200, 300
_NOT_HTTP = "what it answers is not HTTP"
_SAID: Mapping[int, str] = MappingProxyType(
    {
        403: ", it forbids that: have its rules allow it",
        407: ", it wants user and password, or others than it was given: correct them in the proxy's URL",
        502: ", it cannot reach that",
        503: ", it cannot reach that",
        504: ", it cannot reach that in time",
    }
)


class RefusedError(Exception):
    """The proxy makes no tunnel; str() says what it does instead."""


def render_connect(target: str, proxy: Proxy, common: HeaderLines) -> bytes:
    """Write the request for a tunnel to `target`, HOST:PORT; credentials go to the proxy and no further."""
    headers = {"Host": target}
    if proxy.authorization is not None:
        headers["Proxy-Authorization"] = proxy.authorization
    return b"CONNECT %b HTTP/1.1\r\n%b%b\r\n" % (target.encode("latin-1"), common, render_headers(headers))


class AnswerHead:
    """Reads the answer's head, in whatever pieces it comes."""

    def __init__(self) -> None:
        self._buffer = bytearray()
        self._read = 0

    def feed(self, data: bytes) -> bool:
        """Say whether the tunnel is there; RefusedError once it is plain that it will not be."""
        self._buffer += data
        self._read += len(data)
        while (end := self._buffer.find(_END)) >= 0:
            status = _status_of(self._buffer[: end + len(_END)])
            del self._buffer[: end + len(_END)]
            if status >= _REDIRECT:
                raise RefusedError(f"it answers with status {status}{_SAID.get(status, '')}")
            if status >= _DONE:
                # In TLS the client speaks first: whatever this is, it did not come from the other end.
                if self._buffer:
                    raise RefusedError("it sends more than its answer")
                return True
        if self._read > HEAD_LIMIT:
            raise RefusedError(_NOT_HTTP)
        return False


def _status_of(head: bytearray) -> int:
    found = _STATUS.match(head)
    if found is None or len(head) > HEAD_LIMIT:
        raise RefusedError(_NOT_HTTP)
    return int(found[1])


class Tunnel(asyncio.Protocol):
    """The proxy's end of a connection, until the tunnel is there."""

    def __init__(self) -> None:
        self.opened: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        """Ends when the tunnel is there; RefusedError."""
        self._head = AnswerHead()

    def ask(self, request: bytes) -> asyncio.Future[None]:
        """Ask for the tunnel."""
        self.transport.write(request)
        return self.opened

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin (asyncio)."""
        self.transport = cast("asyncio.Transport", transport)  # a protocol of streams gets no other

    def data_received(self, data: bytes) -> None:
        """Take a part of the answer (asyncio)."""
        if self.opened.done():
            self.transport.abort()
            return
        try:
            if self._head.feed(data):
                self.opened.set_result(None)
        except RefusedError as error:
            self._refuse(error)

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - asyncio's; what counts is what came
        """End (asyncio)."""
        self._refuse(RefusedError("it hangs up without an answer"))

    def _refuse(self, error: RefusedError) -> None:
        if not self.opened.done():
            self.opened.set_exception(error)
            self.opened.exception()  # retrieved here too, in case the caller has gone
