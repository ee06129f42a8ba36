"""A relay that cuts or silences connections, and otherwise passes on what it is given."""

import gc
import socket
import threading
from collections.abc import Iterator
from contextlib import ExitStack, closing

import pytest

from tests.testenv.ports import refusing_port
from tests.testenv.tap import Tap

SOON = 0.2
DEADLINE = 30.0


@pytest.fixture
def echo() -> Iterator[int]:
    """The port of a server that answers what it is told."""

    def serve(server: socket.socket) -> None:
        while True:
            try:
                connection, _ = server.accept()
            except OSError:
                return
            threading.Thread(target=answer, args=(connection,)).start()

    def answer(connection: socket.socket) -> None:
        with connection:
            try:
                while text := connection.recv(100):
                    connection.sendall(text)
            except ConnectionError:
                return

    with closing(socket.create_server(("127.0.0.1", 0))) as server:
        thread = threading.Thread(target=serve, args=(server,))
        thread.start()
        yield server.getsockname()[1]
        server.shutdown(socket.SHUT_RDWR)
        thread.join()


def connect(port: int) -> socket.socket:
    return socket.create_connection(("127.0.0.1", port), DEADLINE)


def told(connection: socket.socket, text: bytes) -> bytes:
    connection.sendall(text)
    return connection.recv(100)


def test_it_passes_on_both_ways(echo: int) -> None:
    with Tap(echo) as relay, connect(relay.port) as connection:
        assert told(connection, b"one") == b"one"
        assert relay.accepted == 1


def test_cut_connections_are_reset_and_new_ones_taken(echo: int) -> None:
    with Tap(echo) as relay, connect(relay.port) as first, connect(relay.port) as second:
        told(first, b"one")
        told(second, b"one")
        assert relay.cut() == 2
        with pytest.raises(ConnectionResetError):
            first.recv(100)
        with connect(relay.port) as third:
            assert told(third, b"two") == b"two"


def test_a_silent_connection_stays_open_and_loses_nothing(echo: int) -> None:
    with Tap(echo) as relay, connect(relay.port) as connection:
        told(connection, b"one")
        relay.silence()
        connection.sendall(b"two")
        connection.settimeout(SOON)
        with pytest.raises(TimeoutError):
            connection.recv(100)
        with connect(relay.port) as other:
            assert told(other, b"three") == b"three"
        relay.resume()
        connection.settimeout(DEADLINE)
        assert connection.recv(100) == b"two"


def test_while_the_target_is_away_connections_are_broken() -> None:
    with ExitStack() as stack:
        relay = stack.enter_context(Tap(stack.enter_context(refusing_port())))
        # The reset may come as soon as there is a connection, before connect has seen it.
        with pytest.raises(ConnectionResetError), connect(relay.port) as connection:
            connection.recv(100)


def test_it_closes_connections_that_came_a_moment_before_its_end(echo: int) -> None:
    for _ in range(20):
        with Tap(echo) as relay, ExitStack() as stack:
            for _ in range(5):
                stack.enter_context(connect(relay.port)).sendall(b"one")
    # What was left open is a ResourceWarning now, and warnings are errors.
    gc.collect()
