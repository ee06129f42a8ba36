"""One POST and its answer, over a pool of kept connections; knows nothing of KMS."""
# ruff: noqa: ASYNC109 - the timeout is the caller's, and differs from call to call

import asyncio
import re
import ssl
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import aiohttp
from yarl import URL

ANSWER_LIMIT = 128 * 1024
"""Bytes; KMS's longest answer of those used here, a key policy, is 32 KiB before it is escaped."""
_USER_AGENT = "byok-signer"
_CONNECTIONS = 512
_KEEP_ALIVE = 20.0
_REQUEST_ID = re.compile(r"[A-Za-z0-9-]{1,128}")


class TransportError(Exception):
    """No answer came, or not all of it; str() says why in a few words.

    TransportError
    +- NotSentError        the request did not leave this process
    +- DisconnectedError   the other side hung up before the first byte of an answer
    """


class NotSentError(TransportError):
    """No connection could be made."""


class DisconnectedError(TransportError):
    """The connection was closed or reset, as kept connections are when they get old."""


class AnswerTooLongError(Exception):
    """The answer is longer than any that KMS would give."""


@dataclass(slots=True)
class HttpAnswer:
    """A whole answer, whatever its status."""

    status: int
    body: bytes
    request_id: str | None
    """x-amzn-RequestId; None if there is none, or it is not shaped like one."""
    error_type: str | None
    """x-amzn-ErrorType."""


class Transport:
    """The pool survives the cancellation of any call; must be used from one event loop."""

    def __init__(self, ca_file: Path | None) -> None:
        self._tls = ssl.create_default_context(cafile=ca_file)
        self._session: aiohttp.ClientSession | None = None

    def _open(self) -> aiohttp.ClientSession:
        # aiohttp wants a running loop for this.
        if self._session is None:
            self._session = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(limit=_CONNECTIONS, keepalive_timeout=_KEEP_ALIVE, ssl=self._tls),
                cookie_jar=aiohttp.DummyCookieJar(),
                timeout=aiohttp.ClientTimeout(total=None, sock_connect=None),
                # CloudTrail shows it beside every call.
                headers={"User-Agent": _USER_AGENT},
                skip_auto_headers=("Accept", "Accept-Encoding"),
                auto_decompress=False,
            )
        return self._session

    async def post(self, url: URL, headers: Mapping[str, str], body: bytes, *, timeout: float) -> HttpAnswer:
        """Send `body` and read the whole answer within `timeout` seconds; TransportError, AnswerTooLongError."""
        try:
            async with (
                asyncio.timeout(timeout),
                self._open().post(url, data=body, headers=headers, allow_redirects=False) as response,
            ):
                return await _read(response)
        except TimeoutError as error:
            raise TransportError(f"no answer within {timeout:.1f} s") from error
        except aiohttp.ClientConnectorError as error:
            raise NotSentError(f"no connection to {url.host}: {_cause(error)}") from error
        except (aiohttp.ServerDisconnectedError, aiohttp.ClientOSError) as error:
            raise DisconnectedError(f"{url.host} closed the connection without an answer") from error
        except aiohttp.ClientError as error:
            raise TransportError(f"the answer of {url.host} broke off or is not HTTP") from error

    async def close(self) -> None:
        """Close all connections."""
        if self._session is not None:
            await self._session.close()


def _cause(error: aiohttp.ClientConnectorError) -> str:
    match error:
        case aiohttp.ClientConnectorDNSError():
            return "its name cannot be resolved"
        case aiohttp.ClientConnectorCertificateError() | aiohttp.ClientConnectorSSLError():
            return "TLS failed, or its certificate is not trusted"
        case _:
            return "it refuses or does not answer"


async def _read(response: aiohttp.ClientResponse) -> HttpAnswer:
    headers = response.headers
    length = response.content_length
    if length is not None and length > ANSWER_LIMIT:
        # Leaving the response unread closes its connection.
        raise AnswerTooLongError
    body = await response.read() if length is not None else await _read_up_to_limit(response.content)
    request_id = headers.get("x-amzn-RequestId", "")
    return HttpAnswer(
        response.status,
        body,
        request_id if _REQUEST_ID.fullmatch(request_id) else None,
        headers.get("x-amzn-ErrorType"),
    )


async def _read_up_to_limit(content: aiohttp.StreamReader) -> bytes:
    body = bytearray()
    async for chunk in content.iter_any():
        body += chunk
        if len(body) > ANSWER_LIMIT:
            raise AnswerTooLongError
    return bytes(body)
