"""TCP ports on the loopback address."""

import errno
import http.client
import itertools
import os
import random
import socket
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

LOOPBACK = "127.0.0.1"
_NOT_EPHEMERAL = range(20_000, 32_768)
"""Below the ports that Linux hands out by itself (ip(7), ip_local_port_range): nobody gets one by chance."""


def _own_ports() -> Iterator[int]:
    """Walk this process's share of them round and round: no other test process takes any."""
    worker = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))
    own = _NOT_EPHEMERAL[worker :: int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))]
    # From anywhere on, as another session may run on this machine.
    start = random.randrange(len(own))  # noqa: S311 - no secret
    return itertools.cycle((*own[start:], *own[:start]))


_OWN_PORTS = _own_ports()


def free_ports(count: int, *hosts: str) -> list[int]:
    """Find ports that nobody listens on at any of these addresses, else at 127.0.0.1.

    They are for servers that must be told theirs, or must keep it over restarts.
    """
    ports: list[int] = []
    while len(ports) < count:
        port = next(_OWN_PORTS)
        try:
            with ExitStack() as stack:
                for host in hosts or (LOOPBACK,):
                    stack.enter_context(socket.create_server((host, port)))
        except OSError as error:
            if error.errno != errno.EADDRINUSE:
                raise
        else:
            ports.append(port)
    return ports


@contextmanager
def refusing_port() -> Iterator[int]:
    """Hold a port at 127.0.0.1 that refuses connections for as long as the block runs."""
    with socket.socket() as held:
        held.bind((LOOPBACK, 0))
        yield held.getsockname()[1]


def accepts(port: int) -> bool:
    """Whether somebody listens there."""
    try:
        with socket.create_connection(("127.0.0.1", port), 1):
            return True
    except OSError:
        return False


def answers_ok(port: int, path: str) -> bool:
    """Whether plain HTTP is answered with status 200 there."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=2)
    try:
        connection.request("GET", path)
        return connection.getresponse().status == http.client.OK
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()
