"""The signer's own AWS identity, from botocore's default chain, fetched in a thread so that the event loop never waits.

The chain knows IRSA (web identity), EKS pod identity, instance roles, profiles and the environment, and renews what
expires (AWS SDKs and Tools Reference Guide, "Standardized credential providers").
"""

import asyncio
import time
from collections.abc import Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Protocol

import botocore.session
from botocore.config import Config
from botocore.credentials import ReadOnlyCredentials
from botocore.exceptions import BotoCoreError, ClientError, HTTPClientError
from botocore.exceptions import ConnectionError as NotConnectedError

from byok_api.errors import Reason
from byok_signer.kms.errors import OUTAGE_RETRY_AFTER, KmsError
from byok_signer.kms.sigv4 import Credentials

_LOOK_AGAIN = 15.0
"""Seconds; botocore renews 15 minutes ahead, but only when it is asked."""
# So that a thread never hangs on to a lost packet: an unreachable STS is known after 15 s.
_PATIENCE = Config(connect_timeout=2, read_timeout=3, retries={"total_max_attempts": 3, "mode": "standard"})


class Frozen(Protocol):
    """botocore's credentials, as far as they are used here."""

    def get_frozen_credentials(self) -> ReadOnlyCredentials:
        """Renew if it is time to, then copy."""
        ...


def default_chain() -> Frozen | None:
    """Look for credentials where every AWS SDK does; a new session forgets what an old one found."""
    session = botocore.session.Session()
    session.set_default_client_config(_PATIENCE)
    return session.get_credentials()


class SingleFlight:
    """Work that many wait for and that none of them can cancel."""

    def __init__(self) -> None:
        self._task: asyncio.Task[None] | None = None

    @property
    def running(self) -> bool:
        """Whether there is such work."""
        return self._task is not None and not self._task.done()

    def start(self, work: Callable[[], Coroutine[Any, Any, None]]) -> asyncio.Task[None]:
        """Start `work` unless it is under way, and do not wait."""
        if self._task is None or self._task.done():
            self._task = asyncio.get_running_loop().create_task(work())
            # What fails ahead of time is tried again, and then told to whoever has to wait for it.
            self._task.add_done_callback(lambda task: task.cancelled() or task.exception())
        return self._task

    async def run(self, work: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """Wait for `work`, started now unless it is under way; whatever it raises."""
        await asyncio.shield(self.start(work))

    def cancel(self) -> None:
        """Stop the work."""
        if self._task is not None:
            self._task.cancel()


class OwnCredentials:
    """The newest credentials; while they are being renewed, those before."""

    def __init__(self, chain: Callable[[], Frozen | None]) -> None:
        self._chain = chain
        self._found: Frozen | None = None
        self._current: Credentials | None = None
        self._look_again_at = 0.0
        self._flight = SingleFlight()
        self._thread = ThreadPoolExecutor(1, "byok-aws-credentials")

    def ready(self) -> Credentials | None:
        """Return credentials if there are any, and look for newer ones now and then."""
        if self._current is not None and time.monotonic() >= self._look_again_at:
            self._flight.start(self._load)
        return self._current

    async def get(self) -> Credentials:
        """Return credentials without waiting if there are any; `SignerCredentialsInvalid`, `KmsUnavailable`."""
        current = self.ready()
        if current is None:
            await self._flight.run(self._load)
            current = self._current
        if current is None:
            raise _no_credentials("botocore's default chain finds none")
        return current

    async def renew(self, stale: Credentials) -> Credentials:
        """Replace credentials that AWS says have expired, unless that has been done; raises as `get` does."""
        if self._current is stale:
            self._current = self._found = None
        return await self.get()

    def close(self) -> None:
        """Stop renewing."""
        self._flight.cancel()
        self._thread.shutdown(wait=False, cancel_futures=True)

    async def _load(self) -> None:
        self._look_again_at = time.monotonic() + _LOOK_AGAIN
        try:
            frozen = await asyncio.get_running_loop().run_in_executor(self._thread, self._fetch)
        except (HTTPClientError, NotConnectedError) as error:
            raise KmsError(
                Reason.KmsUnavailable,
                f"the signer's AWS credentials cannot be fetched: {type(error).__name__}; check network policy and STS",
                retry_after=OUTAGE_RETRY_AFTER,
            ) from error
        except (BotoCoreError, ClientError, RuntimeError, OSError, ValueError) as error:
            # Beside its own, botocore raises RuntimeError where a source hands out credentials that have expired, and
            # lets through what a token or configuration file that is missing or malformed raises.
            raise _no_credentials(_found(error)) from error
        # Equal ones are kept, for what was derived from them is kept with them.
        if frozen and frozen.access_key and frozen.secret_key and not _equal(self._current, frozen):
            try:
                self._current = Credentials(frozen.access_key, frozen.secret_key, frozen.token)
            except ValueError as error:
                raise _no_credentials(f"what the chain finds is none: {error}") from None

    def _fetch(self) -> ReadOnlyCredentials | None:
        # `renew` may forget what was found while this thread is at work.
        found = self._found
        if found is None:
            found = self._found = self._chain()
        return None if found is None else found.get_frozen_credentials()


def _equal(current: Credentials | None, frozen: ReadOnlyCredentials) -> bool:
    return current is not None and (current.access_key, current.secret_key, current.token) == (
        frozen.access_key,
        frozen.secret_key,
        frozen.token,
    )


def _found(error: Exception) -> str:
    if isinstance(error, ClientError):
        return f"STS answers {error.response.get('Error', {}).get('Code', 'an error')}"
    return f"botocore says {type(error).__name__}"


def _no_credentials(found: str) -> KmsError:
    reason = Reason.SignerCredentialsInvalid
    return KmsError(reason, f"the signer's AWS credentials: {found}. {reason.facts.remedy}")
