"""A name server of a headless Service: its addresses change as pods come and go."""

import socket
import threading
from types import TracebackType
from typing import Self

_HEADER = 12
_TYPE_A = b"\x00\x01"


class NameServer:
    """Says of every name that it has these IPv4 addresses (RFC 1035, section 4)."""

    def __init__(self, *addresses: str) -> None:
        self.addresses = addresses
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.bind(("127.0.0.1", 0))
        self.port: int = self._socket.getsockname()[1]
        self._thread = threading.Thread(target=self._serve)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, raised: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._socket.sendto(b"", ("127.0.0.1", self.port))
        self._thread.join()
        self._socket.close()

    def _serve(self) -> None:
        while True:
            query, sender = self._socket.recvfrom(512)
            if not query:
                return
            end = query.index(b"\0", _HEADER) + 5
            question, asks_for_ipv4 = query[_HEADER:end], query[end - 4 : end - 2] == _TYPE_A
            addresses = self.addresses if asks_for_ipv4 else ()
            # A pointer to the name asked for, type A, class IN, a time to live of none, four bytes.
            answers = [
                b"\xc0\x0c\x00\x01\x00\x01\x00\x00\x00\x00\x00\x04" + socket.inet_aton(address) for address in addresses
            ]
            counts = b"\x00\x01" + len(answers).to_bytes(2, "big")
            self._socket.sendto(query[:2] + b"\x84\x00" + counts + bytes(4) + question + b"".join(answers), sender)
