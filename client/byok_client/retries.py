"""What becomes of one call to the signer when an attempt fails: try again, when, and with what; else give up."""

import random
import time

from byok_api.errors import Reason
from byok_client.answers import SignerError, retry_delay
from byok_client.settings import TokenFile

CHANNEL_OPTIONS = (
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 2000),
    # In spite of its name, the least time that a connection and its TLS handshake may take.
    ("grpc.min_reconnect_backoff_ms", 5000),
    # A replica that was replaced has another address under the same name; gRPC's own value is as long as our deadline.
    ("grpc.dns_min_time_between_resolutions_ms", 1000),
    # A node that died says nothing, and the kernel waits for a quarter of an hour. While a call is under way, one ping
    # in 10 s is what a server at its defaults bears for 40 s; the signer answers, or its KMS has failed, long before.
    ("grpc.keepalive_time_ms", 10_000),
    ("grpc.keepalive_timeout_ms", 8000),
    ("grpc.http2.ping_timeout_ms", 8000),  # what gRPC 1.85 goes by instead
    ("grpc.max_receive_message_length", 1024 * 1024),
    ("grpc.max_send_message_length", 1024 * 1024),
    # Over all addresses that the name has: what is tried again is then rather asked of another replica.
    ("grpc.lb_policy_name", "round_robin"),
)
"""How a channel finds its signers, and finds them again within a call's deadline."""

_TOKEN_REFUSED = frozenset({Reason.TokenExpired, Reason.TokenInvalid})


class Course:
    """The attempts of one call, until its deadline; the request stays the same, so the signer knows it again."""

    def __init__(self, timeout: float, token: TokenFile) -> None:
        self._ends = time.monotonic() + timeout
        self._token = token
        self._sent = ""
        self._attempts = 0
        self._renewed = False
        self._last: SignerError | None = None

    @property
    def remaining(self) -> float:
        """Seconds until the deadline."""
        return self._ends - time.monotonic()

    def metadata(self) -> tuple[tuple[str, str], ...]:
        """Make an attempt's metadata, with the token as its file has it now; Refusal TokenMissing or TokenInvalid."""
        self._sent = self._token.read()
        return (("authorization", f"Bearer {self._sent}"),)

    def delay_after(self, error: SignerError) -> float:
        """Say how many seconds to wait before the next attempt; raises `error` where another one is of no use."""
        if self._token_was_replaced(error):
            return 0
        chance = random.random()  # noqa: S311 - it only spreads retries
        delay = retry_delay(error, self._attempts, self.remaining, chance)
        if delay is None:
            # That the last attempt had no time left says less than why there had to be one.
            raise self._last if self._last is not None and error.is_deadline else error
        self._attempts += 1
        self._last = error
        return delay

    def _token_was_replaced(self, error: SignerError) -> bool:
        # A token may expire, or its key be rotated, between the reading and the signer's looking at it.
        if self._renewed or error.reason not in _TOKEN_REFUSED:
            return False
        self._renewed = self._token.read() != self._sent
        return self._renewed
