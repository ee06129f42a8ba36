"""Ports that nobody listens on."""

import socket
from contextlib import ExitStack


def free_port(*hosts: str) -> int:
    """Find a port that is free on each of these addresses of this machine."""
    while True:
        with ExitStack() as stack:
            first = stack.enter_context(socket.create_server((hosts[0], 0)))
            port: int = first.getsockname()[1]
            try:
                for host in hosts[1:]:
                    stack.enter_context(socket.create_server((host, port)))
            except OSError:
                continue
            return port
